"""When packets are refused, and what ends it: none leaves natively by default, and a refusal ends with its reason."""

from __future__ import annotations

import pytest

from lispmob.control.forwarding import ForwardingPolicy, decide
from lispmob.control.map_cache import MapCacheEntry
from lispmob.control.mappings import HOPELESS_S, Mappings
from lispmob.control.node_config import NodeConfig
from lispmob.protocol.effect import InstallMapping, MappingLearned, RefreshNeeded, UsableLocator
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import WIFI, ip, locators, only, prefix

OWN = locators(WIFI)
PEER = Locator(ip("203.0.113.5"))
SPARE = Locator(ip("203.0.113.6"))
CONFIG = NodeConfig(
    (prefix("10.99.0.1/32"), prefix("2001:db8:99::1/128")),
    fallback="auto",
    overlay_prefixes=(prefix("10.99.0.0/24").network, prefix("2001:db8:99::/48").network),
)
SPLIT = ForwardingPolicy.of(CONFIG)
FULL = ForwardingPolicy("auto", overlay=SPLIT.overlay, is_full=True)


def negative(text: str) -> MapCacheEntry:
    return MapCacheEntry(prefix(text), action=Action.NATIVELY_FORWARD)


def without_lisp(text: str, ttl_min: int = 15) -> MappingRecord:
    return MappingRecord.of(prefix(text), ttl_min=ttl_min, action=Action.NATIVELY_FORWARD)


def learned(asked: str, *records: MappingRecord) -> MappingLearned:
    return MappingLearned(EidPrefix.host(ip(asked)), records, "miss", 1.0)


def mappings(policy: ForwardingPolicy = SPLIT) -> Mappings:
    made = Mappings(policy, 100)
    made.on_locators(OWN, 0.0)
    return made


@pytest.mark.parametrize("hole", ["10.99.0.2/32", "10.99.0.0/24", "10.0.0.0/8", "2001:db8:99:1::/64", "2001:db8::/32"])
@pytest.mark.parametrize("policy", [SPLIT, FULL], ids=["split", "full"])
def test_inside_the_overlay_prefixes_an_unregistered_eid_is_refused(hole: str, policy: ForwardingPolicy) -> None:
    assert decide(negative(hole), policy, OWN).disposition == "DROP"


@pytest.mark.parametrize("hole", ["192.0.2.0/24", "10.98.0.0/16", "2001:db8:7::/48"])
def test_outside_of_them_the_default_is_native_in_full_mode_alone(hole: str) -> None:
    assert decide(negative(hole), FULL, OWN).disposition == "NATIVE"
    assert decide(negative(hole), SPLIT, OWN).disposition == "DROP"


def test_another_instance_has_no_native_side_to_leave_by() -> None:
    config = NodeConfig((prefix("[7]10.99.0.1/32"),), fallback="auto", overlay_prefixes=CONFIG.overlay_prefixes)

    assert decide(negative("[7]10.99.0.2/32"), ForwardingPolicy.of(config), OWN).disposition == "DROP"


@pytest.mark.parametrize("fallback", ["auto", "drop"])
def test_a_mapping_that_a_hand_made_native_is_native(fallback: str) -> None:
    policy = ForwardingPolicy("auto" if fallback == "auto" else "drop", overlay=SPLIT.overlay)
    entry = MapCacheEntry(prefix("10.99.0.9/32"), action=Action.NATIVELY_FORWARD, source="static")

    assert decide(entry, policy, OWN).disposition == "NATIVE"


@pytest.mark.parametrize(
    ("hole", "asked", "kept"),
    [
        ("10.0.0.0/8", "10.99.0.2", "10.99.0.0/24"),
        ("10.0.0.0/8", "10.98.0.1", "10.98.0.0/16"),
        ("0.0.0.0/1", "11.0.0.1", "11.0.0.0/8"),
        ("10.99.0.128/25", "10.99.0.200", "10.99.0.128/25"),
        ("2001:db8::/32", "2001:db8:99::2", "2001:db8:99::/48"),
        ("2001:db8::/32", "2001:db8:8000::1", "2001:db8:8000::/33"),
    ],
)
def test_a_hole_around_an_overlay_prefix_counts_inside_or_outside_of_it(hole: str, asked: str, kept: str) -> None:
    machine = mappings(FULL)

    machine.on_learned(learned(asked, without_lisp(hole)), 1.0)

    assert [entry.prefix for entry in machine.cache] == [prefix(kept)]


def test_in_full_mode_a_hole_that_leaves_natively_never_takes_the_overlay_with_it() -> None:
    machine = mappings(FULL)
    machine.on_learned(learned("10.98.0.1", without_lisp("10.0.0.0/8")), 1.0)

    assert machine.cache.lookup(ip("10.99.0.2")) is None


