"""The message of lisp-echo: a UDP datagram, or a record in a TCP stream. Pure.

    |                         Magic "LMEC"                          |
    |  Version = 1  |     Kind      |      Length, in octets        |
    |                          Session (64)                         |
    |                          Sequence (64)                        |
    |                          Arrivals (64)                        |   0 in a question
    |                    Clock of the server, ns (64)               |   0 in a question
    |                           Filling ...                         |

A server answers only questions (kind 1). Its answer (kind 2) is the question with kind, Arrivals and Clock changed. So
an answer is never larger than its question, and two servers cannot keep each other busy. Arrivals counts the questions
of a session in the order of arrival, from 1; 0: the server has no room to count.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import LispError

MAGIC: Final = b"LMEC"
VERSION: Final = 1
HEADER: Final = Struct(">4sBBHQQQQ")
SHORTEST: Final = HEADER.size
LONGEST: Final = 65507  # a UDP datagram over IPv4
DEFAULT_PORT: Final = 61007
"""Ours: not assignable by IANA (RFC 6335, 6), and outside of Linux's ephemeral ports."""

_KIND_AT: Final = 5
_ANSWERED: Final = Struct(">QQ")
_ANSWERED_AT: Final = SHORTEST - _ANSWERED.size


class Kind(IntEnum):
    """The type of a message."""

    QUESTION = 1
    ANSWER = 2


class NoEcho(LispError):
    """The octets are no message of lisp-echo."""


class Echo(msgspec.Struct, frozen=True):
    """The head of a message; `length` is that of the whole message."""

    kind: Kind
    length: int
    session: int
    sequence: int
    arrivals: int = 0
    clock_ns: int = 0


def question(session: int, sequence: int, length: int) -> bytes:
    """A question of `length` octets. ValueError for fewer than the head has, or more than a datagram holds."""
    if not SHORTEST <= length <= LONGEST:
        raise ValueError(f"{length} is not {SHORTEST} to {LONGEST}")
    return HEADER.pack(MAGIC, VERSION, Kind.QUESTION, length, session, sequence, 0, 0) + bytes(length - SHORTEST)


def read_head(octets: bytes) -> Echo:
    """Read the head of a message. Raises NoEcho."""
    if len(octets) < SHORTEST:
        raise NoEcho(f"{len(octets)} octets, fewer than the {SHORTEST} of the head")
    magic, version, kind, length, session, sequence, arrivals, clock_ns = HEADER.unpack_from(octets)
    if magic != MAGIC or version != VERSION or kind not in (Kind.QUESTION, Kind.ANSWER):
        raise NoEcho("not a message of lisp-echo, or of another version")
    if not SHORTEST <= length <= LONGEST:
        raise NoEcho(f"a length of {length}")
    return Echo(Kind(kind), length, session, sequence, arrivals, clock_ns)


def read_datagram(octets: bytes) -> Echo:
    """Read a datagram, which is exactly one message. Raises NoEcho."""
    head = read_head(octets)
    if head.length != len(octets):
        raise NoEcho(f"{len(octets)} octets, and a length of {head.length}")
    return head


def answer_to(octets: bytes, arrivals: int, clock_ns: int) -> bytes:
    """The answer to a complete question: as long as the question, with our two numbers in it."""
    answer = bytearray(octets)
    answer[_KIND_AT] = Kind.ANSWER
    _ANSWERED.pack_into(answer, _ANSWERED_AT, arrivals, clock_ns)
    return bytes(answer)
