"""What a node shows of itself, and what it knows of others: queries, by which nothing changes."""

from __future__ import annotations

from collections.abc import Mapping

from lispmob.control.lookup import Lookup
from lispmob.control.map_cache import MapCache
from lispmob.control.mappings import Mappings
from lispmob.control.node_config import NodeConfig
from lispmob.control.peers import Peers
from lispmob.control.preference import Preference
from lispmob.control.probing.probing import Path, Prober
from lispmob.control.registration import Registration
from lispmob.control.registrations import Registrations
from lispmob.control.resolver import Resolver
from lispmob.control.smr import SmrTarget
from lispmob.control.subscriptions import State as Standing
from lispmob.control.subscriptions import Subscription, Subscriptions
from lispmob.natt.plan import NattPlan
from lispmob.natt.traversal import Traversal
from lispmob.node.reachability import Reachability
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.effect import InstallMapping
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator


class NodeDisplay:
    """The queries of `Node`."""

    config: NodeConfig
    locators: LocatorSet
    traversal: Traversal
    _registrations: Registrations
    _subscriptions: Subscriptions
    _resolver: Resolver
    _mappings: Mappings
    _prober: Prober
    _preference: Preference
    reachability: Reachability
    _peers: Peers
    _direct: LocatorSet
    _sending: LocatorSet
    _lost_all_at: float | None

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What the Map-Server publishes to us (RFC 9437), and what it was asked to."""
        return self._subscriptions.subscriptions

    def is_subscribed(self, prefix: EidPrefix) -> bool:
        """Whether the Map-Server publishes what changes about this mapping."""
        subscription = self._subscriptions.of(prefix)
        return subscription is not None and subscription.state is Standing.SUBSCRIBED

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
        """How many static mappings were added by hand."""
        return self._mappings.added

    def is_static(self, prefix: EidPrefix) -> bool:
        """True for a static mapping that was added by hand."""
        return self._mappings.is_added(prefix)

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """The questions that are open."""
        return self._resolver.lookups

    @property
    def plan(self) -> NattPlan:
        """How each uplink sends."""
        return self.traversal.plan

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every pair of a locator of ours and a remote one in use."""
        return self._prober.paths

    @property
    def uplink_ranks(self) -> Mapping[str, int]:
        """The priorities of uplinks by name, where a quality is preferred; empty: as configured."""
        return self._preference.uplinks

    @property
    def preference_steps(self) -> tuple[str, ...]:
        """How it came to these."""
        return self._preference.steps

    def is_preferred(self, interface: str) -> bool:
        """False for an uplink that waits behind an equal one that is better."""
        ranks = self._preference.uplinks
        return ranks.get(interface, 0) % 2 == 0

    def is_silent(self, local: IpAddress) -> bool:
        """True when this RLOC of ours is heard by nobody, while another one is: on every interface that has it."""
        places = [locator.place for locator in self.locators.locators if locator.address == local]
        return bool(places) and all(place in self.reachability.silent for place in places)

    def is_reachable(self, remote: IpAddress) -> bool:
        """False when a remote locator answers none of ours."""
        return self._prober.is_reachable(remote)

    def disposition(self, prefix: EidPrefix) -> InstallMapping | None:
        """What the forwarding table was told about a prefix."""
        return self._mappings.disposition(prefix)

    def _source_for(self, prefix: EidPrefix) -> IpAddress | None:
        eid = self.config.eid_for(prefix.family, prefix.instance_id)
        return eid.address if eid is not None else None

    def _guard(self) -> Guard:
        c = self.config
        return Guard(c.eids, self.locators.addresses, c.mapping_system, c.overlay)

    def _is_infrastructure(self, address: IpAddress, instance_id: int) -> bool:
        return not instance_id and (address in self.config.mapping_system or address in self.locators.addresses)

    def _is_ours(self, address: IpAddress) -> bool:
        return address in self.locators.addresses or any(eid.contains(address) for eid in self.config.eids)

    def _is_known(self, address: IpAddress) -> bool:
        """The mapping system, proxies, and whom we exchange packets with; whoever forges them is not told apart."""
        is_configured = address in self.config.mapping_system or address in self.config.proxy_itrs
        return is_configured or address in self.plan.rtrs or self._prober.is_target(address)

    @property
    def asking_from(self) -> LocatorSet:
        """The locators that questions may leave from without an RTR."""
        return self._direct

    def told_of(self, eid: EidPrefix) -> tuple[Locator, ...]:
        """Where an EID of ours is, as we have it registered and answer."""
        return (self._direct or self._sending).to_locators(eid=eid)

    def _smr_targets(self, now: float) -> list[SmrTarget]:
        # After a time without any uplink the last minute that counts is the one before it.
        lately = now if self._lost_all_at is None else self._lost_all_at
        targets = self._peers.targets(self.map_cache, self.config, self.locators, lately)
        # An RTR in use knows from our registers; Open Overlay Router's forgets us when it is sent an SMR.
        return [target for target in targets if target.rloc not in self.plan.rtrs]
