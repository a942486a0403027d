"""The uplinks that the datapath sends by, from configuration, probes and NATs; pure."""

from __future__ import annotations

from collections.abc import Iterable

from lispmob.config.node import NodeFile
from lispmob.datapath.model import Uplink as EngineUplink
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd import assembly
from lispmob.node.node import Node


def sending_uplinks(file: NodeFile, uplinks: Iterable[Uplink], node: Node) -> tuple[EngineUplink, ...]:
    """The uplinks for the datapath; silent ones only if there is no other."""
    is_legacy = file.multihoming.mode == "legacy"
    silent = node.reachability.silent.__contains__
    return assembly.engine_uplinks(uplinks, silent, node.plan, is_legacy=is_legacy, ranks=node.uplink_ranks)
