"""A pair of locators as the control socket shows it; pure."""

from __future__ import annotations

from collections.abc import Callable

from lispmob.api import schema
from lispmob.control.path_mtu.search import PathMtu, Source, Way
from lispmob.control.probing.path import Path
from lispmob.node.node import Node
from lispmob.protocol.effect import DATA_PORT
from lispmob.protocol.locator_set import LocalLocator


def path_views(node: Node, now: float) -> list[schema.Path]:
    """Every probed pair, and those with RTRs that carried large packets."""
    own, mtus = {locator.address: locator for locator in node.locators.locators}, node.path_mtus
    shown = [
        path_view(path, own.get(path.pair.local), node.is_preferred, now, mtus[Way(*path.pair, DATA_PORT)])
        for path in node.paths
    ]
    known = {path.pair for path in node.paths}
    relayed = (way for way in mtus.ways if way[:2] not in known and way.remote in node.plan.rtrs)
    return shown + [_relayed_view(way, own.get(way.local), mtus.ways[way], now) for way in relayed]


def _relayed_view(way: Way, own: LocalLocator | None, mtu: PathMtu, now: float) -> schema.Path:
    return schema.Path(
        local=str(way.local),
        interface="?" if own is None else own.interface,
        remote=str(way.remote),
        state="unknown",
        why="an RTR, which registers reach",
        since_s=round(max(0.0, now - mtu.last_large), 3),
        cost=0 if own is None else own.cost,
        mtu_bytes=mtu.mtu_bytes,
        mtu_source=mtu.source.value,
    )


def path_view(
    one: Path,
    own: LocalLocator | None,
    is_preferred: Callable[[str], bool],
    now: float,
    mtu: PathMtu | None = None,
) -> schema.Path:
    """One pair; `own` is our end while we have it, and `mtu` the result of path MTU probes."""
    quality = one.quality
    interface = "?" if own is None else own.interface
    return schema.Path(
        local=str(one.pair.local),
        interface=interface,
        remote=str(one.pair.remote),
        state=one.state.value,
        why=one.why,
        since_s=round(max(0.0, now - one.since), 3),
        rtt_ms=in_ms(quality.rtt_s),
        rtt_min_ms=in_ms(quality.rtt_min_s),
        jitter_ms=in_ms(quality.jitter_s),
        loss=None if quality.loss is None else round(quality.loss, 4),
        probes=quality.probes,
        heard_s=None if one.last_heard is None else round(now - one.last_heard, 3),
        is_preferred=is_preferred(interface),
        cost=0 if own is None else own.cost,
        mtu_bytes=mtu.mtu_bytes if mtu is not None else None if own is None else own.mtu_bytes,
        mtu_source=(mtu.source if mtu is not None else Source.DEFAULT if own is None else Source.INTERFACE).value,
    )


def in_ms(seconds: float | None) -> float | None:
    """Milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)
