"""The policy `prefer`: from the figures of probes to the priorities in the datapath, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.forwarding import equals, ranked
from lispmob.control.preference import Preference, PreferenceConfig, figures
from lispmob.control.probing.path import Pair, Path, State
from lispmob.protocol.effect import Event, UplinksRanked, UsableLocator
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.scheduler import Prefer
from lispmob.wire.address import EidPrefix, IpAddress

CABLE, WIFI = ip_address("192.0.2.1"), ip_address("198.51.100.1")
NEAR, FAR = ip_address("203.0.113.1"), ip_address("203.0.113.2")
EID = EidPrefix.parse("10.0.0.0/24")
OWN = (LocalLocator(CABLE, 2, "cable0"), LocalLocator(WIFI, 3, "wlan0"))


def path(local: IpAddress, remote: IpAddress, rtt_ms: float | None, *, lost: int = 0, state: State = State.UP) -> Path:
    made = Path(Pair(local, remote), EID, 0.0)
    made.state = state
    for _ in range(10 - lost):
        if rtt_ms is not None:
            made.quality.on_answer(rtt_ms / 1000)
    for _ in range(lost):
        made.quality.on_lost()
    return made


def by_rtt(cable_ms: float | None, wifi_ms: float | None) -> list[Path]:
    return [path(CABLE, NEAR, cable_ms), path(WIFI, NEAR, wifi_ms)]


def first(preference: Preference) -> list[str]:
    best = min(preference.uplinks.values())
    return [name for name, priority in preference.uplinks.items() if priority == best]


def preferring(prefer: Prefer, hold_s: float = 10.0) -> Preference:
    return Preference(PreferenceConfig(prefer, hold_s))


def test_figures_are_of_every_uplink_that_may_send_and_of_the_remotes_that_all_of_them_reach() -> None:
    never = LocalLocator(ip_address("192.0.2.9"), 4, "lte0", priority=255)
    paths = [*by_rtt(10, 100), path(CABLE, FAR, 500), path(WIFI, NEAR, 1, state=State.DOWN)]

    found = figures((*OWN, never), paths)

    assert {name: one.rtt_ms for name, one in found.items()} == {
        "cable0": pytest.approx(10), "wlan0": pytest.approx(100),
    }  # fmt: skip


def test_by_weight_nothing_is_ranked_and_nothing_wakes() -> None:
    preference = preferring(Prefer.WEIGHT)

    preference.touch(0.0)

    assert preference.wake_at() is None
    assert preference.on_review(OWN, by_rtt(10, 100), [], 0.0) == []
    assert preference.uplinks == {}


def test_the_quicker_uplink_of_equals_takes_all_and_the_change_is_told_once() -> None:
    preference = preferring(Prefer.LATENCY)

    effects = preference.on_review(OWN, by_rtt(100, 10), [], 0.0)
    again = preference.on_review(OWN, by_rtt(101, 11), [], 1.0)

    assert first(preference) == ["wlan0"]
    assert [type(effect) for effect in effects] == [Event, UplinksRanked]
    assert again == []


def test_priority_stays_above_quality() -> None:
    backup = (OWN[0], LocalLocator(WIFI, 3, "wlan0", priority=2))
    preference = preferring(Prefer.LATENCY)

    preference.on_review(backup, by_rtt(100, 10), [], 0.0)

    assert first(preference) == ["cable0"]


def test_a_rival_takes_over_when_it_has_been_clearly_better_for_the_time_to_hold() -> None:
    preference = preferring(Prefer.LATENCY, hold_s=10.0)
    preference.on_review(OWN, by_rtt(10, 20), [], 0.0)

    preference.on_review(OWN, by_rtt(100, 20), [], 5.0)
    wakes = preference.wake_at()
    before = first(preference)
    preference.on_review(OWN, by_rtt(100, 20), [], 15.0)

    assert (before, wakes, first(preference)) == (["cable0"], 15.0, ["wlan0"])


def test_a_little_better_is_not_enough_however_long() -> None:
    preference = preferring(Prefer.LATENCY)
    preference.on_review(OWN, by_rtt(20, 30), [], 0.0)

    for at in range(1, 100):
        preference.on_review(OWN, by_rtt(24, 20), [], float(at))

    assert first(preference) == ["cable0"]


def test_uplinks_are_compared_by_the_remotes_that_both_of_them_reach() -> None:
    """Wi-Fi alone reaches the distant peer: that must not make Wi-Fi look slow."""
    preference = preferring(Prefer.LATENCY)
    paths = [path(CABLE, NEAR, 30), path(WIFI, NEAR, 10), path(WIFI, FAR, 300)]

    preference.on_review(OWN, paths, [], 0.0)

    assert first(preference) == ["wlan0"]


def test_an_uplink_whose_paths_are_down_is_not_preferred_whatever_they_were() -> None:
    preference = preferring(Prefer.LATENCY)

    preference.on_review(OWN, [path(CABLE, NEAR, 1, state=State.DOWN), path(WIFI, NEAR, 50)], [], 0.0)

    assert first(preference) == ["wlan0"]


def test_the_one_that_loses_less_is_preferred_once_enough_was_asked() -> None:
    preference = preferring(Prefer.LOSS)

    preference.on_review(OWN, [path(CABLE, NEAR, 10, lost=4), path(WIFI, NEAR, 90)], [], 0.0)

    assert first(preference) == ["wlan0"]


def test_the_cheaper_one_is_preferred_without_a_single_probe_and_a_new_price_counts_at_once() -> None:
    costly = (LocalLocator(CABLE, 2, "cable0", cost=100), OWN[1])
    preference = preferring(Prefer.COST)
    preference.on_review(costly, [], [], 0.0)
    before = first(preference)

    preference.on_review((OWN[0], LocalLocator(WIFI, 3, "wlan0", cost=200)), [], [], 1.0)

    assert (before, first(preference)) == (["wlan0"], ["cable0"])


def test_equal_remote_locators_are_ordered_by_the_pairs_of_the_preferred_uplink() -> None:
    preference = preferring(Prefer.LATENCY)
    group = frozenset({NEAR, FAR})
    paths = [path(CABLE, NEAR, 10), path(CABLE, FAR, 60), path(WIFI, NEAR, 300), path(WIFI, FAR, 1000)]

    preference.on_review(OWN, paths, [group], 0.0)
    mapping = (UsableLocator(FAR, 1, 50), UsableLocator(NEAR, 1, 50), UsableLocator(CABLE, 2, 1))
    order = [locator.address for locator in ranked(mapping, preference.remotes)]
    priorities = [locator.priority for locator in ranked(mapping, preference.remotes)]

    assert equals(mapping) == group
    assert order == [NEAR, FAR, CABLE]
    assert priorities == sorted(set(priorities))


def test_going_back_to_weight_undoes_the_ranks() -> None:
    preference = preferring(Prefer.LATENCY)
    preference.on_review(OWN, by_rtt(100, 10), [frozenset({NEAR, FAR})], 0.0)

    preference.on_config(PreferenceConfig(), 1.0)
    effects = preference.on_review(OWN, by_rtt(100, 10), [], 1.0)

    assert UplinksRanked() in effects
    assert (preference.uplinks, preference.remotes) == ({}, {})


@given(st.lists(st.tuples(st.floats(1, 500), st.floats(1, 500)), min_size=1, max_size=60))
def test_whatever_is_measured_all_flows_move_at_most_once_per_time_to_hold(
    rounds: Iterable[tuple[float, float]],
) -> None:
    preference = preferring(Prefer.LATENCY, hold_s=10.0)
    moves = []
    for at, (cable_ms, wifi_ms) in enumerate(rounds):
        if UplinksRanked() in preference.on_review(OWN, by_rtt(cable_ms, wifi_ms), [], float(at)):
            moves.append(at)
        assert len(first(preference)) == 1

    assert all(later - earlier >= 10 for earlier, later in pairwise(moves[1:]))


@pytest.mark.parametrize("prefer", [Prefer.LATENCY, Prefer.LOSS])
def test_probes_go_on_while_data_proves_the_path_where_a_measure_is_preferred(prefer: Prefer) -> None:
    assert PreferenceConfig(prefer).is_measured
    assert not PreferenceConfig(Prefer.COST).is_measured


def test_a_review_is_due_at_the_time_that_it_asks_for_and_not_before() -> None:
    preference = preferring(Prefer.LATENCY)
    preference.touch(5.0)
    at = preference.wake_at()
    assert at is not None

    assert not preference.due(at - 0.001)
    assert preference.due(at)


def test_a_peer_with_one_locator_has_no_order_among_locators() -> None:
    preference = preferring(Prefer.LATENCY)
    preference.on_review(OWN, by_rtt(10, 100), [frozenset({NEAR}), frozenset({NEAR, FAR})], 0.0)

    assert set(preference.remotes) == {frozenset({NEAR, FAR})}


def test_it_looks_at_most_once_a_second_however_much_is_measured() -> None:
    preference = preferring(Prefer.LATENCY)
    preference.touch(5.0)
    assert preference.wake_at() == 5.0
    preference.on_review(OWN, by_rtt(10, 100), [], 5.0)
    preference.touch(5.2)

    assert preference.wake_at() == 6.0
