"""The tier that moves the packets, and switching to another one meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from lispmob.datapath import _lispdp, tier
from lispmob.datapath.marshal import Handle
from lispmob.datapath.model import EngineConfig

lib: Any = _lispdp.lib
log = logging.getLogger(__name__)


class Tiers:
    """The tiers of one engine; `ifindex` returns that of its TUN device."""

    def __init__(self, handle: Handle, config: EngineConfig, ifindex: Callable[[], int]) -> None:
        self._handle, self._config, self._ifindex = handle, config, ifindex
        self._chosen = tier.Tier()

    @property
    def now(self) -> tier.Tier:
        """The tier in use, and why."""
        return tier.look(self._handle.c, self._chosen)

    def use(self, wish: tier.TierWish, *, allows_tcx: bool = True) -> tier.Tier:
        """Switch to this tier if possible; at any time after open(), and without losing packets."""
        config = self._config
        self._chosen = tier.choose(
            self._handle.c, self._ifindex(), config.mark_mask, wish, is_rtr=config.is_rtr, allows_tcx=allows_tcx
        )
        return self._chosen

    async def switch(self, wish: str) -> None:
        """The same without blocking the event loop: loading BPF programs takes a while. Logs the result."""
        before = self.now
        after = await asyncio.to_thread(self.use, cast(tier.TierWish, wish))
        if after == before:
            return
        tell = log.warning if wish == "ebpf" != after.name else log.info
        tell("datapath tier=%s: %s", after.name, after.why)

    def settle(self) -> None:
        """Wait until the tier in use receives on all current uplinks; until then the tun tier does.

        For measurements. A moving node does not wait: see ebpf/attach_thread.h.
        """
        lib.lm_reflect_settle(self._handle.c)
