"""A routing rule, ours or another program's, as a value; pure."""

from __future__ import annotations

import sys
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.wire.address import IpNetwork

RuleAction: TypeAlias = Literal["lookup", "goto", "nop", "blackhole", "unreachable", "prohibit"]

LOCAL_TABLE: Final = 255
MAIN_TABLE: Final = 254
DEFAULT_TABLE: Final = 253

# linux/fib_rules.h: attributes that select packets, and flags
IN_INTERFACE, MARK, SUPPRESS_IFGROUP, MARK_MASK, OUT_INTERFACE, VRF, USERS = 3, 10, 13, 16, 17, 19, 20
INVERT: Final = 0x2
FIND_SADDR: Final = 0x10000


class Rule(msgspec.Struct, frozen=True):
    """One routing rule.

    `udp_ports` limits it to UDP to the first of these ports up to the last; with a source, to UDP from them. `device`
    limits it to packets that are bound to that interface. `mark` is compared in the bits of `mask`. `target`: the
    priority that a goto leads to. `is_copy`: it is another program's, or a copy of one; its selectors are then in
    `selectors`, `flags` and `tos`, as in rtnetlink (attributes FRA_*, FIB_RULE_*).
    """

    priority: int
    family: int
    table: int = 0
    source: IpNetwork | None = None
    destination: IpNetwork | None = None
    suppressed_prefix_len: int | None = None
    udp_ports: tuple[int, int] | None = None
    device: str = ""
    mark: int = 0
    mask: int = 0
    action: RuleAction = "lookup"
    target: int = 0
    flags: int = 0
    tos: int = 0
    selectors: tuple[tuple[int, bytes], ...] = ()
    is_copy: bool = False

    @property
    def finds_source(self) -> bool:
        """IPv6: also match a packet without a source by the source that its route would give it; IPv4 matches 0.0.0.0.

        Otherwise a rule about a source does not apply to such a packet. A copy has its own flag.
        """
        return self.family == 6 and self.source is not None and self.udp_ports is None and not self.is_copy

    @property
    def is_inverted(self) -> bool:
        """True for `ip rule add not ...`."""
        return bool(self.flags & INVERT)

    def selector(self, kind: int) -> bytes | None:
        """One of the selectors of a copy."""
        return next((value for one, value in self.selectors if one == kind), None)

    def number(self, kind: int) -> int:
        """A selector that is a number of 32 bits; 0 without it."""
        return int.from_bytes(self.selector(kind) or b"", sys.byteorder)

    def __str__(self) -> str:
        """As `ip rule` prints it, roughly."""
        words = ["not"] if self.is_inverted else []
        words += [f"from {self.source}"] if self.source else []
        words += [f"to {self.destination}"] if self.destination else []
        if self.selector(MARK) or self.selector(MARK_MASK):
            mask = self.number(MARK_MASK)
            words.append(f"fwmark {self.number(MARK):#x}" + (f"/{mask:#x}" if mask not in (0, 0xFFFFFFFF) else ""))
        for kind, name in ((IN_INTERFACE, "iif"), (OUT_INTERFACE, "oif")):
            if value := self.selector(kind):
                words.append(f"{name} {value.rstrip(bytes(1)).decode(errors='replace')}")
        if users := self.selector(USERS):
            words.append(
                f"uidrange {int.from_bytes(users[:4], sys.byteorder)}-{int.from_bytes(users[4:8], sys.byteorder)}"
            )
        match self.action:
            case "lookup":
                words.append("lookup l3mdev" if self.selector(VRF) else f"lookup {self.table}")
            case "goto":
                words.append(f"goto {self.target}")
            case _:
                words.append(self.action)
        return f"{self.priority}: {' '.join(words)}"
