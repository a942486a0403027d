"""What would happen to a packet to an EID, from the same sources as `why`: the kernel, and the datapath."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.control.map_cache import MapCacheEntry
from lispmob.datapath.ask import FlowVerdict, Question
from lispmob.errors import KernelRefused
from lispmob.lispd.explain.lost import why_lost, why_refused
from lispmob.lispd.parts import Parts
from lispmob.mh.kernel.route_query import RouteFound, route_of
from lispmob.wire.address import IpAddress

Verdict: TypeAlias = Literal["own", "encapsulate", "native", "drop", "ask"]

_PING: Final = {4: 1, 6: 58}


class Found(msgspec.Struct, frozen=True):
    """`why` completes the verdict: who routes it past the overlay, why it is lost, which locators are silent."""

    verdict: Verdict
    why: str | None = None
    entry: MapCacheEntry | None = None
    locator: IpAddress | None = None


def look_up(parts: Parts, eid: IpAddress, instance_id: int) -> Found:
    """Look it up on this host alone."""
    node = parts.node
    if (own := node.config.owner_of(eid, instance_id)) is not None:
        return Found("own", None if own.network.num_addresses == 1 else f"it lies in {own}")
    entry = node.map_cache.lookup(eid, instance_id)
    source = node.config.eid_for(eid.version, instance_id)
    if source is None:
        family = f" of IPv{eid.version}" + (f" in Instance-ID {instance_id}" if instance_id else "")
        return Found("native", f"this node has no EID{family}, so nothing is sent there through LISP", entry)
    if instance_id:
        return _of_cache(parts, entry)  # the host's routes are those of Instance-ID 0
    route = _route(eid, source.address)
    if route.interface is None:
        return Found("drop", f"the kernel has no way for it: {route.why_not}", entry)
    if not _is_ours(parts, route.interface):
        return Found("native", f"the kernel routes it by {route.interface}, past the overlay", entry)
    return _of_datapath(parts, eid, source.address, entry)


def _route(eid: IpAddress, source: IpAddress) -> RouteFound:
    try:
        return route_of(eid, source)
    except KernelRefused as refused:
        return RouteFound(None, why_not=str(refused))


def _is_ours(parts: Parts, interface: str) -> bool:
    return interface in {parts.engine.config.tun_name, *(lane.device for lane in parts.engine.lanes)}


def _of_datapath(parts: Parts, eid: IpAddress, source: IpAddress, entry: MapCacheEntry | None) -> Found:
    answer = parts.engine.dry_run.ask(Question(source, eid, _PING[eid.version]))
    if answer.verdict in (FlowVerdict.SENT, FlowVerdict.DOUBT):
        return _sent(parts, entry)
    if answer.verdict is FlowVerdict.MISS:
        return Found("ask", why_refused(eid, 0, parts.node, parts.now()), entry)
    if answer.verdict is FlowVerdict.NO_UPLINK:
        found = _of_cache(parts, entry)
        return Found(found.verdict, "there is no uplink: packets wait for one, for 3 seconds", entry, found.locator)
    return Found("drop", why_lost(answer.verdict, eid, answer.entry, parts.node, parts.now()), entry)


def _of_cache(parts: Parts, entry: MapCacheEntry | None) -> Found:
    """The forwarding entry."""
    known = None if entry is None else parts.node.disposition(entry.prefix)
    if known is None or known.disposition == "MISS":
        return Found("ask", None, entry)
    if known.disposition in ("ENCAPSULATE", "ENCAPSULATE_AND_REPORT", "DOUBT"):
        return _sent(parts, entry)
    return Found("native" if known.disposition == "NATIVE" else "drop", None, entry)


def _sent(parts: Parts, entry: MapCacheEntry | None) -> Found:
    """The locator of most flows, and whether it answers."""
    known = None if entry is None else parts.node.disposition(entry.prefix)
    if known is None:
        return Found("encapsulate", None, entry)
    best = min(known.locators, key=lambda one: (one.priority, -one.weight), default=None)
    silent = [locator.address for locator in known.locators if not parts.node.is_reachable(locator.address)]
    is_dead = bool(silent) and len(silent) == len(known.locators)
    why = f"{', '.join(map(str, silent))} {'does' if len(silent) == 1 else 'do'} not answer" if is_dead else None
    return Found("encapsulate", why, entry, None if best is None else best.address)
