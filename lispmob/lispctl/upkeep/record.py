"""lispctl record: the inputs of lispd's core since its start, as a file for `lispctl replay`."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace

from lispmob.api.client import Client
from lispmob.errors import LispError
from lispmob.lispctl.command import Command
from lispmob.terminal.text import plural


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("-o", "--output", metavar="FILE", help="the file (default: lispmob-TIME.recording)")
    parser.epilog = "lispd keeps it with `log: {record: yes}` in lispd.conf. No keys are in it, but addresses are."


def run(client: Client, arguments: Namespace) -> int:
    """Write the file, and print its path."""
    import os
    from base64 import b64decode

    found = client.call("recording")
    path = arguments.output or time.strftime("lispmob-%Y%m%dT%H%M%SZ.recording", time.gmtime())
    try:
        # never overwrite a file; only the owner may read it
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            for chunk in found["entries"]:
                file.write(b64decode(chunk["octets"]))
    except OSError as error:
        raise LispError(f"{path}: {error.strerror}") from None
    told = {"path": path, "inputs": max(0, found["lines"] - 1), "is_full": found["is_full"]}
    if arguments.json:
        print(json.dumps(told, indent=2))
        return 0
    print(f"wrote {path}: {plural(told['inputs'], 'input')} since lispd started; no keys are in it, but addresses are")
    if told["is_full"]:
        print("  its end is missing: it had come to its limit")
    return 0


COMMAND = Command("record", "write the inputs of lispd's core since its start into a file", run, add_arguments)
