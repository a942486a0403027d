"""DNS messages by dnspython: decodes questions and encodes answers. No other module here imports that library."""

from __future__ import annotations

from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import msgspec

from lispmob.names.zone import TTL_S, Answer, Labels, RCode, Record

HEADER_OCTETS: Final = 12  # RFC 1035, 4.1.1
UDP_OCTETS: Final = 1232  # ours: the most octets of an answer over UDP, whatever the client offers (DNS Flag Day 2020)
LEAST_OCTETS: Final = 512  # RFC 1035, 4.2.1
TCP_OCTETS: Final = 65535
_RESPONSE: Final = 0x80
_TRANSFERS: Final = (dns.rdatatype.AXFR, dns.rdatatype.IXFR)  # RFC 5936, 2.2.1: of the zone as a whole
_OF_MESSAGES: Final = (dns.rdatatype.OPT, dns.rdatatype.TSIG, dns.rdatatype.TKEY)  # what no name has
_SERVER: Final = "lispd"


class Question(msgspec.Struct, frozen=True):
    """A DNS question. `refusal`: the code to refuse it with, whatever it asks for. `message`: the library's."""

    name: Labels
    kind: str
    message: dns.message.Message
    refusal: RCode | None = None


def read_question(raw: bytes) -> Question | bytes | None:
    """The question in a datagram; the octets of an error answer; None for a datagram that must not be answered."""
    if len(raw) < HEADER_OCTETS or raw[2] & _RESPONSE:
        return None  # to answer an answer would make a loop
    try:
        message = dns.message.from_wire(raw, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, KeyError, IndexError):
        return raw[:2] + bytes([_RESPONSE | raw[2] & 0x79, RCode.FORMERR]) + bytes(8)
    if message.opcode() != dns.opcode.QUERY:
        return Question((), "", message, RCode.NOTIMP)
    if len(message.question) != 1:
        return Question((), "", message, RCode.FORMERR)
    if message.edns > 0:
        return Question((), "", message, RCode.BADVERS)
    (asked,) = message.question
    if asked.rdtype in _OF_MESSAGES:
        return Question((), "", message, RCode.FORMERR)
    if asked.rdtype in _TRANSFERS:
        return Question((), "", message, RCode.REFUSED)
    is_ours = asked.rdclass in (dns.rdataclass.IN, dns.rdataclass.ANY)
    kind = dns.rdatatype.to_text(asked.rdtype)
    return Question(asked.name.labels[:-1], kind, message, None if is_ours else RCode.REFUSED)


def write_answer(question: Question, answer: Answer, *, is_tcp: bool = False) -> bytes:
    """Encode the answer; over UDP it is cut and marked as truncated where the client takes no more."""
    response = dns.message.make_response(question.message, our_payload=UDP_OCTETS, recursion_available=False)
    response.set_rcode(dns.rcode.Rcode(answer.rcode))
    if answer.zone is not None:
        response.flags |= dns.flags.AA
    if response.question:
        owner = response.question[0].name
        for kind in dict.fromkeys(record.kind for record in answer.records):
            texts = [_text(record, answer.zone or ()) for record in answer.records if record.kind == kind]
            response.answer.append(dns.rrset.from_text(owner, TTL_S, "IN", kind, *texts))
    if answer.zone is not None and not answer.records:
        zone = _dotted(answer.zone)
        response.authority.append(dns.rrset.from_text(zone, TTL_S, "IN", "SOA", _soa(answer.zone)))
    offered = question.message.payload if question.message.edns >= 0 else LEAST_OCTETS
    room = TCP_OCTETS if is_tcp else min(max(offered, LEAST_OCTETS), UDP_OCTETS)
    try:
        return response.to_wire(max_size=room)
    except dns.exception.TooBig:
        response.answer.clear()
        response.authority.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=room)


def _text(record: Record, zone: Labels) -> str:
    if record.kind == "SOA":
        return _soa(zone)
    if record.kind == "NS":
        return f"{_SERVER}.{_dotted(zone)}"
    value = record.value
    if not isinstance(value, tuple):
        return str(value)
    port, *_ = value
    return f"0 0 {port} {_dotted(value[1])}" if isinstance(port, int) else _dotted(value)


def _soa(zone: Labels) -> str:
    """Serial, refresh, retry, expire, and how long "no such name" may be cached (RFC 2308, 5)."""
    return f"{_SERVER}.{_dotted(zone)} hostmaster.{_dotted(zone)} 1 3600 600 86400 {TTL_S}"


def _dotted(name: object) -> str:
    assert isinstance(name, tuple)
    return "".join(f"{label.decode('ascii')}." for label in name)
