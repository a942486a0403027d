"""Finds every mistake of a configuration file of any known format, each with its line."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

import msgspec

from lispmob.config.doubts import doubts, doubts_on
from lispmob.config.node import EXAMPLE_KEY, NodeFile
from lispmob.config.secrecy import advice
from lispmob.convert.conversion import convert, is_ours, parse_old
from lispmob.convert.showing import read_ours
from lispmob.errors import ConfigError
from lispmob.hub.config import HubFile
from lispmob.wire.address import IpAddress

_PLACE: Final = re.compile(r":(\d+):(?:(\d+):)? ")
_ANY_HOST: Final[IpAddress] = ip_address("192.0.2.1")  # stands for the answer of DNS: a check does not resolve names


class Finding(msgspec.Struct, frozen=True):
    """A remark about a line; line 0: about the whole file.

    A note is about something valid that is probably not intended.
    """

    line: int
    column: int
    kind: Literal["mistake", "note"]
    text: str


class Checked(msgspec.Struct, frozen=True):
    """The result of a check. `language`: ours, or the old format."""

    language: str
    findings: tuple[Finding, ...]

    @property
    def has_mistakes(self) -> bool:
        """True when the file has to be changed."""
        return any(finding.kind == "mistake" for finding in self.findings)


def check_file(path: Path, raw: bytes) -> Checked:
    """Check lispd.conf, hub.conf, or a file of LISPmob, Open Overlay Router or lispers.net."""
    return Checked("ours", tuple(_ours(path, raw))) if is_ours(raw) else _old(path, raw)


def _ours(path: Path, raw: bytes) -> Iterable[Finding]:
    try:
        file = read_ours(path, raw)
    except ConfigError as error:
        return [_placed(line, str(path)) for line in str(error).splitlines()]
    notes = _of_node(path, file) if isinstance(file, NodeFile) else _of_hub(path, file)
    return [Finding(0, 0, "note", text) for text in notes]


def _of_node(path: Path, file: NodeFile) -> Iterator[str]:
    """What is valid in lispd.conf, but probably not intended, on this host or on any host."""
    if any(server.key is not None for server in file.written_servers) and (text := advice(path)) is not None:
        yield text
    interfaces = {name for _, name in socket.if_nameindex()}
    yield from (problem.sentence for problem in (*doubts(file), *doubts_on(file, interfaces, {})))


def _of_hub(path: Path, file: HubFile) -> Iterator[str]:
    """What is valid in hub.conf, but probably not intended, or worth knowing."""
    keys = [key for site in file.sites for key in (site.key, *(more.key for more in site.more_keys))]
    if any(keys) and (text := advice(path)) is not None:
        yield text
    for site in file.sites:
        if any(secret.octets == EXAMPLE_KEY for secret, _ in site.secrets):
            yield f"site {site.name} has the key of the example, which is public: choose another"
        if site.strict_nonces is not True:
            who = "nodes that never count" if site.strict_nonces is None else "all nodes"
            yield f"site {site.name}: old registrations of {who} are accepted, so an attacker can replay them"


def _placed(line: str, name: str) -> Finding:
    """Parse a line of the reader's error text."""
    rest = line.removeprefix(name)
    found = _PLACE.match(rest)
    if found is None:
        return Finding(0, 0, "mistake", rest.removeprefix(": "))
    return Finding(int(found[1]), int(found[2] or 0), "mistake", rest[found.end() :])


def _old(path: Path, raw: bytes) -> Checked:
    """What cannot be read in an old file, and what is unsafe. A setting without a counterpart is no mistake."""

    def anywhere(_: str) -> list[IpAddress]:
        return [_ANY_HOST]

    def nowhere(_: IpAddress) -> str | None:
        return None

    try:
        language = parse_old(raw, str(path)).language
        done = convert(raw, str(path), resolve=anywhere, interface_of=nowhere, key_stem="unused", key_files={})
    except ConfigError as error:
        return Checked("unknown", tuple(_placed(line, str(path)) for line in str(error).splitlines()))
    found = [Finding(remark.line, 0, "mistake", remark.text) for remark in done.remarks if remark.kind != "note"]
    return Checked(language, tuple(found))
