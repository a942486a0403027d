"""Finds peers whose packets this host routes past the overlay: a nearer route of another program leads elsewhere.

Such a route is respected, because it may be meant. But a peer with a mapping is reached by the overlay, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.lispd.parts import Parts
from lispmob.mh.kernel.route_query import route_of
from lispmob.problems.evidence import DetourEvidence
from lispmob.wire.address import EidPrefix, IpAddress

PEERS_MAX: Final = 16  # ours: a question to the kernel takes about 0.1 ms
AGAIN_S: Final = 2.0  # ours: no event tells of the routes of others


class Detours:
    """Caches the kernel's answers for a moment."""

    def __init__(self) -> None:
        self._peers: tuple[EidPrefix, ...] = ()
        self._asked_at = float("-inf")
        self._found: tuple[DetourEvidence, ...] = ()

    def of(self, parts: Parts) -> tuple[DetourEvidence, ...]:
        """On this host, now."""
        peers = tuple(islice(_peers(parts), PEERS_MAX))
        if peers != self._peers or parts.now() - self._asked_at >= AGAIN_S:
            self._peers, self._asked_at = peers, parts.now()
            self._found = tuple(_detours(parts, peers))
        return self._found


def _peers(parts: Parts) -> Iterator[EidPrefix]:
    """Peers with a mapping whose packets the configuration sends into the overlay. Only Instance-ID 0 has routes."""
    routing = parts.file.routing
    inside = [EidPrefix(prefix) for prefix in routing.overlay_prefixes]
    mapped = (entry.prefix for entry in parts.node.map_cache.following(None, PEERS_MAX) if entry.locators)
    for eid in dict.fromkeys([*sorted({path.eid for path in parts.node.paths}, key=str), *mapped]):
        is_meant = any(prefix.covers(eid) for prefix in inside) or (routing.mode == "full" and not eid.instance_id)
        if is_meant and eid.mask_len:
            yield eid


def _detours(parts: Parts, peers: tuple[EidPrefix, ...]) -> Iterator[DetourEvidence]:
    own = {parts.engine.config.tun_name, *(lane.device for lane in parts.engine.lanes)}
    for eid in peers:
        source = parts.node.config.source_for(eid)
        ways = set() if source is None else {_interface(host, source) for host in _ends(eid)}
        outside = sorted(way for way in ways - own if way is not None)
        if outside and len(outside) == len(ways):
            yield DetourEvidence(str(eid), ", ".join(outside))


def _ends(eid: EidPrefix) -> set[IpAddress]:
    """A host at each end: a route for a part of a wide prefix, such as the network of a LAN, hides no peer."""
    network = eid.network
    if eid.width - eid.mask_len < 2:
        return {network[0], network[-1]}
    return {network[1], network[-2]}


def _interface(host: IpAddress, source: IpAddress) -> str | None:
    """Where the host routes it; None: nowhere, or that cannot be found out."""
    try:
        return route_of(host, source).interface
    except KernelRefused:
        return None
