"""The RTR for nodes that speak lispers.net's dialect: translated ports by host name, learnt from Info-Requests.

    node : any -> NAT -> here : 4341     data packet, Instance-ID 0xFFFFFF, with an Info-Request: "host" is at this port
    here : 4341 -> NAT -> node : any     data for the EIDs whose record has a locator { address, "host@tp-PORT" }

Nothing of this is authenticated. An entry counts only for the address that the proved registration names, so that a
stranger can do no more than somebody behind the same NAT.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import replace
from ipaddress import ip_network
from typing import Final

from lispmob.control.rate_limit import KeyedBuckets
from lispmob.hub.nat_binding import Binding
from lispmob.hub.registration import is_sendable
from lispmob.hub.rtr_effect import SendFromRelayPort
from lispmob.values import dataclass
from lispmob.wire.address import DistinguishedName, IpAddress, IpNetwork
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.lcaf_types import AfiList, NatTraversal
from lispmob.wire.record import Locator, MappingRecord

LIFETIME_S: Final = 60.0  # ours: three Info-Requests, which come every 15 s, may get lost
ENTRY_LIMIT: Final = 16384
PER_SOURCE_S: Final = 0.2  # ours: answers to one address, behind which many nodes may be
BURST_PER_SOURCE: Final = 50
RTR_PRIORITY: Final = 254
RTR_NAMES: Final = (b"RTR", b"lispers.net-RTR")
_PRIVATE: Final[tuple[IpNetwork, ...]] = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)
_PORT_MARK: Final = b"@tp-"


@dataclass(frozen=True, slots=True)
class Punch:
    """An Info-Request in the data plane, and how it reached us."""

    request: InfoRequest
    address: IpAddress
    port: int
    rtr: IpAddress
    private: IpAddress  # the inner source: the node's own idea of its address


@dataclass(frozen=True, slots=True)
class _Place:
    port: int
    rtr: IpAddress
    expires_at: float


class NatCache:
    """Where hosts behind NATs are at the moment: by host name and translated address."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._places: OrderedDict[tuple[bytes, IpAddress], _Place] = OrderedDict()
        self._answers: KeyedBuckets[IpAddress] = KeyedBuckets(PER_SOURCE_S, BURST_PER_SOURCE)

    def __len__(self) -> int:
        return len(self._places)

    def on_punch(self, punch: Punch, now: float) -> tuple[bool, list[SendFromRelayPort]]:
        """A node keeps its binding open. True when its place is another one now; the answer tells it what we see."""
        name = punch.request.tail
        if not isinstance(name, DistinguishedName) or not name.name or punch.port == 0:
            return False, self._drop("rx_policy")
        if not is_sendable(punch.address, punch.address) or not self._answers.take(punch.address, now):
            return False, self._drop("rx_rate")
        key = name.name, punch.address
        before = self._places.pop(key, None)
        self._places[key] = _Place(punch.port, punch.rtr, now + LIFETIME_S)
        while len(self._places) > ENTRY_LIMIT:
            self._places.popitem(last=False)
        self.counters["rx_info_request"] += 1
        has_moved = before is None or before.expires_at <= now or before.port != punch.port
        return has_moved, [self._answer(punch)]

    def bindings(self, record: MappingRecord, now: float) -> tuple[Binding, ...]:
        """The uplinks of a node by its record: the port that was heard last, else the one that the name says."""
        found = (self._binding(locator, now) for locator in record.locators if not is_rtr(locator))
        return tuple(binding for binding in found if binding is not None)

    def _binding(self, locator: Locator, now: float) -> Binding | None:
        named = _named(locator)
        if named is None or not locator.is_reachable:
            return None
        address, name = named
        host = name.partition(_PORT_MARK)[0]
        place = self._places.get((host, address))
        if place is None or place.expires_at <= now:
            return None  # the NAT lets nothing in from us, whatever the name says
        return Binding(
            rloc=address,
            address=address,
            port=place.port,
            rtr=place.rtr,
            source_port=DATA_PORT,
            expires_at=place.expires_at,
            priority=locator.priority,
            weight=locator.weight,
        )

    def _answer(self, punch: Punch) -> SendFromRelayPort:
        request = punch.request
        nat = NatTraversal(CONTROL_PORT, punch.port, punch.address, punch.rtr, None)
        reply = InfoReply(request.nonce, request.eid, request.mask_len, nat, ttl_min=request.ttl_min)
        destination = punch.private if punch.private.version == punch.rtr.version else punch.address
        inner = build_ip_udp(punch.rtr, CONTROL_PORT, destination, CONTROL_PORT, reply.encode())
        header = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()
        return SendFromRelayPort(header + inner, punch.address, punch.port, punch.rtr)

    def _drop(self, counter: str) -> list[SendFromRelayPort]:
        self.counters[counter] += 1
        return []


def is_rtr(locator: Locator) -> bool:
    """True for a locator that stands for an RTR: by its priority, or as later drafts have it, by its name."""
    named = _named(locator)
    return locator.priority == RTR_PRIORITY or (named is not None and named[1] in RTR_NAMES)


def shown_to(record: MappingRecord, asker: IpAddress) -> MappingRecord:
    """What this asker is answered: all of it, but for a node that registered named locators beside its RTRs."""
    if not any(isinstance(locator.address, AfiList) for locator in record.locators):
        return record
    return replace(record, locators=partial(record, asker))


def partial(record: MappingRecord, asker: IpAddress) -> tuple[Locator, ...]:
    """The locators that this asker shall see: an RTR the places of the node, everybody else the RTRs.

    Private addresses are shown to all: somebody behind the same NAT may use them.
    """
    rtrs = [locator for locator in record.locators if is_rtr(locator)]
    if not rtrs:
        return record.locators
    own = tuple(locator for locator in record.locators if not is_rtr(locator))
    if any(asker in ip_addresses(locator.address) for locator in rtrs):
        return own
    return (*rtrs, *(locator for locator in own if any(_is_private(ip) for ip in ip_addresses(locator.address))))


def _is_private(address: IpAddress) -> bool:
    """RFC 1918 and RFC 4193, and nothing else: documentation addresses are public in a laboratory."""
    return any(address.version == network.version and address in network for network in _PRIVATE)


def _named(locator: Locator) -> tuple[IpAddress, bytes] | None:
    """Address and RLOC-name of an AFI-List locator."""
    if not isinstance(locator.address, AfiList):
        return None
    names = [part.name for part in locator.address.addresses if isinstance(part, DistinguishedName)]
    addresses = ip_addresses(locator.address)
    return (addresses[0], names[0]) if names and addresses else None
