"""Which EID and locator a path MTU probe of the node is addressed to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lispmob.control.map_cache import MapCache
from lispmob.control.path_mtu.size_probe import ControlProbe, everything
from lispmob.control.probing.probing import Path
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress


def size_target(
    local: IpAddress,
    remote: IpAddress,
    attached: Iterable[LocalLocator],
    rtrs: Collection[IpAddress],
    path: Path | None,
    cache: MapCache,
) -> ControlProbe | None:
    """A probe of `remote` from `local`. None if `local` is not our address now, or no mapping names the remote.

    An RTR accepts any EID. Another locator is asked about the prefix of its `path`, or else about the mapping of
    `cache` that names it and was used last.
    """
    own = next((locator for locator in attached if locator.address == local), None)
    if own is None:
        return None
    if remote in rtrs:
        return ControlProbe(everything(remote.version), local, remote, own.ifindex)
    eid = _served(cache, remote) if path is None else path.eid
    return None if eid is None else ControlProbe(eid, local, remote, own.ifindex)


def _served(cache: MapCache, remote: IpAddress) -> EidPrefix | None:
    naming = [entry for entry in cache if any(remote in locator.ips for locator in entry.locators)]
    return max(naming, key=lambda entry: entry.last_used).prefix if naming else None
