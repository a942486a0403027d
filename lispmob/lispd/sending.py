"""The uplinks that the datapath sends by, from configuration, probes and NATs; pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from lispmob.config.node import NodeFile
from lispmob.datapath.model import Traversal
from lispmob.datapath.model import Uplink as EngineUplink
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd import assembly
from lispmob.node.node import Node
from lispmob.wire.address import IpAddress


def sending_uplinks(file: NodeFile, uplinks: Iterable[Uplink], node: Node) -> tuple[EngineUplink, ...]:
    """The uplinks for the datapath; silent ones only if there is no other."""
    is_legacy = file.multihoming.mode == "legacy"
    silent = node.reachability.silent.__contains__
    found = assembly.engine_uplinks(uplinks, silent, node.plan, is_legacy=is_legacy, ranks=node.uplink_ranks)
    summed = node.zero_checksums.needed_from
    return tuple(_with_checksums(uplink, summed) for uplink in found) if summed else found


def _with_checksums(uplink: EngineUplink, addresses: frozenset[IpAddress]) -> EngineUplink:
    """The uplink with UDP checksums in all data from these addresses."""
    own = {
        address: replace(uplink.traversal.get(address, Traversal()), needs_sums=True)
        for address in uplink.addresses
        if address in addresses
    }
    return replace(uplink, traversal={**uplink.traversal, **own}) if own else uplink