@pytest.mark.parametrize("named", [(PEER,), (PEER, SPARE), (PEER, Locator(ip("2001:db8:f::5")))])
def test_when_no_locator_answers_packets_go_on_and_their_senders_hear_of_it(named: tuple[Locator, ...]) -> None:
    dead = {ip("203.0.113.5"), ip("203.0.113.6")}

    decision = decide(MapCacheEntry(prefix("10.99.0.2/32"), named), SPLIT, OWN, dead)

    assert decision.disposition == "DOUBT"
    assert decision.locators[0].address == ip("203.0.113.5")


def test_one_locator_that_answers_is_enough() -> None:
    entry = MapCacheEntry(prefix("10.99.0.2/32"), (PEER, SPARE))

    decision = decide(entry, SPLIT, OWN, {ip("203.0.113.5")})

    assert decision == InstallMapping(
        prefix("10.99.0.2/32"),
        "ENCAPSULATE",
        (UsableLocator(ip("203.0.113.6"), 1, 100),),
        sources=(ip("203.0.113.5"),),
    )


def test_a_peer_whose_locators_have_all_died_is_asked_for_again_at_once_for_it_may_be_elsewhere() -> None:
    machine = mappings()
    machine.on_learned(learned("10.99.0.2", MappingRecord.of(prefix("10.99.0.2/32"), (PEER, SPARE))), 1.0)

    one_left = machine.on_reachability(ip("203.0.113.5"), False, 5.0)
    none_left = machine.on_reachability(ip("203.0.113.6"), False, 5.0)

    assert not only(one_left, RefreshNeeded)
    assert only(none_left, RefreshNeeded) == [RefreshNeeded(prefix("10.99.0.2/32"))]
    assert only(none_left, InstallMapping)[0].disposition == "DOUBT"


def test_a_locator_that_answers_again_ends_the_doubt_at_once() -> None:
    machine = mappings()
    machine.on_learned(learned("10.99.0.2", MappingRecord.of(prefix("10.99.0.2/32"), (PEER,))), 1.0)
    machine.on_reachability(ip("203.0.113.5"), False, 5.0)

    again = machine.on_reachability(ip("203.0.113.5"), True, 6.0)

    assert only(again, InstallMapping)[0].disposition == "ENCAPSULATE"


@pytest.mark.parametrize("is_dead", [True, False], ids=["dead", "unregistered"])
def test_a_refused_destination_in_use_is_asked_for_again_within_half_a_minute(is_dead: bool) -> None:
    machine = mappings()
    record = MappingRecord.of(prefix("10.99.0.2/32"), (PEER,)) if is_dead else without_lisp("10.99.0.0/24")
    machine.on_reachability(ip("203.0.113.5"), False, 0.0)
    machine.on_learned(learned("10.99.0.2", record), 1.0)
    [entry] = machine.cache

    machine.cache.touch([entry.prefix], HOPELESS_S / 2)
    effects = machine.on_timer(1.0 + HOPELESS_S - 1.0)

    assert only(effects, RefreshNeeded) == [RefreshNeeded(entry.prefix)]


def test_what_leaves_natively_keeps_the_lifetime_that_it_came_with() -> None:
    machine = mappings(FULL)
    machine.on_learned(learned("192.0.2.1", without_lisp("192.0.2.0/24")), 1.0)

    [entry] = machine.cache

    assert entry.expires_at == 1.0 + 15 * 60.0


@pytest.mark.parametrize(
    ("record", "is_dead", "is_refuted"),
    [
        (without_lisp("10.99.0.0/24"), False, True),
        (MappingRecord.of(prefix("10.99.0.2/32"), (PEER,)), True, True),
        (MappingRecord.of(prefix("10.99.0.2/32"), (PEER,)), False, False),
        (MappingRecord.of(prefix("10.99.0.0/24"), action=Action.SEND_MAP_REQUEST), False, False),
    ],
)
def test_a_sign_of_life_refutes_only_a_negative_answer(record: MappingRecord, is_dead: bool, is_refuted: bool) -> None:
    machine = mappings()
    machine.on_learned(learned("10.99.0.2", record), 1.0)
    machine.on_reachability(ip("203.0.113.5"), not is_dead, 2.0)

    assert (machine.refuted(ip("10.99.0.2"), 0) is not None) == is_refuted


def test_a_static_mapping_is_refuted_by_no_sign_of_life() -> None:
    machine = mappings()
    machine.on_added(MappingRecord.of(prefix("10.99.0.2/32"), action=Action.DROP), 1.0)

    assert machine.refuted(ip("10.99.0.2"), 0) is None
