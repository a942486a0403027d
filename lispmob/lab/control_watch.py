"""Records the LISP control messages that hosts send and receive, on the wire, independently of what the hosts report.

It decodes only the type of a message, and the kind of a Map-Request; the layouts are those of RFC 9301, section 5.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from lispmob.closing import Closing
from lispmob.lab.handover import Message
from lispmob.lab.kernel_time import SO_TIMESTAMPNS_NEW, stamped_at
from lispmob.lab.namespace import Namespace

_CONTROL_PORT: Final = 4342
_ETH_P_ALL: Final = 3
_PACKET_OUTGOING: Final = 4
_SO_ATTACH_FILTER: Final = 26
_UDP: Final = 17
_UDP_HEADER_BYTES: Final = 8
_ECM_HEADER_BYTES: Final = 4
_SMALLEST_IP_HEADER_BYTES: Final = 20
_LARGEST_PACKET_BYTES: Final = 65_535
_KINDS: Final = {2: "map-reply", 3: "map-register", 4: "map-notify", 5: "map-notify-ack", 6: "map-referral", 7: "info"}

# Classic BPF, from the network header on: UDP from or to the control port. Each: code, jump if true, jump if false, k.
# It keeps data packets from being copied to the measuring process.
_FILTER: Final = (
    (0x30, 0, 0, 0),  # A = first octet
    (0x74, 0, 0, 4),  # A >>= 4: the version
    (0x15, 4, 0, 6),  # 6: to its own part
    (0x30, 0, 0, 9),  # A = protocol
    (0x15, 0, 9, _UDP),
    (0xB1, 0, 0, 0),  # X = length of the IPv4 header
    (0x05, 0, 0, 3),  # to the ports
    (0x30, 0, 0, 6),  # IPv6: A = next header
    (0x15, 0, 5, _UDP),
    (0x01, 0, 0, 40),  # X = length of the IPv6 header
    (0x48, 0, 0, 0),  # ports: A = source port
    (0x15, 3, 0, _CONTROL_PORT),
    (0x48, 0, 0, 2),  # A = destination port
    (0x15, 1, 0, _CONTROL_PORT),
    (0x06, 0, 0, 0),  # no
    (0x06, 0, 0, 0xFFFF),  # yes: the whole packet
)


def _without(sender: IPv4Address) -> tuple[tuple[int, int, int, int], ...]:
    """The same filter, which rejects what `sender` sends first."""
    return (
        (0x30, 0, 0, 0),  # A = first octet
        (0x74, 0, 0, 4),  # A >>= 4: the version
        (0x15, 0, 3, 4),  # not IPv4: to the other filter
        (0x20, 0, 0, 12),  # A = source address
        (0x15, 0, 1, int(sender)),
        (0x06, 0, 0, 0),  # no
        *_FILTER,
    )


class ControlWatch(Closing):
    """A thread that records the control messages of some hosts until it is closed."""

    def __init__(self, hosts: Mapping[str, Namespace]) -> None:
        self._sockets = {_listen(namespace): host for host, namespace in hosts.items()}
        self._messages: list[Message] = []
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name="control-watch", daemon=True)
        self._thread.start()

    def messages(self, start: float = 0.0, end: float = float("inf")) -> list[Message]:
        """The messages of [start, end), in the order of time."""
        return sorted((m for m in list(self._messages) if start <= m.at < end), key=lambda m: m.at)

    def first(self, host: str, kind: str, *, is_out: bool, after: float) -> Message | None:
        """The first message of that kind at that host since `after`."""
        seen = self.messages(after)
        return next((m for m in seen if (m.host, m.kind, m.is_out) == (host, kind, is_out)), None)

    @contextlib.contextmanager
    def ignoring(self, sender: IPv4Address) -> Iterator[None]:
        """Inside the block, packets of `sender` are not recorded: the kernel does not even copy them."""
        for watched in self._sockets:
            _attach(watched, _without(sender))
        try:
            yield
        finally:
            for watched in self._sockets:
                _attach(watched, _FILTER)

    def close(self) -> None:
        """Stop recording. Idempotent."""
        if not self._sockets:
            return
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)
        for watched in self._sockets:
            watched.close()
        self._sockets.clear()

    def _run(self) -> None:
        while True:
            watched: list[int | socket.socket] = [*self._sockets, self._stop]
            ready, _, _ = select.select(watched, [], [])
            for source in ready:
                if isinstance(source, int):
                    return
                with contextlib.suppress(OSError):  # nothing to read, or an interface that has just been removed
                    self._note(source)

    def _note(self, source: socket.socket) -> None:
        packet, ancillary, _, address = source.recvmsg(_LARGEST_PACKET_BYTES, 64)
        at = stamped_at(ancillary)
        is_out = address[2] == _PACKET_OUTGOING
        if at is not None and (name := classify(packet)):
            self._messages.append(Message(at, self._sockets[source], name, is_out, _peer(packet, is_out=is_out)))


def classify(packet: bytes) -> str | None:
    """The name of the control message in an IP packet; None without one. Any octets are allowed."""
    payload = _udp_payload(packet)
    if payload and payload[0] >> 4 == 8:
        inner = _kind(_udp_payload(payload[_ECM_HEADER_BYTES:]))
        return f"encapsulated {inner}" if inner else "encapsulated message"
    return _kind(payload)


def _kind(message: bytes) -> str | None:
    if not message:
        return None
    if message[0] >> 4 == 1:
        return _request_kind(message)
    return _KINDS.get(message[0] >> 4)


def _request_kind(request: bytes) -> str:
    """The kind of a Map-Request, by its flags.

     0                   1
     0 1 2 3 4 5 6 7 8 9 0 1
    |Type=1 |A|M|P|S|p|s|...
    """
    if request[0] & 0x01:
        return "smr"
    if request[0] & 0x02:
        return "rloc-probe"
    if len(request) > 1 and request[1] & 0x40:
        return "smr-invoked map-request"
    return "map-request"


def _udp_payload(packet: bytes) -> bytes:
    """The payload of a datagram from or to the control port; empty for anything else."""
    if len(packet) < _SMALLEST_IP_HEADER_BYTES:
        return b""
    # The length of the header, and the place of the protocol field: RFC 791, RFC 8200.
    header, protocol_at = {4: ((packet[0] & 0x0F) * 4, 9), 6: (40, 6)}.get(packet[0] >> 4, (0, 0))
    udp = packet[header:]
    if not header or packet[protocol_at] != _UDP or len(udp) < _UDP_HEADER_BYTES:
        return b""
    return udp[_UDP_HEADER_BYTES:] if _CONTROL_PORT in struct.unpack_from("!HH", udp) else b""


def _peer(packet: bytes, *, is_out: bool) -> str:
    if packet[0] >> 4 == 4:
        return str(IPv4Address(packet[16:20] if is_out else packet[12:16]))
    return str(IPv6Address(packet[24:40] if is_out else packet[8:24]))


def _listen(namespace: Namespace) -> socket.socket:
    """A socket that receives the control messages of every interface of the namespace, in both directions."""
    tap = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
    _attach(tap, _FILTER)
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
    return tap


def _attach(tap: socket.socket, program: Iterable[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: number of instructions, padding, pointer to them.
    tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(code) // 8, ctypes.addressof(memory)))
