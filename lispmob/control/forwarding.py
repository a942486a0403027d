"""The forwarding entry for a mapping: one pure decision, so that the datapath has none to make.

| mapping                          | fallback proxy           | native     | auto       | drop       |
| locators, one answers            | encapsulate to them [1]  | same       | same       | same       |
| locators, none answers           | the same, in doubt       | same       | same       | same       |
| locators, none usable            | encapsulate to the PETRs | drop       | drop       | drop       |
| Natively-Forward, overlay prefix | encapsulate to the PETRs | native     | drop       | drop       |
| Natively-Forward elsewhere       | encapsulate to the PETRs | native     | native     | drop       |
| Send-Map-Request                 | miss                     | miss       | miss       | miss       |
| any other action, placeholder    | drop                     | drop       | drop       | drop       |

[1] Not to those that lose data, if another one carries it (`DataLosses`).

Without a usable proxy ETR, "encapsulate to the PETRs" becomes "drop": a native packet with an EID as its source is
dropped by the next ingress filter, or worse, reveals the node's location. "auto" keeps packets for EIDs off the local
network, where the address may belong to another host. A native mapping that was added by hand stays native with every
fallback. "Drop" and "in doubt" send an ICMP error to the source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.control.map_cache import MapCacheEntry
from lispmob.control.node_config import Fallback, NodeConfig
from lispmob.control.preference import Group
from lispmob.protocol.effect import InstallMapping, UsableLocator
from lispmob.protocol.locator_set import NEVER, LocatorSet
from lispmob.protocol.prefix_table import widest_hole
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc
from lispmob.wire.named_locator import is_rtr
from lispmob.wire.record import Action, Locator

NO_RANKS: Final[Mapping[Group, Mapping[IpAddress, int]]] = {}


class DataLosses(msgspec.Struct, frozen=True):
    """Locators that answer probes and lose data, as tests in data showed; and those that passed the same tests."""

    lost: frozenset[IpAddress] = frozenset()
    passing: frozenset[IpAddress] = frozenset()

    def spared(self, locators: tuple[UsableLocator, ...]) -> tuple[UsableLocator, ...]:
        """Without those that lose data; all of them, unless one of the rest is known to carry it.

        A peer without control messages in data passes no test, so it never loses a locator by one.
        """
        rest = tuple(locator for locator in locators if locator.address not in self.lost)
        return rest if any(locator.address in self.passing for locator in rest) else locators


NO_LOSSES: Final = DataLosses()


class ForwardingPolicy(msgspec.Struct, frozen=True):
    """The configuration that the decision depends on."""

    fallback: Fallback = "proxy"
    proxy_etrs: tuple[Locator, ...] = ()
    own_eids: tuple[EidPrefix, ...] = ()
    reports_defaults: bool = (
        False  # the disposition ENCAPSULATE_AND_REPORT for packets that match only a default mapping
    )
    overlay: tuple[EidPrefix, ...] = ()  # the overlay prefixes, in every Instance-ID of this node
    is_full: bool = False

    @classmethod
    def of(cls, config: NodeConfig) -> ForwardingPolicy:
        """The policy of a node's configuration."""
        instances = dict.fromkeys(eid.instance_id for eid in config.eids)
        overlay = tuple(EidPrefix(prefix, iid) for iid in instances for prefix in config.overlay_prefixes)
        reports = config.natt.direct or config.seal != "off"
        return cls(config.fallback, config.proxy_etrs, config.eids, reports, overlay, config.is_full)

    def may_leave_natively(self, prefix: EidPrefix) -> bool:
        """True if all packets to a prefix without LISP may use the host's own routes. Only in Instance-ID 0."""
        if self.fallback == "native":
            return True
        overlaps = any(eid_prefix.covers(prefix) or prefix.covers(eid_prefix) for eid_prefix in self.overlay)
        return self.fallback == "auto" and self.is_full and not overlaps

    def narrowed(self, prefix: EidPrefix, asked: EidPrefix) -> EidPrefix:
        """The part of a prefix without LISP, around the requested EID, to which one decision applies.

        A hole in the registrations may extend beyond an overlay prefix, or contain one.
        """
        if self.fallback != "auto":
            return prefix
        within = [eid_prefix for eid_prefix in self.overlay if prefix.covers(eid_prefix)]
        if around := [eid_prefix for eid_prefix in within if eid_prefix.contains(asked.address)]:
            return max(around, key=lambda each: each.mask_len)
        return widest_hole(asked.address, prefix, within) if within and prefix.contains(asked.address) else prefix


def decide(
    entry: MapCacheEntry,
    policy: ForwardingPolicy,
    own: LocatorSet,
    unreachable: Container[IpAddress] = (),
    ranks: Mapping[Group, Mapping[IpAddress, int]] = NO_RANKS,
    losses: DataLosses = NO_LOSSES,
) -> InstallMapping:
    """The forwarding entry for a map-cache entry, given our current RLOCs and the locators that do not answer.

    `ranks`: the order of equal locators, if a quality is preferred. If no locator answers, all are used and senders get
    an ICMP error: probes may be lost where packets are not (RFC 9301, 7.1).
    """
    if entry.source == "placeholder":
        return InstallMapping(entry.prefix, "DROP")
    made = _decide(entry, policy, own, unreachable, ranks, losses)
    sources = further_sources(entry.locators, made.locators)
    return replace(made, sources=sources) if sources else made


