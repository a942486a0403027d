"""A control message taken out of its encapsulation, if it came in one (RFC 9301, 5.8)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import Count
from lispmob.wire.address import IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.lisp_sec import AD_LISP_SEC
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import ControlMessage, decode_control


class ReceivedMessage(msgspec.Struct, frozen=True):
    """A received message. `source_port`: where an answer to it goes."""

    message: ControlMessage
    source_port: int
    is_encapsulated: bool
    has_checksum: bool = True  # of the UDP header inside the ECM
    lisp_sec: bytes | None = None  # the AD of the ECM if it is LISP-SEC's


def unwrap(
    message: ControlMessage, datagram: Datagram, is_ours: Callable[[IpAddress], bool]
) -> ReceivedMessage | Count:
    """The message of a datagram; a counter if it must not come this way. Raises MalformedMessage."""
    if not isinstance(message, EncapsulatedControl):
        return ReceivedMessage(message, datagram.source_port, is_encapsulated=False)
    if not is_ours(message.destination):
        return Count("rx_policy")
    inner = decode_control(message.message)
    if not isinstance(inner, MapRequest):
        return Count("rx_ecm" if isinstance(inner, EncapsulatedControl) else "rx_type")
    ad = message.authentication
    lisp_sec = ad if ad is not None and ad[0] == AD_LISP_SEC else None
    return ReceivedMessage(
        inner, message.source_port, is_encapsulated=True, has_checksum=message.has_checksum, lisp_sec=lisp_sec
    )
