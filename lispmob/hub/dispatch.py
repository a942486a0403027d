"""The hub's whole control plane: dispatches a datagram by its type to a machine. Pure.

`on_datagram` reads the type in the first octet:

- a Map-Register goes to `map_server.py`, or through an RTR to `rtr/traversal.py`;
- a Map-Request, alone or in an ECM, goes to `map_resolver.py`, which answers from the registrations, forwards it to
  the ETR, or asks another Map-Server;
- RLOC-probes, SMRs, Info-Requests and relayed registers go to `rtr/traversal.py`; a probe with a handshake for sealed
  data goes to `sealing.py`;
- a Map-Notify-Ack goes to `publishing/publisher.py`, which publishes changes to subscribers.

A changed registration (`RegistrationChanged`) is passed on by `_spread`: to the RTR, to the subscribers, and as SMRs to
the nodes that have asked for the EID lately (`askers.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Final, NamedTuple

from lispmob.control.itr_security import LispSecTools
from lispmob.hub.ddt.policy import NO_DDT, DdtPolicy
from lispmob.hub.map_server.askers import Askers
from lispmob.hub.map_server.commit import Prepared
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.hub.map_server.itr_places import Relays
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.map_server.map_resolver import MapResolver, RemoteMapServer
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.name_askers import NameAskers
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.map_server.site import Site
from lispmob.hub.publishing.delivery import Delivery
from lispmob.hub.publishing.publisher import Publisher
from lispmob.hub.rtr.rtr_effect import InData
from lispmob.hub.rtr.traversal import NO_TRAVERSAL, PlaneEffect, Traversal, TraversalPolicy
from lispmob.hub.sealing import HubSealing, own_records
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import MessageType
from lispmob.wire.map_register import xtr_id_in

_SHORTEST: Final = 4
# In the first octet, by type
_IS_SMR: Final = 0x01
_IS_PROBE: Final = 0x02
_IS_FOR_RTR: Final = 0x01


class Front(NamedTuple):
    """What only the hub's data-carrying process knows.

    `public_key`: the key to which nodes seal their data. `senders`: by address, the one that data leaves from.
    """

    addresses: tuple[IpAddress, ...]
    is_relay: bool
    public_key: bytes | None
    senders: Mapping[IpAddress, IpAddress] = MappingProxyType({})


class ControlPlane:
    """Map-Server, Map-Resolver and RTR behind one port."""

    def __init__(
        self,
        sites: Iterable[Site],
        remotes: Iterable[RemoteMapServer] = (),
        families: Iterable[int] = (4, 6),
        traversal: TraversalPolicy = NO_TRAVERSAL,
        new_nonce: Callable[[], int] | None = None,
        security: HubSecurity | None = None,
        tools: LispSecTools | None = None,
        ddt: DdtPolicy = NO_DDT,
        sealing: HubSealing | None = None,
    ) -> None:
        """`new_nonce` returns unpredictable numbers, for an RTR that asks other Map-Servers.

        `security` is LISP-SEC of the Map-Resolver and Map-Server, `tools` are for LISP-SEC of the RTR, `sealing` is for
        data between nodes and the proxy.
        """
        self.sealing = sealing
        self.map_server = MapServer(sites)
        self.security = security or HubSecurity()
        self.security.on_sites(self.map_server.sites)
        self.askers = Askers(new_nonce=new_nonce or count(1).__next__)
        nonces = new_nonce or count(1).__next__
        self.name_askers = NameAskers(self.map_server.names.answer, new_nonce=nonces)
        self.map_resolver = MapResolver(
            self.map_server, remotes, families, self.askers, self.security, self.name_askers, new_nonce=nonces
        )
        self.map_resolver.on_ddt(ddt)
        self.traversal = Traversal(self.map_server, traversal, new_nonce=nonces, tools=tools)
        self.publisher = Publisher(
            self.map_server,
            self.security,
            self.map_resolver.published,
            Delivery(self.traversal.rtr.in_data, self.traversal.relayed.by_rtr),
        )
        self.map_resolver.on_publisher(self.publisher)
        self._share_with_rtrs(traversal)
        self._counters: Counter[str] = Counter()
        self._own: tuple[IpAddress, ...] = ()
        self._senders: Mapping[IpAddress, IpAddress] = {}
        self._front: Front | None = None
        self._names_version = 0

    def on_addresses(self, own: Sequence[IpAddress]) -> None:
        """This hub's addresses have changed."""
        self._own = tuple(own)
        self.traversal.on_addresses(own)
        is_relay = self._front.is_relay if self._front is not None else self.traversal.policy.is_rtr
        self.map_resolver.on_relays(Relays(self._own, self._senders) if is_relay else Relays())
        public_key = self.sealing.public_key if self.sealing is not None else None
        if self._front is not None:
            public_key = self._front.public_key
        self.map_resolver.own_keys = own_records(public_key, self._own) if public_key else {}

    def on_senders(self, senders: Mapping[IpAddress, IpAddress]) -> None:
        """Which of this hub's addresses data leaves from, where a node knows this one or another beside it."""
        self._senders = senders
        self.traversal.info.on_senders(senders)
        self.on_addresses(self._own)

    def on_front(self, front: Front) -> None:
        """Another process of this hub carries the data: this one answers with the data of that process."""
        self._front, self._own = front, front.addresses
        self.on_senders(front.senders)

    @property
    def addresses(self) -> tuple[IpAddress, ...]:
        """The addresses of this hub."""
        return self._own

    def on_own_eids(self, eids: Iterable[EidPrefix], now: float) -> list[PlaneEffect]:
        """This machine has EIDs itself, at the current addresses."""
        return self._spread(self.map_server.on_own(eids, self._own), now)

    @property
    def counters(self) -> Counter[str]:
        """The sum of all counters; names of refused input are those of the error catalogue."""
        parts = (self.map_server, self.map_resolver, self.traversal, self.askers, self.name_askers, self.publisher)
        sealed = Counter() if self.sealing is None else self.sealing.counters
        return sum((part.counters for part in parts), self._counters + sealed)

    def wake_at(self) -> float | None:
        """When on_timer is due; None for never."""
        machines = (self.map_server, self.map_resolver, self.traversal, self.askers, self.name_askers, self.publisher)
        times = (machine.wake_at() for machine in machines)
        return min((at for at in times if at is not None), default=None)

    def on_timer(self, now: float) -> list[PlaneEffect]:
        """Time has passed."""
        effects = [*self._spread(self.map_server.on_timer(now), now), *self._revoke()]
        searched = self.map_resolver.on_timer(now)
        return [
            *effects,
            *searched,
            *self.traversal.on_timer(now),
            *self.askers.on_timer(now),
            *self.publisher.on_timer(now),
            *self.name_askers.on_timer(now),
        ]

    def restore(self, rows: Iterable[tuple[EidPrefix, tuple[bytes, ...]]], now: float) -> list[PlaneEffect]:
        """Restore some of the registrations from before a restart."""
        return self._spread(self.map_server.restore(rows, now), now)

    def adopt(
        self, prefix: EidPrefix, parts: tuple[bytes, ...], now: float, *, is_announced: bool = True
    ) -> list[PlaneEffect]:
        """A shared registry reports registrations (`MapServer.adopt`)."""
        return self._spread(self.map_server.adopt(prefix, parts, is_announced=is_announced), now)

    def cares_for(self, prefix: EidPrefix) -> bool:
        """True when a change of this prefix must be reported, whether it is in memory or not."""
        return self.map_server.is_watched or self.askers.care_for(prefix) or self.publisher.cares_for(prefix)

    def on_shared_names(self, arrival: Arrival, now: float) -> list[PlaneEffect]:
        """Another hub accepted and answered a Map-Register of names: store it too."""
        self.map_server.adopt_names(arrival, now)
        return [*self._tell_names(now)]

    def on_sites(
        self,
        sites: Iterable[Site],
        remotes: Iterable[RemoteMapServer],
        traversal: TraversalPolicy = NO_TRAVERSAL,
        ddt: DdtPolicy = NO_DDT,
        *,
        now: float,
    ) -> list[PlaneEffect]:
        """The configuration was reloaded."""
        self.map_resolver.on_remotes(remotes)
        self.map_resolver.on_ddt(ddt)
        effects = self.map_server.on_sites(sites, now)
        self.security.on_sites(self.map_server.sites)
        self.publisher.on_sites()
        self.traversal.on_policy(traversal)
        self._share_with_rtrs(traversal)
        self.on_addresses(self._own)
        return [*self._spread(effects, now), *self._revoke()]

    def _share_with_rtrs(self, policy: TraversalPolicy) -> None:
        self.security.on_rtrs({rtr.address: rtr.key for rtr in policy.rtrs if rtr.key is not None})

    def _revoke(self) -> list[PlaneEffect]:
        """Send SMRs to the nodes of removed sites: they ask, are refused, and so learn it. Peers get theirs anyway."""
        return [sent for prefix, parts in self.map_server.take_revoked() for sent in self._tell_revoked(prefix, parts)]

    def _tell_revoked(self, prefix: EidPrefix, parts: Iterable[XtrRegistration]) -> list[PlaneEffect]:
        told: list[PlaneEffect] = [*self.traversal.rtr.revoke(prefix)]
        for part in parts:
            if is_sendable(part.source, part.source) and any(
                part.source in locator.ips for locator in part.record.locators
            ):
                own = next((address for address in self._own if address.version == part.source.version), None)
                told.append(self.askers.solicit(prefix, part.source, own))
        return told

    def prepare(self, arrival: Arrival, now: float) -> Prepared | tuple[EidPrefix, ...]:
        """What a shared registry has to do before `on_datagram` gets this datagram.

        A verified Map-Register is committed; the EIDs of a Map-Request are looked up. None: nothing.
        """
        raw = arrival.payload
        if len(raw) < _SHORTEST or (arrival.is_from_wire and self.traversal.is_from_us(arrival.source)):
            return ()
        kind = raw[0] >> 4
        if kind == MessageType.ENCAPSULATED_CONTROL:
            register = self.traversal.register_in(arrival)
            if register is None:
                return self.map_resolver.hosts_in(arrival, now)
        else:
            register = arrival if kind == MessageType.MAP_REGISTER else None
        return (self.map_server.prepare(register, now) if register is not None else None) or ()

    def on_datagram(self, arrival: Arrival, now: float) -> list[PlaneEffect]:
        """A datagram came to the control port."""
        return self._spread(self._on_datagram(arrival, now), now)

    def on_data_control(self, packet: InData, now: float) -> list[PlaneEffect]:
        """A control message came in the data plane: from a subscriber behind a NAT, or for the RTR."""
        if packet.payload and packet.payload[0] >> 4 == MessageType.MAP_NOTIFY_ACK:
            onward = self.traversal.rtr.on_acknowledged(packet.payload)
            return [*onward] if onward else list(self.publisher.on_acknowledged(packet.payload))
        return self.traversal.on_data_control(packet, now)

    def _spread(self, effects: Iterable[PlaneEffect], now: float) -> list[PlaneEffect]:
        """Report registrations to the RTR in this process first, then to subscribers, and to askers last.

        A subscriber loses packets until it knows the new locators; who has registered waits for nothing.
        """
        told = list(effects)
        news = [effect for effect in told if isinstance(effect, RegistrationChanged)]
        relays = [effect for change in news for effect in self.traversal.on_registration(change, now)]
        if self.sealing is not None:
            told += [effect for change in news for effect in self.sealing.on_registration(change)]
        fresh = [change for change in news if not change.is_refresh]
        unannounced = [change for change in fresh if not change.is_announced]
        # Subscribers know the registrations that are restored after a restart; expired ones may return at once. A
        # shared registry reports its changes itself, once the state for subscribers is in memory.
        changed = [
            change
            for change in fresh
            if not self.map_server.is_shared and not change.is_stored and (change.record or not change.is_announced)
        ]
        return [
            *relays,
            *(sent for change in changed for sent in self.publisher.on_changed(change.prefix, now)),
            *told,
            *(sent for change in unannounced for sent in self.askers.on_changed(change.prefix, change.record, now)),
            *self._tell_names(now),
        ]

    def _on_map_register(self, arrival: Arrival, now: float) -> list[PlaneEffect]:
        """To the Map-Server. The NAT binding of this register also serves publications of a hub that is gone."""
        effects: list[PlaneEffect] = [*self.map_server.on_map_register(arrival, now)]
        news = [effect.record for effect in effects if isinstance(effect, RegistrationChanged) and effect.record]
        is_behind_nat = bool(news) and not any(arrival.source in locator.ips for locator in news[0].locators)
        if is_behind_nat and (xtr_id := xtr_id_in(arrival.payload)) is not None:
            effects += self.publisher.on_registered(xtr_id, arrival, now)
        return effects

    def on_publications(self, now: float) -> list[PlaneEffect]:
        """All subscriptions are restored: publish what has changed meanwhile."""
        return list(self.publisher.on_restored(now))

    def _tell_names(self, now: float) -> list[SendControl]:
        version = self.map_server.names.version
        if version == self._names_version:
            return []
        self._names_version = version
        return self.name_askers.on_changed(now)

    def _on_datagram(self, arrival: Arrival, now: float) -> list[PlaneEffect]:
        raw = arrival.payload
        if len(raw) < _SHORTEST:
            self._counters["rx_short"] += 1
            return []
        if arrival.is_from_wire and self.traversal.is_from_us(arrival.source):
            self._counters["rx_own_source"] += 1  # forged: packets of this machine to itself cross no wire
            return []
        kind = raw[0] >> 4
        if kind == MessageType.MAP_REGISTER:
            relayed = self.traversal.on_old_register(arrival, now) if raw[0] & _IS_FOR_RTR else None
            return list(relayed) if relayed is not None else self._on_map_register(arrival, now)
        if kind == MessageType.ENCAPSULATED_CONTROL:
            taken = self.traversal.on_encapsulated_control(arrival, now)
            return list(taken if taken is not None else self.map_resolver.on_encapsulated_control(arrival, now))
        if kind == MessageType.INFO:
            return list(self.traversal.on_info_request(arrival, now))
        if kind == MessageType.MAP_REQUEST:
            if raw[0] & _IS_PROBE:
                shaken = self.sealing.on_probe(arrival, now) if self.sealing is not None else None
                return list(shaken) if shaken is not None else self.traversal.on_probe(arrival, now)
            if raw[0] & _IS_SMR:
                # The Map-Server in this process has informed a proxy ITR already; an RTR may have to ask another one.
                return self.traversal.on_smr(arrival, now)
            self._counters["rx_policy"] += 1  # for an ETR, which a hub is not (RFC 9301, 8.2)
            return []
        if kind == MessageType.MAP_NOTIFY_ACK:
            return list(self.publisher.on_acknowledged(raw))
        if kind == MessageType.MAP_REFERRAL:
            return list(self.map_resolver.on_map_referral(arrival, now))
        if kind == MessageType.MAP_REPLY and self.traversal.policy.is_rtr:
            return self.traversal.on_map_reply(arrival, now)
        self._counters["rx_type"] += 1
        return []
