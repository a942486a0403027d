"""The tiers of the datapath, the line of lispd.conf that selects one, and a check that a node uses it."""

from __future__ import annotations

import time
from typing import Final

from lispmob.errors import LispError
from lispmob.lab.demo_service import Json, Node

_PATIENCE_S: Final = 5.0


class TierUnavailable(LispError):
    """A tier cannot run here; the text is the reason."""


def chosen(tier: str) -> str:
    """The line of lispd.conf that selects a tier."""
    return f"datapath: {{tier: {tier}}}\n"


def require(node: Node, tier: str) -> None:
    """Raise TierUnavailable when the node uses another tier, with the node's reason.

    The tun tier is in use from the start, until the programs of the ebpf tier are loaded.
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
