"""The RTR of an uplink: the choice, the probing of spare ones, and the fail-over (NAT drafts)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from lispmob.protocol.effect import Count, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest

PROBE_WAIT_S: Final = 3.0  # ours: an RTR that takes longer is a bad choice
UNKNOWN_RTT_S: Final = 1.0  # ours: an RTR without an answer ranks behind those that answer within a second
SMOOTHING: Final = 0.25


class RtrChoice:
    """The RTRs offered to one uplink, the one in use, and those that failed since the last list."""

    def __init__(self) -> None:
        self.offered: tuple[IpAddress, ...] = ()
        self.current: IpAddress | None = None
        self._rtt_s: dict[IpAddress, float] = {}
        self._failed: set[IpAddress] = set()

    def rtt_s(self, rtr: IpAddress) -> float | None:
        """The smoothed round trip, None if it was never measured."""
        return self._rtt_s.get(rtr)

    def on_offered(self, rtrs: Iterable[IpAddress]) -> IpAddress | None:
        """A new list. The RTR in use stays if it is listed, because a change costs every peer a lookup."""
        self.offered = tuple(rtrs)
        self._failed.clear()
        self._rtt_s = {rtr: rtt for rtr, rtt in self._rtt_s.items() if rtr in self.offered}
        if self.current not in self.offered:
            self.current = self._best()
        return self.current

    def on_failed(self) -> IpAddress | None:
        """The RTR in use does not answer: returns the next best, or None when all have failed since the last list."""
        if self.current is not None:
            self._failed.add(self.current)
        self.current = self._best()
        return self.current

    def on_answered(self, rtr: IpAddress, rtt_s: float) -> None:
        """The RTR answered; the round trip may include the Map-Server's."""
        known = self._rtt_s.get(rtr)
        self._rtt_s[rtr] = rtt_s if known is None else known + SMOOTHING * (rtt_s - known)
        self._failed.discard(rtr)

    def _best(self) -> IpAddress | None:
        left = [rtr for rtr in self.offered if rtr not in self._failed]
        return min(left, key=lambda rtr: self._rtt_s.get(rtr, UNKNOWN_RTT_S), default=None)


class RtrProbes:
    """RLOC-probes to the spare RTRs, once per list: which answer, and their round trips."""

    def __init__(self, locator: LocalLocator, *, new_nonce: Callable[[], int]) -> None:
        self._locator = locator
        self._new_nonce = new_nonce
        self._outstanding: dict[int, tuple[IpAddress, float]] = {}

    def probe(self, rtrs: Iterable[IpAddress], now: float) -> list[SendControl | Count]:
        """Probe each of them once; an answer gives its round trip."""
        self._outstanding.clear()
        effects: list[SendControl | Count] = []
        for rtr in rtrs:
            nonce = self._new_nonce()
            self._outstanding[nonce] = (rtr, now)
            effects += [probe_of(self._locator, rtr, nonce), Count("tx_rtr_probe")]
        return effects

    def on_map_reply(self, reply: MapReply, now: float) -> tuple[IpAddress, float] | None:
        """The RTR that answered and its round trip in seconds; None when the reply matches none of our probes."""
        found = self._outstanding.pop(reply.nonce, None) if reply.is_probe else None
        if found is None or now - found[1] > PROBE_WAIT_S:
            return None
        return found[0], now - found[1]


def probe_of(locator: LocalLocator, rtr: IpAddress, nonce: int, *, has_checksum: bool = True) -> SendControl:
    """An RLOC-probe to an RTR, about all EIDs: it tests the default entry."""
    everything = EidRecord.of(EidPrefix.make(IPv4Address(0) if rtr.version == 4 else IPv6Address(0), 0))
    request = MapRequest(nonce, None, (locator.address_towards(rtr),), (everything,), is_probe=True)
    return SendControl(
        request.encode(), rtr, source=locator.address, ifindex=locator.ifindex, has_checksum=has_checksum
    )
