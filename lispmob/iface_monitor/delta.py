"""The difference of two network states: other uplinks at once, and the reasons that a user can read when asked for.

A move waits for the uplinks alone. The reasons, which take as long, are found after its messages have left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import cached_property
from typing import TypeAlias

import msgspec

from lispmob.iface_monitor.snapshot import DefaultRoute, Link, NetworkState, Uplink, UplinkPolicy
from lispmob.wire.address import IpAddress


class ReasonKind(Enum):
    """What changed; the value is the word that logs and events use."""

    LINK_ADDED = "link-added"
    LINK_LOST = "link-lost"
    LINK_UP = "link-up"
    LINK_DOWN = "link-down"
    CARRIER_UP = "carrier-up"
    CARRIER_LOST = "carrier-lost"
    RENAMED = "renamed"
    MTU_CHANGED = "mtu-changed"
    ADDRESS_ADDED = "address-added"
    ADDRESS_REMOVED = "address-removed"
    RENUMBERED = "renumbered"
    DUPLICATE_FOUND = "duplicate-found"
    DUPLICATE_GONE = "duplicate-gone"
    DEFAULT_ROUTE_ADDED = "default-route-added"
    DEFAULT_ROUTE_REMOVED = "default-route-removed"
    DEFAULT_ROUTE_CHANGED = "default-route-changed"
    METRIC_CHANGED = "metric-changed"
    TRANSLATOR_FOUND = "translator-found"
    TRANSLATOR_GONE = "translator-gone"
    POLICY_CHANGED = "policy-changed"


class Reason(msgspec.Struct, frozen=True):
    """One change, such as `wlan0: 192.0.2.7 removed`."""

    kind: ReasonKind
    interface: str
    address: IpAddress | None
    text: str


class NetworkDelta:
    """What one snapshot changed against the one before it. `uplinks` are the new ones."""

    def __init__(
        self, reasons: Iterable[Reason], uplinks: tuple[Uplink, ...], former_uplinks: tuple[Uplink, ...]
    ) -> None:
        """`reasons` is read once, when they are asked for."""
        self._reasons = reasons
        self.uplinks = uplinks
        self.former_uplinks = former_uplinks

    @cached_property
    def reasons(self) -> tuple[Reason, ...]:
        """Every change, with its reason."""
        return tuple(self._reasons)

    @property
    def has_changed(self) -> bool:
        """True when the uplinks have changed: only then must other hosts be informed."""
        return self.uplinks != self.former_uplinks


OnChange: TypeAlias = Callable[[NetworkState, NetworkDelta, float], None]
"""Called for every difference, with the loop's time at which its first event was read."""

CONFIGURED = "the configured policy for uplinks changed"


def diff(
    old: NetworkState,
    new: NetworkState,
    policy: UplinkPolicy,
    former_policy: UplinkPolicy | None = None,
    why: Sequence[str] = (),
    *,
    uplinks: tuple[Uplink, ...] | None = None,
    former_uplinks: tuple[Uplink, ...] | None = None,
) -> NetworkDelta:
    """Compare two states under one policy, or across a change of policy if `former_policy` is given.

    `why` has the reasons for the policy's change, in sentences, if it was not the configuration. `uplinks` and
    `former_uplinks`: those of the new and of the old state, if they are known already.

    Loopback and our own interfaces give no reasons; addresses count once the policy accepts them.
    """
    before = former_policy or policy
    return NetworkDelta(
        _reasons(old, new, before, policy, why),
        new.uplinks(policy) if uplinks is None else uplinks,
        old.uplinks(before) if former_uplinks is None else former_uplinks,
    )


def _reasons(
    old: NetworkState, new: NetworkState, before: UplinkPolicy, policy: UplinkPolicy, why: Sequence[str]
) -> Iterator[Reason]:
    if before != policy:
        yield from (Reason(ReasonKind.POLICY_CHANGED, "", None, text) for text in why or (CONFIGURED,))
    old_links = {link.ifindex: link for link in old.links if before.is_watched(link)}
    new_links = {link.ifindex: link for link in new.links if policy.is_watched(link)}
    for ifindex in sorted(old_links.keys() | new_links.keys()):
        was, now = old_links.get(ifindex), new_links.get(ifindex)
        yield from _link_reasons(was, now)
        name = (now or was or _NOWHERE).name
        yield from _duplicate_reasons(name, _duplicates(old, ifindex) if was else set(), _duplicates(new, ifindex))
        had = [usable_address.address for usable_address in old.usable_addresses(was, before)] if was else []
        has = [usable_address.address for usable_address in new.usable_addresses(now, policy)] if now else []
        for family in (4, 6):
            gone = [address for address in had if address not in has and address.version == family]
            come = [address for address in has if address not in had and address.version == family]
            yield from _address_reasons(name, gone, come)
            yield from _route_reasons(
                name,
                family,
                old.routes_of(ifindex, family) if was else (),
                new.routes_of(ifindex, family) if now else (),
            )
        yield from _translator_reasons(name, ifindex, old, new)


