"""Netlink sockets: opens them, sends requests, reads answers and listings, and turns refusals into OSError.

The kernel answers a request during the call that writes it, so reading an answer never waits; the timeout of two
seconds is for listings of a million flows. A listing is produced while it is read, so leaving early saves the kernel
the rest. Every refusal of the kernel is an OSError with its errno.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

from lispmob.netlink.message import (
    ACK,
    DONE,
    DUMP,
    DUMP_INTERRUPTED,
    ERROR,
    MULTI,
    NETLINK_ROUTE,
    Raw,
    messages,
    request,
)

DATAGRAM_OCTETS: Final = 1 << 16
PATIENCE_S: Final = 2.0  # ours: reading a table of a million flows takes less
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP: Final = 1
_GET_STRICT_CHK: Final = 12
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_DUMP_TRIES: Final = 4  # ours: after this many tries a listing that keeps changing is used as it is; an event follows


class DumpInterrupted(Exception):
    """The kernel changed the objects during the listing, so it may be incomplete."""


def open_netlink(protocol: int = NETLINK_ROUTE) -> socket.socket:
    """Open a socket for one netlink family, with a timeout of 2 s. Raises OSError."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    kernel.settimeout(PATIENCE_S)
    return kernel


def subscribe(
    protocol: int, groups: Iterable[int], *, receive_octets: int | None = None, program: bytes = b""
) -> socket.socket:
    """Open a non-blocking socket that receives the events of these multicast groups. Raises OSError.

    `receive_octets`: the receive buffer, in place of the default. `program`: a classic BPF program (an array of struct
    sock_filter) that filters messages. Requests cannot be sent through this socket, since the filter would drop their
    answers.
    """
    flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    kernel = socket.socket(socket.AF_NETLINK, flags, protocol)
    try:
        if receive_octets is not None:
            try:
                kernel.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_octets)
            except PermissionError:
                kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_octets)
        if program:
            place = array("B", program)
            described = struct.pack("@HP", len(program) // 8, place.buffer_info()[0])
            kernel.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
        kernel.bind((0, sum(1 << (group - 1) for group in groups)))
    except BaseException:
        kernel.close()
        raise
    return kernel


def subscribe_unbound(groups: Iterable[int], first: bytes) -> socket.socket:
    """The same for NETLINK_ROUTE where a sandbox refuses bind(). Raises OSError.

    `first` is a small request: the kernel binds the socket to send the answer, which is ignored.
    """
    flags = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    kernel = socket.socket(socket.AF_NETLINK, flags, NETLINK_ROUTE)
    try:
        kernel.send(first)
        for group in groups:
            kernel.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except BaseException:
        kernel.close()
        raise
    return kernel


def events(kernel: socket.socket) -> list[Raw] | None:
    """One datagram from the kernel at a subscribed socket; None: there is none now.

    Raises OSError: ENOBUFS when the kernel had to drop some. A datagram from a process gives an empty list.
    """
    try:
        datagram, (sender, _) = kernel.recvfrom(DATAGRAM_OCTETS)
    except BlockingIOError:
        return None
    return [] if sender else list(messages(datagram))


def ask(kernel: socket.socket, kind: int, flags: int, header: bytes, attributes: bytes = b"") -> Iterator[bytes]:
    """Send a request; yields the body of each message of the answer. Raises OSError.

    Without ACK or DUMP in `flags` the answer is one message or an error.
    """
    for message in _exchange(kernel, kind, flags, header + attributes):
        yield message.body


def command(kernel: socket.socket, kind: int, flags: int, body: bytes) -> None:
    """Send one request and wait until it is done. Raises OSError."""
    for _ in _exchange(kernel, kind, flags | ACK, body):
        pass


def dump(kind: int, body: bytes) -> Iterator[Raw]:
    """List the rtnetlink objects that match `body`; the kernel does not send others. Raises OSError.

    Raises DumpInterrupted after the last.
    """
    with open_netlink(NETLINK_ROUTE) as kernel:
        kernel.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        was_interrupted = False
        for message in _exchange(kernel, kind, DUMP, body):
            was_interrupted |= bool(message.flags & DUMP_INTERRUPTED)
            yield message
        if was_interrupted:
            raise DumpInterrupted


def whole(kind: int, body: bytes) -> list[Raw]:
    """A complete listing; repeated when the kernel changed the objects meanwhile. Raises OSError."""
    found: list[Raw] = []
    for _ in range(_DUMP_TRIES):
        found = []
        try:
            found.extend(dump(kind, body))
        except DumpInterrupted:
            continue
        break
    return found


def _exchange(kernel: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[Raw]:
    kernel.send(request(kind, flags, body))
    while True:
        found = list(messages(kernel.recv(DATAGRAM_OCTETS)))
        if not found:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
        for message in found:
            if message.type in (ERROR, DONE):
                number = -struct.unpack_from("=i", message.body)[0] if len(message.body) >= 4 else 0
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield message
            if not message.flags & MULTI and not flags & ACK:
                return
