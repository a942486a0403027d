"""Garbage is found among what is new, and Python's own collector is back afterwards."""

from __future__ import annotations

import asyncio
import gc
import weakref

from lispmob.hub.garbage import GarbageDay


class Ring:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_a_ring_of_objects_is_collected_once_nobody_has_it() -> None:
    async def main() -> None:
        day = GarbageDay()
        day.start(asyncio.get_running_loop())
        try:
            assert not gc.isenabled()
            gone = weakref.ref(Ring())
            day.collect()
            assert gone() is None
        finally:
            day.stop()

    asyncio.run(main())

    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_stays_is_put_aside_once_there_is_much_of_it() -> None:
    kept: list[list[int]] = []

    async def main() -> None:
        day = GarbageDay()
        day.start(asyncio.get_running_loop())
        try:
            kept.extend([number] for number in range(150_000))
            day.collect()
            assert gc.get_freeze_count() >= len(kept)
        finally:
            day.stop()

    asyncio.run(main())
