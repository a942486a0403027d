"""What `lispctl paths` gets about a pair of locators, from its probes and large packets."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import asdict

from lispmob.control.path_mtu.search import PathMtu, Source, Way
from lispmob.control.probing.path import ProbeConfig
from lispmob.lispd.views.path_view import _relayed_view, in_ms, path_view
from lispmob.protocol.locator_set import LocalLocator
from tests.control.probing.probing_world import PEER, WIFI, World

METERED = LocalLocator(WIFI.address, 2, "wlan0", mtu_bytes=1400, cost=3)


def world() -> World:
    made = World(ProbeConfig(measures=True, interval_s=1.0), rtt_s=0.1)
    made.begin()
    made.run(10.0)
    return made


def test_a_path_that_answers_is_shown_with_its_times_in_milliseconds_and_its_losses_as_a_share() -> None:
    place = world()
    (path,) = place.prober.paths

    shown = asdict(path_view(path, METERED, lambda interface: interface == "wlan0", place.now))

    assert shown["rtt_ms"] == shown["rtt_min_ms"] == pytest.approx(100.0)
    assert shown["jitter_ms"] == pytest.approx(0.0, abs=0.001)
    assert (shown["loss"], shown["probes"]) == (0.0, path.quality.probes)
    assert (shown["local"], shown["remote"], shown["interface"]) == (str(WIFI.address), str(PEER), "wlan0")
    assert (shown["state"], shown["is_preferred"], shown["cost"]) == ("up", True, 3)
    assert shown["since_s"] == round(place.now - path.since, 3) > 8.0
    assert (shown["mtu_bytes"], shown["mtu_source"]) == (1400, "interface")


def test_of_a_path_whose_uplink_is_gone_nothing_of_the_uplink_is_shown() -> None:
    place = world()
    (path,) = place.prober.paths

    shown = path_view(path, None, lambda interface: interface == "wlan0", place.now)

    assert (shown.interface, shown.is_preferred, shown.cost) == ("?", False, 0)
    assert (shown.mtu_bytes, shown.mtu_source) == (None, "default")


def test_what_a_large_packet_has_shown_counts_more_than_the_interface() -> None:
    place = world()
    (path,) = place.prober.paths
    mtu = PathMtu(4, 1300)
    mtu.source = Source.PROBED

    shown = path_view(path, METERED, lambda _: False, place.now, mtu)

    assert (shown.mtu_bytes, shown.mtu_source, shown.is_preferred) == (1300, "probed", False)


def test_data_that_came_is_shown_by_its_age() -> None:
    place = world()
    (path,) = place.prober.paths
    assert path_view(path, METERED, lambda _: True, place.now).heard_s is None

    place.take(place.prober.on_heard([(WIFI.address, PEER)], place.now))

    assert path_view(path, METERED, lambda _: True, place.now + 0.5).heard_s == 0.5


@pytest.mark.parametrize(("own", "interface", "cost"), [(METERED, "wlan0", 3), (None, "?", 0)])
def test_of_the_way_to_an_rtr_its_size_is_shown(own: LocalLocator | None, interface: str, cost: int) -> None:
    way, mtu = Way(WIFI.address, ip_address("203.0.113.1"), 4341), PathMtu(4, 1500)
    mtu.last_large = 7.0

    shown = _relayed_view(way, own, mtu, 10.0)

    assert (shown.interface, shown.cost, shown.since_s) == (interface, cost, 3.0)
    assert (shown.local, shown.remote, shown.state) == (str(WIFI.address), "203.0.113.1", "unknown")
    assert (shown.mtu_bytes, shown.mtu_source, shown.rtt_ms) == (1500, "interface", None)


def test_times_are_milliseconds_to_the_microsecond() -> None:
    assert in_ms(0.0123456) == 12.346
    assert in_ms(None) is None
