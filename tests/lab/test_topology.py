"""Topologies: as data, and built from namespaces."""

from __future__ import annotations

import time
from ipaddress import IPv4Network, ip_address

import pytest

from lispmob.lab import move
from lispmob.lab.build import Lab
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink, roaming, transit


def test_the_addresses_of_a_host_follow_from_its_network() -> None:
    topology = roaming()

    assert topology.address("a", "wlan0") == ip_address("198.18.1.10")
    assert topology.address("a", "wlan0", version=6) == ip_address("2001:db8:18:1::a")
    assert [str(own) for own in topology.addresses("a", "wlan0", "cafe")] == ["198.18.3.10/24"]


def test_lines_to_the_core_have_addresses_of_their_own() -> None:
    used = [end.ip for number in range(20) for pair in transit(number) for end in pair]

    assert len(set(used)) == len(used)


def test_a_host_in_an_unknown_network_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no network nowhere"):
        Topology(networks=(), hosts=(Host("a", (Uplink("eth0", "nowhere"),)),))


def test_a_name_used_twice_is_refused() -> None:
    one = AccessNetwork("one", IPv4Network("198.18.1.0/24"))
    with pytest.raises(ValueError, match="used twice"):
        Topology(networks=(one, one), hosts=())


@pytest.mark.netns
def test_every_host_reaches_every_other_one_in_both_families(lab: Lab) -> None:
    addresses = [
        lab.topology.address(host, interface, version)
        for host, interface in (("b", "wlan0"), ("hub", "eth0"), ("world", "eth0"))
        for version in (4, 6)
    ]

    answered = {str(address): ping(lab["a"], address, count=1).lost == 0 for address in addresses}

    assert all(answered.values()), answered


@pytest.mark.netns
def test_a_round_trip_crosses_two_lines_twice(lab: Lab) -> None:
    median_s = ping(lab["a"], lab.topology.address("b", "wlan0"), count=5).median_s

    assert median_s is not None
    assert 0.080 <= median_s < 0.120


@pytest.mark.netns
def test_cables_join_every_host_without_the_process_of_the_lines() -> None:
    with Lab(roaming(has_cables=True)) as lab:
        there = [lab.topology.address("hub", "eth0", version) for version in (4, 6)]
        answered = [ping(lab["a"], address, count=1) for address in there]

        assert lab.relay_counters() == {}
    assert [found.lost for found in answered] == [0, 0]


@pytest.mark.netns
def test_building_and_removing_it_takes_less_than_two_seconds() -> None:
    began_at = time.monotonic()
    with Lab(roaming()):
        pass

    assert time.monotonic() - began_at < 2.0


@pytest.mark.netns
def test_a_move_to_another_network_changes_address_and_way_at_once(lab: Lab) -> None:
    moment = move.perform(lab, Move(Kind.NETWORK_CHANGED, "a", "wlan0", network="cafe"))

    assert "198.18.3.10/24" in lab["a"].run("ip", "-4", "addr", "show", "dev", "wlan0")
    assert "198.18.1.10" not in lab["a"].run("ip", "addr", "show", "dev", "wlan0")
    assert ping(lab["a"], ip_address("198.19.1.10"), ip_address("198.18.3.10"), count=1).lost == 0
    assert moment.ended_at - moment.began_at < 0.1


@pytest.mark.netns
@pytest.mark.parametrize("kind", [Kind.ROUTE_REMOVED, Kind.ADDRESS_REMOVED, Kind.LINK_DOWN])
def test_an_uplink_that_was_lost_can_be_restored(lab: Lab, kind: Kind) -> None:
    routes = lab["a"].run("ip", "route", "show", "default")
    addresses = lab["a"].run("ip", "-br", "addr", "show", "dev", "wlan0", "scope", "global")
    move.perform(lab, Move(kind, "a", "wlan0"))
    assert "wlan0" not in lab["a"].run("ip", "-4", "route", "show", "default")

    move.perform(lab, Move(Kind.RESTORED, "a", "wlan0"))

    assert lab["a"].run("ip", "route", "show", "default") == routes
    assert lab["a"].run("ip", "-br", "addr", "show", "dev", "wlan0", "scope", "global") == addresses
