"""Keeps the steering chains in the kernel as the policy wants them, and takes them out again, also after a crash.

One transaction per family and change: a packet meets the old rules or the new ones, never anything between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.mh import cgroups
from lispmob.mh.chain_text import PREFIX, TABLE, ChainText, Hooks, chain_text
from lispmob.mh.policy import Compiled
from lispmob.mh.xtables import Tool

log = logging.getLogger(__name__)

TOOLS: Final = (Tool("iptables", 4), Tool("ip6tables", 6))
OTHER_TOOLS: Final = (
    Tool("iptables-nft", 4),
    Tool("ip6tables-nft", 6),
    Tool("iptables-legacy", 4),
    Tool("ip6tables-legacy", 6),
)
_LEGACY_IN_USE: Final = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}


class MarkChain:
    """The chains of both families. `refused` counts how often the kernel or the tool said no."""

    def __init__(self, tools: Iterable[Tool] = TOOLS, has_cgroup: Callable[[str], bool] | None = None) -> None:
        self._tools = tuple(tools)
        self._has_cgroup = has_cgroup or cgroup_exists
        self._lock = asyncio.Lock()
        self._applied: dict[int, ChainText] = {}
        self.refused = 0
        self.skipped: tuple[str, ...] = ()

    async def apply(
        self, compiled: Compiled, hooks: Hooks, *, is_repair: bool = False, is_renewal: bool = False
    ) -> None:
        """Make it so; what is so already is not looked at again unless `is_repair` says so.

        `is_renewal` writes the same rules anew: the kernel may mean another control group by them.

        Both families are tried. Raises KernelRefused: a family that was refused keeps the rules it had.
        """
        async with self._lock:
            refusals: list[str] = []
            skipped: dict[str, None] = {}
            for tool in self._tools:
                text = chain_text(compiled, hooks, tool.family, self._has_cgroup)
                skipped.update(dict.fromkeys(text.skipped))
                is_as_before = text == self._applied.get(tool.family)
                if is_as_before and not (is_repair or is_renewal):
                    continue
                try:
                    if is_renewal or not (is_as_before and await stands(tool, text)):
                        await replace(tool, text)
                    self._applied[tool.family] = text
                except FileNotFoundError:
                    self.refused += 1
                    refusals.append(f"{tool.name}-restore: not found: steering rules need it: install iptables")
                except KernelRefused as refused:
                    self.refused += 1
                    self._applied.pop(tool.family, None)
                    refusals.append(str(refused))
            if tuple(skipped) != self.skipped:
                self.skipped = tuple(skipped)
                log.info("rules without effect, their control group does not exist: %s", ", ".join(skipped) or "none")
            if refusals:
                raise KernelRefused("; ".join(refusals))

    async def clean_up(self) -> None:
        """Remove every chain and jump of ours, whoever left it and in whichever back end. Raises KernelRefused."""
        async with self._lock:
            self._applied.clear()
            refusals: list[str] = []
            for tool in dict.fromkeys((*self._tools, *OTHER_TOOLS)):
                if "legacy" in tool.name and not _legacy_is_in_use(tool.family):
                    continue  # merely looking would load its kernel modules
                try:
                    await remove(tool)
                except FileNotFoundError:
                    continue
                except KernelRefused as refused:
                    self.refused += 1
                    refusals.append(str(refused))
            if refusals:
                raise KernelRefused("; ".join(refusals))


async def replace(tool: Tool, text: ChainText) -> None:
    """Make our chains of one family hold exactly this. Raises KernelRefused, FileNotFoundError."""
    present = await tool.save(TABLE)
    await tool.restore(TABLE, restore_lines(present, text))


async def stands(tool: Tool, text: ChainText) -> bool:
    """True when nobody took anything away of what was made of `text`. Raises KernelRefused, FileNotFoundError.

    Rules are counted and not compared: iptables-save has its own spelling, and what lies in chains of ours is ours.
    """
    present = await tool.save(TABLE)
    chains, jumps = _ours(present)
    return (
        sorted(chains) == sorted(text.chains)
        and sorted(jumps) == sorted(text.jumps)
        and Counter(map(_chain_of, text.rules)) == Counter(map(_chain_of, _rules_in(chains, present)))
    )


async def remove(tool: Tool) -> None:
    """Take our chains of one family out. Raises KernelRefused, FileNotFoundError.

    Where the table itself is missing there is nothing to remove.
    """
    try:
        present = await tool.save(TABLE)
    except KernelRefused as refused:
        log.debug("no chain to remove tool=%s why=%s", tool.name, refused)
        return
    if lines := removal_lines(present):
        await tool.restore(TABLE, lines)


def restore_lines(present: Iterable[str], text: ChainText) -> list[str]:
    """The transaction that leads from what iptables-save printed to `text`; jumps that stand already are not moved."""
    chains, jumps = _ours(present)
    stale = [chain for chain in chains if chain not in text.chains]
    missing = [jump for jump in text.jumps if jump not in jumps]
    superfluous = list(jumps)
    for jump in text.jumps:
        with contextlib.suppress(ValueError):
            superfluous.remove(jump)
    return [
        *(f":{chain} - [0:0]" for chain in (*text.chains, *stale)),
        *(jump.replace("-A", "-D", 1) for jump in superfluous),
        *text.rules,
        *missing,
        *(f"-X {chain}" for chain in stale),
    ]


def removal_lines(present: Iterable[str]) -> list[str]:
    """The transaction that takes out everything of ours; none when there is nothing."""
    chains, jumps = _ours(present)
    unhook = [jump.replace("-A", "-D", 1) for jump in jumps]
    return [*(f":{chain} - [0:0]" for chain in chains), *unhook, *(f"-X {chain}" for chain in chains)]


def cgroup_exists(path: str) -> bool:
    """True when the unified hierarchy has this control group; the kernel refuses rules about others."""
    return cgroups.identity(path) is not None


def _ours(present: Iterable[str]) -> tuple[list[str], list[str]]:
    """Our chains, and the rules in chains of others that jump to them."""
    chains, jumps = [], []
    for line in present:
        if line.startswith(f":{PREFIX}"):
            chains.append(line[1:].split()[0])
        elif line.startswith("-A ") and not line.startswith(f"-A {PREFIX}"):
            words = line.split()
            if any(verb in ("-j", "-g") and target.startswith(PREFIX) for verb, target in pairwise(words)):
                jumps.append(line)
    return chains, jumps


def _rules_in(chains: Iterable[str], present: Iterable[str]) -> Iterator[str]:
    wanted = set(chains)
    return (line for line in present if line.startswith("-A ") and _chain_of(line) in wanted)


def _chain_of(rule: str) -> str:
    return rule.split()[1]


def _legacy_is_in_use(family: int) -> bool:
    try:
        return TABLE in _LEGACY_IN_USE[family].read_text().split()
    except OSError:
        return False
