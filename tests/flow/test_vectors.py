"""The octets of flow messages as they are documented: the code makes and reads each of them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.errors import MalformedMessage
from lispmob.flow.auth import FlowKey, Way, is_signed_by, sign
from lispmob.flow.message import Kind, Message, Reason, Unsupported, decode, decode_name, encode
from lispmob.flow.quality import FlowClass, Quality

A, B = ip_address("10.99.0.1"), ip_address("10.99.0.2")
CALLER = bytes.fromhex("1122334455667788")
HOLDER = bytes.fromhex("a1b2c3d4e5f60718")
BOTH = "1122334455667788 a1b2c3d4e5f60718"
KEY = FlowKey(1, b"correct horse battery")

REQUEST = Message(Kind.REQUEST, CALLER, name="backup.nas", lifetime_s=600)
ACCEPT = Message(Kind.ACCEPT, CALLER, HOLDER, flow_port=40001, lifetime_s=600)
CONFIRM = Message(Kind.CONFIRM, CALLER, HOLDER)
WISH = Quality(FlowClass.VOICE, delay_ms=50, loss=100, rate_kbit=100)

VECTORS = {
    "request": (
        REQUEST,
        "004c460101000000 1122334455667788" + "00" * 8 + "010a6261636b75702e6e6173 03020258 0856" + "00" * 86,
    ),
    "accept": (ACCEPT, f"004c460103000000 {BOTH} 02029c41 03020258"),
    "confirm": (CONFIRM, f"004c460105000000 {BOTH}"),
    "confirmed": (Message(Kind.CONFIRM, CALLER, HOLDER, is_reply=True), f"004c460105800000 {BOTH}"),
    "no such name, asked": (
        Message(Kind.REQUEST, CALLER, name="printer.nas"),
        "004c460101000000 1122334455667788" + "00" * 8 + "010b7072696e7465722e6e6173 0859" + "00" * 89,
    ),
    "no such name": (
        Message(Kind.REFUSE, CALLER, reason_code=Reason.NO_SUCH_NAME, reason_text="no such name"),
        "004c460104000000 1122334455667788" + "00" * 8 + "050d016e6f2073756368206e616d65",
    ),
    "ask again with this": (
        Message(Kind.WAIT, CALLER, cookie=bytes.fromhex("0f1e2d3c4b5a6978")),
        "004c460102000000 1122334455667788" + "00" * 8 + "07080f1e2d3c4b5a6978",
    ),
    "asked with it": (
        Message(Kind.REQUEST, CALLER, name="backup.nas", cookie=bytes.fromhex("0f1e2d3c4b5a6978")),
        "004c460101000000 1122334455667788"
        + "00" * 8
        + "010a6261636b75702e6e6173 07080f1e2d3c4b5a6978 0850"
        + "00" * 80,
    ),
    "a wish": (
        Message(Kind.REQUEST, CALLER, name="voice.nas", quality=WISH, caller="phone@laptop"),
        "004c460101000000 1122334455667788"
        + "00" * 8
        + "0109766f6963652e6e6173 040a01000032006400000064 060c70686f6e65406c6170746f70 0841"
        + "00" * 65,
    ),
    "what is granted of it": (
        Message(Kind.ACCEPT, CALLER, HOLDER, flow_port=40001, quality=Quality(FlowClass.VOICE)),
        f"004c460103000000 {BOTH} 02029c41 040a01000000000000000000",
    ),
    "alive": (Message(Kind.ALIVE, CALLER, HOLDER), f"004c460106000000 {BOTH}"),
    "alive, too": (Message(Kind.ALIVE, CALLER, HOLDER, is_reply=True), f"004c460106800000 {BOTH}"),
    "close": (Message(Kind.CLOSE, CALLER, HOLDER, reason_code=Reason.DONE), f"004c460107000000 {BOTH} 050107"),
    "closed": (Message(Kind.CLOSE, CALLER, HOLDER, is_reply=True), f"004c460107800000 {BOTH}"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_message_has_the_octets_that_are_written_down(name: str) -> None:
    message, octets = VECTORS[name]

    assert encode(message).hex() == octets.replace(" ", "")


@pytest.mark.parametrize("name", VECTORS)
def test_the_octets_that_are_written_down_are_read_as_the_message(name: str) -> None:
    message, octets = VECTORS[name]

    assert decode(bytes.fromhex(octets)) == message


@pytest.mark.parametrize(
    ("message", "way", "auth"),
    [
        (
            Message(Kind.REQUEST, CALLER, name="backup.nas"),
            Way(A, 50000, B, 3359),
            "81120101579c9bfa1d97c3e671c3c7202989fbe1",
        ),
        (ACCEPT, Way(B, 40001, A, 50000), "811201015cb852c7f4d5eace982df45858305da6"),
        (ACCEPT, Way(B, 3359, A, 50000), "811201015929cbd904ca833028bac878ea3cc5b1"),
        (CONFIRM, Way(A, 3359, B, 3359), "811201019d505375ece3447bd5cfea56a947c8e9"),
        (
            CONFIRM,
            Way(ip_address("2001:db8:1::1"), 3359, ip_address("2001:db8:1::2"), 3359),
            "811201016facddd0e32f2c96004ecb270f8ebc69",
        ),
    ],
)
def test_a_message_is_signed_for_the_way_that_it_takes(message: Message, way: Way, auth: str) -> None:
    signed = sign(encode(message), way, KEY)

    assert signed[-20:].hex() == auth
    assert is_signed_by(signed, way, KEY)
    assert not is_signed_by(signed, way.reversed(), KEY)
    assert decode(signed).has_auth


def test_a_signed_request_has_the_length_of_its_padding_and_the_signature() -> None:
    request = sign(encode(Message(Kind.REQUEST, CALLER, name="backup.nas")), Way(A, 50000, B, 3359), KEY)

    assert len(request) == 148


@pytest.mark.parametrize("at", range(24, 148))
def test_no_octet_of_a_signed_request_can_be_changed(at: int) -> None:
    way = Way(A, 50000, B, 3359)
    signed = bytearray(sign(encode(Message(Kind.REQUEST, CALLER, name="backup.nas")), way, KEY))
    signed[at] ^= 1

    assert not is_signed_by(bytes(signed), way, KEY)


REQUEST_HEX = VECTORS["request"][1].replace(" ", "")


def padded(octets: str) -> str:
    """A request filled up to the required length."""
    short = bytes.fromhex(octets.replace(" ", ""))
    while len(short) < 128:
        fill = max(min(128 - len(short) - 2, 255), 0)
        short += bytes([8, fill]) + bytes(fill)
    return short.hex()


HEAD = "004c460101000000 1122334455667788" + "00" * 8


@pytest.mark.parametrize(
    ("octets", "counter"),
    [
        ("", "flow_short"),
        ("00", "flow_short"),
        ("004c4601", "flow_short"),
        (REQUEST_HEX[:46], "flow_short"),
        (HEAD + "0120616263", "flow_short"),  # a request that is too short, whatever its NAME says
        (REQUEST_HEX[:-2], "flow_short"),
        (REQUEST_HEX + "08ff" + "00" * 255 + "08ff" + "00" * 255, "flow_long"),
        (padded(HEAD + "010a6261636b75702e6e6173 010a6261636b75702e6e6173"), "flow_malformed"),
        (padded(HEAD + "0100"), "flow_malformed"),
        (padded(HEAD), "flow_malformed"),
        (padded(HEAD + "010a6261636b75702e6e6173") + "01", "flow_malformed"),
        (f"004c460103000000 {BOTH} 020101", "flow_malformed"),
        (f"004c460103000000 {BOTH} 02020000", "flow_malformed"),
        (f"004c460103000000 {BOTH} 03020258", "flow_malformed"),
        (f"004c460100000000 {BOTH}", "flow_malformed"),
        (f"004c460108000000 {BOTH}", "flow_malformed"),
        (f"004c460103800000 {BOTH} 02029c41", "flow_malformed"),
        (f"004c460105000000 {BOTH} 8112" + "00" * 18 + "0800", "flow_malformed"),
        (f"014c460105000000 {BOTH}", "flow_malformed"),
        (padded(HEAD + "010a6261636b75702e6e6173 0707" + "0f" * 7), "flow_malformed"),
        (padded(HEAD + "010a6261636b75702e6e6173 0709" + "0f" * 9), "flow_malformed"),
    ],
)
def test_what_is_no_message_is_counted_by_its_name(octets: str, counter: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(bytes.fromhex(octets))

    assert caught.value.counter == counter
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize(
    "octets",
    [REQUEST_HEX[:6] + "02" + REQUEST_HEX[8:], padded(HEAD + "010a6261636b75702e6e6173 c000")],
    ids=["version 2", "a mandatory part of later"],
)
def test_a_request_of_later_is_told_apart_so_that_it_can_be_refused(octets: str) -> None:
    with pytest.raises(Unsupported) as caught:
        decode(bytes.fromhex(octets))

    assert caught.value.is_request
    assert caught.value.caller_nonce == CALLER


def test_a_part_of_later_that_may_be_left_out_is_left_out() -> None:
    assert decode(bytes.fromhex(padded(HEAD + "010a6261636b75702e6e6173 400161"))).name == "backup.nas"


@pytest.mark.parametrize(
    ("octets", "name"), [(b"backup.nas", "backup.nas"), (b"backup.nas\0", "backup.nas"), (b"a" * 255, "a" * 255)]
)
def test_a_request_of_version_0_is_a_name(octets: bytes, name: str) -> None:
    assert decode_name(octets) == name


@pytest.mark.parametrize(
    ("octets", "counter"),
    [
        (b"", "flow_short"),
        (b"ba\0\n", "flow_name"),
        (b"ba\0ck", "flow_name"),
        (b"\xff\xfe", "flow_name"),
        (b" backup", "flow_name"),
        (b"back\x7fup", "flow_name"),
        (b"\0", "flow_name"),
        (b"a" * 256, "flow_name"),
        (b"a" * 513, "flow_long"),
    ],
)
def test_what_is_no_name_is_counted_by_its_name(octets: bytes, counter: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_name(octets)

    assert caught.value.counter == counter
