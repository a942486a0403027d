"""The mobile node: owns the machines, and routes the effects of each to the inputs of the others. Pure.

Every `on_*` says what happened and returns the effects in the order in which to perform them. `wake_at` says when to
call `on_timer`.

A control message enters by `on_datagram`. The gate checks type and nonce, and refuses what cannot be an answer. The
rest is decoded once and goes to NAT traversal or to the machine that it concerns.

A move enters by `on_move`: NAT traversal makes a new plan, and Map-Registers follow it. Others wait for those, so they
are returned before anything else is done. The rest of the handover is `on_move_told`: SMRs go to the peers that we
exchange packets with, and the forwarding table is computed again for the new locators. `on_locators` is both.

A packet without a mapping enters by `on_miss`, which returns the first Map-Request. When the Map-Reply has been
accepted, `InstallMapping` releases the waiting packets.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from lispmob.control import claims
from lispmob.control.answering import Answerer, Asked
from lispmob.control.etr_security import EtrSecurity
from lispmob.control.forwarding import NO_LOSSES, DataLosses, ForwardingPolicy
from lispmob.control.gate import Gate, NonceBook
from lispmob.control.itr_security import ItrSecurity, LispSecTools
from lispmob.control.lookups.lookup import Lookup
from lispmob.control.lookups.resolver import Resolver
from lispmob.control.map_cache import MapCache, MapCacheEntry, Source
from lispmob.control.mappings import Mappings
from lispmob.control.names import Names
from lispmob.control.node_config import NodeConfig
from lispmob.control.path_mtu.paths import MtuEffect, PathMtus
from lispmob.control.path_mtu.search import Way
from lispmob.control.path_mtu.size_probe import ControlProbe
from lispmob.control.peers import Peers, entry_targets
from lispmob.control.preference import Preference
from lispmob.control.probe_targets import TARGETS_MAX, ProbeTargets
from lispmob.control.probing.data_doubt import DataDoubts, Question, Route, Verdict
from lispmob.control.probing.probing import Path, ProbeConfig, Prober
from lispmob.control.probing.zero_checksums import ZeroChecksums
from lispmob.control.received import unwrap
from lispmob.control.registration import Registration
from lispmob.control.registrations import Growing, NewNonce, Registrations
from lispmob.control.smr import SmrSender, SmrTarget, solicited
from lispmob.control.source_ports import SourcePorts
from lispmob.control.status_bits import HeardStatus, OwnStatus
from lispmob.control.subscriptions import Subscription, Subscriptions
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.natt.arrival import DataControl
from lispmob.natt.data_reply import in_data
from lispmob.natt.effect import DataSuspect, DirectPathProven, LifeSignWanted, NattEffect, PlanChanged, SendFromDataPort
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.plan import NattPlan
from lispmob.natt.traversal import Traversal
from lispmob.node.default_mappings import default_mappings
from lispmob.node.reachability import Reachability
from lispmob.node.size_targets import size_target
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    Count,
    DropPending,
    Effect,
    Event,
    FollowUpDue,
    InstallMapping,
    LookupFailed,
    MachineEffect,
    MappingChanged,
    MappingLearned,
    PathChanged,
    ReachabilityChanged,
    RefreshNeeded,
    RegistrationConfirmed,
    SendControl,
    UplinkChanged,
    UseStatusBits,
    WayAnswered,
    WaysInDoubt,
    WitnessWanted,
)
from lispmob.protocol.locator_set import NEVER, LocalLocator, LocatorSet
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import DATA_PORT
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import ControlMessage, decode_control
from lispmob.wire.record import Action, Locator, MappingRecord

__all__ = ["Datagram", "LocalLocator", "MapServerPeer", "Node", "NodeConfig", "NodeEffect"]

DATA_AGAIN_S: Final = 3.0  # ours: a peer is asked again then; with three tries, lost data is known of within 5 s
DATA_ANSWER_S: Final = 0.5  # ours
PROBED_AGAIN_S: Final = 3.0  # ours: two probes of a peer within this time are no routine
DATA_PEERS: Final = 4  # ours: how many are asked at once

NodeEffect: TypeAlias = Effect | SendFromDataPort | PlanChanged
"""The effects that a node returns to the daemon."""

_Inner: TypeAlias = MachineEffect | SendFromDataPort | PlanChanged | LifeSignWanted | DirectPathProven | DataSuspect


class Node:
    """One mobile node. `new_nonce` is unpredictable, `next_nonce` (for Map-Registers) grows, `jitter` is in [0, 1)."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        new_nonce: NewNonce,
        jitter: Callable[[], float],
        next_nonce: Growing = None,
        lisp_sec: LispSecTools | None = None,
        next_map_version: NewNonce | None = None,
        prepares: bool = False,
    ) -> None:
        """`prepares`: the datapath may send Map-Requests that are made in advance (control/lookups/prepared.py)."""
        self.config = config
        self.locators = LocatorSet()
        self.counters: Counter[str] = Counter()
        self.source_ports = SourcePorts()
        self._arrival: Datagram | None = None  # the one in progress
        self._registrations = Registrations(config, jitter=jitter, next_nonce=next_nonce)
        asked = self._asked = NonceBook(new_nonce)
        self.security = ItrSecurity(config.lisp_sec, dict(config.resolver_secrets), lisp_sec)
        self._subscriptions = Subscriptions(config, self.security, new_nonce=new_nonce)
        self.gate = Gate(asked, self._registrations.nonces, self._subscriptions)
        self.reachability = Reachability(config.eids, config.map_resolvers, new_nonce=asked)
        growing, asks = self._registrations.next_nonce, self.reachability.asks
        self.traversal = Traversal(
            NattConfig.of(config),
            new_nonce=asked,
            next_nonce=growing,
            asks=asks,
            next_version=next_map_version,
            peers_answer=self.reachability.peers_answer,
        )
        self._direct = LocatorSet()  # uplinks that need no RTR
        self._sending = LocatorSet()  # uplinks that may send, with the locators of our records
        self._etr = EtrSecurity(config.etr_keys, lisp_sec.wrap if lisp_sec is not None else None)
        self._resolver = Resolver(
            config.map_resolvers,
            new_nonce=asked,
            security=self.security,
            eids=config.eids,
            has_program=config.has_mapping_program,
            draw=asked.draw if prepares else None,
        )
        self.names = Names(config, new_nonce=asked, next_nonce=growing, jitter=jitter)
        self._answerer = Answerer(config.eids, config.record_ttl_min, echoes=config.echo_nonce)
        self._smr = SmrSender(new_nonce=new_nonce, proof_for=self._answerer.probe_nonce_of)
        self._mappings = Mappings(ForwardingPolicy.of(config), config.map_cache_limit)
        self._peers = Peers()
        self._targets = ProbeTargets()
        self._preference = Preference(config.preference)
        probing, is_probing = config.probing or ProbeConfig(), config.probing is not None
        self._prober = Prober(probing, new_nonce=asked, jitter=jitter, enabled=is_probing)
        self._data_doubts = DataDoubts(
            self._data_route, new_nonce=asked, silences=1, lasts_s=0.0, again_s=DATA_AGAIN_S, answer_s=DATA_ANSWER_S
        )
        self._lost_data: dict[IpAddress, Verdict] = {}
        self._losses = NO_LOSSES
        self._probed_at: dict[IpAddress, float] = {}  # when locators of peers in use last probed us
        self.path_mtus = PathMtus(new_nonce=asked, counters=self.counters)
        self.zero_checksums = ZeroChecksums(self._prober.path, new_nonce=asked)
        self._heard_status = HeardStatus()
        self._own_status = OwnStatus(accepts=config.accepts_status_bits, sends=config.status_bits == "send")
        self._attached: tuple[LocalLocator, ...] = ()
        self._lost_all_at: float | None = None
        self._follows_later: list[Callable[[float], list[_Inner]]] | None = None  # between on_move and on_move_told
        self._is_over = False
        # Static mappings exist from the start; the first input returns their effects.
        self._unsaid = self._apply_policy(0.0)

    def wake_at(self) -> float | None:
        """The next deadline of on_timer, in monotonic seconds; None if there is none."""
        machines = (self._registrations, self._resolver, self._smr, self._mappings, self.traversal, self.names)
        paths = (self._prober, self._targets, self._preference, self._own_status, self.path_mtus, self.reachability)
        others = (*paths, self._subscriptions, self._data_doubts, self.zero_checksums)
        times = [machine.wake_at() for machine in (*machines, *others)]
        return min((at for at in times if at is not None), default=None)

    def on_locators(self, locators: Sequence[LocalLocator], now: float) -> list[NodeEffect]:
        """The uplinks have changed to these. The whole handover is returned by this call; nothing is deferred."""
        return [*self.on_move(locators, now), *self.on_move_told((), (), now)]

    def on_move(self, locators: Sequence[LocalLocator], now: float) -> list[NodeEffect]:
        """The uplinks have changed to these: what a peer or a Map-Server waits for. `on_move_told` must be next."""
        eids = self.config.eids
        self._preference.touch(now)
        self._attached = tuple(
            locator for locator in locators if not any(eid.contains(locator.address) for eid in eids)
        )
        self.reachability.presume(locator.place for locator in self._attached)
        self.zero_checksums.on_locators(self._attached)
        self._follows_later = []
        return self._rank(now)

    def on_move_told(
        self,
        used: Iterable[EidPrefix],
        heard: Iterable[tuple[IpAddress, IpAddress]],
        now: float,
        strangers: Iterable[IpAddress] = (),
    ) -> list[NodeEffect]:
        """The messages of `on_move` have left: the rest of the handover.

        `used` and `heard` are the traffic before it, as in `on_used` and `on_heard`, which get it afterwards: its peers
        get SMRs.
        """
        self.map_cache.touch(used, now)
        self._peers.on_heard((source for _, source in self.traversal.translation.heard(heard)), strangers, now)
        later, self._follows_later = self._follows_later or [], None
        effects = [effect for follow in later for effect in self._route(follow(now), now)]
        links = {locator.address: locator.mtu_bytes for locator in self._attached}
        return [*effects, *self.path_mtus.on_links(links)]

    def on_datagram(self, datagram: Datagram, now: float) -> list[NodeEffect]:
        """A control datagram has arrived. It is trusted only as far as it is authenticated."""
        self._arrival, datagram = datagram, self.traversal.translation.inward(datagram)
        message = self._read(datagram.payload, datagram.source, now)
        try:
            return self._route([message], now) if isinstance(message, Count) else self._take(message, datagram, now)
        finally:
            self._arrival = None

    def on_data_control(self, arrival: DataControl, now: float) -> list[NodeEffect]:
        """A control message has arrived on the data port."""
        arrival = self.traversal.translation.inward_data(arrival)
        message = self._read(arrival.payload, arrival.outer_source, now)
        if isinstance(message, Count):
            return self._route([message], now)
        is_relayed = any(
            uplink.relays for uplink in self.plan.uplinks if uplink.locator.address == arrival.outer_destination
        )
        # The Map-Server publishes by the RTR that it is itself; a MAC says whether it did.
        is_published = isinstance(message, MapNotify) and self._subscriptions.knows(arrival.payload[4:12])
        is_about_nat = (is_relayed or arrival.is_about_ways) and not is_published
        taken = self.traversal.on_data_control(arrival, now, message) if is_about_nat else None
        if taken is not None:
            return self._route(taken, now)
        if arrival.source != arrival.outer_source and (not is_relayed or isinstance(message, MapRequest)):
            # a request from the data port is answered only if the asker is its sender
            return self._route([Count("rx_policy")], now)
        answers = in_data(self._take(message, arrival.as_datagram(), now), arrival, self.plan)
        return self.traversal.translation.outward(answers)

    def on_stalled(self, address: IpAddress, now: float, ifindex: int = 0) -> list[NodeEffect]:
        """Packets that leave by this uplink's RTR have not been answered for longer than a round trip."""
        return self._route(
            [*self.traversal.on_stalled(address, now, ifindex), *self.path_mtus.on_silence(now, local=address)], now
        )

    def on_traversal(self, effects: Iterable[NattEffect], now: float) -> list[NodeEffect]:
        """NAT traversal learned something about an uplink; `effects` are what it returned."""
        return self._route(effects, now)

    def on_miss(
        self, source: IpAddress, destination: IpAddress, instance_id: int, now: float, nonce: int = 0
    ) -> list[NodeEffect]:
        """A packet matched no forwarding entry, or a "miss" entry. The first Map-Request is returned by this call.

        `nonce`: that of the prepared Map-Request that the datapath has sent at once; 0: it has sent none.
        """
        asked = EidPrefix.host(destination, instance_id)
        sent = self._resolver.take_prepared(nonce, asked, now)
        if self.config.owner_of(source, instance_id) is None or source.version != destination.version:
            return self._route([Count("miss_source"), DropPending(asked, "source is not one of our EIDs")], now)
        if self.config.owner_of(destination, instance_id) or self._guard().is_infrastructure(destination, instance_id):
            return self._route([Count("miss_guarded"), DropPending(asked, "never to be encapsulated")], now)
        if not self.plan.asks_mapping_system:
            return self._route(self.traversal.on_destination(source, asked, now), now)  # an RTR has a route
        entry = self.map_cache.lookup(destination, instance_id)
        known = self._mappings.installed.get(entry.prefix) if entry is not None else None
        if known is not None and known.disposition != "MISS":
            return self._route([known], now)  # the reply arrived before the packet
        if sent is not None:
            self._asked.expect(nonce)
        return self._route(self._resolver.on_miss(source, asked, now, sent), now)

    def on_used(self, prefixes: Iterable[EidPrefix], now: float) -> list[NodeEffect]:
        """These forwarding entries have carried traffic since the last call."""
        if used := list(prefixes):
            self.map_cache.touch(used, now)
            self.traversal.shortcuts.on_used(used, now)
            self._targets.on_traffic(now)
        return self._route(self._subscribe(used, now), now)

    def on_heard(
        self, pairs: Iterable[tuple[IpAddress, IpAddress]], now: float, strangers: Iterable[IpAddress] = ()
    ) -> list[NodeEffect]:
        """Packets to these local RLOCs, each with its outer source, have been decapsulated since the last call.

        No mapping names the `strangers` among the sources as senders for the EIDs inside.
        """
        heard = list(self.traversal.translation.heard(pairs))
        self._peers.on_heard((source for _, source in heard), strangers, now)
        effects = self._route(self.traversal.on_heard(heard, now), now)
        return effects + self._route(self._prober.on_heard(heard, now), now)

    def on_heard_from(self, source: IpAddress, instance_id: int, now: float) -> list[NodeEffect]:
        """Data came from an EID that has no forwarding entry. The source address is not authenticated."""
        return self._route(self._on_activity_of(EidPrefix.host(source, instance_id), now), now)

    def on_unanswered(
        self, remote: IpAddress, is_flowing: bool, now: float, *, is_alone: bool = False
    ) -> list[NodeEffect]:
        """Packets to this locator have gone unanswered for the time of WatchForSilence. Its siblings may be dead."""
        near = self._prober.on_suspicion(self._mappings.siblings(remote) if is_flowing else (), is_flowing, now)
        told = self._prober.on_unanswered(remote, is_flowing, now, is_alone=is_alone)
        summed = self.zero_checksums.on_unanswered(remote, self._direct.locators, now)
        in_doubt = WaysInDoubt(is_of_peer=True)
        silent = [*told, *near, *self.path_mtus.on_silence(now, remote=remote), *summed, in_doubt]
        return self._route([*silent, *self._on_data_lost(remote, now)], now)

    def on_echoed(self, local: IpAddress, remote: IpAddress, now: float) -> list[NodeEffect]:
        """The nonce that data to `remote` carried has come back in data to `local`."""
        return self._route(self._prober.on_echoed(local, remote, now), now)

    def on_status_bits(
        self, source: IpAddress, instance_id: int, rloc: IpAddress, bits: int, width: int, now: float
    ) -> list[NodeEffect]:
        """Data from `source` through `rloc` carries Locator-Status-Bits for its mapping. They are not authenticated."""
        entry = self.map_cache.lookup(source, instance_id)
        said = None if entry is None else self._heard_status.on_bits(entry, rloc, bits, width)
        if said is None:
            return self._route([Count("rx_status_source")], now)
        return self._route(self._prober.on_status_bits(said.fallen, said.risen, now), now)

    def on_source_doubted(self, source: IpAddress, instance_id: int, now: float) -> list[NodeEffect]:
        """The inner source of a data packet has no mapping here, or one that does not name the sender. Look it up."""
        eid = EidPrefix.host(source, instance_id)
        own, is_ours = self.config.source_for(eid), self.config.owner_of(source, instance_id) is not None
        if own is None or is_ours or self._is_infrastructure(source, instance_id) or not self.plan.asks_mapping_system:
            return self._route([Count("rx_source")], now)
        return self._route(claims.on_doubt(eid, own, self._mappings, self._resolver, now), now)

    def on_large(self, local: IpAddress, remote: IpAddress, port: int, now: float) -> list[MtuEffect]:
        """Large packets are being sent to this locator or RTR."""
        probe = self._size_target(local, remote)
        return [] if probe is None else self.path_mtus.on_large(Way(local, remote, port), probe, now)

    def on_too_big(
        self, local: IpAddress, remote: IpAddress, port: int, mtu_bytes: int, source: str, now: float
    ) -> list[MtuEffect]:
        """A packet was too big. `why`: "icmp" for a proven ICMP error, "unproven" for one that is not, "interface" if
        the uplink refused it.
        """
        probe, way = self._size_target(local, remote), Way(local, remote, port)
        reported = [] if probe is None else self.path_mtus.on_report(way, probe, mtu_bytes, source, now)
        if source == "unproven":
            return reported
        return [Event("mtu-learned", {"rloc": str(remote), "mtu_bytes": mtu_bytes, "source": source}), *reported]

    def on_timer(self, now: float) -> list[NodeEffect]:
        """A deadline may have passed. Early and late calls are harmless."""
        for nonces in (self._asked, self._registrations.nonces):
            nonces.turn(now)
        registering = self._registrations.on_timer(now)
        effects: list[_Inner] = [*registering, *self.traversal.on_timer(now)]
        effects += self.names.on_registers_sent(now) if registering else []
        for machine in (self._smr, self._resolver, self._mappings, self.reachability, self.names, self._subscriptions):
            effects += machine.on_timer(now)
        if self._targets.due(now):
            found = self._targets.find(self.map_cache, self.locators, self.config.eids, now, self._is_dead)
            effects += self._prober.on_targets(found, now)
            effects += self._probe_last_resorts(found, now)
        effects += self._perform_doubts(lambda: self._data_doubts.on_timer(now), now)
        effects += self._test_others(now)
        effects += [*self._prober.on_timer(now), *self._own_status.on_timer(now), *self.path_mtus.on_timer(now)]
        effects += self.zero_checksums.on_timer(now)
        if self._preference.due(now):
            effects += self._preference.on_review(self._attached, self.paths, self._mappings.groups(now), now)
            effects += self._mappings.on_ranks(self._preference.remotes, now)
        return self._route(effects, now)

    def on_refused_here(self, server: IpAddress, now: float) -> list[NodeEffect]:
        """This host itself stopped a control message to this server: only the next try shows when that ends."""
        self._registrations.on_refused_here(server, now)
        self.traversal.on_refused_here(server, now)
        return []

    def on_shutdown(self, now: float) -> list[NodeEffect]:
        """The node stops: withdraw the registrations. No later input registers again."""
        names = self.names.on_shutdown()
        effects = [*self._registrations.on_shutdown(now), *self.traversal.on_shutdown(now), *names]
        self._is_over = True
        # Do not route these: a resting uplink changes the plan, and a new plan would register again.
        return [effect for effect in effects if isinstance(effect, SendControl | SendFromDataPort | Event)]

    def on_slept(self, now: float) -> list[NodeEffect]:
        """The clock jumped: servers may have forgotten us, and our state may be old."""
        effects: list[_Inner] = [*self.reachability.on_slept(now), *self.traversal.on_slept(now)]
        effects += [*self._registrations.on_slept(now), *self._mappings.on_slept(now), *self._prober.on_slept(now)]
        effects += [*self.names.on_slept(now), *self._subscriptions.on_slept(now)]
        self._data_doubts.on_moved()
        return self._route([*effects, *self.path_mtus.on_slept()], now)

    def on_config(self, config: NodeConfig, now: float) -> list[NodeEffect]:
        """The configuration was reloaded. Unchanged parts continue undisturbed."""
        self.config = config
        effects: list[_Inner] = [*self._registrations.on_config(config, now)]
        effects += self.traversal.on_config(NattConfig.of(config), now)
        self.security.on_config(config.lisp_sec, dict(config.resolver_secrets))
        effects += self._subscriptions.on_config(config, now)
        self._etr.on_keys(config.etr_keys)
        self._resolver.on_resolvers(config.map_resolvers, config.eids, has_program=config.has_mapping_program)
        effects += self.names.on_config(config, now)
        self.reachability.on_config(config.eids, config.map_resolvers)
        self._answerer.on_eids(config.eids, config.record_ttl_min, echoes=config.echo_nonce)
        self._preference.on_config(config.preference, now)
        effects += self._own_status.on_config(accepts=config.accepts_status_bits, sends=config.status_bits == "send")
        effects += self._prober.on_config(config.probing or ProbeConfig(), config.probing is not None, now)
        proof = self._mappings.on_proof_required() if self.security.is_required else []
        return self._route([*effects, *proof, *self._apply_policy(now)], now)

    def on_mapping_added(
        self,
        prefix: EidPrefix,
        locators: Sequence[Locator],
        action: Action | int,
        now: float,
        *,
        source: Source = "static",
        ttl_s: float | None = None,
    ) -> list[NodeEffect]:
        """A client added or replaced a mapping; `action` applies when there are no locators."""
        self._resolver.on_mapping_given(prefix)
        record = MappingRecord.of(prefix, locators, action=action)
        return self._route(self._mappings.on_added(record, now, source, ttl_s), now)

    def on_mapping_deleted(self, prefix: EidPrefix, now: float) -> list[NodeEffect]:
        """A client deleted a mapping: traffic to it is looked up again."""
        return self._route(self._mappings.on_deleted(prefix), now)

    def on_name_wanted(self, name: bytes, now: float) -> list[NodeEffect]:
        """A client wants the EIDs of the host with this name: NameResolved follows, at once or later."""
        return self._route(self.names.resolve(name, now), now)

    # --- state for display; nothing here changes it

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """Mappings that the Map-Server publishes to us (RFC 9437), and those that we have asked it to publish."""
        return self._subscriptions.subscriptions

    def is_subscribed(self, prefix: EidPrefix) -> bool:
        """Whether the Map-Server publishes changes of this mapping."""
        subscription = self._subscriptions.of(prefix)
        return subscription is not None and subscription.is_standing

    @property
    def registrations(self) -> tuple[Registration, ...]:
        """One per EID-Prefix and Map-Server."""
        return self._registrations.machines

    @property
    def map_cache(self) -> MapCache:
        """The map-cache."""
        return self._mappings.cache

    @property
    def added_mappings(self) -> int:
        """How many static mappings clients have added."""
        return self._mappings.added

    def is_static(self, prefix: EidPrefix) -> bool:
        """True for a static mapping that a client added."""
        return self._mappings.is_added(prefix)

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """The open lookups."""
        return self._resolver.lookups

    @property
    def plan(self) -> NattPlan:
        """How each uplink sends."""
        return self.traversal.plan

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every pair of a local locator and a remote locator in use."""
        return self._prober.paths

    @property
    def uplink_ranks(self) -> Mapping[str, int]:
        """Priorities of uplinks by name if the user prefers a quality; empty if they are as configured."""
        return self._preference.uplinks

    @property
    def preference_steps(self) -> tuple[str, ...]:
        """The reasons for these ranks."""
        return self._preference.steps

    def is_preferred(self, interface: str) -> bool:
        """False for an uplink that waits because an equal one is better."""
        ranks = self._preference.uplinks
        return ranks.get(interface, 0) % 2 == 0

    def is_silent(self, local: IpAddress) -> bool:
        """True when this local RLOC reaches nothing while another one does, on every interface that has it."""
        places = [locator.place for locator in self.locators.locators if locator.address == local]
        return bool(places) and all(place in self.reachability.silent for place in places)

    def is_reachable(self, remote: IpAddress) -> bool:
        """False when a remote locator answers none of our locators."""
        return self._prober.is_reachable(remote)

    def passing_data(self, now: float) -> frozenset[IpAddress]:
        """Remote locators that have lately been found to get data, and to send it."""
        return self._data_doubts.passing(now)

    @property
    def lost_data(self) -> Mapping[IpAddress, Verdict]:
        """The locators that answer probes and lose data, as far as tests have shown. A peer may not know such tests."""
        return self._lost_data

    def disposition(self, prefix: EidPrefix) -> InstallMapping | None:
        """The forwarding entry of a prefix as last installed."""
        return self.entry_of(prefix)

    def entry_of(self, prefix: EidPrefix) -> InstallMapping | None:
        """The forwarding entry that a mapping has, before sealing changes it."""
        return self._mappings.installed.get(prefix)

    @property
    def asking_from(self) -> LocatorSet:
        """The locators that can send requests without an RTR."""
        return self._direct

    def announced_locators(self, eid: EidPrefix) -> tuple[Locator, ...]:
        """The locators of a local EID, as we register them and answer with them."""
        return (self._direct or self._sending).to_locators(eid=eid)

    # --- how the inputs are processed

    def _subscribe(self, used: Iterable[EidPrefix], now: float) -> list[MachineEffect]:
        """Subscribe to changes of these mappings. Needs a registration, and works from behind no RTR."""
        is_known = self.plan.asks_mapping_system and any(one.is_confirmed for one in self._registrations.machines)
        entries = (self.map_cache.get(prefix) for prefix in used) if is_known else ()
        return self._subscriptions.on_used((entry for entry in entries if entry is not None), now)

    def _rank(self, now: float) -> list[NodeEffect]:
        """Announce RLOCs that reach nothing as unusable, as long as others reach something."""
        silent = self.reachability.silent
        found = [locator.silenced() if locator.place in silent else locator for locator in self._attached]
        new = LocatorSet.of(self.locators.version + 1, found)
        old = self.locators
        if new.locators == old.locators:
            self.locators = LocatorSet(old.version, new.locators)  # an MTU or a name may have changed
            return self._route([], now)
        self.locators = new
        rlocs, previous = ([str(locator.address) for locator in locator_set.locators] for locator_set in (new, old))
        event = Event("moved", {"version": new.version, "rlocs": rlocs, "previous": previous})
        # The new plan comes first, with its registers and SMRs. Lost uplinks count as present until those are out.
        effects = self._route([event, *self.traversal.on_locators(new.locators, now)], now)
        if self._follows_later is not None:
            self._follows_later.append(self._use_locators)
            return effects
        return effects + self._route(self._use_locators(now), now)

    def _use_locators(self, now: float) -> list[_Inner]:
        effects: list[_Inner] = [*self._mappings.on_locators(self.locators, now)]
        effects += self.names.on_locators(self.locators, now)
        self._lost_all_at = None if self.locators else now
        return effects

    def _apply_policy(self, now: float) -> list[MachineEffect]:
        c = self.config
        return self._mappings.on_policy(ForwardingPolicy.of(c), c.map_cache_limit, c.static_mappings, now)

    def _read(self, payload: bytes, source: IpAddress, now: float) -> ControlMessage | Count:
        """Decode a datagram (the only place that does), or say why it was refused."""
        refused = self.gate.refuses(payload, source, self._is_known, now)
        try:
            return Count(refused) if refused is not None else decode_control(payload)
        except MalformedMessage as malformed:
            return Count(malformed.counter)

    def _data_route(self, remote: IpAddress) -> Route | None:
        """How to probe a locator in data, from the best uplink in the open whose probes it answers.

        None where nothing follows from the verdict: no RTR could serve the uplink, and the peer has no other locator.
        """
        answered = (path for path in self._prober.paths if path.pair.remote == remote and path.is_answered)
        paths = {path.pair.local: path for path in answered}
        uplinks = (one for one in self._direct.locators if one.address in paths)
        own = min(uplinks, key=lambda one: one.priority, default=None)
        if own is None:
            return None
        eid = paths[own.address].eid
        has_use = self.traversal.may_relay(own.address) or self._has_other(eid, remote)
        return Route(eid, own.address, own.ifindex) if has_use else None

    def _has_other(self, eid: EidPrefix, remote: IpAddress) -> bool:
        """True when the mapping names another locator of a family that we have, though perhaps as a last resort."""
        entry = self.map_cache.get(eid)
        named = (address for one in (entry.locators if entry else ()) if one.is_reachable for address in one.ips)
        return any(address != remote and address.version in self._direct.families for address in named)

    def _on_data_lost(self, remote: IpAddress, now: float) -> list[_Inner]:
        """Ask the peer whether it gets our data; and, if one could help, an RTR: only both together show that the
        network drops all of it.
        """
        route = self._data_route(remote)
        if route is None:
            return []
        asked = self._perform_doubts(lambda: self._data_doubts.on_silent(remote, now), now)
        is_relayable = bool(asked) and self.traversal.may_relay(route.local)
        return [*asked, *(self.traversal.on_doubted_in_the_open(route.local, now) if is_relayable else ())]

    def _ask_peers(self, local: IpAddress, now: float) -> list[_Inner]:
        """Ask some peers that answer probes from this address whether they get data from it, too."""
        remotes = [path.pair.remote for path in self._prober.paths if path.pair.local == local and path.is_answered]
        return [
            effect
            for remote in remotes[:DATA_PEERS]
            for effect in self._perform_doubts(partial(self._data_doubts.on_silent, remote, now), now)
        ]

    def _perform_doubts(self, step: Callable[[], Iterable[Question]], now: float) -> list[_Inner]:
        """Let the doubts about data take a step: its questions, and what follows from new verdicts."""
        before = self._data_doubts.verdicts(now)
        effects: list[_Inner] = [
            SendFromDataPort(asked.payload, asked.remote, DATA_PORT, asked.local, asked.ifindex) for asked in step()
        ]
        for remote, verdict in self._data_doubts.verdicts(now).items():
            if verdict is Verdict.OUT and before.get(remote) is not verdict and (route := self._data_route(remote)):
                effects += self.traversal.on_unheard(route.local, now) if self.traversal.may_relay(route.local) else ()
        return [*effects, *self._use_verdicts(now)]

    def _use_verdicts(self, now: float) -> list[MachineEffect]:
        """Send no data where it is lost, if it passes elsewhere. If nothing passes, last resorts are wanted."""
        self._lost_data = self._data_doubts.verdicts(now)
        lost = frozenset(self._lost_data)
        passing = self._data_doubts.passing(now) if lost else frozenset()
        self._data_doubts.hold(remote for remote in lost | passing if self._prober.is_target(remote))
        if lost - self._losses.lost:
            self._targets.on_loss(now)
        self._losses = DataLosses(lost, passing)
        return self._mappings.on_losses(self._losses, now)

    def _test_others(self, now: float) -> list[_Inner]:
        """Where a locator loses data: find out whether the others of its mapping, which answer probes, carry it."""
        tested = self._losses.lost | self._losses.passing
        eids = {path.eid for path in self._prober.paths if path.pair.remote in tested} if self._losses.lost else ()
        entries = [entry for eid in eids if (entry := self.map_cache.get(eid)) is not None]
        used = (one for entry in entries for one in entry.locators if one.is_reachable and one.priority != NEVER)
        others = {address for one in used for address in one.ips if address not in tested}
        return [
            effect
            for remote in sorted(others, key=str)
            if self._prober.is_answered(remote)
            for effect in self._perform_doubts(partial(self._data_doubts.on_silent, remote, now), now)
        ]

    def _on_probed_from(self, source: IpAddress, now: float) -> list[_Inner]:
        """A peer in use probes us. It sends several probes in a row when its data is unanswered: perhaps ours is lost.

        Only we can find that out, and send elsewhere: nothing is missing here while its data comes in.
        """
        if not self._prober.is_target(source):
            return []
        before = self._probed_at.pop(source, float("-inf"))
        self._probed_at[source] = now
        while len(self._probed_at) > TARGETS_MAX:
            del self._probed_at[next(iter(self._probed_at))]
        return self._on_data_lost(source, now) if now - before <= PROBED_AGAIN_S else []

    def _take(self, message: ControlMessage, datagram: Datagram, now: float) -> list[NodeEffect]:
        if self._data_doubts.on_map_reply(datagram.payload, in_data=datagram.in_data, now=now):
            return self._route([*self._use_verdicts(now), *self._test_others(now)], now)
        if self.path_mtus.is_answer(datagram.payload):
            return self._route(self.path_mtus.on_answer(datagram.payload, now), now)
        named = self.names.on_message(message, datagram.payload, datagram.destination, now)
        taken = self.traversal.on_datagram(datagram, now, message) if named is None else named
        if taken is not None:
            return self._route(taken, now)
        try:
            return self._route(self._receive(message, datagram, now), now)
        except MalformedMessage as malformed:  # inside an ECM
            return self._route([Count(malformed.counter)], now)

    def _receive(self, message: ControlMessage, datagram: Datagram, now: float) -> Sequence[_Inner]:
        got = unwrap(message, datagram, self._is_ours)
        if isinstance(got, Count):
            return [got]
        unsummed = [] if got.has_checksum else [Count("rx_ecm_unsummed")]
        match message := got.message:
            case MapRequest(is_smr=True, is_probe=False):
                if not self.plan.asks_mapping_system:
                    return [*unsummed, Count("rx_smr_relayed")]  # the RTR updates its own mappings
                return [*unsummed, *self._on_smr(message, datagram.source, now)]
            case MapRequest():
                if got.is_encapsulated and self._is_way_check(message.nonce, now):
                    return []  # our own Map-Request, sent on to us because we are the ETR
                (source, at), is_known = (datagram.source, datagram.destination), self._is_known(datagram.source)
                try:
                    signer = self._etr.open(got.lisp_sec, message.nonce)
                except AuthenticationFailed:
                    return [*unsummed, Count("rx_auth")]
                port, is_wrapped = got.source_port, got.is_encapsulated
                asked = Asked.of(message, datagram, port, is_encapsulated=is_wrapped, is_known=is_known, signer=signer)
                # In data, an RTR asks about the uplink behind it.
                answers = self._answerer.on_map_request(asked, self._sending if datagram.in_data else self._direct, now)
                heard: list[_Inner] = []
                if message.is_probe:
                    heard += self._on_probed_from(source, now)
                    probed = [own for own in self._direct.locators if own.address == at]
                    heard += self._prober.on_probed(source, at, now)
                    heard += self.zero_checksums.on_probed(source, probed, now)
                sign = () if (asker := solicited(message)) is None else self._on_activity_of(asker, now)
                return [*unsummed, *answers, *heard, *sign]
            case MapReply(is_probe=True) if (summed := self.zero_checksums.on_map_reply(message, now)) is not None:
                return [*summed]
            case MapReply(is_probe=True):
                answered = self._prober.on_map_reply(message, datagram.destination, now)
                self._preference.touch(now)
                return [Count("rx_nonce")] if answered is None else [*answered, *self._test_others(now)]
            case MapReply() if self._is_way_check(message.nonce, now):
                self._note_port(datagram.destination, datagram.source, now)
                return []
            case MapReply() if (
                refused := self._subscriptions.on_map_reply(message, datagram.payload, now)
            ) is not None:
                return refused
            case MapReply():
                guard, at = self._guard(), datagram.destination
                return self._resolver.on_map_reply(message, at, guard, now, datagram.source, datagram.payload)
            case MapNotify():
                guard, raw = self._guard(), datagram.payload
                published = self._subscriptions.on_map_notify(message, raw, datagram, guard, now)
                if published is not None:
                    return published
                return self._registrations.on_map_notify(message, datagram.payload, now)
        return [Count("rx_type")]

    def _is_way_check(self, nonce: int, now: float) -> bool:
        server = self.reachability.on_map_reply(nonce, now)
        if server is not None:
            self._on_server_heard(server, now)
        return server is not None

    def _note_port(self, local: IpAddress, server: IpAddress, now: float) -> None:
        """What we had sent to this server has been answered by the datagram in progress."""
        self.source_ports.on_heard(local, server)
        if (came := self._arrival) is not None:
            self.source_ports.on_answered(came.destination, came.source, came.other_port, now)

    def _on_server_heard(self, server: IpAddress, now: float) -> None:
        """A Map-Server or Map-Resolver has answered something."""
        self._resolver.on_server_heard(server, now)

    def _guard(self) -> Guard:
        c = self.config
        return Guard(c.eids, self.locators.addresses, c.mapping_system, c.overlay)

    def _is_infrastructure(self, address: IpAddress, instance_id: int) -> bool:
        return not instance_id and (address in self.config.mapping_system or address in self.locators.addresses)

    def _is_ours(self, address: IpAddress) -> bool:
        return address in self.locators.addresses or any(eid.contains(address) for eid in self.config.eids)

    def _is_known(self, address: IpAddress) -> bool:
        """True for the mapping system, proxies and active peers. A forged source address passes too."""
        is_configured = address in self.config.mapping_system or address in self.config.proxy_itrs
        return is_configured or address in self.plan.rtrs or self._prober.is_target(address)

    def _is_dead(self, entry: MapCacheEntry) -> bool:
        """True for a mapping by which nothing gets through: no locator answers, all that answer lose data, or none has
        the family of an uplink that works.
        """
        families = {uplink.locator.address.version for uplink in self.plan.uplinks if uplink.is_usable}
        used = [one for one in entry.locators if one.is_reachable and one.priority != NEVER]
        has_way = any(address.version in families for one in used for address in one.ips)
        if self._mappings.is_dead(entry) or (bool(families) and bool(entry.locators) and not has_way):
            return True
        lost = self._losses.lost
        answering = [a for one in used for a in one.ips if a.version in families and self._prober.is_reachable(a)]
        return bool(lost) and bool(answering) and lost.issuperset(answering)

    def _probe_last_resorts(self, targets: Mapping[IpAddress, EidPrefix], now: float) -> list[MachineEffect]:
        """Probe at once what is left of mappings of which no locator answers."""
        effects: list[MachineEffect] = []
        for remote, prefix in targets.items():
            entry = self.map_cache.get(prefix)
            if entry is not None and self._is_dead(entry) and self._prober.is_reachable(remote):
                effects += self._prober.on_hint(remote, "no other locator answers", now)
        return effects

    def _smr_targets(self, now: float) -> list[SmrTarget]:
        # After a time without uplinks, the last minute counts from when the last uplink went.
        lately = now if self._lost_all_at is None else self._lost_all_at
        targets = self._peers.targets(self.map_cache, self.config, self.locators, lately)
        # An RTR in use learns from our registers. Open Overlay Router's RTR would forget us if it got an SMR.
        return [target for target in targets if target.rloc not in self.plan.rtrs]

    def _size_target(self, local: IpAddress, remote: IpAddress) -> ControlProbe | None:
        """How to probe the path MTU to this remote; None if no mapping names it any more, or if probing is off."""
        if self.config.probing is None:
            return None
        path = self._prober.path(local, remote)
        return size_target(local, remote, self._attached, self.plan.rtrs, path, self.map_cache)

    def _on_smr(self, request: MapRequest, sender: IpAddress, now: float) -> list[MachineEffect]:
        eid, is_known = solicited(request), sender in self.config.mapping_system
        if eid is not None and (own := self.config.owner_of(eid.address, eid.instance_id)) is not None:
            return self._registrations.on_solicited(own, now)  # the Map-Server says that it has lost our registration
        source = self.config.source_for(eid) if eid is not None else None
        ours = self._mappings, self._resolver, self._prober.proven
        return claims.on_smr(request, sender, source, *ours, now, is_from_mapping_system=is_known)

    def _on_activity_of(self, eid: EidPrefix, now: float) -> list[MachineEffect]:
        """A host whose packets we refuse is alive: look it up, because the mapping system may know it by now. Nothing
        else is derived from this.
        """
        refuted = self._mappings.refuted(eid.address, eid.instance_id)
        if refuted is None or not self.plan.asks_mapping_system:
            return []
        return self._resolver.on_smr(eid, refuted.prefix, self.config.source_for(eid), now, repeats=False)

    def _on_plan(self, now: float) -> list[_Inner]:
        """Uplinks need RTRs, or no longer do: registers first, then, in a move when those have left, all the rest."""
        plan, old, version = self.plan, self._direct, self.locators.version
        said = plan.record_locators, plan.eid_records, plan.map_version
        self._direct = LocatorSet.of(version, plan.direct, *said)
        usable = [uplink.locator for uplink in plan.uplinks if uplink.is_usable]
        effects: list[_Inner] = [*self._registrations.on_locators(self._direct, now)]
        self._sending = LocatorSet.of(version, usable, *said)
        if self._follows_later is not None:
            self._follows_later.append(partial(self._follow_plan, old))
            return effects
        return [*effects, *self._follow_plan(old, now)]

    def _follow_plan(self, old: LocatorSet, now: float) -> list[_Inner]:
        """Act by the plan after the registers. `old`: the locators without an RTR before it."""
        plan, effects = self.plan, list[_Inner]()
        usable = [uplink.locator for uplink in plan.uplinks if uplink.is_usable]
        if not self._direct.announces_like(old) or not usable:
            targets = self._smr_targets(now) if usable else []
            effects += self._smr.on_moved(self._sending, targets, now)
        effects += self._resolver.on_locators(self._direct)
        effects += self._subscriptions.on_locators(self._direct, now)  # after the registers, which they depend on
        effects += self._mappings.on_defaults(default_mappings(plan, self.config.eids), now)
        if self._direct.addresses != old.addresses:
            self._data_doubts.on_moved()
        effects += self._prober.on_locators(self._direct, now)  # the other locators cannot be answered
        relayed = [uplink.locator for uplink in plan.uplinks if uplink.relays or not uplink.is_usable]
        in_the_open = [uplink.locator for uplink in plan.uplinks if uplink.is_usable and not uplink.relays]
        effects += self.reachability.on_locators(in_the_open, relayed, now)
        return [*effects, *self._status(now)]

    def _status(self, now: float) -> list[UseStatusBits]:
        return self._own_status.on_locators(self._direct, self.is_silent, now)

    def _weigh(self, now: float) -> list[NodeEffect]:
        """Weigh all evidence about which local RLOCs work. Announce a change, and apply it to our own sending."""
        self.reachability.on_peers(self._prober.heard, self._prober.silent, self._prober.deaf)
        weighed = self.reachability.weigh(locator.place for locator in self._attached)
        if weighed is None:
            return []
        self._resolver.on_heard(self.reachability.heard)
        out: list[NodeEffect] = []
        for change in weighed:
            out += [Event("uplink-answers" if change.is_up else "uplink-silent", {"rloc": str(change.local)}), change]
        out += self._route(self.traversal.on_evidence(now), now)
        return [*out, *self._rank(now), *self._status(now)] if weighed else out

    def _route(self, effects: Iterable[_Inner], now: float) -> list[NodeEffect]:
        """Feed effects that are meant for other machines to them; return the rest, in order."""
        if self._is_over:
            return []
        waiting: deque[_Inner] = deque([*self._unsaid, *effects])
        self._unsaid = []
        out: list[NodeEffect] = []
        while waiting:
            match waiting.popleft():
                case Count(name):
                    self.counters[name] += 1
                case PlanChanged() as changed:
                    out.append(changed)
                    waiting.extendleft(reversed(self._on_plan(now)))
                case DirectPathProven(eid, rloc):
                    waiting.extend(self._mappings.on_direct_path(eid, rloc, now))
                case DataSuspect(address):
                    waiting.extend(self._ask_peers(address, now))
                case LifeSignWanted(server):
                    waiting.extend(self._registrations.on_life_sign_wanted(server, now))
                case RegistrationConfirmed(map_server=server, tries=tries, is_change=is_change):
                    waiting.extend(self.traversal.on_map_server_alive(server, now, tries=tries))
                    if is_change and tries > 1:
                        waiting.extend(self._smr.on_registered_late(now))
                case MappingChanged("delete", prefix, why=why) as deleted:
                    out.append(deleted)
                    waiting.extend(self._subscriptions.on_forgotten(prefix, why, now))
                case MappingLearned() as learned:
                    # Before what its machine lists after it: packets are lost until the mapping is in use.
                    waiting.extendleft(reversed(list(self._learn(learned, now))))
                case LookupFailed() as failed:
                    waiting.extend(self._mappings.on_lookup_failed(failed, now))
                case RefreshNeeded(prefix):
                    if self.plan.asks_mapping_system:
                        waiting.extend(self._resolver.on_aging(prefix, self.config.source_for(prefix), now))
                case ReachabilityChanged(remote, is_up):
                    out.append(Event("rloc-reachable" if is_up else "rloc-unreachable", {"rloc": str(remote)}))
                    waiting.extendleft(reversed(self._mappings.on_reachability(remote, is_up, now)))
                    if not is_up:  # packets move to the other locators now, and those may have died with this one
                        waiting.extend(self._prober.on_suspicion(self._mappings.siblings(remote), False, now))
                        self._targets.on_loss(now)
                case UplinkChanged():
                    pass  # weighed below, with all other evidence
                case WayAnswered(local, ifindex, rtt_s, server):
                    self.reachability.on_answered((local, ifindex), rtt_s, now)
                    if server is not None:
                        self._note_port(local, server, now)
                        self._on_server_heard(server, now)
                case WaysInDoubt(is_of_peer):
                    waiting.extend(self.reachability.on_doubt(now))
                    if not is_of_peer:
                        self.reachability.on_unanswered(now)
                        waiting.extend(self.traversal.on_outside_doubted(now))
                case WitnessWanted():
                    waiting.extend(self.traversal.on_witness_wanted(now))
                case PathChanged(is_up=is_up):
                    self._preference.touch(now)
                    if not is_up:
                        waiting.extend(self.reachability.on_doubt(now, is_urgent=True))
                case FollowUpDue():
                    waiting.extend([*self._smr.on_peers(self._smr_targets(now), now), *self._mappings.in_use(now)])
                case effect:  # for the daemon; the type checker confirms that no other effect is left
                    out.append(effect)
        if self.reachability.take_return():
            out += self._route(self._registrations.on_return(now), now)
        weighed = self._weigh(now) if self._follows_later is None else ()
        return self.traversal.translation.outward([*out, *weighed])

    def _learn(self, learned: MappingLearned, now: float) -> list[_Inner]:
        """Store an answer. If it shows that a peer has moved, make sure that the peer knows our locators."""
        asked = learned.asked
        before = self.map_cache.lookup(asked.address, asked.instance_id)
        self._targets.on_traffic(now)
        effects = self._mappings.on_learned(learned, now)
        after = self.map_cache.lookup(asked.address, asked.instance_id)
        if after is not None and self._mappings.refuted(asked.address, asked.instance_id) is after:
            # The mapping system confirms the mapping, so its locators may answer by now.
            places = [address for locator in after.locators for address in locator.ips]
            effects = [*effects, *self._prober.on_status_bits((), places, now)]
        if before is None or after is None:
            return [*effects]
        self._resolver.on_known(learned, before.prefix, now, is_same=(is_same := before.locators == after.locators))
        moved = [] if is_same else self._smr.on_peer_moved(entry_targets(after, self.config, self.locators), now)
        if before.locators and not after.locators:
            moved += self._on_peer_unregistered(before, asked, now)
        return [*effects, *moved, *self._test_others(now)]

    def _on_peer_unregistered(self, before: MapCacheEntry, asked: EidPrefix, now: float) -> list[MachineEffect]:
        """A peer that could be reached is not registered, the mapping system says.

        Either it has stopped, or the Map-Server has lost its memory. So both of us make sure that we are registered.
        An SMR about its own EID tells a peer to do that.
        """
        theirs = EidPrefix.host(asked.address, asked.instance_id)
        targets = [
            SmrTarget(target.rloc, theirs, target.peer) for target in entry_targets(before, self.config, self.locators)
        ]
        return [*self._registrations.on_peer_unregistered(now), *self._smr.on_peers(targets, now)]
