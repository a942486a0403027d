"""The sockets of `lig`: ordinary UDP, one for each address from which resolvers are queried, all with the same port.

The answer may come from any address (an ETR, an RTR), so no socket is connected. It comes to the port from which the
question was sent, so lig needs no raw socket, no root privileges, and none of lispd's ports.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import EADDRINUSE
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import msgspec

from lispmob.closing import Closing
from lispmob.control_port.icmp_errors import enable, read_errors
from lispmob.errors import LispError
from lispmob.tools.question import Asked, Lookup, Reason, ReasonKind, on_datagram
from lispmob.wire.address import IpAddress
from lispmob.wire.header import CONTROL_PORT

DATAGRAM_LIMIT: Final = 65535
PORT_TRIES: Final = 16  # ours: attempts to find a port that is free on all our addresses
LOOKUP_LIMIT: Final = 256  # ours: concurrent questions
# Destinations for route lookups of each family. Nothing is ever sent there (RFC 5737, RFC 3849).
_ANYWHERE: Final[dict[int, IpAddress]] = {4: IPv4Address("192.0.2.1"), 6: IPv6Address("2001:db8::1")}
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_ICMP: Final = {
    "port": "the port is closed",
    "host": "there is no way to it",
    "prohibited": "a firewall on the way forbids it",
    "refused-here": "this host's own firewall forbids it",
}


class NoWay(LispError):
    """This host has no address from which it can reach the resolver."""

    def __init__(self, kind: ReasonKind, text: str) -> None:
        super().__init__(text)
        self.reason = Reason(kind, text)


class Question(msgspec.Struct, frozen=True):
    """A question that can be asked. It is sent from the first of `itr_rlocs`, and names them all."""

    asked: Asked
    resolver: IpAddress
    itr_rlocs: tuple[IpAddress, ...]


class Unasked(msgspec.Struct, frozen=True):
    """A question that cannot be asked from this host."""

    asked: Asked
    resolver: IpAddress
    reason: Reason


def source_towards(destination: IpAddress, avoided: frozenset[IpAddress], instead: Iterable[IpAddress]) -> IpAddress:
    """The source address that the kernel would choose. Raises NoWay.

    `avoided` are our EIDs: lispd sends packets from them into the overlay, and answers about the overlay must not
    depend on it. If the kernel chooses an EID, the result is the first address of `instead` with the same family.
    """
    with socket.socket(_FAMILY[destination.version], socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(destination), CONTROL_PORT))
            found = ip_address(probe.getsockname()[0].partition("%")[0])
        except OSError as error:
            if has_way(destination.version):
                raise NoWay("no-route", f"no way to {destination} from here: {error.strerror}") from None
            why = f"{destination} is of the wrong family: this host has no IPv{destination.version}"
            raise NoWay("wrong-family", why) from None
    if found in avoided:
        return next((address for address in instead if address.version == found.version), found)
    return found


def has_way(version: int) -> bool:
    """True when this host has a default route and an address of the family."""
    with socket.socket(_FAMILY[version], socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect((str(_ANYWHERE[version]), CONTROL_PORT))
        return True
    return False


def other_family(source: IpAddress, avoided: frozenset[IpAddress], instead: Iterable[IpAddress]) -> IpAddress | None:
    """Our address of the other family, for an ETR that lacks `source`'s family; None without one."""
    try:
        found = source_towards(_ANYWHERE[10 - source.version], avoided, instead)
        if found.is_loopback or found.is_link_local or found in avoided:
            return None
        with socket.socket(_FAMILY[found.version], socket.SOCK_DGRAM) as trial:
            trial.bind((str(found), 0))  # fails while duplicate address detection is running (RFC 4862)
    except (NoWay, OSError):
        return None
    return found


