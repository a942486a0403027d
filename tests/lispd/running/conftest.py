"""Networks for the tests of the running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lispd.running.world import World, city, world_of


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A network with both families and without daemons; the test starts those it needs."""
    with world_of(city(), tmp_path) as made:
        yield made


@pytest.fixture
def wide_world(tmp_path: Path) -> Iterator[World]:
    """The same with a second hub, and with a host without LISP."""
    with world_of(city(is_wide=True), tmp_path) as made:
        yield made
