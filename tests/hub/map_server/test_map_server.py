"""Registrations: who may register, what is acknowledged, when they end."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.map_server.effect import RegistrationChanged
from lispmob.hub.map_server.map_server import SLICE
from lispmob.wire.auth import Algorithm, Key, verify
from lispmob.wire.map_request import MapRequest
from tests.hub.exchange import HUB, KEY, ask, eid, events, notify_in, plane, reply_in, rlocs_of, sent, site, xtr

LAPTOP = "10.1.0.1/32"


def test_a_registration_is_acknowledged_with_its_nonce_and_key() -> None:
    hub = plane(site("10.1.0.0/16"))

    effects = hub.on_datagram(xtr("203.0.113.5").register(LAPTOP, nonce=0xABCD), now=0.0)

    notify = notify_in(effects)
    assert (notify.nonce, [record.eid_prefix for record in notify.records]) == (0xABCD, [eid(LAPTOP)])
    assert (str(sent(effects)[0].destination), sent(effects)[0].port) == ("203.0.113.5", 4342)
    verify(sent(effects)[0].payload, KEY)


def test_nothing_is_sent_when_no_map_notify_is_wanted() -> None:
    hub = plane(site("10.1.0.0/16"))

    effects = hub.on_datagram(xtr("203.0.113.5").register(LAPTOP, want_map_notify=False), now=0.0)

    assert sent(effects) == []
    assert [event.kind for event in events(effects)] == ["registered"]


@pytest.mark.parametrize("algorithm", [Algorithm.HMAC_SHA_1_96, Algorithm.HMAC_SHA_256_128])
@pytest.mark.parametrize("is_truncated", [False, True])
def test_the_acknowledgement_uses_the_algorithm_and_length_of_the_register(
    algorithm: Algorithm, is_truncated: bool
) -> None:
    both = (KEY, dataclasses.replace(KEY, algorithm=Algorithm.HMAC_SHA_1_96))
    hub = plane(replace(site("10.1.0.0/16"), keys=both))
    key = dataclasses.replace(KEY, algorithm=algorithm, is_truncated=is_truncated)

    notify = notify_in(hub.on_datagram(xtr("203.0.113.5", key=key).register(LAPTOP), now=0.0))

    assert (notify.algorithm_id, len(notify.authentication)) == (algorithm, key.mac_octets)


@pytest.mark.parametrize("has_lisp_sec", [True, False])
def test_that_keys_are_kept_is_said_to_those_who_know_lisp_sec(has_lisp_sec: bool) -> None:
    hub = plane(site("10.1.0.0/16"))

    effects = hub.on_datagram(xtr("203.0.113.5").register("10.1.2.3/32", has_lisp_sec=has_lisp_sec), 0.0)

    assert notify_in(effects).keeps_keys is has_lisp_sec


def test_the_xtr_id_trailer_comes_back() -> None:
    hub = plane(site("10.1.0.0/16"))

    notify = notify_in(hub.on_datagram(xtr("203.0.113.5", xtr_id=b"x" * 16).register(LAPTOP), now=0.0))

    assert (notify.xtr_id, notify.site_id) == (b"x" * 16, bytes(8))


@pytest.mark.parametrize(
    "key",
    [
        dataclasses.replace(KEY, secret=b"guessed"),
        dataclasses.replace(KEY, key_id=9),
        dataclasses.replace(KEY, algorithm=Algorithm.HMAC_SHA_1_96),
        dataclasses.replace(KEY, algorithm=Algorithm.NONE),
    ],
    ids=["secret", "key-id", "algorithm", "none"],
)
def test_a_register_that_proves_nothing_changes_nothing(key: Key) -> None:
    hub = plane(site("10.1.0.0/16"))

    effects = hub.on_datagram(xtr("203.0.113.5", key=key).register(LAPTOP), now=0.0)

    assert sent(effects) == []
    assert [event.kind for event in events(effects)] == ["auth-failed"]
    assert hub.counters["rx_auth"] == 1
    assert len(hub.map_server.registrations) == 0


def test_the_same_sender_is_complained_about_once_a_minute() -> None:
    hub, liar = plane(site("10.1.0.0/16")), xtr("203.0.113.5", key=dataclasses.replace(KEY, secret=b"guessed"))

    told = [len(hub.on_datagram(liar.register(LAPTOP), now=at)) for at in (0.0, 1.0, 59.0, 61.0)]

    assert told == [1, 0, 0, 1]
    assert hub.counters["rx_auth"] == 4


def test_both_keys_of_a_roll_over_are_accepted() -> None:
    new = Key(b"the next key", key_id=1)
    hub = plane(replace(site("10.1.0.0/16"), keys=(KEY, new)))

    assert hub.on_datagram(xtr("203.0.113.5", key=KEY).register(LAPTOP), now=0.0)
    assert notify_in(hub.on_datagram(xtr("203.0.113.5", key=new).register(LAPTOP), now=1.0)).key_id == 1


@pytest.mark.parametrize("wanted", ["10.2.0.1/32", "10.0.0.0/8", "0.0.0.0/0", "[7]10.1.0.1/32", "2001:db8::1/128"])
def test_no_node_registers_what_is_not_its_own(wanted: str) -> None:
    hub = plane(site("10.1.0.0/16"), site("10.3.0.0/16", name="other", key=Key(b"another key")))

    effects = hub.on_datagram(xtr("203.0.113.5").register(LAPTOP, wanted), now=0.0)

    assert sent(effects) == []
    assert hub.counters["rx_policy"] == 1
    assert len(hub.map_server.registrations) == 0  # not even the record that was correct


def test_a_more_specific_prefix_needs_the_sites_consent() -> None:
    hub = plane(site("10.1.0.0/16", more_specifics=False))

    assert sent(hub.on_datagram(xtr("203.0.113.5").register(LAPTOP), now=0.0)) == []
    assert sent(hub.on_datagram(xtr("203.0.113.5").register("10.1.0.0/16"), now=0.0)) != []


def test_a_registration_ends_after_three_minutes_of_silence() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register(LAPTOP), now=0.0)

    assert hub.wake_at() == 180.0
    assert hub.on_timer(179.9) == []
    assert RegistrationChanged(eid(LAPTOP), None) in hub.on_timer(180.0)
    assert hub.wake_at() is None


def test_a_refresh_keeps_a_registration_and_needs_no_more_memory() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")

    for minute in range(100):
        hub.on_datagram(node.register(LAPTOP), now=60.0 * minute)
        assert events(hub.on_timer(60.0 * minute)) == []

    assert len(hub.map_server.registrations) == 1
    assert len(hub.map_server._due) == 1


def test_with_the_t_bit_the_record_ttl_is_the_lifetime() -> None:
    hub = plane(site("10.1.0.0/16"))

    hub.on_datagram(xtr("203.0.113.5").register(LAPTOP, ttl_min=7, uses_ttl=True), now=0.0)

    assert hub.wake_at() == 420.0


def test_a_withdrawal_takes_effect_at_once_and_is_acknowledged() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    hub.on_datagram(node.register(LAPTOP), now=0.0)

    effects = hub.on_datagram(node.withdraw(LAPTOP), now=1.0)

    assert notify_in(effects).records[0].ttl_min == 0
    assert [event.kind for event in events(effects)] == ["withdrawn"]
    assert reply_in(hub.on_datagram(ask(LAPTOP), now=1.0)).records[0].locators == ()


def test_a_move_replaces_the_old_locator() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register(LAPTOP), now=0.0)

    effects = hub.on_datagram(xtr("192.0.2.9").register(LAPTOP), now=1.0)

    assert [event.kind for event in events(effects)] == ["moved"]
    assert rlocs_of(reply_in(hub.on_datagram(ask(LAPTOP), now=1.0)).records[0]) == ["192.0.2.9"]


@pytest.mark.parametrize(
    ("places", "kind"),
    [
        (("203.0.113.5", "198.51.100.9"), "moved"),
        ((), "moved"),
        (("192.0.2.9",), "moved"),
    ],
)
def test_other_locators_are_a_move(places: tuple[str, ...], kind: str) -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    hub.on_datagram(node.register(LAPTOP), now=0.0)

    effects = hub.on_datagram(node.register(LAPTOP, rlocs=places), now=1.0)

    assert [event.kind for event in events(effects)] == [kind]


def test_another_key_or_ttl_at_the_same_locators_is_a_change_and_no_move() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    hub.on_datagram(node.register(LAPTOP), now=0.0)

    effects = hub.on_datagram(node.register(LAPTOP, ttl_min=20), now=1.0)

    assert [event.kind for event in events(effects)] == ["changed"]
    assert hub.counters["registration_moved"] == 0
    assert hub.on_datagram(node.register(LAPTOP, ttl_min=20), now=2.0) is not None


def test_xtrs_that_ask_for_it_are_merged_and_leave_one_by_one() -> None:
    hub = plane(site("10.1.0.0/16"))
    first, second = xtr("203.0.113.5", xtr_id=b"1" * 16), xtr("192.0.2.9", xtr_id=b"2" * 16)
    hub.on_datagram(first.register(LAPTOP, wants_merge=True), now=0.0)

    notify = notify_in(hub.on_datagram(second.register(LAPTOP, wants_merge=True), now=100.0))

    assert rlocs_of(notify.records[0]) == ["192.0.2.9", "203.0.113.5"]  # sorted, as the RFC demands
    hub.on_timer(180.0)
    assert rlocs_of(reply_in(hub.on_datagram(ask(LAPTOP), now=180.0)).records[0]) == ["192.0.2.9"]
    hub.on_datagram(second.withdraw(LAPTOP, wants_merge=True), now=181.0)
    assert len(hub.map_server.registrations) == 0


def test_one_xtr_that_moves_is_not_two_xtrs_to_merge() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5", xtr_id=b"1" * 16)
    hub.on_datagram(node.register(LAPTOP, wants_merge=True), now=0.0)

    moved = dataclasses.replace(node, address=xtr("192.0.2.9").address)
    hub.on_datagram(moved.register(LAPTOP, wants_merge=True), now=1.0)

    assert rlocs_of(reply_in(hub.on_datagram(ask(LAPTOP), now=1.0)).records[0]) == ["192.0.2.9"]


def test_the_number_of_merged_xtrs_is_bounded() -> None:
    hub = plane(site("10.1.0.0/16"))

    for number in range(20):
        one = xtr(f"203.0.113.{number + 1}", xtr_id=bytes([number + 1]) * 16)
        hub.on_datagram(one.register(LAPTOP, wants_merge=True), now=0.0)

    assert hub.counters["rx_limit"] == 4


@pytest.mark.parametrize("strict", [True, False])
def test_a_replay_is_refused_where_nonces_have_to_grow(strict: bool) -> None:
    hub, node = plane(site("10.1.0.0/16", strict_nonces=strict)), xtr("203.0.113.5")
    old = node.register(LAPTOP)
    hub.on_datagram(old, now=0.0)
    hub.on_datagram(node.withdraw(LAPTOP), now=1.0)

    hub.on_datagram(old, now=2.0)

    assert len(hub.map_server.registrations) == (0 if strict else 1)
    assert hub.counters["rx_replay"] == (1 if strict else 0)


def test_a_site_that_is_taken_away_takes_its_registrations_along() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5").register(LAPTOP), now=0.0)

    effects = hub.on_sites([site("10.3.0.0/16")], (), now=1.0)

    assert RegistrationChanged(eid(LAPTOP), None) in effects
    assert hub.on_timer(1000.0) == []


def test_octets_cut_anywhere_are_counted_and_dropped() -> None:
    hub, whole = plane(site("10.1.0.0/16")), xtr("203.0.113.5").register(LAPTOP)

    for end in range(len(whole.payload)):
        assert sent(hub.on_datagram(replace(whole, payload=whole.payload[:end]), now=0.0)) == []

    assert sum(hub.counters.values()) == len(whole.payload)
    assert len(hub.map_server.registrations) == 0


def test_many_that_run_out_at_once_go_in_slices_and_the_timer_stays_due() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    for number in range(2 * SLICE + 1):
        hub.on_datagram(node.register(f"10.1.{number // 256}.{number % 256}/32"), now=0.0)

    gone = []
    while (at := hub.wake_at()) is not None and at <= 180.0:
        gone.append(len([one for one in hub.on_timer(180.0) if isinstance(one, RegistrationChanged)]))

    assert gone == [SLICE, SLICE, 1]
    assert len(hub.map_server.registrations) == 0


def test_a_change_of_sites_is_worked_off_in_slices_and_every_node_is_told() -> None:
    hub, node = plane(site("10.1.0.0/16")), xtr("203.0.113.5")
    for number in range(SLICE + 1):
        hub.on_datagram(node.register(f"10.1.{number // 256}.{number % 256}/32"), now=0.0)

    told = sent(hub.on_sites([], (), now=1.0))
    assert len(hub.map_server.registrations) == 1
    while (at := hub.wake_at()) is not None and at <= 1.0:
        told += sent(hub.on_timer(1.0))

    assert len(hub.map_server.registrations) == 0
    assert len(told) == SLICE + 1


@pytest.mark.parametrize("node", ["203.0.113.5", "2001:db8:50::5"])
def test_a_node_of_a_removed_site_is_told_from_the_address_that_we_have_in_its_family(node: str) -> None:
    hub, own = plane(site("10.1.0.0/16")), {4: HUB, 6: ip_address("2001:db8:51::1")}
    hub.on_addresses([*own.values()])
    hub.on_datagram(xtr(node).register("10.1.0.1/32"), now=0.0)

    (told,) = sent(hub.on_sites([], (), now=1.0))

    ours = own[told.destination.version]
    assert (str(told.destination), told.source) == (node, ours)
    assert MapRequest.decode(told.payload).itr_rlocs == (ours,)
