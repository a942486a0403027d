"""A pair of locators as the control socket shows it; pure."""

from __future__ import annotations

from collections.abc import Callable

from lispmob.api import schema
from lispmob.control.locator_set import LocalLocator
from lispmob.control.path import Path


def path_view(one: Path, own: LocalLocator | None, is_preferred: Callable[[str], bool], now: float) -> schema.Path:
    """One pair; `own` is our end of it, as long as we have it."""
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
    )


def in_ms(seconds: float | None) -> float | None:
    """Milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)
