"""Runs iptables: reads a table, changes it in one transaction, and suggests a remedy when it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from lispmob.errors import KernelRefused

LOCK_WAIT_S: Final = 5
TOOL_TIMEOUT_S: Final = 15.0
TOOL_PIDS: Final[deque[int]] = deque(maxlen=32)
"""The last tools that we ran: the kernel names them as the authors of their changes."""

_LOCKED: Final = r"xtables lock|resource temporarily unavailable"
# Messages of the tools, in either back end, and their remedies; the first match counts.
_REMEDIES: Final = (
    (r"you must be root|operation not permitted|permission denied", "needs CAP_NET_ADMIN (legacy: CAP_NET_RAW too)"),
    (_LOCKED, "another program holds the lock of iptables: it is tried again"),
    (r"table does not exist|can't initialize|protocol not supported", "the kernel lacks this table (nat, mangle)"),
    (r"couldn't load (?:match|target)", "this iptables lacks an extension: install its full package"),
    (r"device or resource busy", "another program's rule refers to one of our chains"),
    (r"no chain/target/match|no such file|invalid argument|failed", "the kernel lacks a match or target of this rule"),
)


class ToolMissing(KernelRefused):
    """The program is not installed, or this process may not execute it; the text says which and why."""


class ToolBusy(KernelRefused):
    """Another program holds the lock of iptables, or the tool does not end: a retry may work."""


class Tool(msgspec.Struct, frozen=True):
    """One family's iptables, by the name of its program, with `-save` and `-restore` beside it.

    `iptables` is the system's back end; `iptables-nft` and `iptables-legacy` are specific ones.
    """

    name: str
    family: int

    async def save(self, table: str) -> list[str]:
        """The table's lines. Raises KernelRefused, and its kinds ToolMissing and ToolBusy."""
        return (await run_tool(f"{self.name}-save", "-t", table)).splitlines()

    async def restore(self, table: str, lines: Sequence[str]) -> None:
        """Change a table atomically; what `lines` do not name stays. Raises as `save` does."""
        text = "\n".join([f"*{table}", *lines, "COMMIT", ""])
        await run_tool(f"{self.name}-restore", "--noflush", "-w", str(LOCK_WAIT_S), stdin=text)


def remedy(tool: str, complaint: str, text: str = "") -> str:
    """A tool's complaint, with the line that it is about, and the remedy."""
    said = " ".join(complaint.split()) or "no word of why"
    found = re.search(r"line:? (\d+)", complaint)
    lines = text.splitlines()
    line = f" at `{lines[int(found[1]) - 1]}`" if found and 0 < int(found[1]) <= len(lines) else ""
    helps = next((what for pattern, what in _REMEDIES if re.search(pattern, said, re.IGNORECASE)), "see dmesg")
    return f"{tool}: {said}{line}: {helps}"


async def run_tool(*command: str, stdin: str = "") -> str:
    """The output of a tool. Raises KernelRefused, and its kinds ToolMissing and ToolBusy."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError:
        raise ToolMissing(f"{command[0]}: not found") from None
    except OSError as error:  # not executable, of another architecture, no memory for a process
        why = errno.errorcode.get(error.errno or 0, str(error.errno))
        raise ToolMissing(f"{command[0]}: cannot be executed ({why})") from error
    TOOL_PIDS.append(process.pid)
    try:
        out, complaint = await asyncio.wait_for(process.communicate(stdin.encode()), TOOL_TIMEOUT_S)
    except BaseException as ended:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(ended, TimeoutError):
            raise ToolBusy(f"{command[0]}: no answer within {TOOL_TIMEOUT_S:.0f} s: is its lock held?") from None
        raise
    if process.returncode:
        said = complaint.decode(errors="replace")
        kind = ToolBusy if re.search(_LOCKED, said, re.IGNORECASE) else KernelRefused
        raise kind(remedy(command[0], said, stdin))
    return out.decode(errors="replace")
