"""The parts that several control messages share: type nibble, one-bit flags, Authentication Data, xTR-ID trailer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from typing import Any, Final

from lispmob.errors import MalformedMessage
from lispmob.wire.reader import Reader

CONTROL_PORT: Final = 4342
DATA_PORT: Final = 4341

XTR_ID_OCTETS: Final = 16
SITE_ID_OCTETS: Final = 8
NO_SITE_ID: Final = bytes(SITE_ID_OCTETS)

_AUTHENTICATION: Final = Struct(">BBH")

# The RFC's bit number in the first word -> the attribute of the message.
Flags = Mapping[int, str]


class MessageType(IntEnum):
    """The first four bits of a control message."""

    MAP_REQUEST = 1
    MAP_REPLY = 2
    MAP_REGISTER = 3
    MAP_NOTIFY = 4
    MAP_NOTIFY_ACK = 5
    MAP_REFERRAL = 6
    INFO = 7
    ENCAPSULATED_CONTROL = 8


def open_message(data: bytes, kind: MessageType, fixed_octets: int) -> tuple[Reader, int]:
    """Check type and length; returns a reader behind the first word of the message, and that word.

    Raises `rx_type` for another type, `rx_short` when the message is shorter than the fixed part of its type.
    """
    if not data:
        raise MalformedMessage("rx_short", "no octets")
    if data[0] >> 4 != kind:
        raise MalformedMessage("rx_type", f"a message of type {data[0] >> 4} where {kind} is read")
    if len(data) < fixed_octets:
        raise MalformedMessage("rx_short", f"{len(data)} octets, fewer than the {fixed_octets} of its fixed part")
    reader = Reader(data)
    return reader, reader.take_u32()


def flag_word(kind: MessageType, flags: Flags, message: object) -> int:
    """The first word: the type, and a bit for every flag that the message sets."""
    word = kind << 28
    for bit, name in flags.items():
        if getattr(message, name):
            word |= 1 << (31 - bit)
    return word


def read_flags(word: int, flags: Flags) -> dict[str, Any]:
    """The flags of a first word by attribute."""
    return {name: bool(word >> (31 - bit) & 1) for bit, name in flags.items()}


def has_bit(word: int, bit: int) -> bool:
    """Whether the bit with the RFC's number (0 is the most significant) is set."""
    return bool(word >> (31 - bit) & 1)


# |    Key ID     | Algorithm ID  |  Authentication Data Length   |   RFC 6830: one 16-bit Key ID, 1 or 2 for what
# ~                     Authentication Data                       ~   is the Algorithm ID now
def take_authentication(reader: Reader) -> tuple[int, int, bytes]:
    """Read Key ID, Algorithm ID and Authentication Data."""
    key_id, algorithm_id, length = reader.take(_AUTHENTICATION)
    return key_id, algorithm_id, reader.take_bytes(length)


def put_authentication(key_id: int, algorithm_id: int, authentication: bytes) -> bytes:
    """Write Key ID, Algorithm ID and Authentication Data."""
    return _AUTHENTICATION.pack(key_id, algorithm_id, len(authentication)) + authentication


# |                      xTR-ID, 128 bits                         |
# |                      Site-ID, 64 bits                         |
def take_site(reader: Reader) -> tuple[bytes, bytes]:
    """Read the trailer: xTR-ID and Site-ID."""
    return reader.take_bytes(XTR_ID_OCTETS), reader.take_bytes(SITE_ID_OCTETS)


def put_site(xtr_id: bytes | None, site_id: bytes | None) -> bytes:
    """Write the trailer, or nothing without an xTR-ID. ValueError for another length than 16 and 8 octets."""
    if xtr_id is None:
        return b""
    site_id = NO_SITE_ID if site_id is None else site_id
    if len(xtr_id) != XTR_ID_OCTETS or len(site_id) != SITE_ID_OCTETS:
        raise ValueError(f"an xTR-ID has 16 octets and a Site-ID 8, not {len(xtr_id)} and {len(site_id)}")
    return xtr_id + site_id
