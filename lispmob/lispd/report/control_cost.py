"""The cost of control messages: packets, octets and wake-ups by uplink and purpose, in the last hour; pure.

A wake-up is a packet, sent or received, with no other packet of the same uplink within `QUIET_S`: the radio has gone to
sleep meanwhile, and wakes for it. Counts are kept in slots of five minutes, of which twelve make an hour.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.iface_monitor.snapshot import Uplink
from lispmob.natt.effect import SendFromDataPort
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.header import MessageType

SLOT_S: Final = 300.0
SLOTS: Final = 12
QUIET_S: Final = 1.0  # ours: less than any radio stays awake
ELSEWHERE: Final = "elsewhere"  # sent by no uplink, or by one that the kernel chose
UPLINKS_MAX: Final = 64  # ours: more than any host has
UDP_OCTETS: Final = 8
IP_OCTETS: Final = {4: 20, 6: 40}
_LISP_OCTETS: Final = 4  # the header of an ECM (RFC 9301, 5.8)
_IS_PROBE: Final = {MessageType.MAP_REQUEST: 0x02, MessageType.MAP_REPLY: 0x08}

Purpose: TypeAlias = Literal["register", "probe", "lookup", "nat", "other"]


class Cost(msgspec.Struct, frozen=True):
    """The cost of one purpose on one uplink. `octets` includes the outer IP and UDP headers."""

    uplink: str
    purpose: Purpose
    sent: int
    received: int
    octets: int
    wake_ups: int


def purpose_of(payload: bytes) -> Purpose:
    """The purpose of a control message. One in an ECM counts as its contents."""
    kind = payload[0] >> 4 if payload else 0
    if kind == MessageType.ENCAPSULATED_CONTROL and len(payload) > _LISP_OCTETS:
        has_data = payload[0] & 0x08  # S: LISP-SEC is between the headers, and only lookups have it
        inner = _LISP_OCTETS + IP_OCTETS.get(payload[_LISP_OCTETS] >> 4, 40) + UDP_OCTETS
        return "lookup" if has_data or len(payload) <= inner else purpose_of(payload[inner : inner + 1])
    if kind in (MessageType.MAP_REGISTER, MessageType.MAP_NOTIFY, MessageType.MAP_NOTIFY_ACK):
        return "register"
    if kind == MessageType.INFO:
        return "nat"
    if kind in _IS_PROBE:
        return "probe" if payload[0] & _IS_PROBE[MessageType(kind)] else "lookup"
    return "other"


class ControlCost:
    """Counts sent and received messages. All times are monotonic seconds."""

    def __init__(self, uplinks: Callable[[], Iterable[Uplink]], now: float) -> None:
        self._uplinks = uplinks
        self._slots: deque[tuple[float, Counter[tuple[str, Purpose, str]]]] = deque([(now, Counter())], SLOTS)
        self._last: dict[str, float] = {}

    def since_s(self, now: float) -> float:
        """The seconds that the counts cover: an hour at most."""
        self._turn(now)
        return now - self._slots[0][0]

    def on_sent(self, sent: SendControl | SendFromDataPort, now: float) -> None:
        """A control message was sent."""
        name = self._name(sent.ifindex, sent.source)
        self._count("sent", name, sent.payload, sent.destination.version, now)

    def on_received(self, payload: bytes, destination: IpAddress, ifindex: int, now: float) -> None:
        """One was received at a local address."""
        self._count("received", self._name(ifindex, destination), payload, destination.version, now)

    def costs(self, now: float) -> Iterator[Cost]:
        """By uplink and purpose, sorted by name, without zero costs."""
        self._turn(now)
        total: Counter[tuple[str, Purpose, str]] = Counter()
        for _, slot in self._slots:
            total.update(slot)
        for uplink, purpose in sorted({(uplink, purpose) for uplink, purpose, _ in total}):
            figures = (total[uplink, purpose, what] for what in ("sent", "received", "octets", "wake-ups"))
            yield Cost(uplink, purpose, *figures)

    def _name(self, ifindex: int, address: IpAddress | None) -> str:
        uplinks = self._uplinks()
        found = (up.name for up in uplinks if (up.ifindex == ifindex if ifindex else address in up.addresses))
        return next(found, ELSEWHERE)

    def _count(self, what: str, uplink: str, payload: bytes, version: int, now: float) -> None:
        self._turn(now)
        if uplink not in self._last and len(self._last) >= UPLINKS_MAX:
            self._last.clear()
        slot, purpose = self._slots[-1][1], purpose_of(payload)
        slot[uplink, purpose, what] += 1
        slot[uplink, purpose, "octets"] += len(payload) + UDP_OCTETS + IP_OCTETS[version]
        if now - self._last.get(uplink, -QUIET_S) >= QUIET_S:
            slot[uplink, purpose, "wake-ups"] += 1
        self._last[uplink] = now

    def _turn(self, now: float) -> None:
        """Begin the slots that are due. Of a long pause only its last hour needs slots."""
        at = self._slots[-1][0]
        if now - at >= SLOT_S * SLOTS:
            self._slots.clear()
            self._slots.append((now - SLOT_S * (SLOTS - 1), Counter()))
            at = self._slots[-1][0]
        while now - at >= SLOT_S:
            at += SLOT_S
            self._slots.append((at, Counter()))
