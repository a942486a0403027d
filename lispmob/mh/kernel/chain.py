"""Keeps the steering chains in the kernel as the policy requires, and removes them, also after a crash."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.mh.chain_text import REPLIES, TABLE, ChainText, Hooks, chain_text
from lispmob.mh.kernel import cgroups
from lispmob.mh.kernel.chain_keeper import ChainKeeper, Kept
from lispmob.mh.kernel.packet_filter import Iptables, Nftables, PacketFilter
from lispmob.mh.kernel.xtables import Tool
from lispmob.mh.policy import Compiled
from lispmob.problems.problem import Problem, Severity, printable

log = logging.getLogger(__name__)

FAMILIES: Final = (4, 6)
PROGRAMS: Final[tuple[PacketFilter, ...]] = (
    Iptables(Tool("iptables", 4)),
    Nftables(4),
    Iptables(Tool("ip6tables", 6)),
    Nftables(6),
)
OTHERS: Final[tuple[PacketFilter, ...]] = (
    Iptables(Tool("iptables-nft", 4)),
    Iptables(Tool("ip6tables-nft", 6)),
    Iptables(Tool("iptables-legacy", 4)),
    Iptables(Tool("ip6tables-legacy", 6)),
)
"""Programs that an earlier lispd may have used, if the system's iptables was another one."""


class MarkChain:
    """The chains of both families. `refused` counts failures of all programs."""

    def __init__(
        self,
        programs: Iterable[PacketFilter] = PROGRAMS,
        has_cgroup: Callable[[str], bool] | None = None,
        cgroups_of_app: Callable[[str], Sequence[str]] = cgroups.of_app,
    ) -> None:
        self._programs = tuple(programs)
        self._has_cgroup = has_cgroup or cgroup_exists
        self._cgroups_of_app = cgroups_of_app
        self._keepers = {
            family: ChainKeeper(TABLE, [program for program in self._programs if program.family == family])
            for family in FAMILIES
        }
        self._lock = asyncio.Lock()
        self.refused = 0
        self.skipped: tuple[str, ...] = ()

    async def apply(
        self,
        compiled: Compiled,
        hooks: Hooks,
        *,
        families: Collection[int] = FAMILIES,
        is_repair: bool = False,
        is_renewal: bool = False,
    ) -> tuple[Problem, ...]:
        """Make the chains so in these families; existing ones are checked only if `is_repair` says so.

        `is_renewal` writes the same rules again: their control groups may have been created again.

        Each family is separate: a refused one keeps its former rules. Returns what was refused, or left out.
        """
        async with self._lock:
            problems: list[Problem] = []
            skipped: dict[str, None] = {}
            for family in families:

                def make(missing: frozenset[str], family: int = family) -> ChainText:
                    return chain_text(compiled, hooks, family, self._has_cgroup, missing, self._cgroups_of_app)

                try:
                    kept = await self._keepers[family].apply(make, is_repair=is_repair, is_renewal=is_renewal)
                except KernelRefused as refused:
                    self.refused += 1
                    problems.append(_absent(family, refused, has_rules=bool(compiled.policy.rules)))
                    continue
                skipped.update(dict.fromkeys(kept.text.skipped))
                if kept.text.lost or kept.missing:
                    problems.append(_incomplete(family, kept))
            if tuple(skipped) != self.skipped:
                self.skipped = tuple(skipped)
                log.info("rules without effect, their control group does not exist: %s", ", ".join(skipped) or "none")
            return tuple(problems)

    async def clean_up(self) -> None:
        """Remove all our chains and jumps, whichever program made them. Raises KernelRefused."""
        async with self._lock:
            refusals: list[str] = []
            others = [other for other in OTHERS if other.name not in {known.name for known in self._programs}]
            keepers = [ChainKeeper(TABLE, [other]) for other in others]
            for keeper in (*self._keepers.values(), *keepers):
                try:
                    await keeper.clean_up()
                except KernelRefused as refused:
                    self.refused += 1
                    refusals.append(str(refused))
            if refusals:
                raise KernelRefused("; ".join(refusals))


def cgroup_exists(path: str) -> bool:
    """True when the unified hierarchy has this control group; the kernel refuses rules about missing ones."""
    return cgroups.identity(path) is not None


def _absent(family: int, refused: KernelRefused, *, has_rules: bool) -> Problem:
    what = "the steering rules" if has_rules else "the rules that keep replies on their uplink"
    return Problem(
        "no-chain",
        Severity.DEGRADED if has_rules else Severity.NOTICE,
        f"{what} for IPv{family} are not in the kernel",
        printable(str(refused)),
        "install iptables or nftables; lispd tries again by itself, and sends by priority and weight until then",
        f"IPv{family}",
    )


def _incomplete(family: int, kept: Kept) -> Problem:
    """The problem of a chain that works except for the missing extensions."""
    lost = kept.text.lost
    return Problem(
        "chain-incomplete",
        Severity.NOTICE if not lost or set(lost) == {REPLIES} else Severity.DEGRADED,
        f"{'steering works without ' + ', '.join(lost) if lost else 'steering works by other means'} for IPv{family}",
        f"{kept.by} does not take the extension {', '.join(sorted(kept.missing))}" if kept.missing else "",
        "load its kernel module or install the full package of iptables; lispd tries again by itself",
        f"IPv{family}",
    )
