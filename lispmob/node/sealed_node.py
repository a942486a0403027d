"""A node that can seal: `Node` with the machine of sealed data (`sealing.py`) between it and the daemon. Pure.

On the way out, forwarding entries get the peer to seal for. On the way in, handshakes are taken out of probes, and key
records out of mappings. So no other part of a node handles keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from lispmob.control.forwarding import ForwardingPolicy, usable_locators
from lispmob.control.itr_security import LispSecTools
from lispmob.control.node_config import NodeConfig
from lispmob.control.peers import entry_targets
from lispmob.control.registrations import Growing, NewNonce
from lispmob.control.sealing.announcing import Announcer, is_acceptable
from lispmob.control.sealing.dialects import Dialects
from lispmob.control.sealing.handshake_carriage import take_first
from lispmob.control.sealing.key_lookups import KeyLookups, Outside
from lispmob.control.sealing.machine import Sealing
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.seal_config import SealTools
from lispmob.control.sealing.sealed_entries import SealedPeer
from lispmob.control.sealing.spare_mappings import SpareMappings
from lispmob.errors import MalformedMessage
from lispmob.node.node import Node, NodeEffect, _Inner
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    Count,
    InstallMapping,
    MachineEffect,
    MappingLearned,
    RemoveMapping,
    SendControl,
    SendSealed,
    UseMapVersion,
)
from lispmob.protocol.locator_set import NEVER, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.key_record import take_key_record
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import ControlMessage
from lispmob.wire.record import MappingRecord

FIRST_TOLD: Final = 16  # ours: announcements, with their counts, that leave before the Map-Registers of a move


class SealedNode(Node):
    """One mobile node with a static key."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        new_nonce: NewNonce,
        jitter: Callable[[], float],
        seal: SealTools,
        next_nonce: Growing = None,
        lisp_sec: LispSecTools | None = None,
        prepares: bool = False,
    ) -> None:
        self._is_routing = False
        super().__init__(
            config,
            new_nonce=new_nonce,
            jitter=jitter,
            next_nonce=next_nonce,
            lisp_sec=lisp_sec,
            next_map_version=seal.next_map_version,
            prepares=prepares,
        )
        self._map_version = 0  # that the datapath says
        self.dialects = Dialects(config.dialects, ciphers=seal.ciphers, draw=seal.draw, new_nonce=self._asked)
        self._answerer.dialects = self.dialects
        self.sealing = Sealing(config.sealing, seal, self._asked)
        self._announcer = Announcer(next_nonce=seal.next_timestamp, new_nonce=self._asked)
        self.key_lookups = KeyLookups(self.security, self._asked)
        self._spares = SpareMappings()
        self._answerer.on_key_record(config.key_record)
        self._unsaid += self.sealing.on_start()

    def wake_at(self) -> float | None:
        """The next deadline of on_timer, in monotonic seconds; None if there is none."""
        own = self.sealing.wake_at(), self.key_lookups.wake_at(), self._announcer.wake_at(), self.dialects.wake_at()
        times = (super().wake_at(), *own)
        return min((at for at in times if at is not None), default=None)

    def disposition(self, prefix: EidPrefix) -> InstallMapping | None:
        """The forwarding entry of a prefix, as the datapath has it."""
        mapping = super().disposition(prefix)
        return None if mapping is None else self.sealing.entries.as_installed(mapping)

    def on_datagram(self, datagram: Datagram, now: float) -> list[NodeEffect]:
        """A control datagram has arrived. Only handshakes, and answers to ours, travel from EID to EID as data does."""
        if not any(eid.contains(datagram.destination) for eid in self.config.eids):
            return super().on_datagram(datagram, now)
        message = self._read(datagram.payload, datagram.source, now)
        if isinstance(message, Count):
            return self._route([message], now)
        try:
            taken = self._handshake(message, datagram, now)
        except MalformedMessage as malformed:
            taken = [Count(malformed.counter)]
        return self._route([Count("rx_policy")] if taken is None else taken, now)

    def on_timer(self, now: float) -> list[NodeEffect]:
        """A deadline may have passed."""
        tried = self._announcer.on_trials(self._mappings.announced.on_trial.items(), self._direct, now)
        own = [*self.sealing.on_timer(now), *self._ask_for_keys(now), *self.key_lookups.on_timer(now)]
        told = [*tried, *self._announcer.on_timer(self._direct, now), *self.dialects.on_timer(self._direct, now)]
        return [*super().on_timer(now), *self._route([*own, *told, *self._renew(now)], now)]

    def on_miss(
        self, source: IpAddress, destination: IpAddress, instance_id: int, now: float, nonce: int = 0
    ) -> list[NodeEffect]:
        """A packet matched no forwarding entry, or a default one. The RTR knows the destination; we ask for its key."""
        told = super().on_miss(source, destination, instance_id, now, nonce)
        is_own = self.config.owner_of(source, instance_id) is not None
        if self.plan.asks_mapping_system or not is_own or self.sealing.mode == "off":
            return told
        ends = EidPrefix.host(source, instance_id), EidPrefix.host(destination, instance_id)
        return [*told, *self._route(self._ask_for_key(*ends, now), now)]

    def on_used(self, prefixes: Iterable[EidPrefix], now: float) -> list[NodeEffect]:
        """These forwarding entries have carried traffic. What left in clear may be encrypted as others do it."""
        used = [self.sealing.entries.origin_of(prefix) for prefix in prefixes]
        told = super().on_used(used, now)
        asked: list[MachineEffect] = []
        for prefix in used if self.dialects.wanted else ():
            mapping, own = self._mappings.installed.get(prefix), self.config.source_for(prefix)
            if mapping is not None and own is not None and self.sealing.entries.by_prefix(prefix) is None:
                eid = EidPrefix.host(own, prefix.instance_id)
                asked += self.dialects.on_used(mapping, eid, self._direct, now)
        return [*told, *self._route(asked, now)] if asked else told

    def on_config(self, config: NodeConfig, now: float) -> list[NodeEffect]:
        """The configuration was reloaded."""
        self._answerer.on_key_record(config.key_record)
        told = self._route([*self.sealing.on_config(config.sealing), *self.dialects.on_config(config.dialects)], now)
        return [*told, *super().on_config(config, now)]

    def on_slept(self, now: float) -> list[NodeEffect]:
        """The clock jumped. A suspended host may have been copied, so all sessions end first."""
        return [*self._route([*self.sealing.on_slept(), *self.dialects.on_slept()], now), *super().on_slept(now)]

    def on_shutdown(self, now: float) -> list[NodeEffect]:
        """The node stops."""
        forgotten = self._route(self.sealing.on_shutdown(), now)
        return [*super().on_shutdown(now), *forgotten]

    def on_unanswered(
        self, remote: IpAddress, is_flowing: bool, now: float, *, is_alone: bool = False
    ) -> list[NodeEffect]:
        """Packets to this locator go unanswered. A peer that restarted has no session, but answers a handshake."""
        rekeyed = self.dialects.on_silence(remote, self._direct, now)
        asked = self._route([*self.sealing.on_silence(remote, now), *rekeyed], now)
        return [*asked, *super().on_unanswered(remote, is_flowing, now, is_alone=is_alone)]

    def on_seal_wanted(self, peer: int, now: float) -> list[NodeEffect]:
        """Packets for this peer need a session, or new keys."""
        return self._route(self.sealing.on_seal_wanted(peer, now), now)

    def on_clear_heard(self, peer: int, now: float) -> list[NodeEffect]:
        """Clear text that claims to be from this peer was refused."""
        return self._route(self.sealing.on_clear_heard(peer, now), now)

    def on_seal_confirmed(self, peer: int, local_index: int, now: float) -> list[NodeEffect]:
        """A packet of this peer opened with a session that was not yet confirmed."""
        return self._route(self.sealing.on_confirmed(peer, local_index, now), now)

    def on_sealed_from(self, remote: IpAddress, local: IpAddress, now: float) -> list[NodeEffect]:
        """A sealed packet came from another address than before: probe that pair if a mapping names it."""
        return self._route(self._prober.on_probed(remote, local, now), now)

    def on_sealed_announcement(self, number: int, instance_id: int, payload: bytes, now: float) -> list[NodeEffect]:
        """A peer sent a sealed control message: its new locators, or a confirmation of ours."""
        peer = self.sealing.entries.by_number(number)
        if peer is None or not self.config.announcements:
            return self._route([Count("rx_policy")], now)

        def covers(prefix: EidPrefix) -> bool:
            is_of = self.sealing.keys.is_of
            return not peer.is_hub and prefix.instance_id == instance_id and is_of(prefix, peer.known.key)

        heard = self._announcer.on_announcement(peer, covers, payload, now)
        effects: list[MachineEffect] = []
        for record in heard.records:
            effects += self._believe(record, now) if is_acceptable(record, self._guard()) else [Count("rx_policy")]
        for prefix, keys in heard.keys:
            effects += self.sealing.on_announced_key(peer, prefix, keys)
        return self._route([*effects, *heard.effects], now)  # the answer goes to the peer's new locators

    def on_peer_behind(self, number: int, now: float) -> list[NodeEffect]:
        """A peer sends by an old mapping of ours: it is told by its session, and by an SMR where that has no effect."""
        peer = self.sealing.entries.by_number(number)
        if peer is None:
            return self._route([Count("rx_policy")], now)
        told = self._announcer.on_behind(peer, now) if self.config.announcements else []
        if told:
            return self._route(told, now)
        entries = [entry for prefix in peer.entries if (entry := self.map_cache.get(prefix)) is not None]
        targets = [target for entry in entries for target in entry_targets(entry, self.config, self.locators)]
        reached = [target for target in targets if target.rloc not in self.plan.rtrs]
        return self._route(self._smr.on_peers(reached, now), now)

    def on_peer_ahead(self, source: IpAddress, instance_id: int, now: float) -> list[NodeEffect]:
        """A peer says that its mapping is newer than the one here: only the mapping system is asked."""
        entry = self.map_cache.lookup(source, instance_id)
        own = None if entry is None else self.config.source_for(entry.prefix)
        if entry is None or own is None or entry.source != "reply" or not self.plan.asks_mapping_system:
            return self._route([Count("rx_policy")], now)
        host = EidPrefix.host(source, instance_id)
        return self._route(self._resolver.on_smr(host, entry.prefix, own, now), now)

    def on_static_key(self, static: KeyPair, now: float) -> list[NodeEffect]:
        """The static key has changed. The configuration that registers it with the Map-Servers has come before."""
        said: list[MachineEffect] = []
        if self.config.announcements and self.config.key_record is not None:
            said = self._announcer.on_new_key(self.config.key_record, self.sealing.entries.peers, now)
        return self._route([*said, *self.sealing.on_static_key(static, now)], now)

    def on_rekey(self, now: float) -> list[NodeEffect]:
        """A client wants new keys for all sessions."""
        return self._route(self.sealing.on_rekey(now), now)

    def on_key_forgotten(self, prefix: EidPrefix, now: float) -> list[NodeEffect]:
        """A client says that an EID-Prefix no longer seals. ValueError if no key of it is stored."""
        return self._route(self.sealing.forget_key(prefix), now)

    def on_key_accepted(self, prefix: EidPrefix, now: float) -> list[NodeEffect]:
        """A client accepts the new key of an EID-Prefix. ValueError if none is waiting."""
        return self._route(self.sealing.accept_key(prefix), now)

    def _on_plan(self, now: float) -> list[_Inner]:
        effects = super()._on_plan(now)
        self.sealing.on_locators(self._direct)
        said = self._announce(now)
        version: list[_Inner] = []
        if self.plan.map_version != self._map_version:  # first of all: what is answered to may name it
            self._map_version = self.plan.map_version
            version.append(UseMapVersion(self._map_version))
        # A peer that sends to us waits for nothing else; the others can wait for the registers.
        return [*version, *said[:FIRST_TOLD], *effects, *said[FIRST_TOLD:]]

    def _follow_plan(self, old: LocatorSet, now: float) -> list[_Inner]:
        return [*super()._follow_plan(old, now), *self._use_spares(now)]

    def _use_spares(self, now: float) -> list[_Inner]:
        """Use the mappings of peers while uplinks work, but no RTR, and none of them has a Map-Resolver to ask."""
        if self.plan.defaults:
            return [*self._mappings.on_relayed_again(self._spares.give_up())]
        families = {uplink.locator.address.version for uplink in self.plan.uplinks if uplink.is_usable}
        if not families or any(resolver.version in families for resolver in self.config.map_resolvers):
            return []
        effects: list[_Inner] = []
        for prefix, record in self._spares.take(now):
            learned = MappingLearned(prefix, (record,), "refresh", 0.0, is_genuine=True)
            effects += self._mappings.on_learned(learned, now)
            self.map_cache.touch([prefix], now)
            self._targets.on_loss(now)
        return effects

    def _announce(self, now: float) -> list[MachineEffect]:
        """Announce our locators to the peers that have a session, active peers first."""
        if not self.config.announcements:
            return []
        eids, ttl_min = self.config.eids, self.config.record_ttl_min
        own = self._direct or self._sending
        records = [own.to_record(eid, ttl_min) for eid in eids]
        peers = sorted(self.sealing.entries.peers, key=self._last_used, reverse=True)
        return self._announcer.on_mappings(records, peers, now)

    def _renew(self, now: float) -> list[MachineEffect]:
        """Announce our locators again while no Map-Server knows them."""
        if not self.config.announcements:
            return []
        is_confirmed = self.traversal.outside is not None or any(one.is_confirmed for one in self.registrations)
        ttl_min = self.config.record_ttl_min
        return self._announcer.on_registered(
            self.sealing.entries.peers, now, is_confirmed=is_confirmed, ttl_min=ttl_min
        )

    def _last_resort(self, number: int) -> IpAddress | None:
        """Where a peer hears of our locators if none answers that its packets may go to: one of priority 255 that does.

        It gets this message and no data, until the peer announces it with another priority.
        """
        peer = self.sealing.entries.by_number(number)
        entries = (self.map_cache.get(prefix) for prefix in (peer.entries if peer is not None else ()))
        for entry in entries:
            if entry is not None and self._is_dead(entry):
                unused = (address for one in entry.locators if one.priority == NEVER for address in one.ips)
                return next((address for address in unused if self._prober.is_answered(address)), None)
        return None

    def _last_used(self, peer: SealedPeer) -> float:
        entry = self.map_cache.get(peer.known.prefix)
        return float("-inf") if entry is None else entry.last_used

    def _believe(self, record: MappingRecord, now: float) -> list[MachineEffect]:
        """A peer announces the locators of its own EID-Prefix. Use them at once, and ask the mapping system.

        A node that cannot ask sends through an RTR, which knows where the peer is. It drops its old mapping, and needs
        no new one, which nothing would ever confirm; unless the peer is where the RTR cannot send to.

        Locators of families that we do not have are no use: only the hub names one to relay by, so it is only asked.
        """
        prefix = record.eid_prefix
        assert prefix is not None, record
        if not self.plan.asks_mapping_system:
            if not self._is_past_rtrs(record):
                return self._mappings.on_moved_away(prefix, record.locators)
            effects = self._mappings.on_announced_past_rtr(record, now)
            self._targets.on_traffic(now)
            return effects + self._announcer.on_trials(self._mappings.announced.on_trial.items(), self._direct, now)
        before = self.map_cache.get(prefix)
        if usable_locators(record.locators, ForwardingPolicy.of(self.config), self.locators):
            effects = self._mappings.on_announced(record, now)
        else:
            effects = [Count("rx_announcement_unusable")]
        places = {address for locator in record.locators for address in locator.ips}
        if before is not None and places == {address for locator in before.locators for address in locator.ips}:
            # The peer has not moved, but found out that some of them work, or do not: ours may have changed, too.
            effects += self._prober.on_suspicion(places, False, now)
        effects += self._announcer.on_trials(self._mappings.announced.on_trial.items(), self._direct, now)
        own, host = self.config.source_for(prefix), EidPrefix.host(prefix.address, prefix.instance_id)
        if own is not None:
            effects += self._resolver.on_smr(host, prefix, own, now)
        self._targets.on_traffic(now)
        return effects

    def _is_past_rtrs(self, record: MappingRecord) -> bool:
        """Whether we can send to a peer, and no RTR of ours can: all its locators are of a family that they lack."""
        used = (one for one in record.locators if one.is_reachable and one.priority != NEVER)
        families = {address.version for one in used for address in one.ips}
        relayed = {relay.address.version for relay in self.plan.defaults}
        return bool(families and relayed) and not families & relayed and families <= self._direct.families

    def _route(self, effects: Iterable[_Inner], now: float) -> list[NodeEffect]:
        if self._is_routing:
            return super()._route(effects, now)  # the outer call does the rest, once
        self._is_routing = True
        try:
            routed = super()._route(effects, now)
        finally:
            self._is_routing = False
        out: list[NodeEffect] = []
        wanted: set[IpAddress] = set()
        for effect in routed:
            match effect:
                case InstallMapping():
                    out += self.sealing.entries.on_installed(effect)
                    wanted.update(locator.address for locator in effect.locators)
                case SendControl() if self.dialects.wanted:
                    out.append(self.dialects.with_key(effect))
                case RemoveMapping(prefix):
                    out += self.sealing.entries.on_removed(prefix)
                case SendSealed(number, remote=None):
                    out.append(replace(effect, remote=self._last_resort(number)))
                case _:
                    out.append(effect)
        begun = self.sealing.on_mapping_back(now)
        for address in wanted & self._proxies:
            if not self.sealing.knows_hub(address):
                begun += self._ask_for_hub(address, now)
        return [*out, *super()._route(begun, now)] if begun else out

    def _receive(self, message: ControlMessage, datagram: Datagram, now: float) -> Sequence[_Inner]:
        taken = self._handshake(message, datagram, now)
        return super()._receive(message, datagram, now) if taken is None else taken

    def _handshake(self, message: ControlMessage, datagram: Datagram, now: float) -> list[MachineEffect] | None:
        """The effects of a handshake, sent or received; None for any other message. Raises MalformedMessage."""
        match message:
            case MapRequest(is_probe=True) if (first := take_first(message)) is not None:
                # It came from an EID, as data does: the datapath has checked that its mapping names the sender.
                eid_space = first.initiator.instance_id
                is_known = self._is_known(datagram.source) or bool(self._mappings.known(datagram.source, eid_space))
                effects = self.sealing.on_first(first, datagram, message.nonce, now, is_known=is_known)
                return [*effects, *self._ask_for_keys(now)]
            case MapReply(is_probe=True) if self._announcer.expects(message.nonce):
                passed = self._announcer.on_probe_answer(message, now)
                return [Count("rx_policy")] if passed is None else self._mappings.on_answered(*passed, now)
            case MapReply(is_probe=True) if self.dialects.expects(message.nonce):
                return self.dialects.on_map_reply(message, self._direct, now)
            case MapReply(is_probe=True):
                return self.sealing.on_answer(message, now)
            case MapReply() if self.key_lookups.expects(message.nonce):
                found, effects = self.key_lookups.on_map_reply(message, datagram.payload, now)
                for one in found:
                    if one.prefix.address in self._proxies:
                        effects += self.sealing.on_hub_vouched(one.prefix.address, one.keys)
                    else:
                        effects += self.sealing.on_vouched(one.prefix, one.keys, now)
                        effects += self._subscribe_behind(one.prefix, now)
                        self._spares.on_answer(one.prefix, one.record, now)
                return effects
        return None

    def _on_server_heard(self, server: IpAddress, now: float) -> None:
        super()._on_server_heard(server, now)
        self.key_lookups.on_server_heard(server, now)

    def _ask_for_keys(self, now: float) -> list[MachineEffect]:
        """Look up the initiators of handshakes. The rate is limited, as it is for all lookups that others cause."""
        effects: list[MachineEffect] = []
        for eid in self.sealing.take_questions():
            if eid.address in self._proxies:
                effects += self._ask_for_hub(eid.address, now)
                continue
            own = self.config.source_for(eid)
            if own is not None and self.plan.asks_mapping_system:
                effects += self._resolver.on_doubt(eid, eid, own, now)
            elif own is not None:
                effects += self._ask_for_key(EidPrefix.host(own, eid.instance_id), eid, now, is_strange=True)
        return effects

    @property
    def _proxies(self) -> frozenset[IpAddress]:
        """The proxies that carry packets to hosts without LISP."""
        return frozenset(address for proxy in self.config.proxy_etrs for address in proxy.ips)

    def _ask_for_hub(self, address: IpAddress, now: float) -> list[MachineEffect]:
        """Ask for the key of the proxy at this address. Our Map-Resolver may be the same hub, and know it."""
        own = next((EidPrefix.host(eid.address, eid.instance_id) for eid in self.config.eids), None)
        best = self._direct.best(address.version)
        if own is None or self.sealing.mode == "off" or (best is None and self.plan.asks_mapping_system):
            return []
        if best is not None:
            place = Outside(best.address, best.ifindex, best.address, CONTROL_PORT, address)
            self.key_lookups.on_outside(place, self.config.map_resolvers)
            return self.key_lookups.on_wanted(own, EidPrefix.host(address), now)
        return self._ask_for_key(own, EidPrefix.host(address), now)

    def _ask_for_key(
        self, own: EidPrefix, eid: EidPrefix, now: float, *, is_strange: bool = False
    ) -> list[MachineEffect]:
        """Ask for the key of an EID whose locators an RTR looks up. A configured key needs no request."""
        known = self.sealing.keys.of(eid)
        if known is not None and known.grade == "pinned":
            return []
        self.key_lookups.on_outside(self._outside, self.config.map_resolvers)
        return self.key_lookups.on_wanted(own, eid, now, is_strange=is_strange)

    @property
    def _outside(self) -> Outside | None:
        """What the NAT makes of our control port, where an RTR serves us."""
        at = self.traversal.outside
        if at is None or at[1].address is None:
            return None
        locator, seen = at
        return Outside(locator.address, locator.ifindex, at[1].address, seen.port, seen.server.address)

    def _subscribe_behind(self, prefix: EidPrefix, now: float) -> list[MachineEffect]:
        """Behind an RTR, which has the mappings: hear from the Map-Server of moves, for direct paths and keys."""
        if self.plan.asks_mapping_system or not prefix.mask_len:
            return []
        return [*self._subscriptions.on_outside(self._outside, now), *self._subscriptions.on_wanted(prefix, now)]

    def _learn(self, learned: MappingLearned, now: float) -> list[_Inner]:
        effects: list[_Inner] = []
        records = []
        for record in learned.records:
            try:
                bare, keys = take_key_record(record)
            except MalformedMessage as malformed:
                effects.append(Count(malformed.counter))
                continue
            records.append(bare)
            prefix = bare.eid_prefix
            if learned.is_genuine and record.locators and prefix is not None:
                known = self.sealing.keys.of(prefix)
                if keys is not None and known is not None and (keys.is_revoked or known.key not in keys.keys):
                    self._mappings.announced.release(prefix)  # it was the announcement of another node
                effects += self.sealing.on_vouched(prefix, keys, now)
        if learned.reason == "published" and not self.plan.asks_mapping_system:
            # An RTR has the mapping: here it says which direct paths lead nowhere any more.
            for record in records:
                effects += self.traversal.on_published(record, now)
            return effects
        return [*effects, *super()._learn(replace(learned, records=tuple(records)), now)]
