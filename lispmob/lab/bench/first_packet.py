"""The first packet to an EID without a mapping: when it arrives, and how much of that time the node itself took.

    node a  packet in . . . Map-Request out      Map-Reply in . . . packet out          packet at node b
               |  of the node |                       | of the node     |  on the cable      |
               +--------------+------- asking --------+-----------------+--------------------+

Everything but the asking counts as the node's time, including the cable and node b.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Final

from lispmob.lab.control_watch import ControlWatch
from lispmob.lab.kernel_time import SO_TIMESTAMPNS_NEW, stamped_at
from lispmob.lab.probe import Party

_PORT: Final = 5202
_NOTED_S: Final = 0.2  # ours: until the watch has recorded the messages


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """Seconds. `answered_s`: until the answer is back; `node_s`: until the packet arrived, without the asking."""

    answered_s: float
    node_s: float


def first_packet(watch: ControlWatch, host: str, here: Party, there: Party, timeout_s: float) -> FirstPacket | None:
    """Send a datagram from `here`, which the watch knows as `host`, and answer it. None: no answer came back.

    Raises OSError when an address does not exist yet, and ValueError when no mapping was asked for.
    """
    with contextlib.ExitStack() as stack:
        sender, receiver = (stack.enter_context(_bound(party, timeout_s)) for party in (here, there))
        sender.connect((str(there.address), _PORT))  # or looking the address over would count as the node's
        sent_at = time.monotonic()
        sender.send(b"first")
        try:
            arrived_at, origin = _arrival(receiver)
            receiver.sendto(b"answer", origin)
            answered_at, _ = _arrival(sender)
        except TimeoutError:
            return None
    time.sleep(_NOTED_S)
    asked = watch.first(host, "encapsulated map-request", is_out=True, after=sent_at)
    told = None if asked is None else watch.first(host, "map-reply", is_out=False, after=asked.at)
    if asked is None or told is None or told.at > arrived_at:
        raise ValueError("the packet arrived, and no mapping was asked for before")
    return FirstPacket(answered_at - sent_at, arrived_at - sent_at - (told.at - asked.at))


def _bound(party: Party, timeout_s: float) -> socket.socket:
    family = socket.AF_INET if party.address.version == 4 else socket.AF_INET6
    made = party.namespace.socket(family, socket.SOCK_DGRAM)
    try:
        made.settimeout(timeout_s)
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
        made.bind((str(party.address), _PORT))
    except OSError:
        made.close()
        raise
    return made


def _arrival(receiver: socket.socket) -> tuple[float, tuple[str, int]]:
    """When the next datagram reached the host, by the kernel's timestamp, on the monotonic clock; and its sender."""
    _, ancillary, _, origin = receiver.recvmsg(64, 64)
    at = stamped_at(ancillary)
    return time.monotonic() if at is None else at, origin
