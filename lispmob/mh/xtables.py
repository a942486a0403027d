"""iptables as a tool: read a table, change it in one transaction, and say what to do when it refuses."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.values import dataclass

LOCK_WAIT_S: Final = 5
TOOL_TIMEOUT_S: Final = 15.0
TOOL_PIDS: Final[deque[int]] = deque(maxlen=32)
"""Of the tools that we ran last: the kernel names them as the authors of what they changed."""

# What the tools say, in either back end, and what would help; the first that is found in it counts.
_REMEDIES: Final = (
    (r"you must be root|operation not permitted|permission denied", "needs CAP_NET_ADMIN (legacy: CAP_NET_RAW too)"),
    (r"xtables lock|resource temporarily unavailable", "another program holds the lock of iptables: it is tried again"),
    (r"table does not exist|can't initialize|protocol not supported", "the kernel lacks this table (nat, mangle)"),
    (r"couldn't load (?:match|target)", "this iptables lacks an extension: install its full package"),
    (r"device or resource busy", "another program's rule refers to a chain of ours"),
    (r"no chain/target/match|no such file|invalid argument|failed", "the kernel lacks a match or target of this rule"),
)


@dataclass(frozen=True, slots=True)
class Tool:
    """One family's iptables, by the name of its program; `-save` and `-restore` are beside it.

    `iptables` is whichever back end the system uses; `iptables-nft` and `iptables-legacy` are one of them.
    """

    name: str
    family: int

    async def save(self, table: str) -> list[str]:
        """The table's lines. Raises KernelRefused; FileNotFoundError when the tool is not installed."""
        return (await _run(f"{self.name}-save", "-t", table)).splitlines()

    async def restore(self, table: str, lines: Sequence[str]) -> None:
        """Change a table, all or nothing; what `lines` do not name stays. Raises KernelRefused, FileNotFoundError."""
        text = "\n".join([f"*{table}", *lines, "COMMIT", ""])
        await _run(f"{self.name}-restore", "--noflush", "-w", str(LOCK_WAIT_S), stdin=text)


def remedy(tool: str, complaint: str, text: str = "") -> str:
    """What a tool complains about, with the line that it means, and what would help."""
    said = " ".join(complaint.split()) or "no word of why"
    found = re.search(r"line:? (\d+)", complaint)
    lines = text.splitlines()
    line = f" at `{lines[int(found[1]) - 1]}`" if found and 0 < int(found[1]) <= len(lines) else ""
    helps = next((what for pattern, what in _REMEDIES if re.search(pattern, said, re.IGNORECASE)), "see dmesg")
    return f"{tool}: {said}{line}: {helps}"


async def _run(*command: str, stdin: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    TOOL_PIDS.append(process.pid)
    try:
        out, complaint = await asyncio.wait_for(process.communicate(stdin.encode()), TOOL_TIMEOUT_S)
    except BaseException as ended:
        process.kill()
        await process.wait()
        if isinstance(ended, TimeoutError):
            raise KernelRefused(f"{command[0]}: no answer within {TOOL_TIMEOUT_S:.0f} s: is its lock held?") from None
        raise
    if process.returncode:
        raise KernelRefused(remedy(command[0], complaint.decode(errors="replace"), stdin))
    return out.decode(errors="replace")
