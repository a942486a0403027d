"""A mapping distribution protocol in a flat file: the only mapping system of a node, for all that it knows.

    flat_file_mapping.py FILE [--socket PATH]

Each line of FILE is an EID-Prefix and its RLOCs, each with priority and weight where they are not 1 and 100:

    10.1.0.2/32       203.0.113.5  2001:db8::5,2,50
    10.9.0.0/16       native              # without LISP; or: drop

lispd has `map-cache: {program: yes}` in its configuration, and then needs no Map-Server. When packets miss a mapping,
lispd asks; this program looks in the file and answers. What the file does not have is refused for half a minute. A file
that changes is read again within a second, and what lispd uses of it changes, too.
"""

from __future__ import annotations

import argparse
import sys
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from lispmob import mapping
from lispmob.mapping import Event, Locator, Mapping, MappingError, Mappings, NoDaemon

LOOK_S = 1.0  # how often the file is looked at
NOBODY_S = 30.0  # how long what the file does not have is refused
Network = IPv4Network | IPv6Network


class BadLine(Exception):
    """A line of the file that cannot be read."""


class FlatFile:
    """The file, as it was when it was read last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._lines: dict[Network, tuple[tuple[Locator, ...], str]] = {}

    def has_changed(self) -> bool:
        """Read it again if it has. Raises BadLine and OSError, and keeps what it was."""
        found = self._path.stat()
        seen = found.st_mtime_ns, found.st_size
        if seen == self._seen:
            return False
        self._seen = seen
        self._lines = dict(self._read())
        return True

    def _read(self) -> list[tuple[Network, tuple[tuple[Locator, ...], str]]]:
        made = []
        for number, line in enumerate(self._path.read_text().splitlines(), 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            try:
                action = words[1] if words[1:] in (["native"], ["drop"]) else "drop"
                rlocs = () if words[1:] == [action] else tuple(map(_locator, words[1:]))
                made.append((ip_network(words[0]), (rlocs, action)))
            except (ValueError, IndexError) as error:
                raise BadLine(f"{self._path}:{number}: {error}") from None
        return made

    def find(self, eid: str) -> tuple[Network, tuple[Locator, ...], str] | None:
        """The narrowest line that holds an address or a prefix."""
        wanted = ip_network(eid)
        fitting = [line for line in self._lines if line.version == wanted.version and _holds(line, wanted)]
        best = max(fitting, key=lambda one: one.prefixlen, default=None)
        return None if best is None else (best, *self._lines[best])


def _holds(wide: Network, narrow: Network) -> bool:
    return wide.prefixlen <= narrow.prefixlen and narrow.network_address in wide


def _locator(word: str) -> Locator:
    address, *numbers = word.split(",")
    priority, weight = (*map(int, numbers), *(1, 100)[len(numbers) :])
    return Locator(address, priority, weight)


def answer(mappings: Mappings, file: FlatFile, eid: str) -> None:
    """Say where an EID is."""
    found = file.find(eid)
    try:
        if found is None:
            mappings.put(eid, action="drop", ttl_s=NOBODY_S)
            print(f"{eid}: the file does not have it", flush=True)
        else:
            prefix, rlocs, action = found
            mappings.put(str(prefix), rlocs, action=action)
            print(f"{eid}: {prefix} {' '.join(rloc.address for rloc in rlocs) or action}", flush=True)
    except MappingError as error:  # an invalid RLOC, or a static mapping of another program in its place
        print(f"{eid}: lispd refuses it: {error}", file=sys.stderr, flush=True)


def agree(mappings: Mappings, file: FlatFile, known: list[Mapping]) -> None:
    """Have what lispd has of us say what the file says now."""
    for held in known:
        if held.source != "program":
            continue
        found = file.find(held.prefix)
        if found is None or str(found[0]) != held.prefix:
            mappings.delete(held.prefix)  # packets ask again
        elif (found[1], found[2] if not found[1] else "encapsulate") != (held.locators, held.action):
            answer(mappings, file, held.prefix)


def take(mappings: Mappings, file: FlatFile, event: Event) -> None:
    """Do what an event asks for."""
    match event.type:
        case "miss":
            if not event.instance_id:  # the file is about the default instance
                answer(mappings, file, event.eid)
        case "badreach" | "reach":  # lispd itself leaves out what does not answer
            print(f"{event.rloc}: {event.type}", flush=True)
        case "lost":
            agree(mappings, file, mappings.dump())  # what was missed of it is asked again within a second


def serve(mappings: Mappings, file: FlatFile) -> None:
    """Answer until lispd ends."""
    known = mappings.follow("miss", "badreach", "reach", dump=True, echo=False)
    while True:
        try:
            if file.has_changed():
                agree(mappings, file, known or mappings.dump())
        except (BadLine, OSError) as error:
            print(error, file=sys.stderr, flush=True)
        known = []
        event = mappings.next_event(LOOK_S)
        if event is not None:
            take(mappings, file, event)


def main() -> int:
    """Serve; 3 when there is no lispd."""
    parser = argparse.ArgumentParser(description="The mappings of a flat file, for lispd.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--socket", default=mapping.DEFAULT_SOCKET, metavar="PATH")
    given = parser.parse_args()
    try:
        with mapping.connect(given.socket) as mappings:
            serve(mappings, FlatFile(given.file))
    except NoDaemon as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
