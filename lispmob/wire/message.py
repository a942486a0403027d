"""Decodes any control message: the dispatch on the type nibble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from lispmob.errors import MalformedMessage
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import MessageType
from lispmob.wire.info import InfoReply, InfoRequest, is_info_reply
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_referral import MapReferral
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest

ControlMessage: TypeAlias = (
    MapRequest
    | MapReply
    | MapRegister
    | MapNotify
    | MapNotifyAck
    | MapReferral
    | InfoRequest
    | InfoReply
    | EncapsulatedControl
)

_SHORTEST: Final = 4


def _decode_info(data: bytes) -> InfoRequest | InfoReply:
    return InfoReply.decode(data) if is_info_reply(data) else InfoRequest.decode(data)


_DECODERS: Final[dict[int, Callable[[bytes], ControlMessage]]] = {
    MessageType.MAP_REQUEST: MapRequest.decode,
    MessageType.MAP_REPLY: MapReply.decode,
    MessageType.MAP_REGISTER: MapRegister.decode,
    MessageType.MAP_NOTIFY: MapNotify.decode,
    MessageType.MAP_NOTIFY_ACK: MapNotifyAck.decode,
    MessageType.MAP_REFERRAL: MapReferral.decode,
    MessageType.INFO: _decode_info,
    MessageType.ENCAPSULATED_CONTROL: EncapsulatedControl.decode,
}


def decode_control(data: bytes) -> ControlMessage:
    """Read the payload of a control datagram. Raises MalformedMessage; `rx_type` for a type that is not LISP's."""
    if len(data) < _SHORTEST:
        raise MalformedMessage("rx_short", f"{len(data)} octets")
    decoder = _DECODERS.get(data[0] >> 4)
    if decoder is None:
        raise MalformedMessage("rx_type", f"message type {data[0] >> 4}")
    return decoder(data)
