"""Applies the desired kernel state in the background: one application at a time, always the newest state.

Addresses, routes and rules come first: they take milliseconds, and only the kernel can refuse them. Chains need a
program that may wait for a lock; nothing waits for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lispmob.errors import KernelRefused
from lispmob.lispd.retry import Retry
from lispmob.mh.plan import KernelState
from lispmob.problems.problem import Problem
from lispmob.wire.address import IpNetwork

if TYPE_CHECKING:
    from lispmob.mh.kernel.kernel import KernelRouter

SETTLE_S: Final = 0.03  # ours: reading the kernel takes 10 ms, which must not delay the next event of a move
SETTLED_S: Final = 1.1  # ours: rules that the router keeps for a second are removed then
CHAINS_S: Final = 2.0  # ours: how long a start waits for the chains; without a held lock they take 0.1 s

log = logging.getLogger(__name__)


class KernelTask:
    """Keeps the kernel at `desired()`, which is called at every `touch()`.

    `on_device_gone`: the datapath's device was there and is no longer.
    """

    def __init__(
        self,
        desired: Callable[[], KernelState],
        on_problems: Callable[[], None],
        on_device_gone: Callable[[], None] = lambda: None,
    ) -> None:
        self._desired = desired
        self._on_device_gone = on_device_gone
        self._on_problems = on_problems
        self._router: KernelRouter | None = None
        self._wanted = asyncio.Event()
        self._chains_wanted = asyncio.Event()
        self._chains_done = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._native: frozenset[IpNetwork] = frozenset()
        self._is_suspicious = False
        self._has_new_marks = True
        self._marks: tuple[Problem, ...] = ()
        self._routes = Retry()
        self._chains = Retry()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What the kernel does not hold, and why."""
        return (*self._routes.problems, *self._chains.problems, *self._marks)

    async def start(self) -> None:
        """Remove the remains of a crash, and apply. Failures are retried until they succeed."""
        from lispmob.mh.kernel.kernel import KernelRouter  # late: 50 ms, while the Map-Notify is in flight

        self._router = KernelRouter()
        try:
            await self._router.clean_up_routes(self._desired())  # the guard of the overlay stays without a gap
        except KernelRefused as refused:
            log.error("not everything of an earlier run could be removed: %s", refused)
        await self._route()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_routes()), loop.create_task(self._keep_chains())]
        self._chains_wanted.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._chains_done.wait(), CHAINS_S)

    def touch(self) -> None:
        """The state changed: apply it soon."""
        self._wanted.set()

    def touch_after_move(self) -> None:
        """The uplinks changed, and may change again at once: apply a moment later. Urgent rules are there already."""
        asyncio.get_running_loop().call_later(SETTLE_S, self.touch)

    def suspect(self) -> None:
        """State that is slow to read may be gone, for example after a reload of the firewall."""
        self._is_suspicious = True
        self._wanted.set()

    @property
    def has_mark_conflict(self) -> bool:
        """A packet filter has rules about bits of our marks."""
        return bool(self._marks)

    def on_marks(self) -> None:
        """Another program may have made a rule about marks: read them, and place our rules accordingly."""
        self._has_new_marks = True
        self._chains_wanted.set()

    async def stop(self, *, leaves_guard: bool = False) -> None:
        """Restore the host; with `leaves_guard` packets for the overlay are refused from now on."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        if self._router is None:
            return
        try:
            await self._router.clean_up(self._desired() if leaves_guard else None)
        except KernelRefused as refused:
            log.error("not everything was cleaned up: %s; the next start of lispd tries again", refused)

    async def _keep_routes(self) -> None:
        while True:
            await _wait(self._wanted, self._routes.pause_s(self._now()))
            self._wanted.clear()
            await self._route()

    async def _route(self) -> None:
        assert self._router is not None, "start() comes first"
        desired = self._desired()
        self._say(self._routes, await self._router.route(desired))
        if self._router.has_lost_device:
            self._on_device_gone()
        if not self._router.is_settled:
            asyncio.get_running_loop().call_later(SETTLED_S, self.touch)
        self._chains_wanted.set()
        fresh = set(desired.native_prefixes) - self._native
        if fresh and desired.translates_native:
            await self._forget_flows(desired, fresh)
        self._native = frozenset(desired.native_prefixes)

    async def _forget_flows(self, desired: KernelState, fresh: set[IpNetwork]) -> None:
        """After the routes lead there: flows that came to lmn0 before have to be translated like the rest."""
        from lispmob.mh.kernel import conntrack  # late: most nodes never have such a flow

        eids = [eid.network for eid in desired.eids]
        try:
            count = await asyncio.to_thread(conntrack.forget_unanswered, eids, fresh)
        except KernelRefused as refused:
            log.info("existing flows stay untranslated: %s", refused)
        else:
            log.debug("flows begin again natively count=%d", count)

    async def _keep_chains(self) -> None:
        assert self._router is not None, "start() comes first"
        is_clean = False
        while True:
            await _wait(self._chains_wanted, self._chains.pause_s(self._now()))
            self._chains_wanted.clear()
            is_due = self._chains.is_due(self._now())
            is_repair, self._is_suspicious = self._is_suspicious, False
            try:
                if not is_clean:
                    await self._router.clean_up_chains()
                    is_clean = True
            except KernelRefused as refused:  # apply reports it again, with the missing part
                log.debug("chains of an earlier run may stand: %s", refused)
            desired = self._desired()
            if is_repair or is_due or not self._chains.problems:
                self._say(self._chains, await self._router.translate(desired, is_repair=is_repair or is_due))
            self._chains_done.set()
            if is_repair or self._has_new_marks:
                await self._look_at_marks(desired)

    async def _look_at_marks(self, desired: KernelState) -> None:
        assert self._router is not None, "start() comes first"
        self._has_new_marks = False
        former, self._marks = self._marks, await self._router.look_at_marks(desired)
        if self._marks != former:
            self._on_problems()
        if desired.mode == "full":
            self.touch()  # a mark that all packets get decides where our rules stand (rule_order.py)

    def _say(self, retry: Retry, problems: tuple[Problem, ...]) -> None:
        if retry.on_problems(problems, self._now()):
            self._on_problems()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _wait(event: asyncio.Event, pause_s: float | None) -> None:
    """Wait for the event, at most for the pause; None: without limit."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), pause_s)