class Sockets(Closing):
    """A socket for each address, all bound to the same port. A context manager."""

    def __init__(self, addresses: Iterable[IpAddress], port: int = 0) -> None:
        """Raises OSError when an address does not belong to this host, or the port is taken."""
        self._by_address: dict[IpAddress, socket.socket] = {}
        wanted = list(dict.fromkeys(addresses))
        for attempt in range(PORT_TRIES):
            try:
                self._bind(wanted, port)
            except OSError as error:
                self.close()
                if port or error.errno != EADDRINUSE or attempt == PORT_TRIES - 1:
                    raise
            else:
                break
        self.port: int = next(iter(self._by_address.values())).getsockname()[1]

    def _bind(self, addresses: list[IpAddress], port: int) -> None:
        for address in addresses:
            one = socket.socket(_FAMILY[address.version], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._by_address[address] = one
            if address.version == 6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            enable(one, address.version)
            one.bind((str(address), port))
            port = one.getsockname()[1]

    def close(self) -> None:
        """Close all sockets. Idempotent."""
        for sock in self._by_address.values():
            sock.close()
        self._by_address = {}

    def send(self, lookup: Lookup, datagram: bytes) -> None:
        """Send a question. An error of the kernel goes to the lookup."""
        one = self._by_address[lookup.asker.itr_rlocs[0]]
        for _ in range(2):  # a pending ICMP error makes one call fail, and is cleared by it
            try:
                one.sendto(datagram, (str(lookup.resolver), CONTROL_PORT))
            except OSError as error:
                why = f"this host cannot send to {lookup.resolver}: {os.strerror(error.errno or 0)}"
            else:
                return
        lookup.on_refused(why)

    def wait(self, timeout_s: float) -> list[tuple[IpAddress, socket.socket]]:
        """The sockets that have something to read, after at most `timeout_s`."""
        poll = select.poll()
        by_number = {one.fileno(): (address, one) for address, one in self._by_address.items()}
        for number in by_number:
            poll.register(number, select.POLLIN)
        return [by_number[number] for number, _ in poll.poll(max(0.0, timeout_s) * 1000)]


def ask_all(
    lookups: list[Lookup], sockets: Sockets, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Lookup]:
    """Ask all questions at once; yields each lookup as soon as it is over."""
    waiting = list(lookups)
    while waiting:
        for lookup in waiting:
            if (datagram := lookup.on_timer(clock())) is not None:
                sockets.send(lookup, datagram)
        over = [lookup for lookup in waiting if lookup.is_over]
        yield from over
        waiting = [lookup for lookup in waiting if not lookup.is_over]
        if waiting and not over:
            due = min(at for lookup in waiting if (at := lookup.wake_at()) is not None)
            for address, one in sockets.wait(due - clock()):
                _read(address, one, waiting, clock)


def _read(address: IpAddress, one: socket.socket, waiting: list[Lookup], clock: Callable[[], float]) -> None:
    for error in read_errors(one, address.version)[1]:
        for lookup in waiting:
            if lookup.resolver == error.destination and error.port == CONTROL_PORT:
                lookup.on_icmp(f"ICMP says of {error.destination} port {error.port}: {_ICMP[error.reason]}")
    with contextlib.suppress(OSError):
        datagram, (source, source_port, *_) = one.recvfrom(DATAGRAM_LIMIT)
        on_datagram(waiting, datagram, source, source_port, clock())


def plan(
    asked: Sequence[Asked],
    resolvers: Iterable[IpAddress],
    *,
    source: IpAddress | None,
    avoided: frozenset[IpAddress] = frozenset(),
    instead: tuple[IpAddress, ...] = (),
) -> tuple[list[Question], list[Unasked]]:
    """Every EID at every resolver: what can be asked, and what cannot. `avoided`, `instead`: as in source_towards."""
    questions: list[Question] = []
    unasked: list[Unasked] = []
    for resolver in dict.fromkeys(resolvers):
        try:
            itr_rlocs = _itr_rlocs(resolver, source, avoided, instead)
        except NoWay as error:
            unasked += [Unasked(eid, resolver, error.reason) for eid in asked]
        else:
            questions += [Question(eid, resolver, itr_rlocs) for eid in asked]
    return questions[:LOOKUP_LIMIT], unasked


def _itr_rlocs(
    resolver: IpAddress, source: IpAddress | None, avoided: frozenset[IpAddress], instead: tuple[IpAddress, ...]
) -> tuple[IpAddress, ...]:
    if source is not None:
        if source.version != resolver.version:
            raise NoWay("wrong-family", f"{resolver} is of the wrong family: {source} cannot send to it")
        return (source,)
    near = source_towards(resolver, avoided, instead)
    far = None if near.is_loopback else other_family(near, avoided, instead)
    return (near,) if far is None else (near, far)
