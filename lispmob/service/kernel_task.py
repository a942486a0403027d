"""Applies the desired kernel state in the background: one at a time, the newest wish only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lispmob.errors import KernelRefused
from lispmob.mh.guard import left_behind
from lispmob.mh.plan import NOTHING, KernelState
from lispmob.wire.address import IpNetwork

if TYPE_CHECKING:
    from lispmob.mh.kernel import KernelRouter

SETTLE_S: Final = 0.03  # ours: reading the kernel takes 10 ms, and the next event of a move cannot wait for it
RETRY_S: Final = 5.0  # ours: what the kernel refused once may have been in the way for a moment only

log = logging.getLogger(__name__)


class KernelTask:
    """Keeps the kernel at `desired()`, which is asked anew at every `touch()`."""

    def __init__(self, desired: Callable[[], KernelState]) -> None:
        self._desired = desired
        self._router: KernelRouter | None = None
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._native: frozenset[IpNetwork] = frozenset()
        self._is_suspicious = False
        self.problem: str | None = None

    async def start(self) -> None:
        """Remove what a crash left behind, and apply. Raises KernelRefused."""
        from lispmob.mh.kernel import KernelRouter  # late: 50 ms, while the Map-Notify is on its way

        self._router = KernelRouter()
        await self._router.clean_up(left_behind(self._desired()))  # what guards the overlay does so without a pause
        await self._apply()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def touch(self) -> None:
        """Something changed: apply soon."""
        self._wanted.set()

    def touch_after_move(self) -> None:
        """The uplinks changed, and may change again at once: apply a moment later. What cannot wait stands by."""
        asyncio.get_running_loop().call_later(SETTLE_S, self.touch)

    def suspect(self) -> None:
        """Somebody may have taken away what takes time to look at, such as a firewall that was loaded anew."""
        self._is_suspicious = True
        self._wanted.set()

    async def stop(self, *, leaves_guard: bool = False) -> None:
        """Give the host back as it was; with `leaves_guard` packets for the overlay are refused from now on."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._router is None:
            return
        try:
            await self._router.clean_up(left_behind(self._desired()) if leaves_guard else NOTHING)
        except KernelRefused as refused:
            log.error("not everything was cleaned up: %s; the next start of lispd tries again", refused)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._apply()
                self.problem = None
            except KernelRefused as refused:
                if str(refused) != self.problem:
                    log.error("%s", refused)
                self.problem = str(refused)
                asyncio.get_running_loop().call_later(RETRY_S, self._wanted.set)

    async def _apply(self) -> None:
        assert self._router is not None, "start() comes first"
        desired = self._desired()
        is_repair, self._is_suspicious = self._is_suspicious, False
        await self._router.apply(desired, is_repair=is_repair)
        fresh = set(desired.native_prefixes) - self._native
        if fresh and desired.translates_native:
            from lispmob.mh import conntrack  # late: most nodes never have such a flow

            # Now that the routes lead there: what already knocked at lmn0 has to be translated like the rest.
            eids = [eid.network for eid in desired.eids]
            count = await asyncio.to_thread(conntrack.forget_unanswered, eids, fresh)
            log.debug("flows start anew natively count=%d", count)
        self._native = frozenset(desired.native_prefixes)
