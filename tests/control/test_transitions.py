from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import pytest

from lispmob.control import map_cache, registration, smr
from lispmob.control.lookups import lookup
from lispmob.control.path_mtu import search as path_mtu
from lispmob.control.probing import path
from tests.control.support import reachable

TABLES: Final[dict[str, tuple[Mapping[Any, frozenset[Any]], Enum]]] = {
    "path": (path.TRANSITIONS, path.State.UNKNOWN),
    "path_mtu": (path_mtu.TRANSITIONS, path_mtu.State.IDLE),
    "registration": (registration.TRANSITIONS, registration.State.IDLE),
    "lookup": (lookup.TRANSITIONS, lookup.State.ASKING),
    "smr": (smr.TRANSITIONS, smr.State.QUIET),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_state_is_in_the_table_and_can_be_reached(name: str) -> None:
    table, first = TABLES[name]

    assert reachable(table, first) == set(table) == set(type(first))


def test_a_map_cache_entry_can_always_go() -> None:
    table = map_cache.TRANSITIONS

    assert all(map_cache.State.GONE in table[state] for state in table if state is not map_cache.State.GONE)
