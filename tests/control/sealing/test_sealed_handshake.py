"""The handshake for sealed data: it agrees with vectors of other code, and refuses every message that is not valid."""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.control.sealing.noise import KeyPair, Responder
from lispmob.control.sealing.sealed_handshake import Answered, OpenHandshake, Pair, Session, answer
from lispmob.errors import MalformedMessage
from lispmob.wire.sealed_handshake import AES_128_GCM, CHACHA20_POLY1305, FirstMessage, SecondMessage, put_choice
from tests.control.support import ip
from tests.crypto.support import ciphers, needs_libcrypto

pytestmark = needs_libcrypto

VECTORS: Final[dict[str, Any]] = tomllib.loads(
    (Path(__file__).resolve().parents[2] / "vectors" / "sealed.toml").read_text()
)
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ALICE_EPHEMERAL, BOB_EPHEMERAL = bytes(range(0x20, 0x40)), bytes(range(0x40, 0x60))
PAIR = Pair(0, ip("10.1.0.1"), ip("10.2.0.7"))
NOW_NS = 1_700_000_000_000_000_000


def octets(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


def pair_of(private: bytes) -> KeyPair:
    return KeyPair.of(private, ciphers())


def begun(pair: Pair = PAIR, aeads: int = 3, peer: bytes | None = None) -> tuple[OpenHandshake, bytes]:
    peer = pair_of(BOB).public if peer is None else peer
    one = OpenHandshake(ciphers(), pair, pair_of(ALICE), peer, ephemeral=ALICE_EPHEMERAL, index=0x11111111)
    return one, one.begin(NOW_NS, aeads)


def answered(
    first: bytes,
    pair: Pair = PAIR,
    *,
    private: bytes = BOB,
    latest: int = 0,
    aeads: int = 3,
    new_ephemeral: Callable[[], bytes] = lambda: BOB_EPHEMERAL,
) -> Answered:
    return answer(
        ciphers(),
        pair,
        pair_of(private),
        first,
        latest_of=lambda _key: latest,
        new_ephemeral=new_ephemeral,
        index=0x22222222,
        aeads=aeads,
    )


def refusal(act: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(MalformedMessage) as refused:
        act(*arguments, **options)
    return refused.value.counter


def test_both_messages_and_the_keys_are_those_of_the_vectors() -> None:
    alice, first = begun()
    told = answered(first)
    session = alice.finish(told.message)

    assert first == octets("first")
    assert told.message == octets("second")
    assert session.transcript == octets("transcript")
    assert session.send_key == octets("to_responder")[:16]  # AES-128-GCM
    assert session.receive_key == octets("to_initiator")[:16]


@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [(3, 3, AES_128_GCM), (2, 3, CHACHA20_POLY1305), (3, 2, CHACHA20_POLY1305), (1, 3, 1)],
)
def test_both_sides_have_the_same_session_mirrored(offered: int, ours: int, chosen: int) -> None:
    alice, first = begun(aeads=offered)
    told = answered(first, aeads=ours)
    one, other = alice.finish(told.message), told.session

    mirrored = Session(
        peer=pair_of(ALICE).public,
        aead=one.aead,
        own_index=one.peer_index,
        peer_index=one.own_index,
        send_key=one.receive_key,
        receive_key=one.send_key,
        transcript=one.transcript,
    )
    assert (other, one.aead, one.peer, told.timestamp_ns) == (mirrored, chosen, pair_of(BOB).public, NOW_NS)
    assert len(one.send_key) == (16 if chosen == AES_128_GCM else 32)


def test_no_octet_of_the_first_message_can_be_changed_but_the_index() -> None:
    """The index is not hashed; mac1 covers it, and every node that knows the receiver can compute that."""
    first = octets("first")
    for place in range(len(first)):
        changed = first[:place] + bytes((first[place] ^ 1,)) + first[place + 1 :]
        assert refusal(answered, changed) == "rx_auth"

    message = FirstMessage.decode(first, pair_of(BOB).public)
    for wrong in (
        replace(message, ephemeral_key=bytes(32)),  # of small order: no secret
        replace(message, ephemeral_key=BOB_EPHEMERAL),
        replace(message, sealed_static_key=bytes(48)),
        replace(message, sealed_offer=bytes(28)),
        replace(message, sender=0),
    ):
        assert refusal(answered, wrong.encode(pair_of(BOB).public)) == "rx_auth"


def test_no_octet_of_the_second_message_can_be_changed_but_the_responder_s_index() -> None:
    second = octets("second")
    for place in range(len(second)):
        alice, _ = begun()
        changed = second[:place] + bytes((second[place] ^ 1,)) + second[place + 1 :]
        assert refusal(alice.finish, changed) == "rx_auth"

    message = SecondMessage.decode(second, pair_of(ALICE).public)
    for wrong in (
        replace(message, ephemeral_key=bytes(32)),
        replace(message, ephemeral_key=ALICE_EPHEMERAL),
        replace(message, sealed_choice=bytes(20)),
        replace(message, receiver=1),
        replace(message, sender=0),
    ):
        alice, _ = begun()
        assert refusal(alice.finish, wrong.encode(pair_of(ALICE).public)) == "rx_auth"


def with_mac(head: bytes, receiver: bytes) -> bytes:
    """The message with the mac1 that every node can compute."""
    key = hashlib.sha256(b"lispmob mac1" + receiver).digest()
    return head + hmac.digest(key, head, "sha256")[:16]


@pytest.mark.parametrize("start", [b"\x01\x00", b"\x01\x02", b"\x01\xff", b"\x00\x01", b"\x02\x01", b"\x03\x01"])
def test_a_first_message_of_another_type_or_version_is_refused_whatever_its_mac(start: bytes) -> None:
    head = octets("first")[:-16]
    assert with_mac(head, pair_of(BOB).public) == octets("first")

    assert refusal(answered, with_mac(start + head[2:], pair_of(BOB).public)) == "rx_auth"


@pytest.mark.parametrize("start", [b"\x02\x00", b"\x02\x02", b"\x02\xff", b"\x00\x01", b"\x01\x01", b"\x03\x01"])
def test_a_second_message_of_another_type_or_version_is_refused_whatever_its_mac(start: bytes) -> None:
    head = octets("second")[:-16]
    alice, _ = begun()

    assert refusal(alice.finish, with_mac(start + head[2:], pair_of(ALICE).public)) == "rx_auth"
    assert alice.finish(octets("second")).transcript == octets("transcript")


@pytest.mark.parametrize(("name", "read"), [("first", answered), ("second", lambda data: begun()[0].finish(data))])
def test_a_message_of_another_length_is_no_handshake(name: str, read: Callable[[bytes], object]) -> None:
    whole = octets(name)
    for data in (b"", *(whole[:end] for end in range(1, len(whole))), whole + b"\0"):
        assert refusal(read, data) == "rx_lcaf"


@pytest.mark.parametrize(
    "other",
    [
        Pair(1, PAIR.initiator, PAIR.responder),
        Pair(0, ip("10.1.0.2"), PAIR.responder),
        Pair(0, PAIR.initiator, ip("10.2.0.8")),
        Pair(0, PAIR.responder, PAIR.initiator),
        Pair(0, PAIR.initiator, None),
    ],
)
def test_a_handshake_counts_for_no_other_pair_of_eids(other: Pair) -> None:
    _, first = begun()

    assert refusal(answered, first, other) == "rx_auth"


def test_a_node_without_the_private_key_cannot_answer() -> None:
    alice, first = begun()
    mallory = bytes(range(0x60, 0x80))

    assert refusal(answered, first, private=mallory) == "rx_auth"  # mac1 is wrong already
    _, for_mallory = begun(peer=pair_of(mallory).public)
    told = answered(for_mallory, private=mallory)
    assert refusal(alice.finish, told.message) == "rx_auth"


def test_a_first_message_counts_once() -> None:
    _, first = begun()

    assert refusal(answered, first, latest=NOW_NS) == "rx_replay"
    assert refusal(answered, first, latest=NOW_NS + 1) == "rx_replay"
    assert answered(first, latest=NOW_NS - 1)


def test_our_own_key_and_aeads_that_are_not_ours_are_refused() -> None:
    _, to_itself = begun(peer=pair_of(ALICE).public)
    _, first = begun(aeads=1)
    _, unknown = begun(aeads=0xF0)

    assert refusal(answered, to_itself, private=ALICE) == "rx_policy"
    assert refusal(answered, first, aeads=2) == "rx_policy"
    assert refusal(answered, unknown) == "rx_policy"


def test_an_aead_that_was_not_offered_is_not_used() -> None:
    alice, _ = begun(aeads=2)
    _, both = begun(aeads=3)
    told = answered(both)  # chooses AES-128-GCM, by another transcript: Alice refuses it before she reads the choice

    assert refusal(alice.finish, told.message) == "rx_auth"


@pytest.mark.parametrize(("offered", "chosen"), [(2, 1), (1, 2), (3, 0), (3, 3), (3, 4), (1, 255)])
def test_a_genuine_responder_that_chooses_what_was_not_offered_gets_no_session(offered: int, chosen: int) -> None:
    alice, first = begun(aeads=offered)
    message, noise = (
        FirstMessage.decode(first, pair_of(BOB).public),
        Responder(ciphers(), PAIR.prologue(), pair_of(BOB)),
    )
    noise.read(message.ephemeral_key, message.sealed_static_key, message.sealed_offer)
    sealed, _ = noise.answer(pair_of(BOB_EPHEMERAL), put_choice(chosen))
    second = SecondMessage(0x22222222, message.sender, pair_of(BOB_EPHEMERAL).public, sealed)

    assert refusal(alice.finish, second.encode(pair_of(ALICE).public)) == "rx_policy"


def test_nothing_is_drawn_for_a_message_that_is_not_genuine() -> None:
    def drawn() -> bytes:
        raise AssertionError("an ephemeral key was drawn")

    first = octets("first")

    assert refusal(answered, first[:-1] + b"?", new_ephemeral=drawn) == "rx_auth"
    assert refusal(answered, first, latest=NOW_NS, new_ephemeral=drawn) == "rx_replay"


def test_secrets_do_not_show_in_a_text() -> None:
    alice, first = begun()
    session = alice.finish(answered(first).message)

    assert session.send_key.hex() not in repr(session)
    assert ALICE.hex() not in repr(pair_of(ALICE))


@settings(max_examples=50)
@given(st.binary(min_size=132, max_size=132), st.binary(min_size=80, max_size=80))
def test_any_octets_are_refused_and_nothing_else_happens(first: bytes, second: bytes) -> None:
    alice, _ = begun()

    assert refusal(answered, first) == "rx_auth"
    assert refusal(alice.finish, second) == "rx_auth"
