"""When a new uplink has to wait, and for how long."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

import pytest

from lispmob.iface_monitor.gateway_trials import Gateway, GatewayTrials, gateways_of
from lispmob.iface_monitor.snapshot import DefaultRoute, Link, LocalAddress, NetworkState, UplinkPolicy

WIFI = frozenset({Gateway(3, ip_address("192.0.2.1"))})
LTE = frozenset({Gateway(4, ip_address("198.51.100.1"))})
NOBODY: frozenset[Gateway] = frozenset()


def on_lte() -> GatewayTrials:
    trials = GatewayTrials()
    trials.on_uplinks({"lte0": LTE})
    trials.on_known(NOBODY, now=0.0)
    return trials


def wait_for_wifi(trials: GatewayTrials) -> None:
    trials.on_uplinks({"lte0": LTE, "wlan0": WIFI})
    trials.on_known(NOBODY, now=10.0)


def test_the_only_uplink_never_waits() -> None:
    trials = on_lte()

    assert trials.waiting == frozenset()
    assert trials.wake_at() is None


@pytest.mark.parametrize("uplinks", [{"wlan0": WIFI}, {"lte0": LTE}, {"ppp0": NOBODY}, {}])
def test_no_gateway_is_asked_for_while_there_is_nothing_to_choose_from(
    uplinks: dict[str, frozenset[Gateway]],
) -> None:
    trials = on_lte()

    assert trials.on_uplinks(uplinks) == NOBODY
    assert trials.on_known(NOBODY, now=10.0) == ()
    assert (trials.waiting, trials.wake_at()) == (frozenset(), None)


def test_all_gateways_are_asked_for_when_two_uplinks_come_at_once() -> None:
    trials = GatewayTrials()

    assert trials.on_uplinks({"lte0": LTE, "wlan0": WIFI}) == LTE | WIFI


def test_a_second_uplink_waits_until_its_gateway_answers() -> None:
    trials = on_lte()

    unproven = trials.on_uplinks({"lte0": LTE, "wlan0": WIFI})
    begun = trials.on_known(NOBODY, now=10.0)
    has_waited = trials.waiting
    ended = trials.on_known(WIFI, now=10.02)

    assert unproven == WIFI
    assert begun == ("wlan0: waits until its gateway answers",)
    assert has_waited == {"wlan0"}
    assert ended == ("wlan0: waits no longer for its gateway",)
    assert trials.waiting == frozenset()
    assert trials.wake_at() is None


def test_an_uplink_without_a_next_hop_never_waits() -> None:
    trials = on_lte()

    assert trials.on_uplinks({"lte0": LTE, "ppp0": NOBODY}) == NOBODY
    trials.on_known(NOBODY, now=10.0)
    assert trials.waiting == frozenset()


def test_when_the_last_other_uplink_goes_there_is_nothing_to_wait_for() -> None:
    trials = on_lte()
    wait_for_wifi(trials)

    trials.on_uplinks({"wlan0": WIFI})
    trials.on_known(NOBODY, now=11.0)

    assert trials.waiting == frozenset()


def test_an_uplink_that_has_been_in_use_does_not_wait_when_it_gets_one_more_gateway() -> None:
    trials = on_lte()
    wait_for_wifi(trials)
    trials.on_known(WIFI, now=10.5)

    both = WIFI | {Gateway(3, ip_address("fe80::1"))}
    assert trials.on_uplinks({"lte0": LTE, "wlan0": both}) == NOBODY
    assert not trials.on_known(NOBODY, now=11.0)


def test_an_uplink_that_was_gone_waits_again() -> None:
    trials = on_lte()
    wait_for_wifi(trials)
    trials.on_known(WIFI, now=10.5)

    trials.on_uplinks({"lte0": LTE})
    trials.on_known(NOBODY, now=11.0)
    wait_for_wifi(trials)

    assert trials.waiting == {"wlan0"}


def test_a_gateway_that_stays_silent_is_looked_at_ever_more_rarely_and_at_least_twice_a_minute() -> None:
    trials = on_lte()
    wait_for_wifi(trials)

    looks = []
    while (at := trials.wake_at()) is not None and at < 10.0 + 3600.0:
        looks.append(at)
        trials.on_known(NOBODY, now=at)

    pauses = [later - earlier for earlier, later in pairwise(looks)]
    assert looks[0] - 10.0 < 0.02
    assert len([at for at in looks if at < 12.0]) > 3
    assert max(pauses) < 30.001
    assert len(looks) < 200


def test_gateways_count_for_the_families_that_the_uplink_has_addresses_of() -> None:
    link = Link(3, "wlan0", "", True, True, False, 1500)
    four = DefaultRoute(4, 3, ip_address("192.0.2.1"), 0)
    six = DefaultRoute(6, 3, ip_address("fe80::1"), 0)
    state = NetworkState.of([link], [LocalAddress(ip_address("192.0.2.2"), 24, 3)], [four, six])

    assert gateways_of(state, state.uplinks(UplinkPolicy())) == {"wlan0": WIFI}
