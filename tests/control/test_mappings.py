from __future__ import annotations

import pytest

from lispmob.control.forwarding import ForwardingPolicy
from lispmob.control.mappings import BATCH, LONGEST_TTL_S, Mappings
from lispmob.protocol.effect import (
    DropPending,
    InstallMapping,
    LookupFailed,
    MachineEffect,
    MappingLearned,
    RefreshNeeded,
    RemoveMapping,
)
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.control.support import EID, LTE, WIFI, WIFI6, ip, locators, only, prefix, run_until

RLOC = Locator(ip("203.0.113.5"))
HOST = prefix("10.2.0.7/32")
POLICY = ForwardingPolicy("proxy", (Locator(ip("192.0.2.99")),), (EID,))


def mappings(policy: ForwardingPolicy = POLICY) -> Mappings:
    machine = Mappings(policy, 100)
    machine.on_locators(locators(WIFI), 0.0)
    return machine


def learn(machine: Mappings, *records: MappingRecord, at: float = 0.0, why: str = "miss") -> list[MachineEffect]:
    return machine.on_learned(MappingLearned(HOST, records, why, 1.0), at)


def positive(text: str, ttl_min: int = 10) -> MappingRecord:
    return MappingRecord.of(prefix(text), (RLOC,), ttl_min=ttl_min)


def table(machine: Mappings) -> dict[str, str]:
    return {
        str(entry.prefix): installed.disposition
        for entry in machine.cache
        if (installed := machine.installed.get(entry.prefix))
    }


def test_an_answer_is_installed_as_wide_as_it_is() -> None:
    (install,) = only(learn(mappings(), positive("10.2.0.0/24")), InstallMapping)

    assert (install.prefix, install.disposition) == (prefix("10.2.0.0/24"), "ENCAPSULATE")


@pytest.mark.parametrize(("ttl_min", "lifetime_s"), [(1, 60.0), (0xFFFFFFFF, LONGEST_TTL_S), (10**6, LONGEST_TTL_S)])
def test_a_ttl_is_in_minutes_and_never_more_than_a_day(ttl_min: int, lifetime_s: float) -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.0/24", ttl_min))

    machine.on_timer(lifetime_s - 0.5)
    assert table(machine)
    assert only(machine.on_timer(lifetime_s), RemoveMapping) == [RemoveMapping(prefix("10.2.0.0/24"))]


def test_a_ttl_of_zero_removes_the_mapping_now() -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.0/24"))

    effects = learn(machine, positive("10.2.0.0/24", 0))

    assert only(effects, RemoveMapping)
    assert only(effects, DropPending)
    assert table(machine) == {}


def test_a_wider_answer_replaces_what_it_comes_without() -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.0/24"))

    effects = learn(machine, positive("10.2.0.0/16"))

    assert only(effects, RemoveMapping) == [RemoveMapping(prefix("10.2.0.0/24"))]
    assert table(machine) == {"10.2.0.0/16": "ENCAPSULATE"}


def test_a_wider_answer_keeps_what_it_comes_with() -> None:
    machine = mappings()

    learn(machine, positive("10.2.9.0/24"), positive("10.2.0.0/16"))

    assert set(table(machine)) == {"10.2.0.0/16", "10.2.9.0/24"}


def test_a_wide_negative_answer_spares_a_peer_inside_and_dies_with_it() -> None:
    machine = mappings()
    learn(machine, positive("10.2.9.0/24", 5))

    learn(machine, MappingRecord.of(prefix("10.0.0.0/8"), ttl_min=15, action=Action.NATIVELY_FORWARD), at=60.0)

    assert table(machine) == {"10.0.0.0/8": "ENCAPSULATE", "10.2.9.0/24": "ENCAPSULATE"}
    wide = machine.cache.get(prefix("10.0.0.0/8"))
    assert wide is not None
    assert wide.expires_at == 300.0


def test_a_peer_that_is_no_longer_registered_is_gone_when_it_was_asked_for() -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.7/32"))

    learn(machine, MappingRecord.of(prefix("10.2.0.0/16"), ttl_min=1, action=Action.DROP), why="refresh")

    assert table(machine) == {"10.2.0.0/16": "DROP"}


def test_an_eid_without_an_answer_is_left_alone_for_half_a_minute() -> None:
    machine = mappings()

    effects = machine.on_lookup_failed(LookupFailed(HOST, "miss", "unanswered"), 10.0)

    assert only(effects, InstallMapping) == [InstallMapping(HOST, "DROP")]
    assert only(effects, DropPending) == [DropPending(HOST, "unanswered")]
    assert only(machine.on_timer(40.0), RemoveMapping) == [RemoveMapping(HOST)]


def test_an_unanswered_refresh_leaves_the_mapping_in_use() -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.0/24"))

    machine.on_lookup_failed(LookupFailed(prefix("10.2.0.0/24"), "refresh", "unanswered"), 10.0)

    assert table(machine) == {"10.2.0.0/24": "ENCAPSULATE"}


