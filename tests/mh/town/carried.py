"""Which uplink carries LISP data: packets to port 4341, so that the nodes' own messages do not count."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator

from lispmob.wire.header import DATA_PORT
from tests.lab.capture import Capture
from tests.mh.town.town import Town

UDP_BYTES, DATA_HEADER_BYTES = 8, 8
HAS_INSTANCE, CONTROL_INSTANCE = 0x08, b"\xff\xff\xff"  # RFC 9300, 5.3: the I bit; what NAT traversal sends in data


@contextlib.contextmanager
def carried(here: Town) -> Iterator[dict[str, int]]:
    """How many packets of data a's uplinks have carried, once the block has ended."""
    counts = {"wlan0": 0, "lte0": 0}
    with contextlib.ExitStack() as stack:
        seen = {name: stack.enter_context(Capture(here.a, name, sent_only=True)) for name in counts}
        yield counts
    counts.update({name: sum(map(_data_packets, capture.packets)) for name, capture in seen.items()})


def _data_packets(packet: bytes) -> int:
    """The number of datagrams of LISP data: the kernel shows a run of them (UDP_SEGMENT) as one packet."""
    is_v4 = packet[0] >> 4 == 4
    header, protocol = ((packet[0] & 0x0F) * 4, packet[9]) if is_v4 else (40, packet[6])
    if protocol != socket.IPPROTO_UDP or int.from_bytes(packet[header + 2 : header + 4], "big") != DATA_PORT:
        return 0
    lisp = packet[header + UDP_BYTES :]
    if lisp[0] & HAS_INSTANCE and lisp[4:7] == CONTROL_INSTANCE:
        return 0  # a question of the nodes' own
    inner = lisp[DATA_HEADER_BYTES:]
    is_inner_v4 = inner[0] >> 4 == 4
    size = int.from_bytes(inner[2:4], "big") if is_inner_v4 else 40 + int.from_bytes(inner[4:6], "big")
    return math.ceil((len(packet) - header - UDP_BYTES) / (DATA_HEADER_BYTES + size))
