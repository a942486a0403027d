"""lispctl bugreport: an archive of the data needed to find a fault."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from typing import Any, Final

from lispmob.api.client import Client, ReplyError
from lispmob.errors import LispError
from lispmob.lispctl.command import Command

VIEWS: Final = (
    "version", "status", "uplinks", "paths", "netcheck", "database", "mapstat", "handovers", "counters", "log-level",
    "configuration",
)  # fmt: skip
COMMANDS: Final = {
    "kernel/release.txt": ("uname", "-a"),
    "kernel/addresses.txt": ("ip", "-d", "-s", "address", "show"),
    "kernel/rules4.txt": ("ip", "-4", "rule", "show"),
    "kernel/rules6.txt": ("ip", "-6", "rule", "show"),
    "kernel/routes4.txt": ("ip", "-4", "route", "show", "table", "all"),
    "kernel/routes6.txt": ("ip", "-6", "route", "show", "table", "all"),
    "kernel/neighbours.txt": ("ip", "neighbour", "show"),
    "kernel/tc.txt": ("tc", "-s", "qdisc", "show"),
    "kernel/sockets.txt": ("ss", "-lunp"),
    "kernel/nft.txt": ("nft", "list", "ruleset"),
    "kernel/iptables.txt": ("iptables-save", "-c"),
    "kernel/ip6tables.txt": ("ip6tables-save", "-c"),
    "journal.txt": ("journalctl", "--no-pager", "-o", "short-precise", "-n", "5000", "-u", "lispd"),
}
FILES: Final = {
    "kernel/snmp.txt": "/proc/net/snmp",
    "kernel/snmp6.txt": "/proc/net/snmp6",
    "kernel/netstat.txt": "/proc/net/netstat",
    "kernel/softnet.txt": "/proc/net/softnet_stat",
    "os-release.txt": "/etc/os-release",
}
COMMAND_S: Final = 10.0  # ours: a longer command is ended
PART_MAX: Final = 8 << 20  # ours: octets of one part; of a longer one the end is kept
READ_ME: Final = """\
What a node of lispmob was like at {at}. Made by `lispctl bugreport`.

No keys are in here. Addresses, host and interface names, firewall rules and the journal of lispd are: read before you
pass it on. A part that could not be had says why in its place.
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("-o", "--output", metavar="FILE", help="the archive (default: lispmob-bugreport-TIME.tar.gz)")


def run(client: Client, arguments: Namespace) -> int:
    """Write the archive, and print its path."""
    client.call("version")  # check that lispd answers: otherwise that is all there is to report
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = arguments.output or f"lispmob-bugreport-{stamp}.tar.gz"
    missing = write(path, f"lispmob-bugreport-{stamp}", parts(client, stamp))
    if arguments.json:
        print(json.dumps({"path": path, "missing": missing}, indent=2))
        return 0
    print(f"wrote {path}; it has no keys in it, but addresses and firewall rules: look before you pass it on")
    for name, why in missing.items():
        print(f"  without {name}: {why}")
    return 0


def parts(client: Client, stamp: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each part: its name, and a function for its text, which raises OSError or LispError when there is none."""
    yield "README.txt", lambda: READ_ME.format(at=stamp)
    for method in VIEWS:
        yield f"lispd/{method}.json", lambda method=method: _as_json(client.call(method))  # type: ignore[misc]
    yield "lispd/events.json", lambda: _as_json(client.call("events", recent=256))
    for name, command in COMMANDS.items():
        yield name, lambda command=command: output_of(command)  # type: ignore[misc]
    for name, path in FILES.items():
        yield name, lambda path=path: _text_of(path)  # type: ignore[misc]


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1)


def output_of(command: tuple[str, ...]) -> str:
    """The output of a command, errors included. Raises OSError when it does not exist or hangs."""
    import subprocess

    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_S, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} does not end within {COMMAND_S:.0f} s") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        text += f"\n[exit code {done.returncode}] {done.stderr.decode(errors='replace')}"
    return text


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path: str, root: str, found: Iterator[tuple[str, Callable[[], str]]]) -> dict[str, str]:
    """Write the archive, readable by its owner only; returns the missing parts with the reasons. Raises LispError."""
    import io
    import os
    import tarfile

    missing: dict[str, str] = {}
    try:
        # never overwrite a file: it may be a link that another user put in a shared directory
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, make in found:
                try:
                    text = make()
                except (OSError, LispError) as error:
                    text = missing[name] = _why(error)
                octets = text.encode(errors="replace")[-PART_MAX:]
                entry = tarfile.TarInfo(f"{root}/{name}")
                entry.size, entry.mtime, entry.mode = len(octets), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(octets))
    except OSError as error:
        raise LispError(f"{path}: {error.strerror or error}") from None
    return missing


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no {error.filename}"
    if isinstance(error, ReplyError):
        return str(error)
    return str(getattr(error, "strerror", None) or error)


COMMAND = Command("bugreport", "write an archive for a bug report, without secrets", run, add_arguments)
