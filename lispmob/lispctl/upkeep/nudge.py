"""lispctl nudge: report that the network may have changed."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show


def run(client: Client, arguments: Namespace) -> int:
    """Make lispd check its uplinks; any user may."""
    return show(client.call("nudge"), arguments, nudge_lines)


def nudge_lines(done: dict[str, Any]) -> list[str]:
    """What lispd did, for people."""
    return ["lispd looked at the network" if done["is_now"] else "lispd looks at the network within a second"]


COMMAND = Command("nudge", "make lispd check the network now; for scripts, where nothing else reports changes", run)