_NOWHERE = Link(0, "", "", False, False, False, 0)


def _link_reasons(was: Link | None, now: Link | None) -> Iterator[Reason]:
    if now is None:
        if was is not None:
            yield Reason(ReasonKind.LINK_LOST, was.name, None, f"{was.name}: interface is gone")
        return
    name = now.name
    if was is None:
        yield Reason(ReasonKind.LINK_ADDED, name, None, f"{name}: new interface")
        return
    if was.name != name:
        yield Reason(ReasonKind.RENAMED, name, None, f"{was.name}: renamed to {name}")
    if was.is_up != now.is_up:
        kind, word = (ReasonKind.LINK_UP, "up") if now.is_up else (ReasonKind.LINK_DOWN, "down")
        yield Reason(kind, name, None, f"{name}: set {word}")
    elif was.has_carrier != now.has_carrier:
        kind, word = (ReasonKind.CARRIER_UP, "back") if now.has_carrier else (ReasonKind.CARRIER_LOST, "lost")
        yield Reason(kind, name, None, f"{name}: carrier {word}")
    if was.mtu_bytes != now.mtu_bytes:
        yield Reason(ReasonKind.MTU_CHANGED, name, None, f"{name}: MTU {was.mtu_bytes} is now {now.mtu_bytes}")


def _address_reasons(name: str, gone: list[IpAddress], come: list[IpAddress]) -> Iterator[Reason]:
    if gone and come:
        left, right = ", ".join(map(str, gone)), ", ".join(map(str, come))
        yield Reason(ReasonKind.RENUMBERED, name, come[0], f"{name}: {left} became {right}")
        return
    for address in gone:
        yield Reason(ReasonKind.ADDRESS_REMOVED, name, address, f"{name}: {address} removed")
    for address in come:
        yield Reason(ReasonKind.ADDRESS_ADDED, name, address, f"{name}: {address} added")


def _duplicates(state: NetworkState, ifindex: int) -> set[IpAddress]:
    return {local.address for local in state.addresses if local.is_duplicate and local.ifindex == ifindex}


def _duplicate_reasons(name: str, had: set[IpAddress], has: set[IpAddress]) -> Iterator[Reason]:
    for address in sorted(has - had, key=str):
        yield Reason(ReasonKind.DUPLICATE_FOUND, name, address, f"{name}: another host has {address}, too")
    for address in sorted(had - has, key=str):
        yield Reason(ReasonKind.DUPLICATE_GONE, name, address, f"{name}: {address} is no other host's any more")


def _translator_reasons(name: str, ifindex: int, old: NetworkState, new: NetworkState) -> Iterator[Reason]:
    had, has = (
        [translator.prefix for translator in state.translators if translator.ifindex == ifindex] for state in (old, new)
    )
    for prefix in has:
        if prefix not in had:
            text = f"{name}: the router translates to IPv4 behind {prefix} (NAT64)"
            yield Reason(ReasonKind.TRANSLATOR_FOUND, name, prefix.network_address, text)
    for prefix in had:
        if prefix not in has:
            text = f"{name}: the router translates behind {prefix} no longer"
            yield Reason(ReasonKind.TRANSLATOR_GONE, name, prefix.network_address, text)


def _route_reasons(
    name: str, family: int, had: tuple[DefaultRoute, ...], has: tuple[DefaultRoute, ...]
) -> Iterator[Reason]:
    """The default routes of one interface and family; only the preferred one is described when several change."""
    if had == has:
        return
    what = f"{name}: IPv{family} default route"
    if not has:
        yield Reason(ReasonKind.DEFAULT_ROUTE_REMOVED, name, had[0].gateway, f"{what} {_via(had[0])} removed")
    elif not had:
        yield Reason(ReasonKind.DEFAULT_ROUTE_ADDED, name, has[0].gateway, f"{what} {_via(has[0])} added")
    elif had[0].gateway == has[0].gateway and had[0].rank != has[0].rank:
        text = f"{what} metric {had[0].metric} is now {has[0].metric}"
        yield Reason(ReasonKind.METRIC_CHANGED, name, has[0].gateway, text)
    else:
        text = f"{what} {_via(had[0])} is now {_via(has[0])}"
        yield Reason(ReasonKind.DEFAULT_ROUTE_CHANGED, name, has[0].gateway, text)


def _via(route: DefaultRoute) -> str:
    via = "direct" if route.gateway is None else f"via {route.gateway}"
    if route.source is not None:
        via = f"from {route.source} {via}"
    return f"{via} metric {route.metric}" if route.metric else via
