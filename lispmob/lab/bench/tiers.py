"""Which tiers of the datapath can be measured here, and the line of lispd.conf that chooses one."""

from __future__ import annotations

import time
from typing import Final

from lispmob.errors import LispError
from lispmob.lab.demo_service import Json, Node

_PATIENCE_S: Final = 5.0


class TierUnavailable(LispError):
    """A tier does not run here; the text is the reason."""


def chosen(tier: str) -> str:
    """What lispd.conf says for a tier."""
    return f"datapath: {{tier: {tier}}}\n"


def require(node: Node, tier: str) -> None:
    """Raise TierUnavailable when the node moves packets by another tier; its own words are the reason.

    The tun tier moves them from the start on, and the programs of the other are loaded meanwhile.
    """
    deadline = time.monotonic() + _PATIENCE_S
    if tier == "auto":
        return
    while (used := _used(node))["tier"] != tier:
        if time.monotonic() > deadline:
            raise TierUnavailable(f"lispd uses the {used['tier']} tier: {used['why']}")
        time.sleep(0.1)


def _used(node: Node) -> Json:
    status = node.lispctl("status")
    if status is None:
        raise TierUnavailable(f"lispd does not answer\n{node.daemon.log_tail()}")
    used: Json = status["datapath"]
    return used
