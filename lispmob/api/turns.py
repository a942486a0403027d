"""Shares the event loop among requests: what takes long is done in pieces, and one piece in each turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import msgspec


class Pages(msgspec.Struct, frozen=True):
    """A result with very many `entries`. `pages` yields some of them at a time, perhaps none; `rest`: the other fields.

    Making one page takes some milliseconds at most, so that other work does not wait longer.
    """

    pages: Iterator[Sequence[msgspec.Struct]]
    rest: Mapping[str, object]


class Turns:
    """After waiting here, a task may do one piece of work, alone in this turn of the loop, in order of arrival."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Return when it is this caller's turn."""
        async with self._lock:
            await asyncio.sleep(0)
