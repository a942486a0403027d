"""Flow messages, version 1, and requests of version 0: octets to values and back. Pure.

     0                   1                   2                   3
    +-------------------------------------------------------------------+
    |  00 "LF" (magic)                            | version 01          |
    +-----------------+-----------------+-------------------------------+
    |  type           |  R | 0 0 0 ...  |  reserved, 0                  |
    +-----------------+-----------------+-------------------------------+
    |  caller's nonce, 64 bits                                          |
    +-------------------------------------------------------------------+
    |  holder's nonce, 64 bits, 0 until there is one                    |
    +-------------------------------------------------------------------+
    |  TLVs: type 8 bits, length of the value 8 bits, value             |

A name never begins with the first octet, so both versions share a port. Octets 0 to 2 and the caller's nonce keep their
meaning in every version.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.flow.name import InvalidName, read_name
from lispmob.flow.quality import LAYOUT, Quality

MAGIC: Final = b"\0LF"
VERSION: Final = 1
PREFIX: Final = MAGIC + bytes([VERSION])
HEADER: Final = Struct(">3sBBBH8s8s")
NO_NONCE: Final = bytes(8)
REPLY_FLAG: Final = 0x80
MAX_OCTETS: Final = 512
MIN_REQUEST_OCTETS: Final = 128  # so that an answer is never larger than its request
AUTH_OCTETS: Final = 18
MAX_REASON_TEXT_OCTETS: Final = 80
MAX_CALLER_OCTETS: Final = 64


class Kind(IntEnum):
    """The type of a message."""

    REQUEST = 1
    WAIT = 2
    ACCEPT = 3
    REFUSE = 4
    CONFIRM = 5
    ALIVE = 6
    CLOSE = 7


ANSWERED: Final = frozenset({Kind.CONFIRM, Kind.ALIVE, Kind.CLOSE})  # the types that have a form with R


class Reason(IntEnum):
    """Why a flow was refused, or has ended."""

    NO_SUCH_NAME = 1
    NOT_ALLOWED = 2
    BUSY = 3
    NO_ANSWER = 4
    UNSUPPORTED = 5
    AUTHENTICATION = 6
    DONE = 7
    PROGRAM_ENDED = 8
    SHUTTING_DOWN = 9
    REPLACED = 10


def reason_word(code: int) -> str:
    """The name of a reason for programs, such as "program-ended"; the number if this version does not know it."""
    known = code in Reason.__members__.values()
    return Reason(code).name.lower().replace("_", "-") if known else str(code)


class _Tlv(IntEnum):
    NAME = 0x01
    FLOW_PORT = 0x02
    LIFETIME = 0x03
    QOS = 0x04
    REASON = 0x05
    CALLER = 0x06
    COOKIE = 0x07
    PAD = 0x08
    AUTH = 0x81


_MANDATORY: Final = 0x80  # from this type on, a receiver that does not know the TLV must refuse the message
_LENGTHS: Final = {
    _Tlv.NAME: range(1, 256),
    _Tlv.FLOW_PORT: range(2, 3),
    _Tlv.LIFETIME: range(2, 3),
    _Tlv.QOS: range(LAYOUT.size, LAYOUT.size + 1),
    _Tlv.REASON: range(1, MAX_REASON_TEXT_OCTETS + 2),
    _Tlv.CALLER: range(1, MAX_CALLER_OCTETS + 1),
    _Tlv.COOKIE: range(8, 9),
    _Tlv.PAD: range(256),
    _Tlv.AUTH: range(AUTH_OCTETS, AUTH_OCTETS + 1),
}


class Unsupported(MalformedMessage):
    """A message with an unknown version or an unknown mandatory TLV; a REQUEST is answered with REFUSE 5.

    `caller_nonce`: to be copied into the answer; `is_request`: whether there is an answer.
    """

    def __init__(self, why: str, caller_nonce: bytes, *, is_request: bool) -> None:
        super().__init__("flow_malformed", why)
        self.caller_nonce = caller_nonce
        self.is_request = is_request


class Message(msgspec.Struct, frozen=True):
    """A message of version 1. The value of an absent TLV is None.

    Nonces have 8 octets. `flow_port` is a UDP port, `lifetime_s` seconds, `reason_code` a number of Reason or a later
    one. `has_auth`: the last 18 octets are an AUTH TLV, which auth.py makes and checks.
    """

    kind: Kind
    caller_nonce: bytes
    holder_nonce: bytes = NO_NONCE
    is_reply: bool = False
    name: str | None = None
    flow_port: int | None = None
    lifetime_s: int | None = None
    quality: Quality | None = None
    reason_code: int | None = None
    reason_text: str = ""
    caller: str | None = None
    cookie: bytes | None = None
    has_auth: bool = False


def is_version_1(octets: bytes) -> bool:
    """True for any version but 0: the octets cannot be a name."""
    return octets[:1] == b"\0"


def decode(octets: bytes) -> Message:
    """Read a message. Raises MalformedMessage with the counter flow_short, flow_long or flow_malformed."""
    if not octets:
        raise MalformedMessage("flow_short", "an empty datagram")
    if len(octets) > MAX_OCTETS:
        raise MalformedMessage("flow_long", f"{len(octets)} octets")
    if len(octets) < HEADER.size:
        raise MalformedMessage("flow_short", f"a header cut to {len(octets)} octets")
    magic, version, kind, flags, _, caller_nonce, holder_nonce = HEADER.unpack_from(octets)
    if magic != MAGIC:
        raise MalformedMessage("flow_malformed", "neither a name nor a flow message")
    is_request = kind == Kind.REQUEST
    if is_request and len(octets) < MIN_REQUEST_OCTETS:
        raise MalformedMessage("flow_short", f"a REQUEST of {len(octets)} octets")
    if version != VERSION:
        raise Unsupported(f"version {version}", caller_nonce, is_request=is_request)
    if kind not in Kind.__members__.values():
        raise MalformedMessage("flow_malformed", f"type {kind}")
    is_reply = bool(flags & REPLY_FLAG)
    if is_reply and kind not in ANSWERED:
        raise MalformedMessage("flow_malformed", f"a reply flag on {Kind(kind).name}")
    values = _take_tlvs(octets, caller_nonce, is_request=is_request)
    message = _with_values(Message(Kind(kind), caller_nonce, holder_nonce, is_reply), values)
    if is_request and message.name is None:
        raise MalformedMessage("flow_malformed", "a REQUEST without NAME")
    if message.kind is Kind.ACCEPT and message.flow_port is None:
        raise MalformedMessage("flow_malformed", "an ACCEPT without FLOW-PORT")
    return message


def _take_tlvs(octets: bytes, caller_nonce: bytes, *, is_request: bool) -> dict[_Tlv, bytes]:
    """Read all TLVs. An unknown mandatory TLV raises only after the others have been checked."""
    values: dict[_Tlv, bytes] = {}
    unknown: int | None = None
    at = HEADER.size
    while at < len(octets):
        if _Tlv.AUTH in values:
            raise MalformedMessage("flow_malformed", "a TLV behind AUTH")
        if at + 2 > len(octets) or at + 2 + octets[at + 1] > len(octets):
            raise MalformedMessage("flow_malformed", "a TLV over the end")
        number, value = octets[at], octets[at + 2 : at + 2 + octets[at + 1]]
        at += 2 + len(value)
        if number not in _Tlv.__members__.values():
            if number >= _MANDATORY and unknown is None:
                unknown = number
            continue
        tlv = _Tlv(number)
        if len(value) not in _LENGTHS[tlv]:
            raise MalformedMessage("flow_malformed", f"{tlv.name} of {len(value)} octets")
        if tlv is _Tlv.PAD:
            continue
        if tlv in values:
            raise MalformedMessage("flow_malformed", f"{tlv.name} twice")
        values[tlv] = value
    if unknown is not None:
        raise Unsupported(f"a TLV of type {unknown:#x}", caller_nonce, is_request=is_request)
    return values


def _with_values(bare: Message, values: dict[_Tlv, bytes]) -> Message:
    flow_port = _number(values.get(_Tlv.FLOW_PORT))
    if flow_port == 0:
        raise MalformedMessage("flow_malformed", "FLOW-PORT 0")
    reason = values.get(_Tlv.REASON)
    try:
        name = read_name(values[_Tlv.NAME]) if _Tlv.NAME in values else None
        text = reason[1:].decode("utf-8") if reason is not None else ""
        caller = values[_Tlv.CALLER].decode("utf-8") if _Tlv.CALLER in values else None
    except (InvalidName, UnicodeDecodeError) as bad:
        raise MalformedMessage("flow_malformed", str(bad)) from None
    return Message(
        bare.kind,
        bare.caller_nonce,
        bare.holder_nonce,
        bare.is_reply,
        name=name,
        flow_port=flow_port,
        lifetime_s=_number(values.get(_Tlv.LIFETIME)),
        quality=Quality.from_octets(values[_Tlv.QOS]) if _Tlv.QOS in values else None,
        reason_code=reason[0] if reason is not None else None,
        reason_text=text,
        caller=caller,
        cookie=values.get(_Tlv.COOKIE),
        has_auth=_Tlv.AUTH in values,
    )


def _number(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value)


def encode(message: Message, *, pad_to: int = 0) -> bytes:
    """The octets of a message, without AUTH, padded with PAD to `pad_to` octets at least.

    A PAD has two octets or more. A REQUEST is padded to the 128 octets that it must have.
    """
    flags = REPLY_FLAG if message.is_reply else 0
    parts = [HEADER.pack(MAGIC, VERSION, message.kind, flags, 0, message.caller_nonce, message.holder_nonce)]
    if message.name is not None:
        parts.append(_tlv(_Tlv.NAME, message.name.encode()))
    if message.flow_port is not None:
        parts.append(_tlv(_Tlv.FLOW_PORT, message.flow_port.to_bytes(2)))
    if message.lifetime_s is not None:
        parts.append(_tlv(_Tlv.LIFETIME, message.lifetime_s.to_bytes(2)))
    if message.quality is not None:
        parts.append(_tlv(_Tlv.QOS, message.quality.to_octets()))
    if message.reason_code is not None:
        parts.append(_tlv(_Tlv.REASON, bytes([message.reason_code]) + _cut(message.reason_text)))
    if message.caller is not None:
        parts.append(_tlv(_Tlv.CALLER, _cut(message.caller, MAX_CALLER_OCTETS)))
    if message.cookie is not None:
        parts.append(_tlv(_Tlv.COOKIE, message.cookie))
    octets = b"".join(parts)
    wanted = max(pad_to, MIN_REQUEST_OCTETS if message.kind is Kind.REQUEST else 0)
    while len(octets) < wanted:
        octets += _tlv(_Tlv.PAD, bytes(min(max(wanted - len(octets) - 2, 0), 255)))
    return octets


def _tlv(tlv: _Tlv, value: bytes) -> bytes:
    return bytes([tlv, len(value)]) + value


def _cut(text: str, most: int = MAX_REASON_TEXT_OCTETS) -> bytes:
    """UTF-8 of at most `most` octets, truncated between characters."""
    return text.encode()[:most].decode("utf-8", "ignore").encode()


def decode_name(octets: bytes) -> str:
    """Read a request of version 0: a full name. A NUL at its end is dropped. Raises MalformedMessage."""
    if not octets:
        raise MalformedMessage("flow_short", "an empty datagram")
    try:
        return read_name(octets[:-1] if octets.endswith(b"\0") else octets)
    except InvalidName as bad:
        counter = "flow_long" if len(octets) > MAX_OCTETS else "flow_name"
        raise MalformedMessage(counter, str(bad)) from None
