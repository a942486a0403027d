"""What decoders promise for any octets: a message or MalformedMessage, and a message encodes to what was read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any, Final

from msgspec.structs import replace

from lispmob.control.sealing.handshake_carriage import take_first, take_second
from lispmob.crypto.key_wrap import KeyWrapMissingError
from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.flow import message as flow_message
from lispmob.hub.inviting.invitations import Invitations
from lispmob.hub.inviting.invitations import Offer as JoinOffer
from lispmob.hub.rtr.relayed import decode_relayed
from lispmob.joining.exchange import Exchange, JoinRefused, Message, Verdict, encode
from lispmob.joining.invitation import BadInvitation, read_invitation
from lispmob.names.dns_message import Question, read_question, write_answer
from lispmob.names.zone import Answer, Zone
from lispmob.protocol.effect import NameResolved
from lispmob.tools.echo_message import NoEcho, read_datagram
from lispmob.wire.auth import Key, verify
from lispmob.wire.data_header import DataHeader, split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.key_record import take_key_record
from lispmob.wire.lisp_sec import MapReplySecurity
from lispmob.wire.lisp_sec_auth import HKDF_SHA_256, HMAC_SHA_256_128, NotGenuine, verify_reply
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_referral import MapReferral
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.sealed_handshake import FirstMessage, Offer, SecondMessage
from tests.fuzz.more_targets import more_targets

KEY: Final = Key(b"a key")


def _ciphers() -> NoiseCiphers | None:
    try:
        return NoiseCiphers()
    except KeyWrapMissingError:
        return None


CIPHERS: Final = _ciphers()  # None: a build without libcrypto, which joins nothing
ZONE: Final = Zone("lisp.home.arpa", (ip_network("10.2.0.0/16"), ip_network("fd00:99::/32")))


def _round_trip(decode: Callable[[bytes], Any]) -> Callable[[bytes], None]:
    """A target: octets that decode are encoded to octets that decode to the same again."""

    def check(octets: bytes) -> None:
        message = decode(octets)
        again = decode(message.encode())
        assert again == message, (octets.hex(), message, again)

    return check


def _genuine(octets: bytes) -> None:
    """Read as an ITR does with a Map-Reply that it asked for with LISP-SEC."""
    try:
        verify_reply(octets, MapReply.decode(octets), bytes(16), HMAC_SHA_256_128, HKDF_SHA_256)
    except NotGenuine:
        return


def _handshake(decode: Callable[[bytes, bytes], Any]) -> Callable[[bytes], None]:
    """A target: octets with a valid mac1, which every node can make, so that the rest is read."""

    def check(octets: bytes) -> None:
        key = hashlib.sha256(b"lispmob mac1" + bytes(32)).digest()
        message = decode(octets + hmac.digest(key, octets, "sha256")[:16], bytes(32))
        assert decode(message.encode(bytes(32)), bytes(32)) == message

    return check


def _key_records(octets: bytes) -> None:
    """Read a mapping, and check that a key record in it stands at one of its locators."""
    for record in MapReply.decode(octets).records:
        _, keys = take_key_record(record)
        assert keys is None or keys.to_locator().address in [locator.address for locator in record.locators]


def _authentication(octets: bytes) -> None:
    try:
        verify(octets, KEY)
    except AuthenticationFailed:
        return


def _flow_message(octets: bytes) -> None:
    """As `_round_trip`, without AUTH: the encoder does not write it, since it signs a message for one path."""
    message = replace(flow_message.decode(octets), has_auth=False)
    again = flow_message.decode(flow_message.encode(message))
    assert again == message, (octets.hex(), message, again)


def _flow_name(octets: bytes) -> None:
    name = flow_message.decode_name(octets)
    assert flow_message.decode_name(name.encode()) == name, octets.hex()


def _echo(octets: bytes) -> None:
    try:
        read_datagram(octets)
    except NoEcho:
        return


def _join_message(octets: bytes) -> None:
    """Read by a hub without invitations; the answer is no longer than the question."""
    answered = Invitations(JoinOffer(), CIPHERS, bytes).on_question(octets, ip_address("192.0.2.1"), 0.0, 0.0)
    assert len(answered.payload) <= len(octets)


def _join_answer(octets: bytes) -> None:
    """Read by a node that redeems an invitation, with the MAC of a sender that has the secret."""
    if CIPHERS is None:
        return
    exchange = Exchange(Verdict.QUESTION, bytes(8), bytes(16), bytes(range(32)), CIPHERS)
    told = Message.decode(octets)
    proved = encode(told.verdict, bytes(8), told.public_key, told.body, bytes(16))
    for answer in (octets, proved):
        try:
            exchange.on_answer(answer)
        except (JoinRefused, MalformedMessage):
            continue


def _invitation(octets: bytes) -> None:
    try:
        made = read_invitation(octets.decode("utf-8", "replace"))
    except BadInvitation:
        return
    assert read_invitation(made.line()) == made


def _dns_question(octets: bytes) -> None:
    """Read a DNS question, and write an answer to it over UDP and TCP."""
    question = read_question(octets)
    if not isinstance(question, Question):
        return
    wanted = ZONE.question(question.name, question.kind)
    known = NameResolved(b"nas", (ip_address("10.2.0.7"),), "", names=(b"nas",))
    answer = wanted if isinstance(wanted, Answer) else ZONE.answer(wanted, question.kind, known)
    for is_tcp in (False, True):
        assert write_answer(question, answer, is_tcp=is_tcp)[2] & 0x80


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    **more_targets(CIPHERS),
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
    "lisp-sec-reply": _genuine,
    "handshake-first": _handshake(FirstMessage.decode),
    "handshake-second": _handshake(SecondMessage.decode),
    "handshake-offer": _round_trip(Offer.decode),
    "handshake-probe": lambda octets: (take_first(MapRequest.decode(octets)), None)[1],
    "handshake-answer": lambda octets: (take_second(MapReply.decode(octets)), None)[1],
    "key-record": _key_records,
    "data-packet": lambda octets: (split_data_packet(octets), None)[1],
    "ip-udp": lambda octets: (parse_ip_udp(octets), None)[1],
    "authentication": _authentication,
    "flow-message": _flow_message,
    "flow-name": _flow_name,
    "relayed-register": lambda octets: (decode_relayed(octets), None)[1],
    "echo": _echo,
    "join-message": _join_message,
    "join-answer": _join_answer,
    "invitation": _invitation,
    "dns-question": _dns_question,
}
"""Every decoder of network input, by name; a test checks that none of `lispmob.wire` is missing."""


def try_one(name: str, octets: bytes) -> None:
    """Try one input. Raises what a decoder must not raise."""
    try:
        TARGETS[name](octets)
    except MalformedMessage:
        return


_NAMES: Final = tuple(TARGETS)


def try_all(octets: bytes) -> None:
    """Try one input; the first octet chooses the decoder, so that one corpus serves all."""
    if octets:
        try_one(_NAMES[octets[0] % len(_NAMES)], octets[1:])
