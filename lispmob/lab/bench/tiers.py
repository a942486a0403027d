"""Which tiers of the datapath can be measured here, and the line of lispd.conf that chooses one."""

from __future__ import annotations

from typing import Final

from lispmob.errors import LispError
from lispmob.lab.demo.service import Node

TIERS: Final = ("tun", "ebpf")


class TierUnavailable(LispError):
    """A tier does not run here; the text is the reason."""


def chosen(tier: str) -> str:
    """What lispd.conf says for a tier."""
    return f"datapath: {{tier: {tier}}}\n"


def require(node: Node, tier: str) -> None:
    """Raise TierUnavailable when the node moves packets by another tier; its own words are the reason."""
    status = node.lispctl("status")
    if status is None:
        raise TierUnavailable(f"lispd does not answer\n{node.daemon.log_tail()}")
    used = status["datapath"]
    if used["tier"] != tier:
        raise TierUnavailable(f"lispd uses the {used['tier']} tier: {used['why']}")