def test_a_new_family_of_uplinks_makes_other_locators_usable() -> None:
    machine = mappings()
    both = (Locator(ip("203.0.113.5"), 1), Locator(ip("2001:db8::5"), 2))
    learn(machine, MappingRecord.of(HOST, both))

    (install,) = only(machine.on_locators(locators(WIFI, WIFI6, version=2), 1.0), InstallMapping)

    assert [locator.address.version for locator in install.locators] == [4, 6]


def test_a_move_within_one_family_leaves_the_table_alone() -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.0/24"))

    assert machine.on_locators(locators(LTE, version=2), 1.0) == []


def test_losing_every_uplink_leaves_the_table_alone() -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.0/24"))

    assert machine.on_locators(locators(version=2), 1.0) == []


def test_static_mappings_are_installed_and_cannot_be_learned_over() -> None:
    machine = mappings()
    static = MappingRecord.of(HOST, (Locator(ip("203.0.113.77")),))

    effects = machine.on_policy(POLICY, 100, [static], 0.0)
    assert only(effects, InstallMapping)[0].locators[0].address == ip("203.0.113.77")
    learn(machine, positive(str(HOST.network)))

    assert [entry.source for entry in machine.cache] == ["static"]
    assert only(machine.on_policy(POLICY, 100, [], 1.0), RemoveMapping) == [RemoveMapping(HOST)]


def test_another_fallback_changes_the_table_at_once() -> None:
    machine = mappings()
    learn(machine, MappingRecord.of(prefix("10.0.0.0/8"), action=Action.NATIVELY_FORWARD))

    effects = machine.on_policy(ForwardingPolicy("native"), 100, [], 1.0)

    assert only(effects, InstallMapping) == [InstallMapping(prefix("10.0.0.0/8"), "NATIVE")]


def test_after_a_sleep_what_is_in_use_is_asked_for_and_the_rest_forgotten() -> None:
    machine = mappings()
    learn(machine, positive("10.2.0.0/24", 1000), at=0.0)
    learn(machine, positive("10.3.0.0/24", 1000), at=0.0)
    machine.cache.touch([prefix("10.2.0.0/24")], 500.0)

    effects = machine.on_slept(510.0)

    assert only(effects, RefreshNeeded) == [RefreshNeeded(prefix("10.2.0.0/24"))]
    assert only(effects, RemoveMapping) == [RemoveMapping(prefix("10.3.0.0/24"))]
    assert only(machine.on_timer(570.0), RemoveMapping) == [RemoveMapping(prefix("10.2.0.0/24"))]


def test_a_move_with_a_full_cache_is_worked_off_in_batches() -> None:
    machine = Mappings(POLICY, 2000)
    machine.on_locators(locators(WIFI), 0.0)
    both = (Locator(ip("203.0.113.5"), 1), Locator(ip("2001:db8::5"), 2))
    for number in range(1000):
        learn(machine, MappingRecord.of(EidPrefix.host(HOST.address + number), both))

    batches = [machine.on_locators(locators(WIFI, WIFI6, version=2), 5.0)]
    batches += [effects for _, effects in run_until(machine, 5.0)]

    assert [len(only(batch, InstallMapping)) for batch in batches] == [BATCH, BATCH, BATCH, 1000 - 3 * BATCH]
    assert all(len(installed.locators) == 2 for batch in batches for installed in only(batch, InstallMapping))


@pytest.mark.parametrize("is_translated", [True, False])
def test_data_comes_past_the_rtr_only_where_the_mapping_says_that_there_is_a_nat(is_translated: bool) -> None:
    machine = mappings()
    inside = Locator(ip("10.0.0.7"), is_reachable=not is_translated)
    learn(machine, MappingRecord.of(HOST, (RLOC, inside)))

    effects = machine.on_direct_path(HOST, ip("203.0.113.88"), 1.0)

    assert [ip("203.0.113.88") in install.sources for install in only(effects, InstallMapping)] == [
        True
    ] * is_translated
    assert machine.on_direct_path(HOST, ip("203.0.113.88"), 2.0) == []


def test_a_thousand_ways_past_an_rtr_are_forgotten_but_for_the_last() -> None:
    machine = mappings()
    for number in range(1000):
        machine.on_direct_path(prefix(f"10.3.{number // 250}.{number % 250 + 1}/32"), ip("203.0.113.88"), 1.0)
    nat = Locator(ip("10.0.0.7"), is_reachable=False)

    effects = learn(machine, MappingRecord.of(prefix("10.3.0.0/16"), (RLOC, nat)), at=2.0)

    (install,) = only(effects, InstallMapping)
    assert len(install.sources) <= 65


def test_once_proof_is_required_what_was_not_proved_goes_and_the_rest_stays() -> None:
    machine = mappings()
    machine.on_policy(POLICY, 100, [positive("10.7.0.0/16")], 0.0)
    machine.on_learned(MappingLearned(HOST, (positive("10.2.0.0/24"),), "miss", 1.0, is_genuine=True), 0.0)
    machine.on_learned(MappingLearned(prefix("10.3.0.7/32"), (positive("10.3.0.0/24"),), "miss", 1.0), 0.0)

    machine.on_proof_required()

    assert sorted(table(machine)) == ["10.2.0.0/24", "10.7.0.0/16"]
