"""`lispctl run`: rules for single commands, each as long as its control group has a process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from typing import Final

import msgspec

from lispmob.api.backend import ApiError
from lispmob.api.steering.schema import Run, RunParams
from lispmob.errors import KernelRefused
from lispmob.lispd.tasks.steering import Steering
from lispmob.mh.kernel import cgroups
from lispmob.mh.policy import Rule, Via
from lispmob.mh.selector import Selector

RUNS_MAX: Final = 64  # ours: each costs every packet a comparison
LOOK_S: Final = 1.0  # ours: how long a rule may outlive its command

log = logging.getLogger(__name__)


class _Lease(msgspec.Struct, frozen=True):
    rule: Rule
    cgroup: str


class Runs:
    """The rules come before the configured ones. Nothing wakes up while there are none."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        self._leases: list[_Lease] = []
        self._numbers = itertools.count(1)
        self._watch: asyncio.Task[None] | None = None

    async def begin(self, params: RunParams, pid: int) -> Run:
        """Steer the group, or the process in a new group; returns when the kernel has the rule.

        Raises ApiError; nothing has changed then.
        """
        if len(self._leases) >= RUNS_MAX:
            raise ApiError("busy", f"{RUNS_MAX} commands run over uplinks of their own already")
        cgroup = params.cgroup
        if cgroup is not None and not cgroups.is_populated(cgroup):
            raise ApiError("params", f"cgroup: no process is in {cgroup[:80]!r}, or there is no such group")
        if cgroup is not None and not cgroup.strip("/"):
            raise ApiError("params", "cgroup: the root of all control groups contains every process")
        try:
            rule = self._rule(params, cgroup or f"{cgroups.OURS}/{pid}")
            if cgroup is None:
                cgroup = cgroups.make_for(pid)
        except ValueError as error:
            raise ApiError("params", str(error)) from None
        except KernelRefused as refused:
            raise ApiError("refused", str(refused)) from None
        lease = _Lease(rule, cgroup)
        self._leases.append(lease)
        self._apply()
        try:
            if rule not in self._steering.policy.rules:
                raise KernelRefused("there are as many rules already as there may be")
            await self._steering.settled()
        except KernelRefused as refused:
            self._end(lease)
            raise ApiError("refused", str(refused)) from None
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._look())
        log.info("run: %s by %s", rule.name, ", ".join(params.via))
        present = rule.candidates(self._steering.compiled.uplinks)
        return Run(rule=rule.name, cgroup=cgroup, uplinks=[uplink.name for uplink, _ in present])

    async def stop(self) -> None:
        """Forget all; the chain is removed with the daemon."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        cgroups.remove_leftovers()

    def _rule(self, params: RunParams, cgroup: str) -> Rule:
        known = {rule.name for rule in self._steering.policy.rules}
        command = re.sub(r"[^A-Za-z0-9_.+-]", "_", params.name)[:32] or "command"
        name = next(name for number in self._numbers if (name := f"run {number}: {command}") not in known)
        via = tuple(Via(pattern) for pattern in params.via)
        return Rule(name, Selector(cgroup=cgroup), via, otherwise=params.otherwise)

    def _apply(self) -> None:
        self._steering.on_first_rules(tuple(lease.rule for lease in self._leases))

    def _end(self, lease: _Lease) -> None:
        self._leases.remove(lease)
        self._apply()
        cgroups.remove(lease.cgroup)

    async def _look(self) -> None:
        while self._leases:
            await asyncio.sleep(LOOK_S)
            for lease in [ended for ended in self._leases if not cgroups.is_populated(ended.cgroup)]:
                log.info("run: %s has ended", lease.rule.name)
                self._end(lease)
        self._watch = None
