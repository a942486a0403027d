"""The size of the engine's interface: how many methods its users have to know."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final

import pytest

from lispmob.datapath import _lispdp
from lispmob.datapath.engine import Engine
from lispmob.datapath.face.addresses import Addresses
from lispmob.datapath.face.asking import Asking
from lispmob.datapath.face.data_port import DataPort
from lispmob.datapath.face.liveness import Liveness
from lispmob.datapath.face.sessions import Sessions
from lispmob.datapath.face.table import Table
from lispmob.datapath.face.tiers import Tiers

ROOT: Final = Path(__file__).parents[2]
MOST: Final = 12
PARTS: Final = (Table, Asking, Addresses, Sessions, Liveness, DataPort, Tiers)


def public_methods(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("kind", [Engine, *PARTS])
def test_an_engine_and_each_of_its_parts_has_a_dozen_methods_at_most(kind: type) -> None:
    assert len(public_methods(kind)) <= MOST, public_methods(kind)


@pytest.mark.parametrize("kind", [Engine, *PARTS])
def test_every_method_says_what_it_does(kind: type) -> None:
    silent = [name for name in public_methods(kind) if not inspect.getdoc(getattr(kind, name))]

    assert silent == []


def test_every_name_of_the_c_side_that_python_uses_is_in_the_extension() -> None:
    """Python looks such a name up when its line runs, and type checks end at the extension."""
    used = {
        name
        for path in (ROOT / "lispmob" / "datapath").rglob("*.py")
        for name in re.findall(r"\blib\.(lm_\w+|LM_\w+|IFNAMSIZ)", path.read_text())
    }

    assert [name for name in sorted(used) if not hasattr(_lispdp.lib, name)] == []
