"""Applies the steering policy: to the datapath's lanes, and to the chain of marks in the kernel.

In a move the datapath comes first. Until the chain follows, packets with the mark of a lost uplink take the default
way, even if the policy says drop: the rule may have named another uplink for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from lispmob.datapath.device.lanes import CopyingLane
from lispmob.datapath.engine import Engine
from lispmob.errors import KernelRefused
from lispmob.lispd.retry import Retry
from lispmob.mh.chain_text import Arrival, Hooks
from lispmob.mh.kernel.cgroups import identity, of_app
from lispmob.mh.kernel.chain import MarkChain
from lispmob.mh.policy import Compiled, Policy, Rule, Uplink
from lispmob.problems.problem import Problem

LOOK_S: Final = 2.0  # ours: how long the first packets of a new service may take another uplink
SETTLE_S: Final = 8.0  # ours: iptables waits 5 s for its lock
LAZY_S: Final = 1.0  # ours: without rules only replies are affected, and a move has more urgent work

log = logging.getLogger(__name__)


class Steering:
    """Keeps lanes and chain in step with the policy and the uplinks. The chain follows in the background."""

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        chain: MarkChain | None = None,
        on_problems: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_problems = on_problems
        self._configured = policy
        self._first: tuple[Rule, ...] = ()
        self.policy = policy
        self.compiled = policy.compile(())
        self.refusal: str | None = None  # of the datapath, or of the policy itself
        self._retry = Retry()
        self._engine = engine
        self._chain = chain or MarkChain()
        self._uplinks: tuple[Uplink, ...] = ()
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._cgroups: dict[str, int | None] = {}  # the control groups in the rules, as of their installation
        self._task: asyncio.Task[None] | None = None
        self._is_in_place = False  # the chain is ours to remove
        self._is_suspicious = False

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The parts of the chains that are not in the kernel, and why."""
        return self._retry.problems

    @property
    def problem(self) -> str | None:
        """Why the rules are not in the kernel, in a sentence; None if they are, except for details."""
        absent = (problem.sentence for problem in self.problems if problem.key == "no-chain")
        return self.refusal or next(absent, None)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of rules that can match nothing now, because their control group does not exist."""
        return self._chain.skipped

    async def start(self) -> None:
        """Remove the remains of a crash, and begin. A refusal of the kernel is reported, and retried."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._wanted.set()

    def on_uplinks(self, uplinks: Sequence[Uplink]) -> None:
        """The uplinks have changed: marks lead to them from the next packet on."""
        if tuple(uplinks) == self._uplinks and self.refusal is None:
            return
        self._uplinks = tuple(uplinks)
        self._change()

    def on_policy(self, policy: Policy) -> None:
        """The configuration was reloaded. The mask stays, because the device was made for it."""
        self._configured = replace(policy, mask=self.policy.mask)
        self._combine()

    def on_first_rules(self, rules: tuple[Rule, ...]) -> None:
        """These rules come before the configured ones; they have names of their own."""
        self._first = rules
        self._combine()

    async def settled(self) -> None:
        """Return once the kernel has the present rules. Raises KernelRefused if it refuses them."""
        try:
            await asyncio.wait_for(self._settled.wait(), SETTLE_S)
        except TimeoutError:
            raise KernelRefused(f"the rules are not in the kernel after {SETTLE_S:.0f} s") from None
        if self.problem is not None:
            raise KernelRefused(self.problem)

    def repair(self) -> None:
        """The tables may have been changed: check."""
        self._is_suspicious = True
        self._wanted.set()

    async def stop(self) -> None:
        """Remove the chain."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        try:
            await self._chain.clean_up()
        except KernelRefused as refused:
            log.error("not everything was cleaned up: %s; the next start of lispd tries again", refused)

    def _combine(self) -> None:
        mine = {rule.name for rule in self._first}
        rest = tuple(rule for rule in self._configured.rules if rule.name not in mine)
        try:
            self.policy = replace(self._configured, rules=(*self._first, *rest))
        except ValueError as error:  # the number of rules is at its limit: the configured ones count
            self.policy = self._configured
            self._complain(str(error))
        self._change()

    def _change(self) -> None:
        self._settled.clear()
        self.compiled = self.policy.compile(self._uplinks)
        self._set_lanes(drops_unusable=False)
        self._wanted.set()

    def _set_lanes(self, *, drops_unusable: bool) -> None:
        mask = self.policy.mask
        marks = [(up.ifindex, mask.mark(up.ifindex)) for up in self.compiled.uplinks]
        pairs = [CopyingLane(pair.number, pair.mark, pair.first, pair.second) for pair in self.compiled.copying]
        try:
            self._engine.set_lanes(marks, copying=pairs, drops_unusable=drops_unusable)
        except KernelRefused as refused:
            self._complain(str(refused))
        else:
            self.refusal = None

    async def _run(self) -> None:
        try:
            await self._chain.clean_up()
        except KernelRefused as refused:  # the next step reports it again, with the missing part
            log.debug("chains of an earlier run may stand: %s", refused)
        while True:
            await self._wait()
            if self._is_in_place and not self.policy.has_kernel_rules:
                await asyncio.sleep(LAZY_S)
            self._wanted.clear()
            is_due = self._retry.is_due(self._now())
            if self._retry.on_problems(await self._apply(is_due=is_due), self._now()):
                self._on_problems()
            if not self._wanted.is_set():
                self._set_lanes(drops_unusable=self.policy.unusable_mark == "drop")
                self._settled.set()

    async def _wait(self) -> None:
        """Wait until something is due. Control groups change without events, so they are checked."""
        while not self._wanted.is_set():
            pause_s = self._retry.pause_s(self._now())
            if self._cgroups:
                pause_s = LOOK_S if pause_s is None else min(pause_s, LOOK_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), pause_s)
            if self._retry.is_due(self._now()) or (self._cgroups and self._cgroups != self._named_cgroups()):
                return

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _named_cgroups(self) -> dict[str, int | None]:
        """The control groups of rules. The entry of a program makes us look for it while it does not run."""
        named = [rule.selector.cgroup for rule in self.policy.rules]
        apps = {rule.selector.app for rule in self.policy.rules} - {None}
        running = [path for app in apps if app is not None for path in of_app(app)]
        found = {path: identity(path) for path in (*named, *running) if path is not None}
        return {**found, **{f"app {app}": None for app in apps}}

    async def _apply(self, *, is_due: bool) -> tuple[Problem, ...]:
        """The chain exists only if it can matter: connection tracking costs every packet something."""
        compiled = self.compiled
        is_repair, self._is_suspicious = self._is_suspicious or is_due, False
        # A rule refers to the group that it was made for, not to a later one of the same path.
        before, self._cgroups = self._cgroups, self._named_cgroups()
        is_renewal = any(before.get(path) not in (None, now) for path, now in self._cgroups.items())
        if compiled.policy.has_kernel_rules or (compiled.policy.keeps_replies and len(compiled.uplinks) > 1):
            self._is_in_place = True
            families = sorted({eid.family for eid in self._engine.addresses.eids})
            return await self._chain.apply(
                compiled, self._hooks(compiled), families=families, is_repair=is_repair, is_renewal=is_renewal
            )
        if not self._is_in_place:
            return ()
        if not compiled.uplinks:
            return self.problems  # between two networks: the next one causes another call
        try:
            await self._chain.clean_up()
        except KernelRefused as refused:
            log.debug("chains without an effect may stand: %s", refused)
        self._is_in_place = False
        return ()

    def _hooks(self, compiled: Compiled) -> Hooks:
        present = {up.ifindex for up in compiled.uplinks}
        arrivals = tuple(Arrival(lane.ifindex, lane.queue) for lane in self._engine.lanes if lane.ifindex in present)
        sorts_by_route = self._engine.marks_way.name == "devices"
        sources = tuple(eid.network for eid in self._engine.addresses.eids) if sorts_by_route else ()
        return Hooks(self._engine.config.tun_name, arrivals, sources)

    def _complain(self, problem: str) -> None:
        if problem != self.refusal:
            log.error("%s", problem)
        self.refusal = problem
