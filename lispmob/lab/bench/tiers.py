"""Which tiers of the datapath can be measured here, and the line of lispd.conf that chooses one."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lispmob.errors import LispError
from lispmob.lab.demo.service import Node
from lispmob.lab.process import module

TIERS: Final = ("tun", "ebpf")


class TierUnavailable(LispError):
    """A tier does not run here; the text is the reason."""


def chosen(tier: str) -> str:
    """What lispd.conf says for a tier. Raises TierUnavailable where lispd has no such tier."""
    if _has_switch():
        return f"datapath: {{tier: {tier}}}\n"
    if tier == TIERS[0]:
        return ""
    raise TierUnavailable(f"this lispd has the {TIERS[0]} tier only")


def require(node: Node, tier: str) -> None:
    """Raise TierUnavailable when the node moves packets by another tier; its own words are the reason."""
    status = node.lispctl("status")
    if status is None:
        raise TierUnavailable(f"lispd does not answer\n{node.daemon.log_tail()}")
    used = status["datapath"]
    if used["tier"] != tier:
        raise TierUnavailable(f"lispd uses the {used['tier']} tier: {used['why']}")


@functools.cache
def _has_switch() -> bool:
    """Asked of lispd itself, as a user would: it refuses a key that it does not know."""
    with tempfile.TemporaryDirectory(prefix="lispmob-bench-") as directory:
        path = Path(directory) / "lispd.conf"
        path.write_text(f'eids: ["10.1.0.1/32"]\nmap-servers: []\ndatapath: {{tier: {TIERS[0]}}}\n', encoding="utf-8")
        line = module("lispmob", "--check", "-c", str(path))
        return subprocess.run(line, capture_output=True, check=False, timeout=30).returncode == 0
