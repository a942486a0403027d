"""How long a flow message may be, and which unknown parts of it are skipped."""

from __future__ import annotations

import pytest

from lispmob.errors import MalformedMessage
from lispmob.flow.message import MAGIC, VERSION, Kind, Unsupported, decode, decode_name

NONCE = bytes(range(8))


def message(kind: Kind, *tlvs: tuple[int, bytes]) -> bytes:
    body = b"".join(bytes((number, len(value))) + value for number, value in tlvs)
    return MAGIC + bytes((VERSION, kind, 0, 0, 0)) + NONCE + bytes(8) + body


def request(octets: int) -> bytes:
    """A REQUEST of so many octets: 24 of them are the header, 5 the name, the rest is padding."""
    left, pads = octets - 29, []
    while left:
        size = min(left, 257) if left != 258 else 200
        pads.append((0x08, bytes(size - 2)))
        left -= size
    return message(Kind.REQUEST, (0x01, b"nas"), *pads)


def refusal(octets: bytes) -> str | None:
    try:
        decode(octets)
    except MalformedMessage as malformed:
        return malformed.counter
    return None


@pytest.mark.parametrize(
    ("octets", "counter"), [(127, "flow_short"), (128, None), (511, None), (512, None), (513, "flow_long")]
)
def test_a_request_has_128_to_512_octets(octets: int, counter: str | None) -> None:
    assert len(request(octets)) == octets
    assert refusal(request(octets)) == counter


@pytest.mark.parametrize(("octets", "counter"), [(0, "flow_short"), (23, "flow_short"), (24, None)])
def test_any_other_message_has_a_header_at_least(octets: int, counter: str | None) -> None:
    assert refusal(message(Kind.CONFIRM)[:octets]) == counter


@pytest.mark.parametrize(("number", "is_refused"), [(0x09, False), (0x7F, False), (0x80, True), (0xFF, True)])
def test_an_unknown_part_is_skipped_below_128_and_refuses_the_message_from_there_on(
    number: int, is_refused: bool
) -> None:
    octets = message(Kind.CONFIRM, (number, b"what is this"))

    if is_refused:
        with pytest.raises(Unsupported, match=f"{number:#x}"):
            decode(octets)
    else:
        assert decode(octets).kind is Kind.CONFIRM


@pytest.mark.parametrize(
    ("number", "lengths", "kind"),
    [
        (0x03, {1: False, 2: True, 3: False}, Kind.CONFIRM),  # LIFETIME
        (0x05, {0: False, 1: True, 81: True, 82: False}, Kind.REFUSE),  # REASON: a code and 80 octets of text
        (0x06, {0: False, 1: True, 64: True, 65: False}, Kind.CONFIRM),  # CALLER
        (0x07, {7: False, 8: True, 9: False}, Kind.WAIT),  # COOKIE
        (0x08, {0: True, 255: True}, Kind.CONFIRM),  # PAD
    ],
)
def test_each_part_has_its_lengths(number: int, lengths: dict[int, bool], kind: Kind) -> None:
    assert {length: refusal(message(kind, (number, b"a" * length))) is None for length in lengths} == lengths


@pytest.mark.parametrize(("octets", "counter"), [(512, "flow_name"), (513, "flow_long")])
def test_a_name_that_is_too_long_is_called_long_when_the_datagram_is(octets: int, counter: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_name(b"n" * octets)

    assert caught.value.counter == counter


@pytest.mark.parametrize(("octets", "is_name"), [(255, True), (256, False)])
def test_a_name_has_255_octets_at_most(octets: int, is_name: bool) -> None:
    text = "n." * (octets // 2) + "n" * (octets % 2) if octets % 2 else "n." * (octets // 2 - 1) + "nn"
    assert len(text) == octets

    if is_name:
        assert decode_name(text.encode() + b"\0") == text
    else:
        with pytest.raises(MalformedMessage):
            decode_name(text.encode())
