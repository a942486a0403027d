"""The re-encapsulating tunnel router: public ground for nodes behind NATs (E19, section 4). Pure.

    register:  node : 4341 -> NAT -> here : 4342      ECM (R) -> the Map-Server as ECM (N): pending
    notify:    Map-Server -> here                     ECM (R), proved by the key we share: verified
               here : 4342 -> NAT -> node : 4341      data packet, Instance-ID 0xFFFFFF

Data is the datapath's business: it gets the verified bindings, and reports packets whose source it does not know.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from lispmob.control.effect import Event, SendControl
from lispmob.control.prefix_table import PrefixTable
from lispmob.control.rate_limit import KeyedBuckets, TokenBucket
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.effect import Arrival
from lispmob.hub.nat_binding import Binding, NatEntry
from lispmob.hub.registration import is_sendable
from lispmob.hub.rtr_effect import InstallRelay, RemoveRelay, RtrEffect, SendFromRelayPort, Stranger
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key, verify_for_rtr
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, MessageType
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action, Locator, MappingRecord

PENDING_S: Final = 5.0  # ours: the Map-Server answers within seconds or not at all (OOR's RTR: 2 s)
PENDING_LIMIT: Final = 4096
PENDING_PER_SOURCE: Final = 32  # ours: one public address may stand for many nodes, but not for a flood
LIFETIME_MAX_S: Final = 86400.0
POKE_PER_EID_S: Final = 1.0  # ours: how often a node is told that it is not known
POKES_S: Final = 50  # ours, in all: sources can be forged
CONTROL_DATA: Final = DataHeader(instance_id=CONTROL_INSTANCE_ID).encode()


@dataclass(frozen=True, slots=True)
class MapServerLink:
    """A Map-Server that registrations may go to; with a key, only what it proves is believed."""

    address: IpAddress
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class _Pending:
    """A register on its way: unverified, so that nothing is sent to where it came from but its own answer."""

    binding: Binding
    server: MapServerLink
    register: MapRegister
    at: float


class Rtr:
    """One RTR. `own` are the addresses that nodes know it by."""

    def __init__(self, map_servers: Iterable[MapServerLink] = (), own: Iterable[IpAddress] = ()) -> None:
        self.counters: Counter[str] = Counter()
        self.entries: PrefixTable[NatEntry] = PrefixTable()
        self._pending: OrderedDict[tuple[IpAddress, int], _Pending] = OrderedDict()  # by private RLOC and nonce
        self._pokes: KeyedBuckets[EidPrefix] = KeyedBuckets(POKE_PER_EID_S)
        self._pokes_in_all = TokenBucket(1 / POKES_S, POKES_S)
        self._nonces = 0
        self._own = frozenset(own)
        self.on_map_servers(map_servers)

    def on_map_servers(self, map_servers: Iterable[MapServerLink]) -> None:
        """Other Map-Servers are configured."""
        self._servers = {one.address: one for one in map_servers}

    def on_addresses(self, own: Iterable[IpAddress]) -> None:
        """Our own addresses are these now."""
        self._own = frozenset(own)

    def wake_at(self) -> float | None:
        """When the next binding runs out."""
        return min((one.expires_at for _, entry in self.entries for one in entry.bindings.values()), default=None)

    def forget(self, prefix: EidPrefix) -> list[RtrEffect]:
        """The mapping system no longer names us for this prefix: its node has left its NATs, or has another RTR."""
        entry = self.entries.get(prefix)
        if entry is None:
            return []
        entry.bindings.clear()
        return self._settle(entry)

    def on_timer(self, now: float) -> list[RtrEffect]:
        """Forget what ran out."""
        gone = [entry for _, entry in self.entries if entry.expire(now)]
        return [effect for entry in gone for effect in self._settle(entry)]

    def on_encapsulated_control(self, arrival: Arrival, ecm: EncapsulatedControl, now: float) -> list[RtrEffect]:
        """An ECM with R came: a node's register, or a Map-Server's answer to one."""
        try:
            kind = ecm.message[0] >> 4
            if kind == MessageType.MAP_REGISTER:
                return self._on_register(arrival, ecm, MapRegister.decode(ecm.message), now)
            if kind == MessageType.MAP_NOTIFY:
                return self._on_notify(arrival, ecm, MapNotify.decode(ecm.message), now)
        except MalformedMessage as error:
            return self._drop(error.counter)
        except AuthenticationFailed:
            return self._drop("rx_auth")
        return self._drop("rx_type")

    def on_probe(self, arrival: Arrival, request: MapRequest) -> list[RtrEffect]:
        """An RLOC-probe: we are here, for whatever EID it names (RFC 9301, 7.1)."""
        if not request.is_probe or len(request.records) != 1 or arrival.source_port == 0:
            return self._drop("rx_policy")
        asked = request.records[0]
        locator = Locator(arrival.destination, is_local=True, is_probed=True)
        record = MappingRecord(asked.eid, asked.mask_len, (locator,), ttl_min=1, is_authoritative=True)
        payload = MapReply(request.nonce, (record,), is_probe=True).encode()
        self.counters["tx_probe_reply"] += 1
        return [SendControl(payload, arrival.source, arrival.source_port, source=arrival.destination)]

    def on_stranger(self, packet: Stranger, now: float) -> list[RtrEffect]:
        """Data came from a source that is not registered from there: its node should know, and register again.

        After a NAT's reboot, or ours, this is what brings a busy node back within a round trip. The packet that carries
        the word goes back the way the data came, so that the NAT lets it in. A forger learns and gains nothing.
        """
        self.counters["data_port_changed" if packet.is_registered else "data_source"] += 1
        eid = EidPrefix.host(packet.inner_source, packet.instance_id)
        if packet.outer_source in self._own or packet.outer_source_port == 0:
            return []
        if not is_sendable(packet.outer_source, packet.outer_source):
            return []
        if self._pokes.available_at(eid, now) > now or not self._pokes_in_all.take(now):
            return []
        self._pokes.take(eid, now)
        self._nonces += 1
        request = MapRequest(
            self._nonces, None, (packet.outer_destination,), (EidRecord.of(eid),), is_smr=True, dont_map_reply=True
        )
        inner = build_ip_udp(
            packet.outer_destination, CONTROL_PORT, packet.outer_source, CONTROL_PORT, request.encode()
        )
        self.counters["tx_poke"] += 1
        return [
            SendFromRelayPort(
                CONTROL_DATA + inner, packet.outer_source, packet.outer_source_port, packet.outer_destination
            )
        ]

    def _on_register(
        self, arrival: Arrival, ecm: EncapsulatedControl, register: MapRegister, now: float
    ) -> list[RtrEffect]:
        server = self._servers.get(ecm.destination)
        is_named = register.xtr_id is not None and any(register.xtr_id)
        if server is None or not is_named or ecm.destination_port != CONTROL_PORT:
            return self._drop("rx_policy")
        if any(record.eid_prefix is None for record in register.records) or arrival.source_port == 0:
            return self._drop("rx_policy")
        if arrival.source in self._own or not is_sendable(arrival.source, arrival.source):
            return self._drop("rx_policy")
        self._forget_pending(now)
        if sum(one.binding.address == arrival.source for one in self._pending.values()) >= PENDING_PER_SOURCE:
            return self._drop("rx_rate")
        ttl_min = max(record.ttl_min for record in register.records)
        binding = Binding(
            rloc=ecm.source,
            address=arrival.source,
            port=arrival.source_port,
            rtr=arrival.destination,
            source_port=CONTROL_PORT,
            expires_at=now + min(60.0 * ttl_min, LIFETIME_MAX_S),
        )
        self._pending[ecm.source, register.nonce] = _Pending(binding, server, register, now)
        while len(self._pending) > PENDING_LIMIT:
            self._pending.popitem(last=False)
        self.counters["rx_relayed_register"] += 1
        onward = replace(ecm, to_rtr=False, relayed_by_rtr=True, authentication=None)
        return [SendControl(onward.encode(), server.address, source=_same_family(arrival.destination, server.address))]

    def _on_notify(self, arrival: Arrival, ecm: EncapsulatedControl, notify: MapNotify, now: float) -> list[RtrEffect]:
        server = self._servers.get(ecm.source)
        if server is None or arrival.source != server.address or arrival.source_port != CONTROL_PORT:
            return self._drop("rx_policy")
        proof = ecm.rtr_authentication
        if server.key is not None:
            if proof is None:
                raise AuthenticationFailed("a Map-Notify without the proof that this Map-Server gives")
            verify_for_rtr(ecm.message, proof, server.key)
        self._forget_pending(now)
        pending = self._pending.pop((ecm.destination, notify.nonce), None)
        if pending is None or pending.server.address != server.address:
            return self._drop("rx_nonce")
        if notify.xtr_id is not None and notify.xtr_id != pending.register.xtr_id:
            return self._drop("rx_policy")
        effects: list[RtrEffect] = []
        confirmed = {one.eid_prefix for one in notify.records if one.action != Action.DROP_POLICY_DENIED}
        for record in pending.register.records:
            prefix = record.eid_prefix
            if prefix is not None and prefix in confirmed:
                effects += self._verify(prefix, record, pending)
        inner = build_ip_udp(ecm.source, CONTROL_PORT, ecm.destination, CONTROL_PORT, ecm.message)
        binding = pending.binding
        answer = SendControl(CONTROL_DATA + inner, binding.address, binding.port, source=binding.rtr)
        self.counters["tx_data_map_notify"] += 1
        return [*effects, answer]

    def _verify(self, prefix: EidPrefix, record: MappingRecord, pending: _Pending) -> list[RtrEffect]:
        """The Map-Server vouches for the register: what it said holds from now on."""
        xtr_id = pending.register.xtr_id
        assert xtr_id is not None
        entry = self.entries.get(prefix)
        if record.ttl_min == 0:
            if entry is None or entry.xtr_id != xtr_id:
                return []
            entry.bindings.clear()
            return self._settle(entry)
        is_new = entry is None or entry.xtr_id != xtr_id
        if entry is None or entry.xtr_id != xtr_id:
            entry = NatEntry(prefix, xtr_id, {})
            self.entries.insert(prefix, entry)
        before = _places(entry)
        entry.take(pending.binding, [locator for locator in record.locators if not locator.is_reachable])
        return self._settle(entry) if is_new or _places(entry) != before else []

    def _settle(self, entry: NatEntry) -> list[RtrEffect]:
        prefix = entry.prefix
        usable = entry.usable()
        if not entry.bindings:
            self.entries.remove(prefix)
        places = [f"{one.address}:{one.port}" for one in usable]
        event = Event("relay", {"eid": str(prefix), "places": places})
        return [InstallRelay(prefix, usable) if usable else RemoveRelay(prefix), event]

    def _forget_pending(self, now: float) -> None:
        while self._pending:
            oldest = next(iter(self._pending.values()))
            if now - oldest.at < PENDING_S:
                return
            self._pending.popitem(last=False)

    def _drop(self, counter: str) -> list[RtrEffect]:
        self.counters[counter] += 1
        return []


def _places(entry: NatEntry) -> tuple[Binding, ...]:
    """The bindings without their lifetime."""
    return tuple(replace(one, expires_at=0.0) for one in entry.usable())


def _same_family(source: IpAddress, destination: IpAddress) -> IpAddress | None:
    return source if source.version == destination.version else None
