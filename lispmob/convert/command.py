"""lispctl config: convert, check and show configuration files. It needs no daemon.

Exit codes: 0 done, 1 failed, 4 converted, but the user has to complete the result, 78 the file has mistakes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from argparse import Namespace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.convert.checking import check_file
from lispmob.convert.conversion import HUB, WHOSE, Converted, convert
from lispmob.convert.keys import write_secret
from lispmob.convert.report import Resolve
from lispmob.convert.showing import effective, read_ours
from lispmob.errors import ConfigError, LispError
from lispmob.hub.config import HubFile
from lispmob.terminal.text import plural
from lispmob.wire.address import IpAddress

EXIT_LEFT_TO_DO: Final = 4
EXIT_MISTAKES: Final = 78


class CannotConvert(LispError):
    """The requested conversion is impossible."""


def run_convert(arguments: Namespace) -> int:
    """Convert a file. The result goes to standard output, or into a file with key files next to it."""
    source, output = Path(arguments.file), None if arguments.output is None else Path(arguments.output)
    named = dict(_pair(text, "--address") for text in arguments.address)
    given = dict(_pair(text, "--key-file") for text in arguments.key_file)
    done = convert(
        _read(source),
        str(source),
        resolve=_resolver({name: _address(text) for name, text in named.items()}),
        interface_of=interface_of,
        key_stem=None if output is None else output.stem,
        key_files=given,
    )
    if output is not None:
        _write(done, output, may_replace=arguments.force)
    if arguments.json:
        print(json.dumps(_as_json(done, arguments), indent=2))
        return _verify(done, output) if done.is_complete else EXIT_LEFT_TO_DO
    if output is None:
        print(done.text, end="")
    for remark in done.remarks:
        if remark.kind != "note":
            print(f"{source}:{remark.line}: {remark.text}", file=sys.stderr)
    notes = sum(remark.kind == "note" for remark in done.remarks)
    if notes:
        print(f"{source}: what has no counterpart is listed in the result: {plural(notes, 'comment')}", file=sys.stderr)
    return _verify(done, output) if done.is_complete else EXIT_LEFT_TO_DO


def _as_json(done: Converted, arguments: Namespace) -> dict[str, object]:
    """The result for programs. No text in it contains a key."""
    remarks = [{"line": remark.line, "kind": remark.kind, "text": remark.text} for remark in done.remarks]
    return {
        "v": 1,
        "file": arguments.file,
        "output": arguments.output,
        "is_for": done.kind,
        "is_complete": done.is_complete,
        "text": done.text,
        "key_files": [str(key_file.path) for key_file in done.key_files],
        "remarks": remarks,
    }


def _verify(done: Converted, output: Path | None) -> int:
    """Check the written file with the daemon's own reader."""
    if output is None:
        return 0
    try:
        read_bytes(done.text.encode(), str(output), HubFile if done.kind == HUB else NodeFile, directory=output.parent)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_LEFT_TO_DO
    print(f"{output}: good; as {done.kind} it belongs into /etc/lispmob", file=sys.stderr)
    return 0


def run_check(arguments: Namespace) -> int:
    """Print every mistake of a file, with its line."""
    found = check_file(Path(arguments.file), _read(Path(arguments.file)))
    if arguments.json:
        listed = [
            {"line": finding.line, "column": finding.column, "kind": finding.kind, "text": finding.text}
            for finding in found.findings
        ]
        print(json.dumps({"v": 1, "file": arguments.file, "language": found.language, "findings": listed}, indent=2))
    else:
        for finding in found.findings:
            place = (
                f"{arguments.file}:{finding.line}" + (f":{finding.column}" if finding.column else "")
                if finding.line
                else arguments.file
            )
            note = "note: " if finding.kind == "note" else ""
            print(f"{place}: {note}{finding.text}", file=sys.stderr)
        if not found.has_mistakes:
            print(f"{arguments.file}: good" + (f" ({WHOSE[found.language]})" if found.language in WHOSE else ""))
    return EXIT_MISTAKES if found.has_mistakes else 0


def run_show(arguments: Namespace) -> int:
    """Print the configuration as it takes effect: with defaults, without keys."""
    path = Path(arguments.file)
    text, tree = effective(read_ours(path, _read(path)))
    print(json.dumps({"v": 1, "file": arguments.file, "configuration": tree}, indent=2) if arguments.json else text)
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise CannotConvert(f"{path}: cannot read the file: {getattr(error, 'strerror', None) or error}") from None


def _write(done: Converted, output: Path, *, may_replace: bool) -> None:
    """Write the file and its key files. Existing files are replaced only if `may_replace`."""
    # The newline at the end is not part of a key; editors expect it.
    files = [
        (output.parent / key_file.path, key_file.octets + b"\n")
        for key_file in done.key_files
        if key_file.octets is not None
    ]
    files.append((output, done.text.encode()))
    there = [path for path, _ in files if os.path.lexists(path)]
    if there and not may_replace:
        raise CannotConvert(f"{there[0]} is there already; --force replaces it")
    for path, octets in files:
        try:
            write_secret(path, octets, may_replace=may_replace)
        except OSError as error:
            raise CannotConvert(f"cannot write {path}: {error.strerror}") from None


def _pair(text: str, option: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise CannotConvert(f"{option} {text}: NAME=VALUE is expected")
    return name, value


def _address(text: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise CannotConvert(f"--address: {text} is no address") from None


def _resolver(given: dict[str, IpAddress]) -> Resolve:
    """A resolver that uses the given addresses first, and then DNS."""

    def resolve(name: str) -> list[IpAddress]:
        if name in given:
            return [given[name]]
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return []
        return [ip_address(str(answer[4][0]).partition("%")[0]) for answer in found]

    return resolve


def interface_of(address: IpAddress) -> str | None:
    """The interface of this host that has the address."""
    try:
        done = subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True, timeout=5, check=True)
        links = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    wanted = str(address)
    having = (link for link in links if any(entry.get("local") == wanted for entry in link.get("addr_info", ())))
    return next((link["ifname"] for link in having), None)
