"""lispers.net's keepalive: Info-Requests to RTRs, in data packets from the data port.

    node : ephemeral -> NAT -> RTR : 4341     data header, Instance-ID 0xFFFFFF, message (no inner IP, no UDP)

An RTR learns the translated address and port from them, and stores both by host name. The draft wants an answer;
lispers.net sends none. So only the failure of an RTR that used to answer can be detected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from lispmob.natt.dialect import PUNCH_INTERVAL_S, TRAITS, Dialect
from lispmob.natt.effect import DataPort, SendFromDataPort, UplinkEffect
from lispmob.natt.round_trips import RoundTrips
from lispmob.protocol.effect import Count
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.info import InfoReply, InfoRequest

SILENT_LIMIT: Final = 3  # ours: unanswered keepalives of an RTR that used to answer
RETRY_S: Final = 1.0  # ours: a keepalive that such an RTR left unanswered is repeated within this
SHORTEST_RETRY_S: Final = 0.3  # ours: an RTR on a busy host may take so long
RTT_FACTOR: Final = 3.0


class _Rtr(msgspec.Struct):
    due_at: float
    outstanding: dict[int, float] = msgspec.field(default_factory=dict)  # nonce -> when it was sent
    unanswered: int = 0
    round_trips: RoundTrips = msgspec.field(default_factory=RoundTrips)

    @property
    def retry_s(self) -> float:
        """How long an answer may take."""
        return min(RETRY_S, max(SHORTEST_RETRY_S, RTT_FACTOR * (self.round_trips.quickest_s or RETRY_S)))

    @property
    def is_silent(self) -> bool:
        """True for an RTR that used to answer, and no longer does; the last keepalive may still be in flight."""
        return self.round_trips.quickest_s is not None and self.unanswered > SILENT_LIMIT


class Punches:
    """Keeps the bindings of one uplink to all its RTRs."""

    def __init__(self, locator: LocalLocator, host_name: bytes, *, new_nonce: Callable[[], int]) -> None:
        self._locator = locator
        self._host_name = host_name
        self._new_nonce = new_nonce
        self._rtrs: dict[IpAddress, _Rtr] = {}
        self._interval_s = PUNCH_INTERVAL_S
        # Our place as an RTR saw it; in this draft Map-Servers do not report it.
        self.place: tuple[IpAddress, int] | None = None

    @property
    def alive(self) -> tuple[IpAddress, ...]:
        """The RTRs that are not known to be silent; all of them if all are."""
        found = tuple(ip for ip, rtr in self._rtrs.items() if not rtr.is_silent)
        return found or tuple(self._rtrs)

    @property
    def is_silent(self) -> bool:
        """True when all RTRs are known to be silent, which have answered on the data port before."""
        return bool(self._rtrs) and all(rtr.is_silent for rtr in self._rtrs.values())

    def rtt_s(self, rtr: IpAddress) -> float | None:
        """The round trip to an RTR that answers."""
        known = self._rtrs.get(rtr)
        return known.round_trips.quickest_s if known else None

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return min((rtr.due_at for rtr in self._rtrs.values()), default=None)

    def start(self, rtrs: Iterable[IpAddress], interval_s: float, now: float) -> list[UplinkEffect]:
        """Keep the bindings to these RTRs; a new one gets a packet at once."""
        before = self._rtrs
        self._rtrs = {ip: before.get(ip) or _Rtr(due_at=now) for ip in rtrs}
        self._interval_s = min(interval_s, PUNCH_INTERVAL_S)
        return self.on_timer(now)

    def again(self, now: float) -> list[UplinkEffect]:
        """The path may be broken: open it again, and find out which RTRs still answer."""
        for rtr in self._rtrs.values():
            rtr.due_at = now
        return self.on_timer(now)

    def stop(self) -> None:
        """Stop."""
        self._rtrs.clear()
        self.place = None

    def on_timer(self, now: float) -> list[UplinkEffect]:
        """A deadline may have passed."""
        due = [(ip, rtr) for ip, rtr in self._rtrs.items() if now >= rtr.due_at]
        return [effect for ip, rtr in due for effect in self._punch(ip, rtr, now)]

    def on_info_reply(self, reply: InfoReply, source: IpAddress, now: float) -> bool:
        """True when this is an RTR's answer to the last keepalive."""
        rtr = self._rtrs.get(source)
        sent_at = rtr.outstanding.get(reply.nonce) if rtr is not None else None
        if rtr is None or sent_at is None:
            return False
        rtr.outstanding.clear()
        if isinstance(address := reply.nat.global_etr_rloc, IPv4Address | IPv6Address) and reply.nat.etr_port:
            self.place = (address, reply.nat.etr_port)
        rtr.unanswered = 0
        rtr.round_trips.add(now - sent_at)
        rtr.due_at = sent_at + self._interval_s
        return True

    def _punch(self, ip: IpAddress, rtr: _Rtr, now: float) -> list[UplinkEffect]:
        one, port = self._locator, TRAITS[Dialect.LISPERS].rtr_punch_port
        assert port is not None
        nonce = self._new_nonce()
        rtr.outstanding[nonce] = now
        while len(rtr.outstanding) > SILENT_LIMIT:
            del rtr.outstanding[next(iter(rtr.outstanding))]
        rtr.unanswered += 1
        answers = rtr.round_trips.quickest_s is not None and rtr.unanswered <= SILENT_LIMIT
        rtr.due_at = now + min(self._interval_s, rtr.retry_s) if answers else now + self._interval_s
        request = InfoRequest(nonce, None, 0, tail=DistinguishedName(self._host_name))
        payload = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode() + request.encode()
        return [
            SendFromDataPort(payload, ip, port, one.address, one.ifindex, DataPort.EPHEMERAL),
            Count("tx_info_request"),
        ]
