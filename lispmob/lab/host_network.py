"""Lists the network configuration of the host, before and after a run, to show whether anything was left behind."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
from typing import Final

_LISTINGS: Final = (
    "ip -details link show",
    "ip address show",
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip -4 rule show",
    "ip -6 rule show",
    "iptables-save",
    "ip6tables-save",
    "nft list ruleset",
)

# Parts that change by themselves: lifetimes, counters, and the time that iptables-save prints.
_VOLATILE: Final = (
    (re.compile(r"\b(valid_lft|preferred_lft|expires) \d+sec"), r"\1"),
    (re.compile(r"\[\d+:\d+\]"), "[counters]"),
    (re.compile(r"packets \d+ bytes \d+"), "counters"),
    (re.compile(r"^# (Generated|Completed).*$", re.MULTILINE), ""),
    (re.compile(r"\b(used|age) \d+(\.\d+)?(sec)?"), r"\1"),
)


def listing() -> str:
    """Links, addresses, routes, rules and filters of this namespace; without those that no installed tool can list."""
    parts = []
    for command in _LISTINGS:
        words = command.split()
        if shutil.which(words[0]) is None:
            continue
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
        parts.append(f"$ {command}\n{settled(done.stdout)}")
    return "\n".join(parts)


def settled(text: str) -> str:
    """A listing without the parts that change by themselves."""
    for pattern, constant in _VOLATILE:
        text = pattern.sub(constant, text)
    return text


def difference(before: str, after: str) -> str:
    """The lines that were added (+) and removed (-); empty without a change."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=0)
    return "\n".join(lines)
