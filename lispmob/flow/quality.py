"""What a flow asks of the network: class, delay, loss and rate, and the DSCP of the class. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

LAYOUT: Final = Struct(">BBHHI")  # class, flags, delay ms, loss per 10,000, rate kbit/s


class FlowClass(IntEnum):
    """The capacity profile (RFC 9622, section 8.1.6): how the program uses the flow."""

    DEFAULT = 0
    VOICE = 1
    VIDEO = 2
    INTERACTIVE = 3
    BULK = 4
    BACKGROUND = 5


class Wish(IntFlag):
    """`CHEAP`: use no metered uplink. `ONLY`: drop packets rather than use another uplink than the chosen one."""

    CHEAP = 1
    ONLY = 2


DSCP: Final = {
    FlowClass.DEFAULT: 0,
    FlowClass.VOICE: 46,  # EF, RFC 3246
    FlowClass.VIDEO: 34,  # AF41, RFC 2597
    FlowClass.INTERACTIVE: 18,  # AF21
    FlowClass.BULK: 10,  # AF11
    FlowClass.BACKGROUND: 1,  # LE, RFC 8622
}


@dataclass(frozen=True, slots=True)
class Quality:
    """A wish, or what was granted; 0 in a field means "no wish".

    `loss` counts packets per 10,000. A class or flag that this version does not know is kept as a number on the wire
    and treated as the default class.
    """

    flow_class: int = FlowClass.DEFAULT
    flags: int = 0
    delay_ms: int = 0
    loss: int = 0
    rate_kbit: int = 0

    def __post_init__(self) -> None:
        limits = (
            (self.flow_class, 0xFF),
            (self.flags, 0xFF),
            (self.delay_ms, 0xFFFF),
            (self.loss, 10_000),
            (self.rate_kbit, 0xFFFFFFFF),
        )
        if any(not 0 <= value <= most for value, most in limits):
            raise ValueError(f"a quality out of range: {limits}")

    @property
    def dscp(self) -> int:
        """The code point that packets of this class carry, 0 to 63."""
        known = self.flow_class in FlowClass.__members__.values()
        return DSCP[FlowClass(self.flow_class)] if known else 0

    def to_octets(self) -> bytes:
        """The 10 octets of the QOS TLV."""
        return LAYOUT.pack(self.flow_class, self.flags, self.delay_ms, self.loss, self.rate_kbit)

    @classmethod
    def from_octets(cls, octets: bytes) -> Quality:
        """Read 10 octets. A loss above 10,000 becomes 10,000."""
        flow_class, flags, delay_ms, loss, rate_kbit = LAYOUT.unpack(octets)
        return cls(flow_class, flags, delay_ms, min(loss, 10_000), rate_kbit)
