"""NAT traversal in the hub's control plane: dispatches Info-Requests, ECMs and probes to its machines. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from lispmob.control.itr_security import ItrSecurity, LispSecTools, derived_secret
from lispmob.control.smr import solicited
from lispmob.errors import MalformedMessage
from lispmob.hub.map_server.asker_limits import AskerLimits, Network, Rate, network_of
from lispmob.hub.map_server.effect import Arrival, HubEffect, RegistrationChanged
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.hub.map_server.info import InfoResponder
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.rtr.relayed import RelayedRegisters, RtrPeer
from lispmob.hub.rtr.rtr import MapServerLink, Rtr
from lispmob.hub.rtr.rtr_effect import InData, InstallRelay, Learned, RtrEffect, UnregisteredData
from lispmob.hub.rtr.rtr_lispers import tell_place
from lispmob.hub.rtr.rtr_lookup import LookupEffect, RtrLookup
from lispmob.hub.rtr.rtr_named import NamedNodes
from lispmob.hub.sealing import SealEffect
from lispmob.protocol.effect import SendControl
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.protocol.servers import LispSecMode
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import MessageType
from lispmob.wire.info import InfoRequest
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import MappingRecord

PlaneEffect: TypeAlias = HubEffect | RtrEffect | SealEffect

# Of the second octet of an ECM (NAT-traversal draft): to an RTR, or relayed by one.
TO_RTR_BIT: Final = 0x40
RELAYED_BIT: Final = 0x20
RELAYED_LIMIT: Final = 4352  # ours: octets of an ECM between a node and its Map-Server, RTR or not
PLACES_TOLD_S: Final = 2  # ours: to one port of an address that nodes of ours are at
PLACES_TOLD_BURST: Final = 10
PLACES_TOLD_LIMIT: Final = 65536  # ours: ports that are told apart
PLACES_TOLD_IN_ALL_S: Final = 2000  # ours: to all of these addresses
PLACES_TOLD_EACH: Final = Rate(5, 20)  # ours: to another address, as a NAT gives one to the data of a node
PLACES_TOLD_STRANGERS: Final = Rate(200, 200)
PUNCH_LIMIT: Final = 512  # ours: octets of an Info-Request in data
NEW_PEERS_S: Final = 2  # ours: EIDs from one network whose data comes before they are known
NEW_PEERS_BURST: Final = 20
SMR_LIMIT: Final = 512  # ours: octets of an SMR; it names one EID, and some ITR-RLOCs


class TraversalPolicy(msgspec.Struct, frozen=True):
    """What a hub does for nodes behind NATs.

    `rtrs`: offered in this order, and allowed to relay registrations. `is_rtr`: this hub is one; without `map_servers`
    it is the Map-Server too, and without `rtrs` it offers itself. `served`: the EIDs whose data it carries.
    `answers_*`: the Info-Requests that are answered.
    """

    rtrs: tuple[RtrPeer, ...] = ()
    is_rtr: bool = False
    map_servers: tuple[MapServerLink, ...] = ()
    served: tuple[EidPrefix, ...] = ()
    answers_e19: bool = True
    answers_lispers: bool = False
    lisp_sec: LispSecMode = "off"
    """How an RTR asks other Map-Servers."""


NO_TRAVERSAL: Final = TraversalPolicy()


class Traversal:
    """The Map-Server's and the RTR's side. `own` are the addresses of this hub."""

    def __init__(
        self,
        map_server: MapServer,
        policy: TraversalPolicy = NO_TRAVERSAL,
        *,
        new_nonce: Callable[[], int],
        tools: LispSecTools | None = None,
    ) -> None:
        """`tools`: for LISP-SEC; None: off."""
        self._map_server = map_server
        self._security = ItrSecurity("off", {}, tools)
        self._own: frozenset[IpAddress] = frozenset()
        self._complaints: list[HubEffect] = []
        self.lookup = RtrLookup(new_nonce=new_nonce, security=self._security)
        self._counters: Counter[str] = Counter()
        self.info = InfoResponder(map_server.sites, is_registered=map_server.is_at)
        self.relayed = RelayedRegisters(map_server)
        self.rtr = Rtr(new_nonce=new_nonce)
        map_server.on_rtr(self.rtr.seen_at)
        self._places_told: KeyedBuckets[tuple[IpAddress, int]] = KeyedBuckets(
            1 / PLACES_TOLD_S, PLACES_TOLD_BURST, PLACES_TOLD_LIMIT
        )
        self._places_told_in_all = TokenBucket(1 / PLACES_TOLD_IN_ALL_S, PLACES_TOLD_IN_ALL_S)
        self._strangers_told = AskerLimits(PLACES_TOLD_EACH, PLACES_TOLD_STRANGERS, PLACES_TOLD_EACH)
        self._new_peers: KeyedBuckets[Network] = KeyedBuckets(1 / NEW_PEERS_S, NEW_PEERS_BURST)
        self.named = NamedNodes()
        self.on_policy(policy)

    @property
    def counters(self) -> Counter[str]:
        """All counters together."""
        parts = (self.info, self.relayed, self.rtr, self.lookup, self.named)
        return sum((part.counters for part in parts), self._counters + Counter())

    def on_policy(self, policy: TraversalPolicy) -> None:
        """The configuration, or its sites, have changed."""
        self.policy = policy
        self._served: PrefixTable[bool] = PrefixTable()
        for prefix in policy.served:
            self._served.insert(prefix, True)
        keys = ((server.address, server.key) for server in policy.map_servers)
        shared = ((address, derived_secret(key, policy.lisp_sec)) for address, key in keys if key is not None)
        self._security.on_config(policy.lisp_sec, {address: one for address, one in shared if one is not None})
        self.info.on_config(
            self._map_server.sites,
            (rtr.address for rtr in policy.rtrs),
            answers_e19=policy.answers_e19,
            answers_lispers=policy.answers_lispers,
            offers_itself=policy.is_rtr,
        )
        self._spread()

    def on_addresses(self, own: Iterable[IpAddress]) -> None:
        """This hub's addresses have changed."""
        self._own = frozenset(own)
        self._spread()

    def _spread(self) -> None:
        """An RTR calls the Map-Server in the same process directly, so no datagram can be forged between them."""
        policy, own = self.policy, sorted(self._own, key=lambda one: (one.version, int(one)))
        self.relayed.on_rtrs(rtr for rtr in policy.rtrs if rtr.address not in self._own)
        self.rtr.on_map_servers(policy.map_servers, None if policy.map_servers else self._map_server.on_map_register)
        self.rtr.on_addresses(own)
        asked = (server.address for server in policy.map_servers if policy.is_rtr)
        self.lookup.on_map_servers(asked, own, self._map_server.sites.eids())

    def wake_at(self) -> float | None:
        """When on_timer is due."""
        times = (self.rtr.wake_at(), self.lookup.wake_at(), self.named.wake_at())
        return min((at for at in times if at is not None), default=None)

    def on_timer(self, now: float) -> list[RtrEffect]:
        """Time has passed."""
        return [*self.rtr.on_timer(now), *self.named.on_timer(now), *self._learned(self.lookup.on_timer(now), now)]

    def on_registration(self, change: RegistrationChanged, now: float) -> list[RtrEffect]:
        """A mapping changed in the local Map-Server: this RTR needs its locators with names."""
        if not self.policy.is_rtr or change.is_refresh:
            return []
        return self._on_record(change.prefix, change.record, now)

    def on_info_request(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """A message of type 7 arrived. Without an RTR to offer, the answer still says whether there is a NAT."""
        return self.info.on_info_request(arrival, now)

    def on_encapsulated_control(self, arrival: Arrival, now: float) -> list[PlaneEffect] | None:
        """An ECM arrived; None if it is for the Map-Resolver."""
        flags = arrival.payload[1]
        if not flags & (TO_RTR_BIT | RELAYED_BIT):
            return None
        if len(arrival.payload) > RELAYED_LIMIT:
            return self._refuse("rx_limit")
        if not (self.policy.is_rtr if flags & TO_RTR_BIT else self.relayed.knows(arrival.source)):
            if not flags & TO_RTR_BIT:
                self._complain_of_rtr(arrival, now)
            return self._refuse()  # before it is decoded
        try:
            ecm = EncapsulatedControl.decode(arrival.payload)
        except MalformedMessage as malformed:
            return self._refuse(malformed.counter)
        if not ecm.has_checksum:
            self._counters["rx_ecm_unsummed"] += 1
        if ecm.to_rtr:
            return list(self.rtr.on_encapsulated_control(arrival, ecm, now))
        return list(self.relayed.on_encapsulated_register(arrival, ecm, now))

    def register_in(self, arrival: Arrival) -> Arrival | None:
        """The Map-Register in an ECM, for the Map-Server of this hub; None for anything else."""
        flags = arrival.payload[1]
        if not flags & (TO_RTR_BIT | RELAYED_BIT) or len(arrival.payload) > RELAYED_LIMIT:
            return None
        is_ours = self.policy.is_rtr and not self.policy.map_servers
        if not (is_ours if flags & TO_RTR_BIT else self.relayed.knows(arrival.source)):
            return None
        try:
            ecm = EncapsulatedControl.decode(arrival.payload)
        except MalformedMessage:
            return None
        if ecm.message[0] >> 4 != MessageType.MAP_REGISTER:
            return None
        return Arrival(ecm.message, ecm.source, ecm.source_port, ecm.destination)

    def take_complaints(self) -> list[HubEffect]:
        """Complaints for the operator since the last call: about messages that were ignored."""
        taken, self._complaints = self._complaints, []
        return taken

    def _complain_of_rtr(self, arrival: Arrival, now: float) -> None:
        """Nodes behind an RTR that may not relay get no answer, and the operator can help."""
        why = "an RTR passes on a Map-Register, and 'rtrs' in hub.conf does not name it"
        self._complaints += self._map_server.complain("refused", arrival.source, why, now)

    def on_old_register(self, arrival: Arrival, now: float) -> list[HubEffect] | None:
        """A bare Map-Register marked as relayed by an RTR; None if the RTR is not ours."""
        return self.relayed.on_old_register(arrival, now) if self.relayed.knows(arrival.source) else None

    def on_probe(self, arrival: Arrival, now: float) -> list[PlaneEffect]:
        """An RLOC-probe: an RTR answers, so that nodes can measure the round trip."""
        if not self.policy.is_rtr:
            return self._refuse()
        try:
            return list(self.rtr.on_probe(arrival, now))
        except MalformedMessage as malformed:
            return self._refuse(malformed.counter)

    def on_unregistered(self, packet: UnregisteredData, now: float) -> list[RtrEffect]:
        """Data came from a source that is not registered from there."""
        effects = self.rtr.on_unregistered(packet, now)
        if packet.is_registered:
            return effects
        eid = EidPrefix.host(packet.inner_source, packet.instance_id)
        known_as = self._known_as(eid)
        if known_as is None and self._is_for_us(packet):
            known_as = eid if self._new_peers.take(network_of(packet.outer_source), now) else None
        if known_as is not None:
            self.lookup.on_unregistered(eid, known_as, now)
        return effects

    def _is_for_us(self, packet: UnregisteredData) -> bool:
        """True for data to an EID that we serve, or from a place that a node of lispers.net's dialect keeps open.

        Its source may be without a NAT, or register only with the Map-Server: the known registrations decide.
        """
        if self.policy.answers_lispers and self.named.is_at(packet.outer_source):
            return True
        if packet.inner_destination is None:
            return False
        destination = EidPrefix.host(packet.inner_destination, packet.instance_id)
        return bool(self._served.covering(destination)) or self._known_as(destination) is not None

    def on_data_control(self, packet: InData, now: float) -> list[PlaneEffect]:
        """A control message came in the data plane: an Info-Request, which opens a NAT, or an RLOC-probe."""
        if packet.address in self._own:
            return self._refuse("rx_own_source")
        try:
            kind = packet.payload[0] >> 4 if packet.payload else 0
            if kind == MessageType.INFO:
                return self._on_punch(packet, now)
            if kind == MessageType.MAP_REQUEST:
                arrival = Arrival(packet.payload, packet.address, packet.inner_source_port, packet.rtr)
                answers = self.rtr.on_probe(arrival, now)
                return [
                    packet.answer(answer.payload) if isinstance(answer, SendControl) else answer for answer in answers
                ]
        except MalformedMessage as malformed:
            return self._refuse(malformed.counter)
        return self._refuse("rx_type")

    def _on_punch(self, packet: InData, now: float) -> list[PlaneEffect]:
        """An Info-Request in data. With a host name it keeps a binding of a node of lispers.net's dialect.

        Nodes of the E19 dialect send it to find the kind of their NAT, and whether their data gets here from where they
        registered (natt/data_way.py). No state is kept of that.
        """
        if len(packet.payload) > PUNCH_LIMIT:
            return self._refuse("rx_limit")
        request = InfoRequest.decode(packet.payload)
        if self.policy.answers_lispers and request.tail is not None:
            return list(self.named.on_punch(request, packet, now))
        is_registered = self.rtr.is_at(packet.address)
        is_strange = not is_registered and request.tail is not None
        if is_strange or request.eid is not None or request.authentication:
            return self._refuse()
        if not self._may_tell_place(packet, now, is_registered=is_registered):
            return self._refuse("rx_rate")
        return [tell_place(request, packet)]

    def _may_tell_place(self, packet: InData, now: float, *, is_registered: bool) -> bool:
        """True within the limits: of a node at its registered address, which it may share, or of a stranger."""
        if not packet.port or not is_sendable(packet.address, packet.rtr):
            return False
        if is_registered:
            place = packet.address, packet.port
            return self._places_told.take(place, now) and self._places_told_in_all.take(now)
        return self._strangers_told.take(packet.address, now, is_registered=False)

    def on_miss(self, source: IpAddress, destination: IpAddress, instance_id: int, now: float) -> list[RtrEffect]:
        """A packet met no entry of the forwarding table."""
        sender = EidPrefix.host(source, instance_id)
        sender = self._known_as(sender) or sender
        asked = EidPrefix.host(destination, instance_id)
        return self._learned(self.lookup.on_miss(source, sender, asked, now), now)

    def on_map_reply(self, arrival: Arrival, now: float) -> list[PlaneEffect]:
        """A Map-Reply arrived: an answer to a lookup of the RTR. Only the nonce is checked before decoding."""
        if not self.lookup.expects(int.from_bytes(arrival.payload[4:12])):
            return self._refuse("rx_nonce")
        try:
            reply = MapReply.decode(arrival.payload)
        except MalformedMessage as malformed:
            return self._refuse(malformed.counter)
        if (alive := self.rtr.on_map_reply(reply)) is not None:
            return list(alive)
        return list(self._learned(self.lookup.on_map_reply(reply, arrival.payload, arrival.destination, now), now))

    def on_smr(self, arrival: Arrival, now: float) -> list[PlaneEffect]:
        """An SMR says that an EID moved: look it up if it is in use."""
        self._counters["rx_smr"] += 1
        if not self.policy.is_rtr or not self.policy.map_servers:
            return []  # the local Map-Server has reported it already
        if len(arrival.payload) > SMR_LIMIT:
            return self._refuse("rx_limit")
        try:
            eid = solicited(MapRequest.decode(arrival.payload))
        except MalformedMessage as malformed:
            return self._refuse(malformed.counter)
        known_as = self._known_as(eid) if eid is not None else None
        if eid is None or known_as is None:
            return self._refuse("rx_smr_unknown")
        return list(self._learned(self.lookup.on_doubt(eid, known_as, now), now))

    def _known_as(self, eid: EidPrefix) -> EidPrefix | None:
        """The prefix under which a host is registered here, or was learned elsewhere."""
        entries = self.rtr.entries.covering(eid)
        return entries[0][0] if entries else self.lookup.known(eid)

    def _on_record(self, prefix: EidPrefix, record: MappingRecord | None, now: float) -> list[RtrEffect]:
        """A node of the other dialect is no longer one that registered through us."""
        found = self.named.on_record(prefix, record, now)
        is_found = any(isinstance(effect, InstallRelay) for effect in found)
        return [*(self.rtr.forget(prefix) if is_found else ()), *found]

    def _learned(self, effects: Iterable[LookupEffect], now: float) -> list[RtrEffect]:
        """A mapping that names us changes nothing; another one ends our state of its NAT."""
        out: list[RtrEffect] = []
        for effect in effects:
            if isinstance(effect, Learned):
                locators = effect.record.locators if effect.record is not None else ()
                if self._own & {address for locator in locators for address in locator.ips}:
                    continue
                if effect.record is not None:
                    out += self.rtr.forget(effect.prefix)
                out.append(effect)
                out += self._on_record(effect.prefix, effect.record, now)
            else:
                out.append(effect)
        return out

    def is_from_us(self, address: IpAddress) -> bool:
        """True for this hub's own source address, which it never sends to itself from."""
        return address in self._own and not address.is_loopback

    def _refuse(self, counter: str = "rx_policy") -> list[PlaneEffect]:
        self._counters[counter] += 1
        return []
