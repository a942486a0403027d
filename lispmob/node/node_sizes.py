"""What a node is told about large packets, and whom it asks how large they may be; pure."""

from __future__ import annotations

from lispmob.control.map_cache import MapCache
from lispmob.control.path_mtu.paths import MtuEffect, PathMtus
from lispmob.control.path_mtu.search import Way
from lispmob.control.path_mtu.size_probe import ControlProbe, everything
from lispmob.node.node_display import NodeDisplay
from lispmob.protocol.effect import Event
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress


class NodeSizes(NodeDisplay):
    """The inputs of `Node` that are about path MTUs."""

    path_mtus: PathMtus
    _attached: tuple[LocalLocator, ...]

    def on_large(self, local: IpAddress, remote: IpAddress, port: int, now: float) -> list[MtuEffect]:
        """Large packets leave for this locator, or RTR."""
        probe = self._size_probe(local, remote)
        return [] if probe is None else self.path_mtus.on_large(Way(local, remote, port), probe, now)

    def on_too_big(
        self, local: IpAddress, remote: IpAddress, port: int, mtu_bytes: int, source: str, now: float
    ) -> list[MtuEffect]:
        """They are too big: says "icmp" about a packet of ours, "unproven" ICMP, or the "interface" that refused."""
        probe, way = self._size_probe(local, remote), Way(local, remote, port)
        if source == "unproven":
            return [] if probe is None else self.path_mtus.on_claim(way, probe, now)
        learned = Event("mtu-learned", {"rloc": str(remote), "mtu_bytes": mtu_bytes, "source": source})
        if probe is None:
            return [learned]
        if source == "interface":
            self.path_mtus.on_refused(way, probe, mtu_bytes)
            return [learned]
        return [learned, *self.path_mtus.on_too_big(way, probe, mtu_bytes, now)]

    def _size_probe(self, local: IpAddress, remote: IpAddress) -> ControlProbe | None:
        """How to ask this remote; None when it has left all mappings, or nobody is to be probed."""
        if self.config.probing is None:
            return None
        own = next((locator for locator in self._attached if locator.address == local), None)
        if own is None:
            return None
        if remote in self.plan.rtrs:
            return ControlProbe(everything(remote.version), local, remote, own.ifindex)
        path = self._prober.path(local, remote)
        eid = _served(self.map_cache, remote) if path is None else path.eid
        return None if eid is None else ControlProbe(eid, local, remote, own.ifindex)


def _served(cache: MapCache, remote: IpAddress) -> EidPrefix | None:
    """The prefix of a mapping that names this locator; the one that was used last."""
    naming = [entry for entry in cache if any(remote in locator.ips for locator in entry.locators)]
    return max(naming, key=lambda entry: entry.last_used).prefix if naming else None
