"""The ITR's side of LISP-SEC in virtual time: how it asks, what it accepts, and what it reports of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, pairwise

import msgspec
import pytest

from lispmob.control.itr_security import (
    TRIAL_FIRST_S,
    TRIAL_MAX_S,
    ItrSecurity,
    LispSecTools,
    RefusalReason,
)
from lispmob.control.lookups.resolver import NONCE_LIFETIME_S, Resolver
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.effect import Count, Event, LookupFailed, MachineEffect, MappingLearned, SendControl
from lispmob.protocol.servers import LispSecMode, ResolverSecret
from lispmob.wire import lisp_sec_auth
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.lisp_sec import AuthorizedEid, EcmSecurity, EidAuthentication, MapReplySecurity
from lispmob.wire.map_reply import MapReply
from lispmob.wire.reader import Reader
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import (
    EID,
    EID6,
    RESOLVER,
    WIFI,
    WIFI6,
    ip,
    locators,
    nonces,
    only,
    prefix,
    request_in,
    run_until,
)
from tests.crypto.support import KEY_WRAP, needs_libcrypto

pytestmark = needs_libcrypto

PEER = prefix("10.2.0.7/32")
SITE = prefix("10.2.0.0/24")
GUARD = Guard((EID,), frozenset({WIFI.address}), frozenset({RESOLVER}))
RECORD = MappingRecord.of(SITE, (Locator(ip("203.0.113.5")),))
SECRET = ResolverSecret(b"itr-mr-secret", 3)


class Itr:
    """A Resolver with LISP-SEC, and the answers of a Map-Server."""

    def __init__(self, mode: LispSecMode, secret: ResolverSecret | None = SECRET) -> None:
        keys = (bytes([number] * 16) for number in count(1))
        secrets = {} if secret is None else {RESOLVER: secret}
        self.security = ItrSecurity(mode, secrets, LispSecTools(KEY_WRAP, keys.__next__))
        self.machine = Resolver([RESOLVER], new_nonce=nonces(1000), security=self.security, eids=(EID6, EID))
        self.machine.on_locators(locators(WIFI, WIFI6))

    def ask(self, now: float = 0.0, asked: str = "10.2.0.7/32") -> list[SendControl]:
        return only(self.machine.on_miss(EID.address, prefix(asked), now), SendControl)

    def hear(self, raw: bytes, now: float) -> list[MachineEffect]:
        return self.machine.on_map_reply(MapReply.decode(raw), WIFI.address, GUARD, now, ip("203.0.113.5"), raw)

    def learn_that_it_answers(self) -> None:
        """Let a trial of LISP-SEC succeed."""
        sent = self.ask(0.0, "10.9.9.9/32")
        record = MappingRecord.of(prefix("10.9.9.9/32"), (Locator(ip("203.0.113.9")),))
        self.hear(genuine(sent[-1], (record,), vouched=("10.9.9.9/32",)), 0.1)


def security_of(sent: SendControl) -> EcmSecurity | None:
    authentication = EncapsulatedControl.decode(sent.payload).authentication
    return None if authentication is None else EcmSecurity.take(Reader(authentication))


def otk_of(sent: SendControl) -> bytes:
    security = security_of(sent)
    assert security is not None
    otk = lisp_sec_auth.unwrapped_otk(KEY_WRAP, request_in(sent).nonce, SECRET.octets, security)
    assert otk is not None
    return otk


def genuine(
    sent: SendControl,
    records: Iterable[MappingRecord] = (RECORD,),
    vouched: Iterable[str] = ("10.2.0.0/24",),
    *,
    has_e_bit: bool = False,
    hmac_id: int = 2,
) -> bytes:
    """What Map-Server and ETR together answer to this Map-Request."""
    otk = otk_of(sent)
    eids = tuple(AuthorizedEid(from_prefix(eid_prefix), eid_prefix.mask_len) for eid_prefix in map(prefix, vouched))
    eid_ad = lisp_sec_auth.sign_eids(EidAuthentication(2, hmac_id, eids, b"", has_e_bit), otk).encode()
    reply = MapReply(request_in(sent).nonce, tuple(records))
    return lisp_sec_auth.sign_reply(reply, eid_ad, hmac_id, lisp_sec_auth.ms_otk(otk, 2))


def plain(sent: SendControl, record: MappingRecord = RECORD) -> bytes:
    return MapReply(request_in(sent).nonce, (record,)).encode()


def counted(effects: Iterable[MachineEffect]) -> list[str]:
    return [effect.name for effect in only(effects, Count)]


def learned(effects: Iterable[MachineEffect]) -> list[bool]:
    """Whether each learned mapping is genuine."""
    return [effect.is_genuine for effect in only(effects, MappingLearned)]


def test_a_required_map_request_has_a_key_of_its_own_wrapped_for_the_map_resolver_and_names_its_source() -> None:
    itr = Itr("require")
    (first,) = itr.ask()
    (second,) = itr.ask(asked="10.3.0.1/32")

    security = security_of(first)
    assert security is not None
    assert (security.requested_hmac_id, security.key_id, security.wrapping_id) == (2, 3, 2)
    assert security.eid == EidAuthentication(2)
    assert otk_of(first) != otk_of(second)
    assert request_in(first).source_eid == EID.address


def test_a_retry_has_another_nonce_and_another_key() -> None:
    itr = Itr("require")
    (first,) = itr.ask()
    (_, effects), *_ = run_until(itr.machine, 1.0)
    (second,) = only(effects, SendControl)

    assert (otk_of(first), request_in(first).nonce) != (otk_of(second), request_in(second).nonce)
    assert learned(itr.hear(genuine(first), 1.2)) == [True]  # the answer to the first one is late, and valid


def test_a_refresh_with_lisp_sec_names_a_source_too() -> None:
    itr = Itr("require")
    (asked_from_one,) = only(itr.machine.on_aging(SITE, EID.address, 0.0), SendControl)
    (of_a_family_we_have_no_eid_of,) = only(itr.machine.on_aging(prefix("10.7.0.0/24"), None, 0.0), SendControl)

    assert request_in(asked_from_one).source_eid == EID.address
    assert request_in(of_a_family_we_have_no_eid_of).source_eid == EID6.address


def test_a_genuine_answer_is_learned_as_one() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()

    assert learned(itr.hear(genuine(sent), 0.1)) == [True]
    assert itr.security.has_shown(RESOLVER)
    assert itr.machine.lookups == ()


@pytest.mark.parametrize("mode", ["off", "prefer"])
def test_without_a_secret_everything_is_as_without_lisp_sec(mode: LispSecMode) -> None:
    itr = Itr(mode, secret=None)
    (sent,) = itr.ask()

    assert security_of(sent) is None
    assert learned(itr.hear(plain(sent), 0.1)) == [False]


def test_off_asks_without_whatever_is_shared() -> None:
    (sent,) = Itr("off").ask()

    assert security_of(sent) is None


def test_an_answer_without_lisp_sec_is_no_answer_and_the_genuine_one_may_still_come() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()

    refused = itr.hear(plain(sent), 0.1)

    assert counted(refused) == ["sec_missing"]
    assert [event.kind for event in only(refused, Event)] == ["lisp-sec-refused"]
    assert learned(itr.hear(genuine(sent), 0.2)) == [True]


@pytest.mark.parametrize("place", [14, 25, -1, -25, -30])
def test_a_changed_answer_does_not_use_up_the_nonce(place: int) -> None:
    itr = Itr("require")
    (sent,) = itr.ask()
    raw = bytearray(genuine(sent))
    raw[place] ^= 1

    assert counted(itr.hear(bytes(raw), 0.1)) == ["sec_hmac"]
    assert learned(itr.hear(genuine(sent), 0.2)) == [True]
    assert counted(itr.hear(genuine(sent), 0.3)) == ["rx_nonce"]  # accepted only once


def test_weaker_algorithms_than_asked_are_refused_and_never_asked_for() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()

    assert counted(itr.hear(genuine(sent, hmac_id=1), 0.1)) == ["sec_algorithm"]
    for _, effects in run_until(itr.machine, 30.0):
        for again in only(effects, SendControl):
            security = security_of(again)
            assert security is not None
            assert (security.requested_hmac_id, security.eid.kdf_id) == (2, 2)


def test_what_an_etr_says_beyond_the_prefix_it_may_speak_for_is_discarded() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()
    wide = MappingRecord.of(prefix("10.2.0.0/16"), (Locator(ip("203.0.113.66")),))

    effects = itr.hear(genuine(sent, (wide,)), 0.1)

    assert counted(effects) == ["sec_prefix", "rx_policy"]
    assert learned(effects) == []
    assert [refusal.reason for refusal in itr.security.refused(0.2)] == [RefusalReason.OVERCLAIM]
    assert itr.security.why_refused(PEER, 0.2) == (
        "its ETR answers for more than the Map-Server lets it: it says 10.2.0.0/16, it may say 10.2.0.0/24"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"eids": (AuthorizedEid(ip("10.0.0.0"), 8),)},
        {"eids": (AuthorizedEid(ip("10.2.0.0"), 24), AuthorizedEid(ip("10.3.0.0"), 16))},
        {"eids": (AuthorizedEid(ip("10.3.0.0"), 24),)},
        {"has_e_bit": True},
        {"hmac": bytes(16)},
    ],
)
def test_an_etr_that_changes_what_the_map_server_vouches_for_is_not_believed_though_it_signs_the_rest(
    changes: dict[str, object],
) -> None:
    """An ETR has the key of the PKT HMAC, and not that of the EID HMAC."""
    itr = Itr("require")
    (sent,) = itr.ask()
    otk, honest = otk_of(sent), MapReply.decode(genuine(sent))
    assert honest.security is not None
    eids = msgspec.structs.replace(MapReplySecurity.decode(honest.security).eid, **changes)
    record = MappingRecord.of(prefix("10.0.0.0/8"), (Locator(ip("203.0.113.66")),))
    forged = MapReply(honest.nonce, (record,))

    effects = itr.hear(lisp_sec_auth.sign_reply(forged, eids.encode(), 2, lisp_sec_auth.ms_otk(otk, 2)), 0.1)

    assert (counted(effects), learned(effects)) == (["sec_hmac"], [])
    assert learned(itr.hear(genuine(sent), 0.2)) == [True]


def test_of_an_answer_that_overclaims_in_part_the_rest_is_learned() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()
    others = MappingRecord.of(prefix("10.4.0.0/24"), (Locator(ip("203.0.113.66")),))

    effects = itr.hear(genuine(sent, (RECORD, others)), 0.1)

    assert counted(effects) == ["sec_prefix"]
    assert [effect.records for effect in only(effects, MappingLearned)] == [(RECORD,)]


def test_required_and_no_etr_can_sign_is_a_mapping_that_drops_with_its_reason() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()
    negative = MappingRecord.of(SITE, ttl_min=1, action=Action.DROP)

    effects = itr.hear(genuine(sent, (negative,), has_e_bit=True), 0.1)

    assert only(effects, SendControl) == []
    assert [effect.records for effect in only(effects, MappingLearned)] == [(negative,)]
    assert [refusal.reason for refusal in itr.security.refused(0.2)] == [RefusalReason.UNSIGNED]


def test_preferred_and_no_etr_can_sign_asks_once_more_without() -> None:
    itr = Itr("prefer")
    itr.learn_that_it_answers()
    (sent,) = itr.ask(1.0)
    negative = MappingRecord.of(SITE, ttl_min=1, action=Action.DROP)

    (again,) = only(itr.hear(genuine(sent, (negative,), has_e_bit=True), 1.1), SendControl)

    assert security_of(again) is None
    assert learned(itr.hear(plain(again), 1.2)) == [False]


def test_an_etr_that_signs_beside_one_that_cannot_is_believed() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()

    assert learned(itr.hear(genuine(sent, has_e_bit=True), 0.1)) == [True]


def test_preferred_asks_both_ways_until_the_map_resolver_has_shown_it_and_never_without_again() -> None:
    itr = Itr("prefer")

    first, second = itr.ask()

    assert (security_of(first), security_of(second) is not None) == (None, True)
    assert learned(itr.hear(plain(first), 0.1)) == [False]
    assert learned(itr.hear(genuine(second), 0.2)) == [True]  # it comes later, and replaces the other
    (third,) = itr.ask(1.0, "10.3.0.1/32")
    assert security_of(third) is not None
    assert counted(itr.hear(plain(third), 1.1)) == ["sec_missing"]
    assert [refusal.reason for refusal in itr.security.refused(1.2)] == [RefusalReason.MISSING]


def test_preferred_does_not_wait_for_those_who_do_not_know_it_nor_complain_about_them() -> None:
    itr = Itr("prefer")
    first, second = itr.ask()

    assert counted(itr.hear(plain(second), 0.1)) == ["sec_missing"]
    assert learned(itr.hear(plain(first), 0.2)) == [False]
    assert itr.security.refused(0.3) == ()
    (next_one,) = itr.ask(1.0, "10.3.0.1/32")
    assert security_of(next_one) is None


def test_trials_get_rarer() -> None:
    itr = Itr("prefer")
    at = [now for now in range(0, 4 * 3600, 10) if len(itr.security.ways(RESOLVER, float(now))) == 2]

    assert at[:3] == [0, TRIAL_FIRST_S, 3 * TRIAL_FIRST_S]
    assert max(later - earlier for earlier, later in pairwise(at)) <= TRIAL_MAX_S
    assert len(at) < 12


def test_a_key_is_forgotten_with_its_nonce() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()

    assert counted(itr.hear(genuine(sent), NONCE_LIFETIME_S + 0.1)) == ["rx_nonce"]


def test_required_and_unanswered_says_that_lisp_sec_may_be_why() -> None:
    itr = Itr("require")
    itr.ask()

    happened = [effect for _, effects in run_until(itr.machine, 60.0) for effect in effects]

    assert [effect.why for effect in only(happened, LookupFailed)] == ["unanswered"]
    assert [refusal.reason for refusal in itr.security.refused(60.0)] == [RefusalReason.SILENT]


def test_what_came_instead_of_an_answer_says_more_than_that_none_came() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()
    itr.hear(plain(sent), 0.1)
    run_until(itr.machine, 60.0)

    assert [refusal.reason for refusal in itr.security.refused(60.0)] == [RefusalReason.MISSING]


def test_a_fault_is_over_when_a_genuine_answer_comes_and_forgotten_after_some_minutes() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()
    itr.hear(plain(sent), 0.1)

    assert itr.security.why_refused(PEER, 0.2) is not None
    itr.hear(genuine(sent), 0.3)

    assert [refusal.is_over for refusal in itr.security.refused(0.4)] == [True]
    assert itr.security.why_refused(PEER, 0.4) is None
    assert itr.security.refused(400.0) == ()


def test_forgeries_make_one_event_a_minute_and_are_counted_each() -> None:
    itr = Itr("require")
    (sent,) = itr.ask()

    effects = [effect for number in range(50) for effect in itr.hear(plain(sent), 0.01 * number)]

    assert counted(effects) == ["sec_missing"] * 50
    assert len(only(effects, Event)) == 1


def test_what_is_remembered_of_forgeries_is_bounded() -> None:
    itr = Itr("require")
    for number in range(200):
        itr.security.on_unanswered(prefix(f"10.5.0.{number}/32"), RESOLVER, 1.0)

    assert len(itr.security.refused(1.0)) == 64


def test_another_secret_is_another_map_resolver_as_far_as_is_known() -> None:
    itr = Itr("prefer")
    itr.learn_that_it_answers()

    itr.security.on_config("prefer", {RESOLVER: SECRET})
    assert itr.security.ways(RESOLVER, 10.0) == (True,)
    itr.security.on_config("prefer", {RESOLVER: ResolverSecret(b"another")})
    assert itr.security.ways(RESOLVER, 10.0) == (False, True)


def test_required_without_a_secret_no_question_leaves_and_without_key_wrap_no_machine_is_made() -> None:
    assert Itr("require", secret=None).ask() == []
    with pytest.raises(ValueError, match="key wrap"):
        ItrSecurity("require", {RESOLVER: SECRET}, None)
    assert ItrSecurity("prefer", {RESOLVER: SECRET}, None).ways(RESOLVER, 0.0) == (False,)


class Kept:
    """A state directory in memory, which tests can read."""

    def __init__(self, marks: frozenset[str] = frozenset()) -> None:
        self.marks = marks

    def load(self) -> frozenset[str]:
        return self.marks

    def save(self, marks: Iterable[str]) -> None:
        self.marks = frozenset(marks)


def test_who_has_shown_it_is_known_after_a_restart_and_with_another_secret_it_is_not() -> None:
    kept = Kept()
    tools = LispSecTools(KEY_WRAP, lambda: bytes(16), kept)
    before = Itr("prefer")
    before.security = before.machine._security = ItrSecurity("prefer", {RESOLVER: SECRET}, tools)
    before.learn_that_it_answers()

    assert len(kept.marks) == 1
    assert ItrSecurity("prefer", {RESOLVER: SECRET}, tools).ways(RESOLVER, 0.0) == (True,)
    assert ItrSecurity("prefer", {RESOLVER: ResolverSecret(b"another")}, tools).ways(RESOLVER, 0.0) == (False, True)
    assert SECRET.octets.hex() not in "".join(kept.marks)


def test_switched_off_it_is_forgotten_so_that_there_is_a_way_back() -> None:
    itr = Itr("prefer")
    itr.learn_that_it_answers()

    itr.security.on_config("off", {})
    itr.security.on_config("prefer", {RESOLVER: SECRET})

    assert itr.security.ways(RESOLVER, 10.0) == (False, True)


def test_marks_of_secrets_that_are_gone_do_not_pile_up() -> None:
    kept = Kept(frozenset(f"{number:032x}" for number in range(40)))
    itr = Itr("prefer")
    tools = LispSecTools(KEY_WRAP, lambda: bytes(16), kept)
    itr.security = itr.machine._security = ItrSecurity("prefer", {RESOLVER: SECRET}, tools)
    itr.learn_that_it_answers()

    assert len(kept.marks) == 1
    assert itr.security.has_shown(RESOLVER)
