"""Which uplink carries LISP data: packets to port 4341, so that what the nodes say to each other does not count."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from lispmob.wire.header import DATA_PORT
from tests.lab.capture import Capture
from tests.mh.town import Town


@contextlib.contextmanager
def carried(here: Town) -> Iterator[dict[str, int]]:
    """How many packets of data a's uplinks have carried, once the block has ended."""
    counts = {"wlan0": 0, "lte0": 0}
    with contextlib.ExitStack() as stack:
        seen = {name: stack.enter_context(Capture(here.a, name, sent_only=True)) for name in counts}
        yield counts
    counts.update({name: sum(map(_is_data, capture.packets)) for name, capture in seen.items()})


def _is_data(packet: bytes) -> bool:
    is_v4 = packet[0] >> 4 == 4
    header, protocol = ((packet[0] & 0x0F) * 4, packet[9]) if is_v4 else (40, packet[6])
    return protocol == socket.IPPROTO_UDP and packet[header + 2 : header + 4] == DATA_PORT.to_bytes(2, "big")
