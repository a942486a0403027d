"""The RTR for nodes that speak lispers.net's dialect: translated ports by host name, learnt from Info-Requests.

    node : any -> NAT -> here : 4341     data packet, Instance-ID 0xFFFFFF, with an Info-Request: "host" is at this port
    here : 4341 -> NAT -> node : any     data for the EIDs whose record has a locator { address, "host@tp-PORT" }

Nothing of this is authenticated. An entry counts only for the address that the proved registration names, so that a
stranger can do no more than somebody behind the same NAT.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from lispmob.control.rate_limit import KeyedBuckets
from lispmob.hub.host_address import is_sendable
from lispmob.hub.nat_binding import Binding
from lispmob.hub.rtr_effect import InData, SendFromRelayPort
from lispmob.values import dataclass
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import NatTraversal
from lispmob.wire.named_locator import Place, is_host, place_of
from lispmob.wire.record import Locator, MappingRecord

LIFETIME_S: Final = 60.0  # ours: three Info-Requests, which come every 15 s, may get lost
ENTRY_LIMIT: Final = 16384
PLACES_PER_ADDRESS: Final = 1024  # ours: hosts behind one public address
PER_SOURCE_S: Final = 0.2  # ours: answers to one address, behind which many nodes may be
BURST_PER_SOURCE: Final = 50


@dataclass(frozen=True, slots=True)
class _Seen:
    port: int
    rtr: IpAddress
    expires_at: float


class NatCache:
    """Where hosts behind NATs are at the moment: by host name and translated address."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._seen: OrderedDict[Place, _Seen] = OrderedDict()  # the one heard of longest ago first
        self._per_address: Counter[IpAddress] = Counter()
        self._answers: KeyedBuckets[IpAddress] = KeyedBuckets(PER_SOURCE_S, BURST_PER_SOURCE)

    def __len__(self) -> int:
        return len(self._seen)

    def wake_at(self) -> float | None:
        """When the next place is too old to be believed."""
        return next(iter(self._seen.values())).expires_at if self._seen else None

    def on_punch(self, request: InfoRequest, punch: InData, now: float) -> tuple[Place | None, list[SendFromRelayPort]]:
        """A node keeps its binding open. The place that has another port now, if any; the answer tells what we see."""
        name = request.tail.name if isinstance(request.tail, DistinguishedName) else b""
        if not is_host(name) or request.eid is not None or request.authentication or punch.port == 0:
            return None, self._drop("rx_policy")
        if not is_sendable(punch.address, punch.rtr):
            return None, self._drop("rx_policy")
        place = Place(punch.address, name)
        before = self._seen.get(place)
        is_one_too_many = before is None and self._per_address[punch.address] >= PLACES_PER_ADDRESS
        if is_one_too_many or not self._answers.take(punch.address, now):
            return None, self._drop("rx_rate")
        self._forget(place)
        self._seen[place] = _Seen(punch.port, punch.rtr, now + LIFETIME_S)
        self._per_address[punch.address] += 1
        while len(self._seen) > ENTRY_LIMIT:
            self._forget(next(iter(self._seen)))
        self.counters["rx_info_request"] += 1
        has_moved = before is None or (before.port, before.rtr) != (punch.port, punch.rtr)
        return place if has_moved else None, [_answer(request, punch)]

    def expire(self, now: float) -> list[Place]:
        """Forget what is too old; these places."""
        gone = []
        while self._seen and next(iter(self._seen.values())).expires_at <= now:
            gone.append(next(iter(self._seen)))
            self._forget(gone[-1])
        return gone

    def bindings(self, record: MappingRecord, now: float) -> tuple[Binding, ...]:
        """The uplinks of a node by its record, best first: each at the port that was heard last."""
        found = (self._binding(locator, now) for locator in record.locators)
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.priority))

    def _binding(self, locator: Locator, now: float) -> Binding | None:
        place = place_of(locator)
        if place is None or not locator.is_reachable or locator.priority == 255:
            return None
        seen = self._seen.get(place)
        if seen is None or seen.expires_at <= now:
            return None  # the NAT lets nothing in from us, whatever the name says
        return Binding(
            rloc=place.address,
            address=place.address,
            port=seen.port,
            rtr=seen.rtr,
            source_port=DATA_PORT,
            expires_at=seen.expires_at,
            priority=locator.priority,
            weight=locator.weight,
        )

    def _forget(self, place: Place) -> None:
        if self._seen.pop(place, None) is not None:
            self._per_address[place.address] -= 1
            if not self._per_address[place.address]:
                del self._per_address[place.address]

    def _drop(self, counter: str) -> list[SendFromRelayPort]:
        self.counters[counter] += 1
        return []


def _answer(request: InfoRequest, punch: InData) -> SendFromRelayPort:
    nat = NatTraversal(CONTROL_PORT, punch.port, punch.address, punch.rtr, None)
    return punch.answer(InfoReply(request.nonce, None, 0, nat, ttl_min=request.ttl_min).encode())
