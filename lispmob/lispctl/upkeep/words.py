"""lispctl words: the uplinks, or the names and EIDs of peers, one on each line, for the completion of shells.

A shell expands such words again (compgen -W in bash), and some come from the network: words with characters other than
those of names and addresses are left out.
"""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from typing import Any, Final

from lispmob.api.client import Client
from lispmob.lispctl.command import Command, show
from lispmob.lispctl.show.peers import bare

KINDS: Final = ("uplinks", "peers")
MOST: Final = 500  # ours: more completions are of no use
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]{0,254}")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("kind", choices=KINDS, help="what is completed")


def run(client: Client, arguments: Namespace) -> int:
    """Print the words."""
    if arguments.kind == "uplinks":
        found = [uplink["name"] for uplink in client.call("uplinks")]
    else:
        names = [entry["name"] for entry in client.call("names")["entries"] if entry["eids"]]
        peers = client.call("peers")["entries"]
        found = [*names, *(peer["name"] for peer in peers), *(bare(peer["eid"]) for peer in peers)]
    return show(safe(found), arguments, lambda words: words)


def safe(words: list[Any]) -> list[str]:
    """The words that are safe for a shell, without duplicates."""
    fitting = (word for word in words if isinstance(word, str) and _WORD.fullmatch(word) is not None)
    return list(dict.fromkeys(fitting))[:MOST]


COMMAND = Command("words", "print uplinks or peers, for shell completion", run, add_arguments)
