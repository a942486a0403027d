"""The re-encapsulating tunnel router for nodes behind NATs (E19, section 4). Pure.

    register:  node : 4341 -> NAT -> here : 4342      ECM (R) -> the Map-Server as ECM (N): pending
    notify:    Map-Server -> here                     ECM (R), authenticated by the shared key: verified
               here : 4342 -> NAT -> node : 4341      data packet, Instance-ID 0xFFFFFF

A Map-Server in the same process is called directly: nothing is pending then, and its answers cannot be forged.

The datapath forwards data: it gets the verified bindings, and reports packets from unknown sources.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from itertools import count
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.map_server.asker_limits import AskerLimits, Network, Rate, network_of
from lispmob.hub.map_server.effect import Arrival, HubEffect
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.hub.map_server.place_index import PlaceIndex
from lispmob.hub.rtr.nat_binding import Binding, NatEntry
from lispmob.hub.rtr.rtr_effect import (
    InstallRelay,
    RemoveRelay,
    RtrEffect,
    SendFromRelayPort,
    UnregisteredData,
    WayAlive,
)
from lispmob.hub.rtr.rtr_moves import Move, Moved, Moves, digest_of, place_of
from lispmob.hub.rtr.rtr_pending import Pending, PendingRegisters, register_key
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Event, SendControl, UsableLocator
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key, verify_for_rtr
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, MessageType
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.key_record import is_key_record
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord

SLICE: Final = 128  # ours: bindings that expire at a time; the timer is due again at once for the rest
WAYS_ASKED_LIMIT: Final = 1024  # ours: probes of open locators that may still be answered
PUBLISHED_LIMIT: Final = 1024  # ours: publications that may still be acknowledged
MESSAGE_LIMIT: Final = 4096  # ours: octets of a relayed register, which is not authenticated on arrival
KNOWN_REGISTERS_S: Final = 10  # ours: from a confirmed place, with its own xTR-ID
STRANGERS_REGISTERS_S: Final = 1000  # ours, in all: each costs the other Map-Server a MAC
STRANGER_REGISTERS: Final = Rate(50, 100)  # ours: of one network, which has them to itself; beyond, what others leave
LIFETIME_MAX_S: Final = 86400.0
POKE_PER_EID_S: Final = 1.0  # ours: how often an unknown node is informed
POKES_S: Final = 50  # ours, in all: sources can be forged
POKES_KNOWN_S: Final = 500  # ours, in all: of EIDs that are registered here
PROBE_LIMIT: Final = 512  # ours: octets of an RLOC-probe; it has one EID and some ITR-RLOCs
PROBES_EACH: Final = Rate(5, 20)
PROBES_STRANGERS: Final = Rate(500, 500)
PROBES_REGISTERED: Final = Rate(20, 50)
CONTROL_DATA: Final = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()

_UNSPECIFIED: Final = ip_address("0.0.0.0"), ip_address("::")

RtrPlaneEffect: TypeAlias = RtrEffect | HubEffect

RegisterHere: TypeAlias = Callable[[Arrival, float], list[HubEffect]]
"""The Map-Server in this process: a Map-Register as received, and its effects."""


class MapServerLink(msgspec.Struct, frozen=True):
    """Another Map-Server for registrations. Without a key its messages are not accepted."""

    address: IpAddress
    key: Key | None = None


class Rtr:
    """One RTR. `own` are its addresses for nodes."""

    def __init__(
        self,
        map_servers: Iterable[MapServerLink] = (),
        own: Iterable[IpAddress] = (),
        *,
        new_nonce: Callable[[], int] | None = None,
    ) -> None:
        """`new_nonce` returns unpredictable nonces for probes."""
        self.counters: Counter[str] = Counter()
        self.entries: PrefixTable[NatEntry] = PrefixTable()
        self._expiry: Agenda[EidPrefix] = Agenda()
        self._places: PlaceIndex[EidPrefix, tuple[bytes, IpAddress, int]] = PlaceIndex()
        self._addresses: PlaceIndex[EidPrefix, IpAddress] = PlaceIndex()
        self._pending = PendingRegisters()
        self._moves = Moves()
        self._known_registers: KeyedBuckets[tuple[IpAddress, int]] = KeyedBuckets(1 / KNOWN_REGISTERS_S, 40, 16384)
        strangers = Rate(STRANGERS_REGISTERS_S, STRANGERS_REGISTERS_S)
        self._strangers_registers = AskerLimits(STRANGER_REGISTERS, strangers, strangers)
        self._registers_left = TokenBucket(1 / STRANGERS_REGISTERS_S, STRANGERS_REGISTERS_S)
        self._pokes: KeyedBuckets[tuple[EidPrefix, Network]] = KeyedBuckets(POKE_PER_EID_S)
        self._pokes_strange = TokenBucket(1 / POKES_S, POKES_S)
        self._pokes_known = TokenBucket(1 / POKES_KNOWN_S, POKES_KNOWN_S)
        self._probes = AskerLimits(PROBES_EACH, PROBES_STRANGERS, PROBES_REGISTERED)
        self._nonces = 0
        self._new_nonce = new_nonce or count(1).__next__
        self._ways_asked: OrderedDict[int, tuple[EidPrefix, UsableLocator]] = OrderedDict()
        self._published: OrderedDict[int, IpAddress] = OrderedDict()  # nonces, and their Map-Servers
        self._own = frozenset(own)
        self._register_here: RegisterHere | None = None
        self.on_map_servers(map_servers)

    def on_map_servers(self, map_servers: Iterable[MapServerLink], register_here: RegisterHere | None = None) -> None:
        """The configured Map-Servers have changed. `register_here`: the one in this process, at all our addresses."""
        self._servers = {map_server.address: map_server for map_server in map_servers if map_server.key is not None}
        self._register_here = register_here

    def on_addresses(self, own: Iterable[IpAddress]) -> None:
        """Our own addresses have changed."""
        self._own = frozenset(own)

    def wake_at(self) -> float | None:
        """When on_timer is due: a binding expires, or a new place must be asked again."""
        times = (self._expiry.first(), self._moves.wake_at())
        return min((at for at in times if at is not None), default=None)

    def is_at(self, address: IpAddress) -> bool:
        """True when a node that registered through us is at this address."""
        return address in self._addresses

    def seen_at(self, prefix: EidPrefix, xtr_id: bytes, rloc: IpAddress) -> IpAddress | None:
        """The NAT of a node's uplink, by its last authenticated register; None: there was none."""
        entry = self.entries.get(prefix)
        binding = entry.bindings.get(rloc) if entry is not None and entry.xtr_id == xtr_id else None
        return None if binding is None else binding.address

    def forget(self, prefix: EidPrefix) -> list[RtrEffect]:
        """The mapping no longer names us for this prefix: its node has left its NATs, or has another RTR."""
        entry = self.entries.get(prefix)
        if entry is None:
            return []
        entry.bindings.clear()
        return self._settle(entry)

    def revoke(self, prefix: EidPrefix) -> list[RtrEffect]:
        """This prefix may not be registered any more: inform its node, and stop forwarding to it."""
        entry = self.entries.get(prefix)
        bindings = tuple(entry.bindings.values()) if entry is not None else ()
        eid = EidPrefix.host(prefix.address, prefix.instance_id)
        pokes = [SendControl(self._poke(b.rtr, b.address, eid), b.address, b.port, source=b.rtr) for b in bindings]
        return [*pokes, *self.forget(prefix)]

    def in_data(self, eid: EidPrefix, payload: bytes) -> list[SendControl]:
        """A control message for the node of an EID, through its NAT; none without a binding."""
        covering = self.entries.covering(eid)
        bindings = covering[0][1].usable() if covering else ()
        return [
            SendControl(
                CONTROL_DATA + build_ip_udp(binding.rtr, CONTROL_PORT, binding.rloc, CONTROL_PORT, payload),
                binding.address,
                binding.port,
                source=binding.rtr,
            )
            for binding in bindings[:1]
        ]

    def on_acknowledged(self, payload: bytes) -> list[SendControl]:
        """A Map-Notify-Ack came in data: to the Map-Server whose publication was passed on; none for any other."""
        server = self._published.pop(int.from_bytes(payload[4:12]), None)
        own = next((address for address in self._own if server is not None and address.version == server.version), None)
        return [] if server is None else [SendControl(payload, server, source=own)]

    def on_timer(self, now: float) -> list[RtrEffect]:
        """Remove expired bindings, and ask new places that have not answered."""
        effects: list[RtrEffect] = []
        for prefix in self._expiry.due(now, SLICE):
            entry = self.entries.get(prefix)
            if entry is not None:
                effects += self._settle(entry) if entry.expire(now) else []
                self._keep(entry)
        return [*effects, *self._ask_new_places(now)]

    def ask(self, prefix: EidPrefix, locator: UsableLocator) -> list[RtrEffect]:
        """Check whether the node is at this locator. One behind a NAT is asked, on all its bindings, to register again;
        others are probed.

        On all of them, because the one in question may be dead, and the node then finds out as well.
        """
        if locator.source is not None:
            entry, eid = self.entries.get(prefix), EidPrefix.host(prefix.address, prefix.instance_id)
            return [
                SendControl(
                    self._poke(binding.rtr, binding.rloc, eid), binding.address, binding.port, source=binding.rtr
                )
                for binding in (entry.usable() if entry is not None else ())
            ]
        own = next((address for address in self._own if address.version == locator.address.version), None)
        if own is None:
            return [WayAlive(prefix, locator.address, locator.port)]  # it cannot be asked, so it counts as alive
        nonce = self._new_nonce()
        self._ways_asked[nonce] = prefix, locator
        while len(self._ways_asked) > WAYS_ASKED_LIMIT:
            self._ways_asked.popitem(last=False)
        request = MapRequest(nonce, None, (own,), (EidRecord.of(prefix),), is_probe=True)
        self.counters["tx_way_probe"] += 1
        return [SendControl(request.encode(), locator.address, source=own)]

    def on_map_reply(self, reply: MapReply) -> list[RtrEffect] | None:
        """A Map-Reply came; None when it answers no probe of ours."""
        asked = self._ways_asked.pop(reply.nonce, None) if reply.is_probe else None
        if asked is None:
            return None
        prefix, locator = asked
        return [WayAlive(prefix, locator.address, locator.port)]

    def on_encapsulated_control(self, arrival: Arrival, ecm: EncapsulatedControl, now: float) -> list[RtrPlaneEffect]:
        """An ECM with R arrived: a node's register, or a Map-Server's answer to one."""
        try:
            kind = ecm.message[0] >> 4
            if kind == MessageType.MAP_REGISTER:
                return self._on_register(arrival, ecm, now)
            if kind == MessageType.MAP_NOTIFY:
                return [*self._on_notify(arrival, ecm, now)]
        except MalformedMessage as error:
            return [*self._drop(error.counter)]
        except AuthenticationFailed:
            return [*self._drop("rx_auth")]
        return [*self._drop("rx_type")]

    def on_probe(self, arrival: Arrival, now: float) -> list[RtrEffect]:
        """An RLOC-probe: answer that we are here (RFC 9301, 7.1). We are not authoritative for any EID in it."""
        if not is_sendable(arrival.source, arrival.destination) or arrival.source_port == 0:
            return self._drop("rx_policy")
        if len(arrival.payload.rstrip(b"\0")) > PROBE_LIMIT:  # a path MTU probe is padded
            return self._drop("rx_limit")
        if not self._probes.take(arrival.source, now, is_registered=self.is_at(arrival.source)):
            return self._drop("rx_rate")
        request = MapRequest.decode(arrival.payload)
        if not request.is_probe or len(request.records) != 1:
            return self._drop("rx_policy")
        asked = request.records[0]
        locator = Locator(arrival.destination, is_local=True, is_probed=True)
        record = MappingRecord(asked.eid, asked.mask_len, (locator,), ttl_min=1)
        payload = MapReply(request.nonce, (record,), is_probe=True).encode()
        self.counters["tx_probe_reply"] += 1
        return [SendControl(payload, arrival.source, arrival.source_port, source=arrival.destination)]

    def on_unregistered(self, packet: UnregisteredData, now: float) -> list[RtrEffect]:
        """Data came from a source that is not registered from there: inform its node, so that it registers again.

        After a NAT's reboot, or ours, this restores a busy node within a round trip. The message goes back the way the
        data came, so that the NAT admits it. A forger learns and gains nothing.
        """
        self.counters["data_port_changed" if packet.is_registered else "data_source"] += 1
        eid = EidPrefix.host(packet.inner_source, packet.instance_id)
        if packet.outer_source in self._own or packet.outer_source_port == 0:
            return []
        if not is_sendable(packet.outer_source, packet.outer_destination):
            return []
        key = eid, network_of(packet.outer_source)
        total = self._pokes_known if self.entries.covering(eid) else self._pokes_strange
        if self._pokes.available_at(key, now) > now or not total.take(now):
            return []
        self._pokes.take(key, now)
        poke = self._poke(packet.outer_destination, packet.outer_source, eid)
        place = packet.outer_source, packet.outer_source_port
        return [SendFromRelayPort(poke, *place, packet.outer_destination, packet.is_at_control_port)]

    def _on_register(self, arrival: Arrival, ecm: EncapsulatedControl, now: float) -> list[RtrPlaneEffect]:
        """A node's register. Only fields at fixed places are read before it is authenticated."""
        key = register_key(ecm.message)
        if key is None or ecm.destination_port != CONTROL_PORT or arrival.source_port == 0:
            return [*self._drop("rx_policy")]
        if arrival.source in self._own or not is_sendable(arrival.source, arrival.destination):
            return [*self._drop("rx_policy")]
        if len(ecm.message) > MESSAGE_LIMIT:
            return [*self._drop("rx_limit")]
        xtr_id, _ = key
        copied = self._moves.copied((xtr_id, ecm.source), ecm.message, (arrival.source, arrival.source_port))
        if copied is not None:
            return [*self._call_off(copied)]
        if self._register_here is not None and ecm.destination in self._own:
            return self._register_at(self._register_here, arrival, ecm, now)
        server = self._servers.get(ecm.destination)
        if server is None:
            return [*self._drop("rx_policy")]
        place = arrival.source, arrival.source_port
        is_known = (xtr_id, *place) in self._places and self._known_registers.take(place, now)
        if not is_known and not self._may_register(arrival.source, now):
            return [*self._drop("rx_rate")]
        pending = Pending(ecm.message, ecm.source, *place, arrival.destination, server.address, now)
        if not self._pending.put(key, pending, now):
            return [*self._drop("rx_pending")]
        self.counters["rx_relayed_register"] += 1
        onward = replace(ecm, to_rtr=False, relayed_by_rtr=True, authentication=None, has_checksum=True)
        return [SendControl(onward.encode(), server.address, source=_same_family(arrival.destination, server.address))]

    def _may_register(self, source: IpAddress, now: float) -> bool:
        """Whether a register from a new place may be passed on: one sender's flood leaves the others their share."""
        return self._strangers_registers.take(source, now, is_registered=False) or self._registers_left.take(now)

    def _register_at(
        self, register_here: RegisterHere, arrival: Arrival, ecm: EncapsulatedControl, now: float
    ) -> list[RtrPlaneEffect]:
        """The Map-Server in this process verifies the register at once."""
        inner = Arrival(ecm.message, ecm.source, ecm.source_port, ecm.destination, relayed_from=arrival.source)
        effects = register_here(inner, now)
        notified = next((effect.payload for effect in effects if isinstance(effect, SendControl)), None)
        others = [effect for effect in effects if not isinstance(effect, SendControl)]
        if notified is None:
            return [*others]
        self.counters["rx_relayed_register"] += 1
        place = arrival.source, arrival.source_port
        pending = Pending(ecm.message, ecm.source, *place, arrival.destination, ecm.destination, now)
        return [*others, *self._on_verified(pending, notified, now)]

    def _on_notify(self, arrival: Arrival, ecm: EncapsulatedControl, now: float) -> list[RtrEffect]:
        server = self._servers.get(arrival.source)
        is_from_server = ecm.source in (arrival.source, *_UNSPECIFIED)
        if server is None or not is_from_server or arrival.source_port != CONTROL_PORT:
            return self._drop("rx_policy")
        nonce = int.from_bytes(ecm.message[4:12])
        proof = ecm.rtr_authentication
        if proof is None or server.key is None:
            raise AuthenticationFailed("a Map-Notify without the proof that this Map-Server gives")
        verify_for_rtr(ecm.message, proof, server.key)
        found = self._pending.find(nonce, ecm.destination, server.address, now)
        if not found:
            return self._on_publication(ecm, nonce, server.address)
        xtr_id = MapNotify.decode(ecm.message).xtr_id
        if xtr_id is not None:
            found = [(key, pending) for key, pending in found if key[0] == xtr_id]
        if len(found) != 1:
            return self._drop("rx_policy")
        ((key, pending),) = found
        self._pending.take(key)
        return self._on_verified(pending, ecm.message, now)

    def _on_publication(self, ecm: EncapsulatedControl, nonce: int, server: IpAddress) -> list[RtrEffect]:
        """A Map-Notify that answers no register: the Map-Server publishes to the node of this EID (RFC 9437)."""
        records = MapNotify.decode(ecm.message).records
        prefix = records[0].eid_prefix if records else None
        eid = None if prefix is None else EidPrefix.host(ecm.destination, prefix.instance_id)
        sent = [] if eid is None else self.in_data(eid, ecm.message)
        if not sent:
            return self._drop("rx_nonce")
        self._published[nonce] = server
        while len(self._published) > PUBLISHED_LIMIT:
            self._published.popitem(last=False)
        self.counters["tx_data_map_notify"] += 1
        return [*sent]

    def _on_verified(self, pending: Pending, notify: bytes, now: float) -> list[RtrEffect]:
        """The Map-Server has verified the register: apply it, and inform its node."""
        register = MapRegister.decode(pending.message)
        lifetime_s = min(60.0 * max(record.ttl_min for record in register.records), LIFETIME_MAX_S)
        binding = Binding(
            rloc=pending.rloc,
            address=pending.address,
            port=pending.port,
            rtr=pending.rtr,
            source_port=CONTROL_PORT,
            expires_at=now + lifetime_s,
        )
        notified = MapNotify.decode(notify).records
        confirmed = {record.eid_prefix for record in notified if record.action != Action.DROP_POLICY_DENIED}
        digest = digest_of(pending.message)
        effects: list[RtrEffect] = []
        for record in register.records:
            prefix = record.eid_prefix
            if prefix is not None and prefix in confirmed and register.xtr_id is not None:
                moved = Moved(prefix, pending.server, digest)
                effects += self._verify(register.xtr_id, record, binding, moved, now)
        inner = build_ip_udp(pending.server, CONTROL_PORT, pending.rloc, CONTROL_PORT, notify)
        answer = SendControl(CONTROL_DATA + inner, binding.address, binding.port, source=binding.rtr)
        self.counters["tx_data_map_notify"] += 1
        return [*effects, answer, *self._ask_new_places(now)]

    def _verify(
        self, xtr_id: bytes, record: MappingRecord, binding: Binding, moved: Moved, now: float
    ) -> list[RtrEffect]:
        """One EID-Prefix of a verified register, which came from the place of this binding."""
        prefix = moved.prefix
        entry = self.entries.get(prefix)
        if record.ttl_min == 0:
            if entry is None or entry.xtr_id != xtr_id:
                return []
            entry.bindings.clear()
            return self._settle(entry)
        listed = [locator for locator in record.locators if not locator.is_reachable and not is_key_record(locator)]
        if listed and all(locator.ip != binding.rloc for locator in listed):
            return self._drop("rx_policy")  # the MAC does not cover the private RLOC, and this is not one of the node's
        is_new = entry is None or entry.xtr_id != xtr_id
        if entry is None or entry.xtr_id != xtr_id:
            entry = NatEntry(prefix, xtr_id, {})
            self.entries.insert(prefix, entry)
        before, place = _places(entry), place_of(binding)
        binding, moving = self._place_for(entry, binding, moved, now)
        entry.take(binding, listed)
        self._keep(entry)
        alive = [WayAlive(prefix, *place)] if place_of(binding) == place else []
        return [*(self._settle(entry) if is_new or _places(entry) != before else ()), *moving, *alive]

    def _place_for(
        self, entry: NatEntry, binding: Binding, moved: Moved, now: float
    ) -> tuple[Binding, list[RtrEffect]]:
        """The place to use for the uplink: the new one, or still the old one, which is fresh, until the new one
        answers.

        Also returns the effects of a move.
        """
        old, uplink = entry.bindings.get(binding.rloc), (entry.xtr_id, binding.rloc)
        if old is None:
            return binding, []
        if place_of(old) == place_of(binding):
            self._moves.on_old_place(uplink, place_of(old))
            return binding, []
        move = self._moves.on_register(uplink, old, binding, moved, now)
        if not move.is_confirmed:
            # Nothing was sent to a place that had failed: nothing is until the new one answers.
            return replace(old, expires_at=binding.expires_at, is_former=old.is_former or old.has_failed), []
        return binding, self._put(move, {prefix: one for prefix, one in move.wanted.items() if prefix != entry.prefix})

    def _put(self, move: Move, bindings: dict[EidPrefix, Binding]) -> list[RtrEffect]:
        """Set the bindings of every entry of this uplink."""
        effects: list[RtrEffect] = []
        xtr_id, rloc = move.uplink
        for prefix, binding in bindings.items():
            entry = self.entries.get(prefix)
            present = entry.bindings.get(rloc) if entry is not None and entry.xtr_id == xtr_id else None
            if entry is None or present is None or place_of(present) == place_of(binding):
                continue
            policy = {"priority": present.priority, "weight": present.weight}
            entry.bindings[rloc] = replace(binding, expires_at=present.expires_at, **policy)
            effects += self._settle(entry)
        return effects

    def _call_off(self, move: Move) -> list[RtrEffect]:
        """The register that began the move was a copy: the same octets came from the old place, the node's own."""
        self._moves.end(move)
        self.counters["rx_copied_register"] += 1
        return self._put(move, move.before)

    def _ask_new_places(self, now: float) -> list[RtrEffect]:
        """Ask the node at a new place to register again: its answer shows that the register was no copy."""
        effects: list[RtrEffect] = []
        for move in self._moves.to_ask(now):
            binding, prefix = move.binding, next(iter(move.wanted))
            poke = self._poke(binding.rtr, binding.address, EidPrefix.host(prefix.address, prefix.instance_id))
            effects.append(SendControl(poke, binding.address, binding.port, source=binding.rtr))
        return effects

    def _poke(self, rtr: IpAddress, place: IpAddress, eid: EidPrefix) -> bytes:
        """A data packet with an SMR about the node's own EID: it registers again (E19)."""
        self._nonces += 1
        request = MapRequest(self._nonces, None, (rtr,), (EidRecord.of(eid),), is_smr=True, dont_map_reply=True)
        self.counters["tx_poke"] += 1
        return CONTROL_DATA + build_ip_udp(rtr, CONTROL_PORT, place, CONTROL_PORT, request.encode())

    def _settle(self, entry: NatEntry) -> list[RtrEffect]:
        prefix = entry.prefix
        usable = entry.usable()
        if not entry.bindings:
            self.entries.remove(prefix)
        self._keep(entry)
        places = [f"{binding.address}:{binding.port}" for binding in usable]
        event = Event("relay", {"eid": str(prefix), "places": places})
        return [InstallRelay(prefix, usable) if usable else RemoveRelay(prefix), event]

    def _keep(self, entry: NatEntry) -> None:
        """Store the entry: its places, and its expiry."""
        places = [place_of(binding) for binding in entry.bindings.values()]
        self._places.set(entry.prefix, ((entry.xtr_id, *place) for place in places))
        self._addresses.set(entry.prefix, (address for address, _ in places))
        if places:
            self._expiry.set(entry.prefix, min(binding.expires_at for binding in entry.bindings.values()))
        else:
            self._expiry.set(entry.prefix, None)

    def _drop(self, counter: str) -> list[RtrEffect]:
        self.counters[counter] += 1
        return []


def _places(entry: NatEntry) -> tuple[Binding, ...]:
    """The bindings without their lifetime."""
    return tuple(replace(binding, expires_at=0.0) for binding in entry.usable())


def _same_family(source: IpAddress, destination: IpAddress) -> IpAddress | None:
    return source if source.version == destination.version else None