def further_sources(locators: Iterable[Locator], used: Iterable[UsableLocator]) -> tuple[IpAddress, ...]:
    """Locators of a mapping that we send nothing to (dead, lossy, priority 255, R=0), but accept data from."""
    known = {locator.address for locator in used}
    named = (address for locator in locators for address in locator.ips)
    return tuple(dict.fromkeys(address for address in named if address not in known and may_be_rloc(address)))


def _decide(
    entry: MapCacheEntry,
    policy: ForwardingPolicy,
    own: LocatorSet,
    unreachable: Container[IpAddress],
    ranks: Mapping[Group, Mapping[IpAddress, int]],
    losses: DataLosses,
) -> InstallMapping:
    if entry.locators:
        usable = usable_locators(entry.locators, policy, own)
        alive = tuple(locator for locator in usable if locator.address not in unreachable)
        if not usable:
            return _by_proxy(entry.prefix, policy, own)
        if not alive:
            return InstallMapping(entry.prefix, "DOUBT", ranked(usable, ranks))
        usable = ranked(losses.spared(alive), ranks)
        is_default = policy.reports_defaults and entry.source == "static" and not entry.prefix.mask_len
        return InstallMapping(entry.prefix, "ENCAPSULATE_AND_REPORT" if is_default else "ENCAPSULATE", usable)
    if entry.action == Action.SEND_MAP_REQUEST:
        return InstallMapping(entry.prefix, "MISS")
    if entry.action == Action.NATIVELY_FORWARD:
        if entry.source == "static" or policy.may_leave_natively(entry.prefix):
            return InstallMapping(entry.prefix, "NATIVE")
        return _by_proxy(entry.prefix, policy, own)
    return InstallMapping(entry.prefix, "DROP")


def usable_locators(
    locators: Iterable[Locator], policy: ForwardingPolicy, own: LocatorSet
) -> tuple[UsableLocator, ...]:
    """The locators that we may and can encapsulate to, most preferred first; equal ones keep their order.

    Locators of a family by which we reach nothing are used only if there are no others.
    """
    given = tuple(locators)
    found = _usable_in(own.live_families, given, policy, own)
    return found or possible_locators(given, policy, own)


def possible_locators(
    locators: Iterable[Locator], policy: ForwardingPolicy, own: LocatorSet
) -> tuple[UsableLocator, ...]:
    """The same for any family, because a family may work again."""
    return _usable_in(own.families, locators, policy, own)


def _usable_in(
    families: Container[int], locators: Iterable[Locator], policy: ForwardingPolicy, own: LocatorSet
) -> tuple[UsableLocator, ...]:
    found: dict[IpAddress, UsableLocator] = {}
    our_addresses = own.addresses
    given = tuple(locators)
    # E19: the other locators are RTRs then.
    is_behind = any(not locator.is_reachable and locator.ips for locator in given)
    for locator in given:
        if not locator.is_reachable or locator.priority == NEVER:
            continue
        for address in locator.ips:
            is_ours = address in our_addresses or any(eid.contains(address) for eid in policy.own_eids)
            if address.version in families and not is_ours and may_be_rloc(address):
                is_relay = is_behind or is_rtr(locator)
                found.setdefault(address, UsableLocator(address, locator.priority, locator.weight, is_relay=is_relay))
                break  # the other addresses of a list name the same locator
    return tuple(sorted(found.values(), key=lambda one: one.priority))


def equals(locators: Iterable[UsableLocator]) -> Group:
    """The locators of the best priority."""
    found = list(locators)
    best = min((locator.priority for locator in found), default=NEVER)
    return frozenset(locator.address for locator in found if locator.priority == best)


def ranked(
    locators: tuple[UsableLocator, ...], ranks: Mapping[Group, Mapping[IpAddress, int]]
) -> tuple[UsableLocator, ...]:
    """With the best of equal locators moved ahead of the others of its priority."""
    order = ranks.get(equals(locators))
    if order is None:
        return locators
    behind = max(order.values()) + 1
    moved = [
        dataclasses.replace(locator, priority=order.get(locator.address, min(locator.priority + behind, NEVER - 1)))
        for locator in locators
    ]
    return tuple(sorted(moved, key=lambda one: one.priority))


def preferring(rloc: IpAddress, locators: tuple[UsableLocator, ...]) -> tuple[UsableLocator, ...]:
    """With the locators of a better priority than `rloc` moved behind all others; unchanged if it is not among them."""
    chosen = next((locator.priority for locator in locators if locator.address == rloc), 0)
    behind = max((locator.priority for locator in locators), default=0) + 1
    moved = [
        dataclasses.replace(locator, priority=min(locator.priority + behind, NEVER - 1))
        if locator.priority < chosen
        else locator
        for locator in locators
    ]
    return tuple(sorted(moved, key=lambda locator: locator.priority))


def _by_proxy(prefix: EidPrefix, policy: ForwardingPolicy, own: LocatorSet) -> InstallMapping:
    if policy.fallback != "proxy":
        return InstallMapping(prefix, "DROP")
    proxies = usable_locators(policy.proxy_etrs, policy, own)
    return InstallMapping(prefix, "ENCAPSULATE", proxies) if proxies else InstallMapping(prefix, "DROP")
