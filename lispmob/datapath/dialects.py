"""Keys by which others encrypt, per locator: RFC 8061 and lispers.net. Values alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from lispmob.wire.address import IpAddress

DialectName: TypeAlias = Literal["rfc8061", "lispers-net-2", "lispers-net-5"]
"""How others encrypt, per locator: cipher suite 5 of RFC 8061, and suites 2 and 5 as lispers.net has them."""


@dataclass(frozen=True, slots=True)
class DialectKey:
    """A key for packets to a locator (`seals`), or from it. `key_id`: 1 to 3, in the KK bits of the header.

    `key` and `integrity` have 16 octets; RFC 8061 has no use for the latter. `start`: the first IV of lispers.net.
    """

    address: IpAddress
    dialect: DialectName
    key_id: int
    seals: bool
    key: bytes = dataclasses.field(repr=False)
    integrity: bytes = dataclasses.field(default=bytes(16), repr=False)
    start: int = dataclasses.field(default=0, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.key_id <= 3:
            raise ValueError(f"key_id {self.key_id}: 1 to 3")
        if len(self.key) != 16 or len(self.integrity) != 16:
            raise ValueError("a key of a dialect has 16 octets")
        if not 0 <= self.start < 1 << 128:
            raise ValueError("start: 128 bits")


class DialectUse(msgspec.Struct, frozen=True):
    """What became of a locator's keys so far; None: there is no key in that direction."""

    dialect_out: DialectName | None
    dialect_in: DialectName | None
    sent_packets: int
    opened_packets: int
