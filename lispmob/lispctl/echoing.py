"""Measures round trips without privileges: ICMP echo where the kernel allows it (ping sockets), else UDP.

The UDP packet goes to a closed port, and the other host answers "port unreachable"; with a small hop limit a router on
the way answers (`hop`). So the other host need not run lispd.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

PORT: Final = 33434  # where traceroute begins
PORTS: Final = 64
PAYLOAD: Final = bytes(24)
_ECHO: Final = {4: (socket.IPPROTO_ICMP, 8), 6: (58, 128)}
_RECVERR: Final = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}  # linux/in.h, linux/in6.h
_HOPS: Final = {4: (socket.IPPROTO_IP, socket.IP_TTL), 6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)}
_EXTENDED_ERROR: Final = struct.Struct("=IBBBBII")  # struct sock_extended_err, linux/errqueue.h
_SENT_BY_ICMP: Final = (2, 3)


class Hop(NamedTuple):
    """The address that answered, and the round trip in ms; `is_last`: it is the destination. No answer: None."""

    address: str | None
    rtt_ms: float | None
    is_last: bool = False
    why: str | None = None


def version_of(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4


def echo(address: str, source: str | None, sequence: int, timeout_s: float) -> Hop:
    """One round trip to a host, from a given source address or from the kernel's choice.

    An ICMP error that the host itself did not send is no answer: `why` says who refused.
    """
    with contextlib.suppress(PermissionError, OSError), _ping_socket(address, source) as pinging:
        return _ping(pinging, address, sequence, timeout_s)
    found = hop(address, source, sequence, timeout_s)
    if found.is_last or found.rtt_ms is None:
        return found
    return Hop(None, None, why=f"refused by {found.address}")


def hop(address: str, source: str | None, sequence: int, timeout_s: float, hops: int | None = None) -> Hop:
    """The same by UDP; with `hops` as the hop limit, the router at that distance answers."""
    version = version_of(address)
    with socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.setsockopt(*_RECVERR[version], 1)
            if hops is not None:
                asking.setsockopt(*_HOPS[version], hops)
            if source is not None:
                asking.bind((source, 0))
            asking.connect((address, PORT + sequence % PORTS))
            began = time.monotonic()
            asking.send(PAYLOAD)
        except OSError as error:
            return Hop(None, None, why=error.strerror)
        return _answer(asking, address, began, timeout_s)


def _answer(asking: socket.socket, address: str, began: float, timeout_s: float) -> Hop:
    waiting = select.poll()
    waiting.register(asking, select.POLLIN)
    while (left_s := began + timeout_s - time.monotonic()) > 0:
        if not waiting.poll(left_s * 1000):
            break
        rtt_ms = round((time.monotonic() - began) * 1000, 3)
        try:
            _, control, _, _ = asking.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return Hop(address, rtt_ms, is_last=True)  # a program listens there, and answered
        except OSError as error:
            return Hop(None, None, why=error.strerror)
        for code, by in _errors(control):
            return Hop(by or address, rtt_ms, is_last=code == errno.ECONNREFUSED)
    return Hop(None, None)


def _errors(control: list[tuple[int, int, bytes]]) -> Iterator[tuple[int, str | None]]:
    """(errno, sender of the message) for each extended error (ip(7), IP_RECVERR)."""
    for _, _, octets in control:
        if len(octets) < _EXTENDED_ERROR.size + 4:
            continue
        code, origin, *_ = _EXTENDED_ERROR.unpack_from(octets)
        if origin in _SENT_BY_ICMP:
            yield code, _offender(octets[_EXTENDED_ERROR.size :])


def _offender(octets: bytes) -> str | None:
    """The address in a sockaddr."""
    family = int.from_bytes(octets[:2], "little" if struct.pack("=H", 1)[0] else "big")
    if family == socket.AF_INET and len(octets) >= 8:
        return socket.inet_ntop(family, octets[4:8])
    if family == socket.AF_INET6 and len(octets) >= 24:
        return socket.inet_ntop(family, octets[8:24])
    return None


def _ping_socket(address: str, source: str | None) -> socket.socket:
    version = version_of(address)
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    found = socket.socket(family, socket.SOCK_DGRAM, _ECHO[version][0])
    try:
        if source is not None:
            found.bind((source, 0))
        found.connect((address, 0))
    except BaseException:
        found.close()
        raise
    return found


def _ping(pinging: socket.socket, address: str, sequence: int, timeout_s: float) -> Hop:
    """One ICMP echo. The kernel fills in identifier and checksum, and delivers only our own answers (icmp(7))."""
    began = time.monotonic()
    pinging.send(struct.pack("!BBHHH", _ECHO[version_of(address)][1], 0, 0, 0, sequence & 0xFFFF) + PAYLOAD)
    while (left_s := began + timeout_s - time.monotonic()) > 0:
        pinging.settimeout(left_s)
        try:
            answer = pinging.recv(2048)
        except TimeoutError:
            break
        if len(answer) >= 8 and int.from_bytes(answer[6:8]) == sequence & 0xFFFF:
            return Hop(address, round((time.monotonic() - began) * 1000, 3), is_last=True)
    return Hop(None, None)
