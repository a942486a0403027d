"""Garbage is found among new objects, permanent ones are set aside, and Python's own rules are restored afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from lispmob.garbage import SMALL, YOUNG, GarbageRules


class Ring:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def rules() -> Iterator[GarbageRules]:
    before, made = gc.get_threshold(), GarbageRules()
    made.start()
    yield made
    made.stop()
    made.stop()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_ring_of_objects_is_found_among_what_is_new() -> None:
    gone = weakref.ref(Ring())

    kept = [[number] for number in range(YOUNG + 1)]

    assert len(kept) > YOUNG
    assert gone() is None


def test_what_stays_is_put_aside_once_there_is_much_of_it() -> None:
    before = gc.get_freeze_count()

    kept = [[number] for number in range(SMALL + 3 * YOUNG)]

    assert gc.get_freeze_count() - before >= len(kept) - 2 * YOUNG
