"""Invitations: who gets which EIDs, which exchange counts, and which settings a node is told."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.inviting.invitations import InvitationRefused, Offer
from lispmob.hub.inviting.pool import PoolUsedUp
from lispmob.joining.exchange import (
    SettingsQuestion,
    Verdict,
)
from tests.hub.exchange import eid, xtr
from tests.hub.inviting.inviting_hub import CIPHERS, DAY, OFFER, Hub, node, verdict_of


def test_both_ends_have_one_key_and_the_node_its_settings() -> None:
    hub = Hub()
    _, invitation = hub.invite("Laptop")
    redemption = node(invitation)

    joined = redemption.on_answer(hub.ask(redemption.question).payload)

    (made,) = hub.invitations.sites()
    assert [key.secret for key in made.keys] == [joined.key]
    assert joined.settings.name == "laptop"
    assert joined.settings.eids == ("10.99.0.1/32", "fd00:99::1/128")
    assert joined.settings.overlay_prefixes == ("10.99.0.0/29", "fd00:99::/64")
    assert joined.settings.domain == "home.example"
    assert made.names == ("laptop",)


def test_a_site_without_a_key_registers_nothing_until_the_invitation_is_redeemed() -> None:
    hub = Hub()
    hub.invite("laptop")

    assert [made.keys for made in hub.invitations.sites()] == [()]


def test_who_registers_before_the_invitation_is_redeemed_is_told_apart_from_a_wrong_key() -> None:
    hub = Hub()
    made, _ = hub.invite("laptop")

    with pytest.raises(AuthenticationFailed, match="site laptop: its invitation is not redeemed"):
        made.to_site().authenticate(xtr("192.0.2.5").register("10.99.0.1/32").payload)


def test_an_answer_that_was_lost_comes_again_and_the_key_stays() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    redemption = node(invitation)

    first, second = hub.ask(redemption.question), hub.ask(redemption.question)

    assert second.payload == first.payload
    assert second.kept is None


def test_a_second_node_is_told_that_the_invitation_was_used() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    hub.ask(node(invitation).question)
    other = node(invitation, b"o" * 32)

    assert verdict_of(other, hub.ask(other.question)) is Verdict.USED


def test_an_invitation_that_has_expired_is_told_by_the_hub() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    redemption = node(invitation)

    assert verdict_of(redemption, hub.ask(redemption.question, DAY + 120)) is Verdict.EXPIRED
    assert hub.invite("laptop", DAY + 120)[0].eids == (eid("10.99.0.1/32"), eid("fd00:99::1/128"))


def test_another_hub_says_that_it_does_not_know_the_invitation() -> None:
    _, invitation = Hub().invite("laptop")
    redemption = node(invitation)

    assert verdict_of(redemption, Hub().ask(redemption.question)) is Verdict.UNKNOWN


def test_a_revoked_invitation_is_unknown_and_its_eids_are_free() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    hub.invitations.forget(hub.invitations.revoke("laptop").name)
    redemption = node(invitation)

    assert verdict_of(redemption, hub.ask(redemption.question)) is Verdict.UNKNOWN
    assert hub.invite("phone")[0].eids[0] == eid("10.99.0.1/32")


def test_a_node_that_has_joined_is_told_what_the_hub_says_now() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    first = node(invitation)
    key = first.on_answer(hub.ask(first.question).payload).key
    hub.invitations.on_configured(replace(OFFER, overlay_prefixes=(eid("10.0.0.0/8"),)), ())
    later = SettingsQuestion(key, b"l" * 32, CIPHERS)

    answered = hub.ask(later.question)

    assert answered.kept is None
    assert later.on_answer(answered.payload).settings.overlay_prefixes == ("10.0.0.0/8",)
    assert [made.keys[0].secret for made in hub.invitations.sites()] == [key]


def test_a_site_that_was_renumbered_has_eids_that_were_free_and_its_node_is_told_them() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    first = node(invitation)
    key = first.on_answer(hub.ask(first.question).payload).key
    hub.invite("phone")
    hub.invitations.on_configured(replace(OFFER, pools=(eid("10.98.0.0/24"),), overlay_prefixes=()), ())

    hub.invitations.keep(hub.invitations.renumber("Laptop"))

    later = SettingsQuestion(key, b"l" * 32, CIPHERS)
    told = later.on_answer(hub.ask(later.question).payload).settings
    assert (told.eids, told.overlay_prefixes) == (("10.98.0.1/32",), ("10.98.0.0/24",))
    assert list(map(str, next(iter(hub.invitations.sites())).eids)) == ["10.98.0.1/32"]
    with pytest.raises(InvitationRefused, match="no node was invited"):
        hub.invitations.renumber("printer")


def test_who_was_shut_out_or_replaced_is_told_no_settings() -> None:
    hub = Hub()
    _, invitation = hub.invite("laptop")
    first = node(invitation)
    later = SettingsQuestion(first.on_answer(hub.ask(first.question).payload).key, b"l" * 32, CIPHERS)
    _, fresh = hub.invite("laptop", is_again=True)
    hub.ask(later.question)
    hub.ask(node(fresh, b"o" * 32).question)

    assert verdict_of(later, hub.ask(later.question)) is Verdict.UNKNOWN
    stranger = SettingsQuestion(b"a key of nobody", b"l" * 32, CIPHERS)
    assert verdict_of(stranger, hub.ask(stranger.question)) is Verdict.UNKNOWN


def test_a_hub_without_its_key_gives_lines_without_one_and_answers_no_question_that_needs_it() -> None:
    hub = Hub(private_key=None)
    _, invitation = hub.invite("laptop")

    assert invitation.public_key is None
    with pytest.raises(MalformedMessage, match="public key"):
        hub.ask(node(dataclasses.replace(invitation, public_key=CIPHERS.public_key(b"h" * 32))).question)


def test_a_hub_that_does_not_know_its_address_says_what_to_write() -> None:
    with pytest.raises(InvitationRefused, match="say by which address"):
        Hub(Offer(pools=OFFER.pools)).invite("laptop")
    with pytest.raises(PoolUsedUp, match="there is no pool"):
        Hub(Offer(addresses=OFFER.addresses)).invite("laptop")
