"""Resolves servers that lispd.conf names by host name: with the C library, each query in a thread.

The library uses hosts files, DNS, mDNS and whatever the host is set up for. It blocks, for half a minute if nothing
answers. The threads are daemons, so a stop of lispd does not wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from random import random
from typing import Final

from lispmob.config.node import NodeFile
from lispmob.config.server_names import is_server, names_of, with_addresses
from lispmob.config.values import HostName
from lispmob.control.server_addresses import AskName, ServerAddresses
from lispmob.lispd.alarm import Alarm
from lispmob.problems.evidence import NameEvidence
from lispmob.protocol.effect import Event
from lispmob.wire.address import IpAddress

RESOLVER_FILES: Final = tuple(
    map(
        Path,
        (
            "/etc/resolv.conf",
            "/run/systemd/resolve/resolv.conf",
            "/run/NetworkManager/no-stub-resolv.conf",
        ),
    )
)
"""The nameservers; behind a local resolver, the servers that it asks."""
RESOLVERS_MAX: Final = 8  # ours: the C library reads three

_WHY: Final[dict[int, str]] = {
    socket.EAI_NONAME: "there is no such name, or no DNS server is set up",
    socket.EAI_AGAIN: "no DNS server answers",
    socket.EAI_FAIL: "the DNS server refuses to answer",
    getattr(socket, "EAI_NODATA", -5): "the name has no address",
}

log = logging.getLogger("lispd")


class Resolving:
    """`on_change` is called when servers have other addresses, `on_problems` when a name was resolved or not."""

    def __init__(self, file: NodeFile, *, on_change: Callable[[], None], on_problems: Callable[[], None]) -> None:
        self._written = file
        self._on_change = on_change
        self._on_problems = on_problems
        self._names = ServerAddresses(jitter=random)
        self._alarm = Alarm(self._on_time)
        self._is_open = False

    @property
    def evidence(self) -> tuple[NameEvidence, ...]:
        """The names that cannot be resolved."""
        roles = names_of(self._written)
        return tuple(
            NameEvidence(
                failure.name, roles.get(failure.name, "Map-Server"), failure.why, has_addresses=failure.has_addresses
            )
            for failure in self._names.failures(self._now())
        )

    @property
    def is_waiting(self) -> bool:
        """True while a Map-Server has no address yet."""
        return any(
            isinstance(written_server.place, HostName) for written_server in self.onto(self._written).written_servers
        )

    def name_of(self, server: IpAddress) -> str:
        """The host name of a server; empty if it is configured by address."""
        return next((name for name, addresses in self._names.answers.items() if server in addresses), "")

    def nameservers(self) -> tuple[IpAddress, ...]:
        """The nameservers outside of this machine; none if the configuration has no names."""
        return nameservers() if names_of(self._written) else ()

    def onto(self, file: NodeFile) -> NodeFile:
        """A configuration with the present addresses."""
        return with_addresses(file, self._written, self._names.answers)

    def start(self) -> None:
        """Start resolving."""
        self._is_open = True
        self._ask_all()

    def stop(self) -> None:
        """Stop resolving."""
        self._is_open = False
        self._alarm.cancel()

    def use(self, file: NodeFile) -> NodeFile:
        """The configuration was reloaded; returns it with the present addresses."""
        self._written = file
        self._ask_all()
        return self.onto(file)

    def on_uplinks(self) -> None:
        """The uplinks have changed."""
        self._ask(self._names.on_uplinks(self._now()))

    def on_event(self, event: Event) -> None:
        """An event of the core."""
        if event.kind not in ("register-timeout", "registered") or not self._names.answers:
            return
        server = ip_address(str(event.fields["map_server"]))
        if event.kind == "register-timeout":
            self._ask(self._names.on_unanswered(server, self._now()))
        elif self._names.on_registered(server):
            asyncio.get_running_loop().call_soon(self._on_change)

    def _ask_all(self) -> None:
        roles = names_of(self._written)
        servers = {name for name, role in roles.items() if role == "Map-Server"}
        self._ask(self._names.on_names(roles, self._now(), servers))

    def _on_time(self) -> None:
        self._ask(self._names.on_timer(self._now()))

    def _ask(self, questions: Iterable[AskName]) -> None:
        for question in questions:
            ask_in_thread(question, self._on_answer)
        self._alarm.set(self._names.wake_at() if self._is_open else None)

    def _on_answer(self, question: AskName, addresses: tuple[IpAddress, ...], why_none: str) -> None:
        if not self._is_open:
            return
        before = self._names.failures(self._now())
        if self._names.on_answer(question.number, addresses, why_none, self._now()):
            log.info("name %s is %s", question.name, ", ".join(map(str, self._names.answers[question.name])))
            self._on_change()
        if self._names.failures(self._now()) != before:
            self._on_problems()
        self._alarm.set(self._names.wake_at())

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


_Answered = Callable[[tuple[IpAddress, ...], str], None]


def ask_in_thread(question: AskName, done: Callable[[AskName, tuple[IpAddress, ...], str], None]) -> None:
    """Look the name up without waiting; `done` is called by the running loop, with what `look_up` returns."""
    arguments = question.name, asyncio.get_running_loop(), partial(done, question)
    threading.Thread(target=_look_up, args=arguments, name="resolver", daemon=True).start()


def _look_up(name: str, loop: asyncio.AbstractEventLoop, done: _Answered) -> None:
    addresses, why_none = look_up(name)
    with contextlib.suppress(RuntimeError):  # lispd has stopped meanwhile
        loop.call_soon_threadsafe(done, addresses, why_none)


def look_up(name: str) -> tuple[tuple[IpAddress, ...], str]:
    """The addresses of a server, or none and why. Blocks."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        return (), _WHY.get(error.errno or 0, str(error.strerror))
    except (OSError, UnicodeError) as error:
        return (), str(error)
    texts = dict.fromkeys(str(entry[4][0]) for entry in found)
    addresses = tuple(
        address for address in (ip_address(text.partition("%")[0]) for text in texts) if is_server(address)
    )
    return addresses, "" if addresses else "its addresses are of kinds that no server has"


def nameservers(files: Iterable[Path] = RESOLVER_FILES) -> tuple[IpAddress, ...]:
    """The nameservers that this machine uses."""
    for path in files:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        words = (line.split() for line in lines[:100])
        named = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
        remote = [server for server in map(_address, named) if server is not None and not server.is_loopback]
        if remote:
            return tuple(dict.fromkeys(remote))[:RESOLVERS_MAX]
    return ()


def _address(text: str) -> IpAddress | None:
    """None if it is invalid, or valid on one link only."""
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return None if found.is_link_local or found.is_unspecified else found
