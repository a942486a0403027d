"""lispctl reload: read the configuration again."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean


def run(client: Client, arguments: Namespace) -> int:
    """Reload, and print what changed."""
    return show(client.call("reload"), arguments, reload_lines)


def reload_lines(done: dict[str, Any]) -> list[str]:
    """What changed, for people."""
    if not done["changed"]:
        return ["reloaded: nothing changed"]
    lines = [f"reloaded: {', '.join(clean(key) for key in done['changed'])}"]
    if done["needs_restart"]:
        lines.append(f"takes effect after a restart of lispd: {', '.join(clean(k) for k in done['needs_restart'])}")
    return lines


COMMAND = Command("reload", "make lispd read its configuration again; connections stay", run)
