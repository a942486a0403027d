"""A bounded cursor over received octets: a read beyond their end raises MalformedMessage."""

from __future__ import annotations

from struct import Struct
from typing import Any

from lispmob.errors import MalformedMessage


class Reader:
    """Takes big-endian fields off the front of `data`; it takes every octet once, and none beyond the end.

    `counter` names the receive counter of a field that does not fit.
    """

    __slots__ = ("_at", "_counter", "_data", "_end")

    def __init__(self, data: bytes, counter: str = "rx_truncated", start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._counter = counter
        self._at = start
        self._end = len(data) if end is None else end

    @property
    def remaining(self) -> int:
        """Octets not yet taken."""
        return self._end - self._at

    @property
    def position(self) -> int:
        """Octets before the next one, counted from the start of the data."""
        return self._at

    def take(self, layout: Struct) -> tuple[Any, ...]:
        """Take the fields of a struct layout."""
        at = self._advance(layout.size)
        return layout.unpack_from(self._data, at)

    def take_bytes(self, count: int) -> bytes:
        """Take `count` octets."""
        at = self._advance(count)
        return self._data[at : at + count]

    def take_u8(self) -> int:
        """Take one octet as a number."""
        return self._data[self._advance(1)]

    def take_u16(self) -> int:
        """Take two octets as a number."""
        at = self._advance(2)
        return self._data[at] << 8 | self._data[at + 1]

    def take_u24(self) -> int:
        """Take three octets as a number."""
        return int.from_bytes(self.take_bytes(3))

    def take_u32(self) -> int:
        """Take four octets as a number."""
        return int.from_bytes(self.take_bytes(4))

    def take_until_nul(self, limit: int) -> bytes:
        """Take the octets before the next NUL, and the NUL; `rx_limit` when they are more than `limit`."""
        nul = self._data.find(0, self._at, self._end)
        if nul < 0:
            raise MalformedMessage("rx_truncated", f"no NUL in the last {self.remaining} octets")
        if nul - self._at > limit:
            raise MalformedMessage("rx_limit", f"a name of {nul - self._at} octets, more than {limit}")
        text = self._data[self._at : nul]
        self._at = nul + 1
        return text

    def take_rest(self) -> bytes:
        """Take everything that is left."""
        return self.take_bytes(self.remaining)

    def window(self, count: int, counter: str) -> Reader:
        """Take `count` octets as a new reader; a field beyond its end raises MalformedMessage with `counter`."""
        if count > self.remaining:
            raise MalformedMessage(counter, f"a part of {count} octets where {self.remaining} are left")
        at = self._advance(count)
        return Reader(self._data, counter, at, at + count)

    def expect_end(self) -> None:
        """Raise `rx_trailing` when octets are left over."""
        if self.remaining:
            raise MalformedMessage("rx_trailing", f"{self.remaining} octets left over")

    def expect_padding(self) -> None:
        """Raise `rx_trailing` when octets are left over that are not all zero."""
        if self.take_rest().strip(b"\0"):
            raise MalformedMessage("rx_trailing", "octets left over that are no padding")

    def _advance(self, count: int) -> int:
        at = self._at
        end = at + count
        if end > self._end:
            raise MalformedMessage(self._counter, f"{count} octets wanted at offset {at}, {self._end - at} are left")
        self._at = end
        return at
