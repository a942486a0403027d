"""The two programs that put chains into the kernel, iptables and nft, behind one interface.

One transaction per family and change: a packet meets the old rules or the new ones, never anything between.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

from lispmob.errors import KernelRefused
from lispmob.mh import nft_text
from lispmob.mh.chain_text import NOTHING, PREFIX, TRIALS, ChainText
from lispmob.mh.kernel import cgroups
from lispmob.mh.kernel.cgroups import ROOTS
from lispmob.mh.kernel.xtables import Tool, ToolBusy, ToolMissing, run_tool

log = logging.getLogger(__name__)

TRIAL: Final = f"{PREFIX}TRIAL"
_LEGACY_IN_USE: Final = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}


class PacketFilter(Protocol):
    """One program for one family. All methods raise KernelRefused, and its kinds ToolMissing and ToolBusy."""

    @property
    def name(self) -> str: ...
    @property
    def family(self) -> int: ...
    @property
    def lacks(self) -> frozenset[str]: ...
    async def put(self, table: str, text: ChainText) -> None: ...
    async def stands(self, table: str, text: ChainText) -> bool: ...
    async def remove(self, table: str) -> None: ...
    async def takes(self, table: str, extension: str) -> bool: ...


class Iptables:
    """Our chains in the shared tables; other programs' chains are not touched."""

    lacks = NOTHING

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.name = tool.name
        self.family = tool.family

    async def put(self, table: str, text: ChainText) -> None:
        """Make our chains hold exactly this."""
        present = await self.tool.save(table)
        await self.tool.restore(table, restore_lines(present, text))

    async def stands(self, table: str, text: ChainText) -> bool:
        """True when nothing of `text` was removed.

        Rules are counted and not compared: iptables-save has its own spelling, and our chains hold only our rules.
        """
        present = await self.tool.save(table)
        chains, jumps = _ours(present)
        return (
            sorted(chains) == sorted(text.chains)
            and sorted(jumps) == sorted((*text.ahead, *text.jumps))
            and Counter(map(_chain_of, text.rules)) == Counter(map(_chain_of, _rules_in(chains, present)))
        )

    async def remove(self, table: str) -> None:
        """Remove our chains. If the table itself is missing, there is nothing to remove."""
        if "legacy" in self.name and not is_legacy_in_use(self.family, table):
            return  # reading it would load kernel modules
        try:
            present = await self.tool.save(table)
        except (ToolMissing, ToolBusy):
            raise
        except KernelRefused as refused:
            log.debug("no chain to remove tool=%s why=%s", self.name, refused)
            return
        if lines := removal_lines(present):
            await self.tool.restore(table, lines)

    async def takes(self, table: str, extension: str) -> bool:
        """True when a rule with this extension can be made: one is made, in a chain without jumps to it."""
        try:
            await self.tool.restore(table, [f":{TRIAL} - [0:0]", f"-A {TRIAL} {TRIALS[extension]}"])
        except (ToolMissing, ToolBusy):
            raise
        except KernelRefused:
            return False
        await self.tool.restore(table, [f":{TRIAL} - [0:0]", f"-X {TRIAL}"])
        return True


class Nftables:
    """Tables of our own."""

    lacks = nft_text.LACKS
    name = "nft"

    def __init__(self, family: int) -> None:
        self.family = family
        self._listed: dict[str, str] = {}  # each table as nft lists it right after creation

    async def put(self, table: str, text: ChainText) -> None:
        """Make our table hold exactly this."""
        script = nft_text.script(table, self.family, text)
        try:
            await self._run(script)
        except (ToolMissing, ToolBusy):
            raise
        except KernelRefused:
            # nft looks control groups up in /sys/fs/cgroup, even if the unified hierarchy is mounted below it.
            base = cgroups.root()
            below = nft_text.with_groups_below(script, base.name) if base is not None and base != ROOTS[0] else script
            if below == script:
                raise
            await self._run(below)
        self._listed[table] = await self._listing(table)

    async def stands(self, table: str, text: ChainText) -> bool:
        """True when the table is listed as after its creation from `text`, with as many chains."""
        try:
            listing = await self._listing(table)
            return listing == self._listed.get(table) and listing.count("chain ") >= len(text.chains)
        except (ToolMissing, ToolBusy):
            raise
        except KernelRefused:
            return False

    async def remove(self, table: str) -> None:
        """Remove our table. A kernel without tables has none of ours."""
        self._listed.pop(table, None)
        try:
            await self._listing(table)
        except (ToolMissing, ToolBusy):
            raise
        except KernelRefused:
            return
        await self._run(nft_text.removal(table, self.family))

    async def takes(self, table: str, extension: str) -> bool:
        """True when a rule with this extension can be made: one is made, in a temporary table."""
        name = f"{nft_text.FAMILY_NAMES[self.family]} {nft_text.table_name('trial')}"
        rule = nft_text.rule(shlex.split(TRIALS[extension]), self.family)
        hook = "type nat hook postrouting priority 101;" if table == "nat" else ""
        made = f"table {name} {{ chain trial {{ {hook} {rule}\n}}\n}}\n"
        try:
            await self._run(f"{made}delete table {name}\n")
        except (ToolMissing, ToolBusy):
            raise
        except KernelRefused:
            return False
        return True

    async def _listing(self, table: str) -> str:
        family = nft_text.FAMILY_NAMES[self.family]
        return await run_tool("nft", "list", "table", family, nft_text.table_name(table))

    async def _run(self, script: str) -> None:
        await run_tool("nft", "-f", "-", stdin=script)


def restore_lines(present: Iterable[str], text: ChainText) -> list[str]:
    """The transaction from the output of iptables-save to `text`; existing jumps are not moved."""
    chains, jumps = _ours(present)
    stale = [chain for chain in chains if chain not in text.chains]
    missing = [jump for jump in text.jumps if jump not in jumps]
    ahead = [jump.replace("-A", "-I", 1) for jump in text.ahead if jump not in jumps]
    superfluous = list(jumps)
    for jump in (*text.ahead, *text.jumps):
        with contextlib.suppress(ValueError):
            superfluous.remove(jump)
    return [
        *(f":{chain} - [0:0]" for chain in (*text.chains, *stale)),
        *(jump.replace("-A", "-D", 1) for jump in superfluous),
        *text.rules,
        *ahead,
        *missing,
        *(f"-X {chain}" for chain in stale),
    ]


def removal_lines(present: Iterable[str]) -> list[str]:
    """The transaction that removes everything of ours; empty when there is nothing."""
    chains, jumps = _ours(present)
    unhook = [jump.replace("-A", "-D", 1) for jump in jumps]
    return [*(f":{chain} - [0:0]" for chain in chains), *unhook, *(f"-X {chain}" for chain in chains)]


def _ours(present: Iterable[str]) -> tuple[list[str], list[str]]:
    """Our chains, and the rules in other chains that jump to them."""
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


def is_legacy_in_use(family: int, table: str) -> bool:
    """True when iptables-legacy has made this table; asking it would make the table."""
    try:
        return table in _LEGACY_IN_USE[family].read_text().split()
    except OSError:
        return False
