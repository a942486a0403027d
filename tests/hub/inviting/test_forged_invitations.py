"""What strangers, thieves of a line and recordings reach with an invitation: nothing."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from lispmob.errors import MalformedMessage
from lispmob.joining.exchange import (
    Exchange,
    Message,
    Settings,
    SettingsQuestion,
    Verdict,
    accept,
    proved_secret,
    refuse,
)
from lispmob.joining.invitation import ID_OCTETS as ID
from lispmob.joining.invitation import BadInvitation, Invitation
from tests.hub.inviting.inviting_hub import CIPHERS, NODE, Hub, node


@pytest.mark.parametrize(("private_key", "why"), [(b"h" * 32, "without the secret"), (None, "did not seal")])
def test_who_has_the_line_and_a_recording_does_not_have_the_key(private_key: bytes | None, why: str) -> None:
    hub = Hub(private_key=private_key)
    _, invitation = hub.invite("laptop")
    recorded = hub.ask(node(invitation).question).payload

    with pytest.raises(MalformedMessage, match=why):
        node(invitation, b"thief" + bytes(27)).on_answer(recorded)


def test_a_stranger_without_the_secret_gets_no_answer_and_does_not_use_the_invitation_up() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    forged = Invitation(invitation.addresses, invitation.identifier, invitation.expires_min, b"x" * 16)

    with pytest.raises(MalformedMessage, match="another secret"):
        hub.ask(node(forged).question)

    redemption = node(invitation)
    assert redemption.on_answer(hub.ask(redemption.question).payload).settings.name == "laptop"


@pytest.mark.parametrize("place", [0, 2, 3, 4, 20, 100, -1])
def test_an_answer_that_was_changed_on_the_way_is_none(place: int) -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    redemption = node(invitation)
    answer = bytearray(hub.ask(redemption.question).payload)
    answer[place] ^= 0x40

    with pytest.raises(MalformedMessage):
        redemption.on_answer(bytes(answer))


def test_an_answer_is_never_longer_than_its_question() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    question = node(invitation).question

    assert len(hub.ask(question).payload) <= len(question)
    with pytest.raises(MalformedMessage, match="asks nothing"):
        hub.ask(question[:200])


def test_one_sender_is_answered_a_few_times_and_then_no_more() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    question = node(invitation).question

    for _ in range(10):
        hub.invitations.on_question(question, NODE, 0.0, 0.0)
    with pytest.raises(MalformedMessage, match="too many"):
        hub.invitations.on_question(question, NODE, 0.0, 0.0)


def answers_to_strangers(senders: int, each: int) -> list[int]:
    """How many guesses of each sender are answered at one moment."""
    hub, found = Hub(), [0] * senders
    for number in range(senders * each):
        guess = Exchange(Verdict.QUESTION, number.to_bytes(ID), b"guessed" * 4, b"n" * 32, CIPHERS)
        with contextlib.suppress(MalformedMessage):
            hub.invitations.on_question(guess.question, NODE + number % senders, 0.0, 0.0)
            found[number % senders] += 1
    return found


def test_a_stranger_who_guesses_is_answered_ten_times_and_all_strangers_a_hundred_times() -> None:
    assert answers_to_strangers(1, 30) == [10]
    assert answers_to_strangers(5, 12) == [10] * 5
    assert sum(answers_to_strangers(50, 3)) == 100


@pytest.mark.parametrize("secret", [b"guessed" * 4, bytes(32)], ids=["guessed", "zeros"])
def test_strangers_who_guess_leave_the_limit_of_those_who_join_alone(secret: bytes) -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    for number in range(2000):
        guess = Exchange(Verdict.QUESTION, number.to_bytes(ID), secret, b"n" * 32, CIPHERS)
        with contextlib.suppress(MalformedMessage):
            hub.invitations.on_question(guess.question, NODE + number, 0.0, 0.0)

    assert hub.invitations.on_question(node(invitation).question, NODE, 0.0, 0.0).kept is not None


def test_who_knows_the_id_of_one_invitation_uses_up_nothing_of_another() -> None:
    hub = Hub()
    _, seen = hub.invite("laptop")
    _, other = hub.invite("desktop")
    for number in range(2000):
        guess = Exchange(Verdict.QUESTION, seen.identifier, b"guessed" * 4, b"n" * 32, CIPHERS)
        with pytest.raises(MalformedMessage):
            hub.invitations.on_question(guess.question, NODE + number, 0.0, 0.0)

    assert hub.invitations.on_question(node(other).question, NODE, 0.0, 0.0).kept is not None


def test_a_question_that_was_recorded_and_comes_again_without_end_keeps_no_other_node_from_joining() -> None:
    hub = Hub()
    _, first = hub.invite("laptop")
    joined = node(first)
    key = joined.on_answer(hub.ask(joined.question).payload).key
    _, other = hub.invite("desktop")
    recorded = SettingsQuestion(key, b"l" * 32, CIPHERS).question
    answered = 0
    for number in range(500):
        with contextlib.suppress(MalformedMessage):
            hub.invitations.on_question(recorded, NODE + number, 100.0, 100.0)
            answered += 1

    assert answered == 10
    assert hub.invitations.on_question(node(other).question, NODE, 100.0, 100.0).kept is not None


def test_who_has_read_the_line_cannot_answer_in_the_hubs_place() -> None:
    _, invitation = Hub().invite("laptop")
    redemption = node(invitation)
    question = Message.decode(redemption.question)
    own = proved_secret(question, invitation.secret, b"t" * 32, CIPHERS)
    assert own is not None

    for secret in (invitation.secret, own):
        made = accept(question, Settings(name="mine", eids=("10.0.0.1/32",)), secret, b"x" * 32, CIPHERS)
        assert made is not None
        for answer in (made[0], refuse(question, Verdict.USED, secret), refuse(question, Verdict.NOT_NOW, secret)):
            with pytest.raises(MalformedMessage, match="without the secret"):
                redemption.on_answer(answer)


def test_a_node_whose_line_names_the_hubs_key_takes_no_answer_without_it() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    unpinned = node(dataclasses.replace(invitation, public_key=None))
    answered = hub.ask(unpinned.question)

    assert unpinned.on_answer(answered.payload).settings.name == "laptop"
    with pytest.raises(MalformedMessage, match="prove"):
        node(invitation).on_answer(answered.payload)


def test_a_line_whose_key_is_none_is_no_invitation() -> None:
    _, invitation = Hub().invite("laptop")

    with pytest.raises(BadInvitation, match="print a new one"):
        node(dataclasses.replace(invitation, public_key=bytes(32)))


def test_an_invitation_is_not_redeemed_by_a_question_for_settings() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    asked = Exchange(Verdict.SETTINGS, invitation.identifier, invitation.secret, b"n" * 32, CIPHERS)

    with pytest.raises(MalformedMessage, match="with another key"):
        hub.ask(asked.question)
