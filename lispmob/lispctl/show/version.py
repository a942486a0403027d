"""lispctl version: of the running daemon."""

from __future__ import annotations

from argparse import Namespace

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.terminal.text import clean


def run(client: Client, arguments: Namespace) -> int:
    """Print the version."""
    found = client.call("version")
    return show(found, arguments, lambda v: [f"lispd {clean(v['version'])}, control socket version {v['api']}"])


COMMAND = Command("version", "show the version of the running lispd", run)
