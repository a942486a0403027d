"""The RTR for nodes that speak lispers.net's dialect: translated ports by host name, learnt from Info-Requests.

    node : any -> NAT -> here : 4341     data packet, Instance-ID 0xFFFFFF, with an Info-Request: "host" is at this port
    here : 4341 -> NAT -> node : any     data for the EIDs whose record has a locator { address, "host@tp-PORT" }

None of this is authenticated. An entry counts only for the address in an authenticated registration, so that a stranger
can do no more than a host behind the same NAT.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from lispmob.hub.map_server.asker_limits import AskerLimits, Network, Rate, network_of
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.hub.rtr.nat_binding import Binding
from lispmob.hub.rtr.rtr_effect import InData, SendFromRelayPort
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.lcaf_types import NatTraversal
from lispmob.wire.named_locator import Place, is_host, place_of
from lispmob.wire.record import Locator, MappingRecord

LIFETIME_S: Final = 60.0  # ours: three Info-Requests, sent every 15 s, may be lost
SLICE: Final = 128  # ours: places that expire at a time; the timer is due again at once for the rest
STRANGERS_LIMIT: Final = 16384  # ours: places in no registration; others are bounded by the sites
STRANGERS_PER_NETWORK: Final = 1024  # ours: hosts behind one public address
ANSWERS_EACH: Final = Rate(5, 50)  # ours: to one address, which many nodes may share
ANSWERS_STRANGERS: Final = Rate(500, 500)
ANSWERS_KNOWN_S: Final = 2.0  # ours, a second, to one registered place


class _Seen(msgspec.Struct, frozen=True):
    port: int
    rtr: IpAddress
    expires_at: float


class NatCache:
    """The present places of hosts behind NATs: by host name and translated address."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._seen: OrderedDict[Place, _Seen] = OrderedDict()  # the one heard longest ago first
        self._strangers: OrderedDict[Place, None] = OrderedDict()
        self._strangers_at: dict[Network, OrderedDict[Place, None]] = {}
        self._per_address: Counter[IpAddress] = Counter()
        self._answers = AskerLimits(ANSWERS_EACH, ANSWERS_STRANGERS, ANSWERS_EACH)
        self._known_answers: KeyedBuckets[Place] = KeyedBuckets(1 / ANSWERS_KNOWN_S, 5, limit=16384)

    def __len__(self) -> int:
        return len(self._seen)

    def wake_at(self) -> float | None:
        """When the next place expires."""
        return next(iter(self._seen.values())).expires_at if self._seen else None

    def is_at(self, address: IpAddress) -> bool:
        """True when some host keeps a place open at this address."""
        return address in self._per_address

    def on_punch(
        self,
        request: InfoRequest,
        punch: InData,
        now: float,
        is_known: Callable[[Place], bool] = lambda _: False,
    ) -> tuple[Place | None, list[SendFromRelayPort]]:
        """A node keeps its binding open. Returns the place if its port has changed; the answer reports what we see.

        `is_known`: an authenticated registration names the place. Strangers take nothing from those.
        """
        name = request.tail.name if isinstance(request.tail, DistinguishedName) else b""
        if not is_host(name) or request.eid is not None or request.authentication or punch.port == 0:
            return None, self._drop("rx_policy")
        if not is_sendable(punch.address, punch.rtr):
            return None, self._drop("rx_policy")
        place = Place(punch.address, name)
        before = self._seen.get(place)
        known = is_known(place)
        may_answer = known and self._known_answers.take(place, now)
        if not may_answer and not self._answers.take(punch.address, now, is_registered=False):
            return None, self._drop("rx_rate")
        self._forget(place)
        if not known:
            self._make_room(punch.address)
            self._strangers[place] = None
            self._strangers_at.setdefault(network_of(punch.address), OrderedDict())[place] = None
        self._seen[place] = _Seen(punch.port, punch.rtr, now + LIFETIME_S)
        self._per_address[punch.address] += 1
        self.counters["rx_info_request"] += 1
        has_moved = before is None or (before.port, before.rtr) != (punch.port, punch.rtr)
        return place if has_moved else None, [tell_place(request, punch)]

    def expire(self, now: float) -> list[Place]:
        """Remove some expired places; returns them."""
        gone: list[Place] = []
        while len(gone) < SLICE and self._seen and next(iter(self._seen.values())).expires_at <= now:
            gone.append(next(iter(self._seen)))
            self._forget(gone[-1])
        return gone

    def bindings(self, record: MappingRecord, now: float) -> tuple[Binding, ...]:
        """The uplinks of a node by its record, best first: each at the last known port."""
        found = (self._binding(locator, now) for locator in record.locators)
        return tuple(sorted((binding for binding in found if binding is not None), key=lambda one: one.priority))

    def _binding(self, locator: Locator, now: float) -> Binding | None:
        place = place_of(locator)
        if place is None or not locator.is_reachable or locator.priority == 255:
            return None
        seen = self._seen.get(place)
        if seen is None or seen.expires_at <= now:
            return None  # the NAT admits nothing from us, whatever the name says
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

    def _make_room(self, address: IpAddress) -> None:
        """Evict the oldest place of strangers: of the same network, or of all."""
        same = self._strangers_at.get(network_of(address))
        if same is not None and len(same) >= STRANGERS_PER_NETWORK:
            self._forget(next(iter(same)))
        if len(self._strangers) >= STRANGERS_LIMIT:
            self._forget(next(iter(self._strangers)))

    def _forget(self, place: Place) -> None:
        if place in self._strangers:
            del self._strangers[place]
            same = self._strangers_at[network_of(place.address)]
            del same[place]
            if not same:
                del self._strangers_at[network_of(place.address)]
        if self._seen.pop(place, None) is not None:
            self._per_address[place.address] -= 1
            if not self._per_address[place.address]:
                del self._per_address[place.address]

    def _drop(self, counter: str) -> list[SendFromRelayPort]:
        self.counters[counter] += 1
        return []


def tell_place(request: InfoRequest, punch: InData) -> SendFromRelayPort:
    """The answer to an Info-Request in data: its source."""
    nat = NatTraversal(CONTROL_PORT, punch.port, punch.address, punch.rtr, None)
    return punch.answer(InfoReply(request.nonce, None, 0, nat, ttl_min=request.ttl_min).encode())
