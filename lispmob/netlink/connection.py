"""Netlink for the few questions that are too small for a library: one request, its answers, and their attributes."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from struct import Struct
from typing import Final

# <linux/netlink.h>
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
NESTED: Final = 0x8000
_ERROR, _DONE = 2, 3
_MULTI: Final = 0x2
_TYPE_MASK: Final = 0x3FFF
_HEADER: Final = Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE: Final = Struct("=HH")  # length, type; the value is padded to 4 octets
_BUFFER_OCTETS: Final = 1 << 16
PATIENCE_S: Final = 2.0  # ours: a table of a million flows is read in less


def open_netlink(protocol: int) -> socket.socket:
    """A socket for one family of netlink that waits no longer than 2 s. Raises OSError."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    kernel.settimeout(PATIENCE_S)
    return kernel


def ask(kernel: socket.socket, verb: int, flags: int, header: bytes, attributes: bytes = b"") -> Iterator[bytes]:
    """Send one request; each message of the answer behind the netlink header, until its end. Raises OSError."""
    body = header + attributes
    kernel.send(_HEADER.pack(_HEADER.size + len(body), verb, flags, 0, 0) + body)
    while True:
        octets = kernel.recv(_BUFFER_OCTETS)
        while len(octets) >= _HEADER.size:
            length, kind, its_flags, *_ = _HEADER.unpack_from(octets)
            if not _HEADER.size <= length <= len(octets):
                raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
            content = octets[_HEADER.size : length]
            if kind in (_ERROR, _DONE):
                if number := -int.from_bytes(content[:4], sys.byteorder, signed=True):
                    raise OSError(number, os.strerror(number))
                return
            yield content
            if not its_flags & _MULTI and not flags & ACK:
                return
            octets = octets[_padded(length) :]


def attributes(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each attribute; ends at the first that does not fit."""
    while len(octets) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(octets)
        if not _ATTRIBUTE.size <= length <= len(octets):
            return
        yield kind & _TYPE_MASK, octets[_ATTRIBUTE.size : length]
        octets = octets[_padded(length) :]


def put(kind: int, value: bytes) -> bytes:
    """One attribute."""
    length = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(length, kind) + value).ljust(_padded(length), b"\0")


def _padded(length: int) -> int:
    return (length + 3) & ~3
