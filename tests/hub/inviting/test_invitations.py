"""Invitations: who gets which EIDs, which exchange counts, and which error others get. No sockets, no clock."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.crypto.noise_ciphers import NoiseCiphers
from lispmob.errors import AuthenticationFailed, LispError, MalformedMessage
from lispmob.hub.inviting.invitations import Answered, InvitationRefused, Invitations, Offer
from lispmob.hub.inviting.invited import InvitedSite
from lispmob.hub.inviting.pool import PoolUsedUp, next_eids
from lispmob.hub.inviting.site_store import SiteStore
from lispmob.joining.exchange import (
    Exchange,
    JoinRefused,
    Message,
    Redemption,
    Settings,
    SettingsQuestion,
    Verdict,
    accept,
    proved_secret,
    refuse,
)
from lispmob.joining.invitation import ID_OCTETS as ID
from lispmob.joining.invitation import BadInvitation, Invitation
from tests.hub.exchange import eid, site, xtr

CIPHERS = NoiseCiphers()
NODE = ip_address("192.0.2.5")
OFFER = Offer(
    addresses=(ip_address("198.51.100.1"),),
    pools=(eid("10.99.0.0/29"), eid("fd00:99::/64")),
    domain="home.example",
)
DAY = 86400.0


def octets() -> Iterator[bytes]:
    for number in count(1):
        yield number.to_bytes(32)


class Hub:
    """The machine, and a clock for each question."""

    def __init__(self, offer: Offer = OFFER, private_key: bytes | None = b"h" * 32) -> None:
        numbers = octets()
        self.invitations = Invitations(offer, CIPHERS, lambda size: next(numbers)[-size:], private_key)
        self._now = count(0.0, 10.0)

    def invite(self, name: str, wall: float = 0.0, **more: bool) -> tuple[InvitedSite, Invitation]:
        made, invitation = self.invitations.invite(name, wall, **more)
        self.invitations.keep(made)
        return made, invitation

    def ask(self, raw: bytes, wall: float = 0.0) -> Answered:
        answered = self.invitations.on_question(raw, NODE, wall, next(self._now))
        if answered.kept is not None:
            self.invitations.keep(answered.kept)
        return answered


def node(invitation: Invitation, private_key: bytes = b"n" * 32) -> Redemption:
    return Redemption(invitation, private_key, CIPHERS)


def verdict_of(redemption: Exchange, answered: Answered) -> Verdict:
    with pytest.raises(JoinRefused) as refused:
        redemption.on_answer(answered.payload)
    return refused.value.verdict


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


@pytest.mark.parametrize(("private_key", "why"), [(b"h" * 32, "without the secret"), (None, "did not seal")])
def test_who_has_the_line_and_a_recording_does_not_have_the_key(private_key: bytes | None, why: str) -> None:
    hub = Hub(private_key=private_key)
    _, invitation = hub.invite("laptop")
    recorded = hub.ask(node(invitation).question).payload

    with pytest.raises(MalformedMessage, match=why):
        node(invitation, b"thief" + bytes(27)).on_answer(recorded)


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


def test_nobody_without_the_secret_gets_an_answer_or_uses_the_invitation_up() -> None:
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


def test_a_question_that_was_recorded_and_comes_again_without_end_keeps_nobody_else_from_joining() -> None:
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


def test_a_site_that_was_renumbered_has_eids_that_nobody_had_and_its_node_is_told_them() -> None:
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


def test_a_hub_without_its_key_gives_lines_without_one_and_answers_no_question_that_needs_it() -> None:
    hub = Hub(private_key=None)
    _, invitation = hub.invite("laptop")

    assert invitation.public_key is None
    with pytest.raises(MalformedMessage, match="public key"):
        hub.ask(node(dataclasses.replace(invitation, public_key=CIPHERS.public_key(b"h" * 32))).question)


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


def test_a_name_is_given_once_and_again_only_when_it_is_said() -> None:
    hub = Hub()
    hub.invitations.on_configured(OFFER, [site("10.1.0.0/16", name="nas")])
    first, invitation = hub.invite("laptop")
    hub.ask(node(invitation).question)

    for name, why in (
        ("laptop", "has joined already"),
        ("NAS", "belongs to a site"),
        ("my laptop", "no name of a host"),
    ):
        with pytest.raises(InvitationRefused, match=why):
            hub.invite(name)
    again, fresh = hub.invite("laptop", is_again=True)
    assert again.eids == first.eids
    assert hub.invitations.sites()[0].keys, "the node that has it stays until the new invitation is redeemed"
    other = node(fresh, b"o" * 32)
    assert other.on_answer(hub.ask(other.question).payload).settings.name == "laptop"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("localhost", "for something else"),
        ("WPAD", "for something else"),
        ("10", "for an address"),
        ("0x7F", "for an address"),
        ("b\u00fcro", "no name of a host"),
        ("nas.home", "no name of a host"),
        ("nas\n", "no name of a host"),
        ("-nas", "no name of a host"),
        ("nas-", "no name of a host"),
        ("", "no name of a host"),
        ("n" * 64, "no name of a host"),
        ("n" * 100_000, r"n{80}\.\.\.' is no name of a host"),
        ("\u212aelvin", "no name of a host"),
    ],
)
def test_a_name_that_programs_would_take_for_something_else_is_no_name(name: str, why: str) -> None:
    hub = Hub()

    with pytest.raises(InvitationRefused, match=why) as refused:
        hub.invite(name)

    assert len(str(refused.value)) < 250
    assert hub.invitations.sites() == ()


@pytest.mark.parametrize("name", ["n" * 63, "7up", "0xg", "xn--bro-hoa", "A-b-1"])
def test_a_label_that_dns_has_is_a_name(name: str) -> None:
    assert Hub().invite(name)[0].name == name.lower()


@pytest.mark.parametrize(
    "others", [{"name": "NAS"}, {"name": "x", "names": ("nas",)}, {"name": "x", "names": ("*.x", "nas")}]
)
def test_a_site_of_a_file_has_its_name_first_however_it_is_written(others: dict[str, Any]) -> None:
    hub = Hub()
    hub.invite("nas")
    hub.invitations.on_configured(OFFER, [replace(site("10.1.0.1/32"), **others)])

    assert hub.invitations.displaced() == ["nas"]
    hub.invitations.forget("nas")
    with pytest.raises(InvitationRefused, match="belongs to a site of hub"):
        hub.invite("Nas")
    with pytest.raises(InvitationRefused, match="is a site of hub"):
        hub.invitations.revoke("nAs")


@pytest.mark.parametrize(
    "name", ["\u212aelvin", "kelvin ", "", "k" * 100_000, "kelvin\x1b[31m", "kelvin.home.example", "nobody"]
)
def test_a_name_that_nobody_was_invited_as_shuts_nobody_out(name: str) -> None:
    hub = Hub()
    hub.invite("kelvin")

    for change in (hub.invitations.revoke, hub.invitations.renumber):
        with pytest.raises(InvitationRefused, match="no node was invited as") as refused:
            change(name)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 200


def test_a_site_of_a_file_is_changed_there_whatever_it_is_called() -> None:
    hub = Hub()
    hub.invitations.on_configured(OFFER, [site("10.1.0.1/32", name="Anna's laptop")])

    with pytest.raises(InvitationRefused, match="remove it there"):
        hub.invitations.revoke("anna's LAPTOP")
    with pytest.raises(InvitationRefused, match="change its EIDs there"):
        hub.invitations.renumber("Anna's laptop")


def test_a_pool_that_is_used_up_is_told() -> None:
    hub = Hub()
    for number in range(6):
        hub.invite(f"host{number}")

    with pytest.raises(PoolUsedUp, match=r"10\.99\.0\.0/29 is used up"):
        hub.invite("one-more")


def test_a_pool_that_is_used_up_names_an_invitation_that_expired_and_holds_an_eid() -> None:
    hub = Hub()
    for number in range(6):
        hub.invite(f"host{number}", wall=number * DAY)

    with pytest.raises(PoolUsedUp, match="invitation of host0 expired unused: `lisphub revoke host0` frees") as used_up:
        hub.invite("one-more", wall=2.5 * DAY)

    assert "is used up" in str(used_up.value)
    hub.invitations.forget("host0")
    assert hub.invite("one-more", wall=2.5 * DAY)[0].eids == (eid("10.99.0.1/32"), eid("fd00:99::1/128"))


@pytest.mark.parametrize(
    ("taken", "why"),
    [
        ("10.99.0.0/29", r"10\.99\.0\.0/29 is used up"),
        ("10.0.0.0/8", r"10\.99\.0\.0/29 is used up"),
        ("fd00:99::/125", r"no number is free in all of 10\.99\.0\.0/29, fd00:99::/64"),
        ("fd00:99::/60", "fd00:99::/64 is used up"),
    ],
)
def test_a_configured_site_as_wide_as_a_pool_leaves_none_of_it(taken: str, why: str) -> None:
    hub = Hub()
    hub.invitations.on_configured(OFFER, [site(taken, name="all")])

    with pytest.raises(PoolUsedUp, match=why):
        hub.invite("laptop")


def test_eids_of_before_a_pool_became_smaller_are_kept_and_no_more_are_given() -> None:
    hub = Hub()
    first, second = (hub.invite(name)[0] for name in ("laptop", "phone"))
    hub.invitations.on_configured(replace(OFFER, pools=(eid("10.99.0.0/30"),)), [])

    with pytest.raises(PoolUsedUp, match=r"10\.99\.0\.0/30 is used up"):
        hub.invite("nas")
    with pytest.raises(PoolUsedUp, match=r"10\.99\.0\.0/30 is used up"):
        hub.invitations.renumber("laptop")
    assert [made.eids for made in hub.invitations] == [first.eids, second.eids]


def test_eids_are_free_in_every_pool_and_no_configured_one() -> None:
    taken = [eid("10.99.0.1/32"), eid("fd00:99::2/127"), eid("10.0.0.0/24")]

    assert next_eids(OFFER.pools, taken) == (eid("10.99.0.4/32"), eid("fd00:99::4/128"))
    with pytest.raises(PoolUsedUp):
        next_eids(OFFER.pools, [eid("10.0.0.0/8")])


def test_a_configured_site_has_its_name_and_eids_before_an_invited_one() -> None:
    hub = Hub()
    hub.invite("laptop")
    hub.invite("phone")

    hub.invitations.on_configured(OFFER, [site("10.99.0.2/32", name="server"), site("10.1.0.1/32", name="laptop")])

    assert hub.invitations.sites() == ()
    assert hub.invitations.displaced() == ["laptop", "phone"]


def test_a_hub_that_does_not_know_its_address_says_what_to_write() -> None:
    with pytest.raises(InvitationRefused, match="say by which address"):
        Hub(Offer(pools=OFFER.pools)).invite("laptop")
    with pytest.raises(PoolUsedUp, match="there is no pool"):
        Hub(Offer(addresses=OFFER.addresses)).invite("laptop")


def test_the_file_gives_back_what_was_written_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    hub, path = Hub(), tmp_path / "sites.sqlite"
    store = SiteStore(path)
    assert store.open() == []
    pending, _ = hub.invite("phone", 1.0)
    _, invitation = hub.invite("laptop", 2.0)
    joined = hub.ask(node(invitation).question, 3.0).kept
    assert joined is not None
    for invited_site in (pending, joined):
        store.put(invited_site)
    store.close()

    again = SiteStore(path)
    assert again.open() == [pending, joined]
    again.remove("phone")
    again.close()

    third = SiteStore(path)
    assert third.open() == [joined]
    third.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_hubs_key_is_drawn_once_and_is_there_after_a_restart_also_in_a_file_of_before(tmp_path: Path) -> None:
    path = tmp_path / "sites.sqlite"
    before = SiteStore(path)
    before.open()
    before.put(Hub().invite("phone")[0])
    assert before.known_hub_key() is None
    assert before.hub_key(b"k" * 32) == before.hub_key(b"o" * 32) == b"k" * 32
    before.close()

    after = SiteStore(path)
    after.open()
    assert after.known_hub_key() == b"k" * 32
    after.close()


def test_a_file_that_is_something_else_is_left_alone_and_told(tmp_path: Path) -> None:
    path = tmp_path / "sites.sqlite"
    path.write_bytes(b"somebody's letters" * 100)

    with pytest.raises(LispError, match="check the file"):
        SiteStore(path).open()

    assert path.read_bytes().startswith(b"somebody's letters")
