"""A DNS64 server (RFC 6147) for one name, by which hosts find the prefix of their translator (RFC 7050); pure."""

from __future__ import annotations

import struct
from ipaddress import IPv6Network
from typing import Final

from lispmob.wire.embedded_ipv4 import IPV4_ONLY, IPV4_ONLY_NAME, embed

_HEADER: Final = struct.Struct("!HHHHHH")
_ANSWER: Final = struct.Struct("!HHHIH")
_IS_ANSWER, _RECURSION_AVAILABLE, _NO_SUCH_NAME = 0x8000, 0x0080, 0x0003
_COPIED_FLAGS: Final = 0x0110  # recursion desired, checking disabled
_A, _AAAA, _IN = 1, 28, 1
_QUESTION_AT: Final = 0xC00C  # a pointer to the question's name (RFC 1035, 4.1.4)
_TTL_S: Final = 60


def answer(question: bytes, prefix: IPv6Network) -> bytes | None:
    """The answer to a datagram; None if it is no question. Other names do not exist."""
    if len(question) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(question)
    end = question.find(b"\0", _HEADER.size) + 5
    if flags & _IS_ANSWER or questions != 1 or end < 5 or end > len(question):
        return None
    asked = question[_HEADER.size : end]
    kind, family = struct.unpack("!HH", asked[-4:])
    is_known = asked[:-4].lower() == _labels(IPV4_ONLY_NAME) and family == _IN
    found: list[bytes] = []
    if is_known and kind == _A:
        found = [address.packed for address in IPV4_ONLY]
    elif is_known and kind == _AAAA:
        found = [embed(prefix, address).packed for address in IPV4_ONLY]
    code = 0 if is_known else _NO_SUCH_NAME
    header = _HEADER.pack(number, _IS_ANSWER | _RECURSION_AVAILABLE | flags & _COPIED_FLAGS | code, 1, len(found), 0, 0)
    records = (_ANSWER.pack(_QUESTION_AT, kind, _IN, _TTL_S, len(octets)) + octets for octets in found)
    return header + asked + b"".join(records)


def _labels(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
