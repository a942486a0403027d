"""The exchange on real sockets over loopback: answers that are lost, late, forged, or from elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.errors import MalformedMessage
from lispmob.joining.exchange import (
    QUESTION_OCTETS,
    JoinRefused,
    Message,
    Redemption,
    Settings,
    Verdict,
    accept,
    refuse,
)
from lispmob.joining.invitation import Invitation
from lispmob.joining.redeeming import HubSilent, HubUnproved, redeem

CIPHERS = NoiseCiphers()
HERE = ip_address("127.0.0.1")
INVITATION = Invitation((HERE,), b"12345678", 29_000_000, b"s" * 16)
SETTINGS = Settings(name="laptop", eids=("10.99.0.1/32",))


def redemption() -> Redemption:
    return Redemption(INVITATION, b"n" * 32, CIPHERS)


def accepted(question: Message) -> bytes:
    made = accept(question, SETTINGS, INVITATION.secret, b"h" * 32, CIPHERS)
    assert made is not None
    return made[0]


@contextmanager
def hub(answer: Callable[[int, Message], list[bytes]]) -> Iterator[int]:
    """A hub that answers each question by its number; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((str(HERE), 0))
        server.settimeout(5)

        def serve() -> None:
            for number in range(5):
                try:
                    raw, sender = server.recvfrom(2048)
                except OSError:
                    return
                assert len(raw) == QUESTION_OCTETS
                for payload in answer(number, Message.decode(raw)):
                    server.sendto(payload, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                for _ in range(5):
                    end.sendto(redemption().question, server.getsockname())
            thread.join()


def test_a_question_that_was_lost_is_asked_again() -> None:
    with hub(lambda number, question: [accepted(question)] if number else []) as port:
        assert redeem(redemption(), (HERE,), port).settings == SETTINGS


def test_what_is_forged_keeps_no_node_from_the_hubs_own_answer() -> None:
    def answer(_: int, question: Message) -> list[bytes]:
        forged = accept(question, SETTINGS, b"x" * 16, b"h" * 32, CIPHERS)
        assert forged is not None
        return [b"", b"\xff\x02", forged[0], refuse(question, Verdict.UNKNOWN, None), accepted(question)]

    with hub(answer) as port:
        assert redeem(redemption(), (HERE,), port).settings == SETTINGS


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (Verdict.USED, "was used already"),
        (Verdict.EXPIRED, "has expired"),
        (Verdict.NOT_NOW, "its log says why"),
    ],
)
def test_a_hub_that_refuses_is_believed_when_it_has_the_secret(verdict: Verdict, why: str) -> None:
    with (
        hub(lambda _, question: [refuse(question, verdict, INVITATION.secret)]) as port,
        pytest.raises(JoinRefused, match=why),
    ):
        redeem(redemption(), (HERE,), port)


def test_an_unknown_invitation_is_told_after_a_while() -> None:
    with (
        hub(lambda _, question: [refuse(question, Verdict.UNKNOWN, None)]) as port,
        pytest.raises(JoinRefused, match="does not know this invitation"),
    ):
        redeem(redemption(), (HERE,), port)


@pytest.mark.parametrize("with_another", ["secret", "key of the hub"])
def test_an_answer_that_does_not_prove_to_be_the_hubs_is_told_as_that(with_another: str) -> None:
    def answer(_: int, question: Message) -> list[bytes]:
        secret = b"x" * 16 if with_another == "secret" else INVITATION.secret
        made = accept(question, SETTINGS, secret, b"h" * 32, CIPHERS)
        assert made is not None
        return [made[0]]

    pinned = dataclasses.replace(INVITATION, public_key=CIPHERS.public_key(b"p" * 32))
    with hub(answer) as port, pytest.raises(HubUnproved, match=r"^127\.0\.0\.1$"):
        redeem(Redemption(pinned, b"n" * 32, CIPHERS), (HERE,), port, patience_s=0.7)


def test_junk_from_the_hubs_address_is_not_reported_as_another_program() -> None:
    with (
        hub(lambda _, question: [b"", b"\xff\x02", question.raw]) as port,
        pytest.raises(HubSilent, match="an answer to another question"),
    ):
        redeem(redemption(), (HERE,), port, patience_s=0.7)


def test_where_no_hub_listens_each_address_has_its_reason() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((str(HERE), 0))
        port = free.getsockname()[1]

    with pytest.raises(HubSilent, match=r"127\.0\.0\.1: Connection refused, 127\.0\.0\.9: Connection refused"):
        redeem(redemption(), (HERE, ip_address("127.0.0.9")), port, patience_s=0.2)


@given(st.binary(max_size=1200), st.booleans())
def test_any_octets_are_an_answer_or_a_clear_error(octets: bytes, has_head: bool) -> None:
    raw = redemption().question[: len(octets) % 60] + octets if has_head else octets

    with contextlib.suppress(MalformedMessage, JoinRefused):
        redemption().on_answer(raw)
