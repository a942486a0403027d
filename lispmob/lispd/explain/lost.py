"""Why a packet is lost, with a remedy where there is one: for `why` and `lookup`. Pure."""

from __future__ import annotations

from typing import Final

from lispmob.control.map_cache import MapCacheEntry
from lispmob.datapath.ask import FlowVerdict
from lispmob.node.node import Node
from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Action

_PLAIN: Final = {
    FlowVerdict.GUARDED: "it belongs to LISP itself, or to the mapping system, which never go into the overlay",
    FlowVerdict.SOURCE: "its source is not one of our EIDs",
    FlowVerdict.NATIVE: "the mapping says that there is no LISP, but the kernel sent it into the overlay",
    FlowVerdict.NO_LOCATOR: "no locator of the mapping is of a family that an uplink has",
    FlowVerdict.DOUBT: "no locator of the mapping answers; packets are still sent, and their sender gets an ICMP error",
    FlowVerdict.NO_KEY: "packets to it must be sealed, and there is no key yet",
    FlowVerdict.MARK: "its mark names no usable uplink, and such packets are dropped, as configured",
}
_ACTIONS: Final = {
    Action.DROP_POLICY_DENIED: "the Map-Server denies it by policy",
    Action.DROP_AUTH_FAILURE: "the Map-Server does not authenticate it",
}


def why_lost(verdict: FlowVerdict, destination: IpAddress, prefix: EidPrefix | None, node: Node, now: float) -> str:
    """One sentence; `prefix` is the mapping, `now` the time in the node's clock."""
    if verdict is FlowVerdict.NOT_LISP:
        return _no_unicast(destination, node)
    if verdict is FlowVerdict.PROHIBIT:
        return "it would leave in clear, without LISP, and security: seal lets it leave sealed only"
    if verdict in (FlowVerdict.DROP, FlowVerdict.NO_LOCATOR):
        entry = None if prefix is None else node.map_cache.get(prefix)
        if entry is not None:
            refused = why_refused(destination, entry.prefix.instance_id, node, now)
            return refused if refused is not None and not entry.locators else _dropped(entry, node, now)
        return "the mapping says drop" if verdict is not FlowVerdict.NO_LOCATOR else _PLAIN[verdict]
    return _PLAIN[verdict]


def why_refused(destination: IpAddress, instance_id: int, node: Node, now: float) -> str | None:
    """LISP-SEC's reason to refuse answers about it; None if that is not the cause."""
    return node.security.why_refused(EidPrefix.host(destination, instance_id), now)


def _no_unicast(destination: IpAddress, node: Node) -> str:
    own = node.config.owner_of(destination, 0)
    if own is not None:
        return f"it is in our own EID-Prefix {own}: its host is behind this one, not in the overlay"
    if destination.is_multicast:
        return "it is a multicast group, and lispd forwards only unicast"
    if destination.is_link_local:
        return "it is a link-local address, which is not forwarded"
    return "it is no address of one host elsewhere: loopback, broadcast or unspecified"


def _dropped(entry: MapCacheEntry, node: Node, now: float) -> str:
    if entry.source == "placeholder":
        again = "" if entry.expires_at is None else f"; lispd asks again in {max(0.0, entry.expires_at - now):.0f} s"
        return f"no Map-Resolver answered about {entry.prefix}{again}"
    if entry.locators:
        return _without_locator(entry, node)
    if entry.source == "static":
        return "a static mapping without locators drops it"
    if entry.action == Action.NATIVELY_FORWARD:
        return f"no site has registered {entry.prefix}, and routing: fallback is {node.config.fallback}"
    return (
        _ACTIONS.get(Action(entry.action), "the mapping says drop") if entry.action in set(Action) else "it is dropped"
    )


def _without_locator(entry: MapCacheEntry, node: Node) -> str:
    theirs = frozenset(int(ip.version) for locator in entry.locators for ip in locator.ips)
    ours = node.locators.families
    if theirs and ours and not theirs & ours:
        return (
            f"{entry.prefix} has {_families(theirs)} locators only, and the uplinks have {_families(ours)} addresses "
            "only: they have no family in common"
        )
    if all(locator.priority == NEVER for locator in entry.locators):
        return f"every locator of {entry.prefix} has priority 255, so none takes packets"
    if not any(locator.is_reachable for locator in entry.locators):
        return f"the mapping of {entry.prefix} says itself that all its locators are down"
    return f"no locator of {entry.prefix} can be reached from this host"


def _families(versions: frozenset[int]) -> str:
    return " and ".join(f"IPv{version}" for version in sorted(versions))
