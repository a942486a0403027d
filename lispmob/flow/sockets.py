"""Sockets of flows: bound to an EID, connected to the peer, with a filter that drops control messages.

Control messages are sent to the ports of flows as well, so that firewalls on both sides admit the flow. The program
must not receive them: a classic BPF filter drops datagrams with the magic number. It is locked, so that the program
cannot remove it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from array import array
from struct import Struct
from typing import Final

from lispmob.control_port import icmp_errors
from lispmob.control_port.icmp_errors import Unreachable
from lispmob.flow.auth import IpAddress
from lispmob.flow.message import PREFIX
from lispmob.flow.quality import Quality

# Linux: not in every supported Python's socket module
_SO_ATTACH_FILTER: Final = 26
_SO_MARK: Final = 36
_SO_LOCK_FILTER: Final = 44
_IP_TOS: Final = 1
_IP_FREEBIND: Final = 15
_IP_MTU: Final = 14
_IP_BIND_ADDRESS_NO_PORT: Final = 24
_IPV6_MTU: Final = 24
_IPV6_TCLASS: Final = 67
_IPV6_FREEBIND: Final = 78

_INSTRUCTION: Final = Struct("=HBBI")  # struct sock_filter
_PROGRAM: Final = Struct("@HP")  # struct sock_fprog
_LOAD_WORD, _LOAD_LENGTH, _IF_EQUAL, _IF_ABOVE, _RETURN = 0x20, 0x80, 0x15, 0x25, 0x06
_UDP_OCTETS: Final = 8
_WHOLE: Final = 0xFFFFFFFF
_DRAIN_LIMIT: Final = 4096  # more than a receive queue of the usual size holds
DATAGRAM_OCTETS: Final = 65535


def family_of(address: IpAddress) -> socket.AddressFamily:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def new_socket(own: IpAddress, port: int = 0) -> socket.socket:
    """A UDP socket on an EID, with ICMP errors enabled. The address need not exist yet. Raises OSError."""
    made = socket.socket(family_of(own), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if own.version == 4:
            made.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        icmp_errors.enable(made, own.version)
        made.bind((str(own), port))
    except BaseException:
        made.close()
        raise
    return made


def holder_socket(own: IpAddress, peer: IpAddress, peer_port: int, ports: range | None = None) -> socket.socket:
    """The socket of a flow at its holder: connected, filtered, and without datagrams of other senders in its queue.

    With `ports` the socket gets one of these ports. Raises OSError.
    """
    for port in ports or (0,):
        try:
            made = new_socket(own, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and ports is not None:
                continue
            raise
        try:
            connect(made, peer, peer_port)
        except BaseException:
            made.close()
            raise
        return made
    raise OSError(errno.EADDRINUSE, "every port that flows may have is in use")


def connect(one: socket.socket, peer: IpAddress, port: int) -> None:
    """Filter, connect, and discard what other senders have queued before. Raises OSError."""
    set_filter(one)
    one.connect((str(peer), port))
    drain(one)


def set_filter(one: socket.socket) -> None:
    """Make the kernel drop flow messages before the program receives them, for the life of the socket."""
    magic = int.from_bytes(PREFIX)
    code = [
        (_LOAD_LENGTH, 0, 0, 0),
        (_IF_ABOVE, 0, 2, _UDP_OCTETS + len(PREFIX) - 1),  # shorter than the magic number: for the program
        (_LOAD_WORD, 0, 0, _UDP_OCTETS),
        (_IF_EQUAL, 1, 0, magic),
        (_RETURN, 0, 0, _WHOLE),
        (_RETURN, 0, 0, 0),
    ]
    memory = array("B", b"".join(_INSTRUCTION.pack(*line) for line in code))
    one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(len(code), memory.buffer_info()[0]))
    one.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def drain(one: socket.socket) -> int:
    """Discard what is queued; returns the number of datagrams."""
    for number in range(_DRAIN_LIMIT):
        try:
            one.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return number
        except OSError:  # an ICMP error about an earlier datagram
            continue
    return _DRAIN_LIMIT


def set_quality(one: socket.socket, quality: Quality, mark: int = 0, former: int = 0) -> None:
    """Set the DSCP of a class, and the mark if it has changed (needs CAP_NET_ADMIN). Raises OSError."""
    if one.family == socket.AF_INET:
        one.setsockopt(socket.IPPROTO_IP, _IP_TOS, quality.dscp << 2)
    else:
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_TCLASS, quality.dscp << 2)
    if mark != former:
        one.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)


def mark_of(one: socket.socket) -> int:
    """The mark of a socket's packets."""
    with contextlib.suppress(OSError):
        return one.getsockopt(socket.SOL_SOCKET, _SO_MARK)
    return 0


def max_datagram(one: socket.socket) -> int:
    """The largest datagram that a connected socket can send without fragmentation, octets; 0 if unknown."""
    with contextlib.suppress(OSError):
        if one.family == socket.AF_INET:
            return one.getsockopt(socket.IPPROTO_IP, _IP_MTU) - 28
        return one.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU) - 48
    return 0


def send(one: socket.socket, octets: bytes, to: IpAddress, port: int) -> list[Unreachable]:
    """Send a datagram without waiting; returns ICMP errors about earlier datagrams. Raises OSError.

    The kernel reports such an error once, instead of sending the next datagram, which is therefore sent again.
    """
    place = (str(to), port)
    try:
        one.sendto(octets, socket.MSG_DONTWAIT, place)
    except OSError:
        count, errors = read_errors(one)
        if not count:
            raise
        one.sendto(octets, socket.MSG_DONTWAIT, place)
        return errors
    return []


def read_errors(one: socket.socket) -> tuple[int, list[Unreachable]]:
    """Read pending ICMP errors, since an unread one keeps the socket readable. Returns their number and contents."""
    return icmp_errors.read_errors(one, 4 if one.family == socket.AF_INET else 6)
