"""lispctl version: of the running daemon."""

from __future__ import annotations

from argparse import Namespace

from lispmob.api.cli.command import Command, show
from lispmob.api.cli.text import clean
from lispmob.api.client import Client


def run(client: Client, arguments: Namespace) -> int:
    """Print the version."""
    found = client.call("version")
    return show(found, arguments, lambda v: [f"lispd {clean(v['version'])}, control socket version {v['api']}"])


COMMAND = Command("version", "show the version of the running lispd", run)
