from __future__ import annotations

import re
from pathlib import Path

from docs.machines import page
from lispmob.api.dbus import INTROSPECTION

ROOT = Path(__file__).resolve().parent.parent


def test_the_pictures_of_the_machines_are_those_of_the_code() -> None:
    assert (ROOT / "docs" / "machines.md").read_text() == page(), "stale: run `make docs`"


def test_the_page_about_dbus_names_every_method_signal_and_property() -> None:
    text = (ROOT / "docs" / "dbus.md").read_text()
    named = set(re.findall(r'<(?:method|signal|property) name="(\w+)"', INTROSPECTION))

    assert {name for name in named if not re.search(rf"\b{name}\b", text)} == set()
