"""What decoders promise for any octets: a message or MalformedMessage, and what was read is what is written again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.flow import message as flow_message
from lispmob.wire.auth import Key, verify
from lispmob.wire.data_header import DataHeader, split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.lisp_sec import MapReplySecurity
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_referral import MapReferral
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control

KEY: Final = Key(b"a key")


def _round_trip(decode: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    """What is decoded is encoded to octets that decode to the same again."""

    def check(octets: bytes) -> None:
        message = decode(octets)
        again = decode(message.encode())
        assert again == message, (octets.hex(), message, again)

    return check


def _authentication(octets: bytes) -> None:
    try:
        verify(octets, KEY)
    except AuthenticationFailed:
        return


def _flow_message(octets: bytes) -> None:
    """As `_round_trip`; AUTH is no part of what is encoded, it is signed for its way."""
    message = replace(flow_message.decode(octets), has_auth=False)
    again = flow_message.decode(flow_message.encode(message))
    assert again == message, (octets.hex(), message, again)


def _flow_name(octets: bytes) -> None:
    name = flow_message.decode_name(octets)
    assert flow_message.decode_name(name.encode()) == name, octets.hex()


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "control": _round_trip(decode_control),
    "map-request": _round_trip(MapRequest.decode),
    "map-reply": _round_trip(MapReply.decode),
    "map-register": _round_trip(MapRegister.decode),
    "map-notify": _round_trip(MapNotify.decode),
    "map-notify-ack": _round_trip(MapNotifyAck.decode),
    "map-referral": _round_trip(MapReferral.decode),
    "info-request": _round_trip(InfoRequest.decode),
    "info-reply": _round_trip(InfoReply.decode),
    "ecm": _round_trip(EncapsulatedControl.decode),
    "data-header": _round_trip(DataHeader.decode),
    "lisp-sec": _round_trip(MapReplySecurity.decode),
    "data-packet": lambda octets: (split_data_packet(octets), None)[1],
    "ip-udp": lambda octets: (parse_ip_udp(octets), None)[1],
    "authentication": _authentication,
    "flow-message": _flow_message,
    "flow-name": _flow_name,
}
"""Every decoder of `lispmob.wire` by name, and those of flows; a test holds that none is missing."""


def try_one(name: str, octets: bytes) -> None:
    """One input. Raises what a decoder must not raise."""
    try:
        TARGETS[name](octets)
    except MalformedMessage:
        return


def try_all(octets: bytes) -> None:
    """The first octet chooses the decoder, so that one corpus serves all; 255: each of them."""
    names = list(TARGETS)
    chosen = names if not octets or octets[0] == 255 else [names[octets[0] % len(names)]]
    for name in chosen:
        try_one(name, octets[1:])
