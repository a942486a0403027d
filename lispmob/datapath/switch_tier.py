"""Has the datapath use the tier that the configuration wishes for, without holding up the event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, cast

from lispmob.datapath.engine import Engine

log = logging.getLogger(__name__)


async def use_tier(engine: Engine, wish: str) -> None:
    """Switch to the tier while packets move. What it became is in `engine.tier`; loading BPF programs takes a while."""
    before = engine.tier
    after = await asyncio.to_thread(engine.set_tier, cast(Literal["auto", "tun", "ebpf"], wish))
    if after == before:
        return
    tell = log.warning if wish == "ebpf" != after.name else log.info
    tell("datapath tier=%s: %s", after.name, after.why)
