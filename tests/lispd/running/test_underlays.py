"""Other underlays: IPv6 alone, Instance-IDs, an uplink with a small MTU."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.lab.namespace import Namespace
from lispmob.lab.ping import ping
from lispmob.lab.probe import ProbeStream
from lispmob.lab.tcp_stream import TcpStream
from tests.lispd.running.world import A, B, World, city, world_of

pytestmark = pytest.mark.netns

IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0  # linux/in.h
TRIES = 4


def test_over_ipv6_alone_both_families_of_eids_register_resolve_and_survive_a_move(tmp_path: Path) -> None:
    with world_of(city(versions=[6]), tmp_path) as world:
        world.start_hub()
        a, b = world.start_pair()
        assert {":" in locator["address"] for locator in a.ctl("status")["locators"]} == {True}

        with ProbeStream(a.party(4), b.party(4)) as old, TcpStream(a.party(6), b.party(6)) as stream:
            time.sleep(1.2)  # within a second of its first question for an EID-Prefix a node does not ask again
            world["a"].run("ip", "link", "set", "wlan0", "down")
            moved_at = time.monotonic()
            a.wait_until(lambda status: status["last_handover"] is not None, "moved")
            time.sleep(0.8)
            out, back = old.finish()
            result = stream.finish()

        assert result.is_alive, result
        assert out.lost(moved_at + 0.4, float("inf")) == back.lost(moved_at + 0.4, float("inf")) == 0
        assert a.ctl("lookup", str(B.eid4))["locator"] == world.address("b", "wlan0", 6)


def test_eids_in_an_instance_reach_each_other_and_none_of_another_instance(world: World) -> None:
    sites = {"a": ('"[7]10.1.0.1/32"',), "b": ('"[7]10.1.0.2/32"',), "b9": ('"[9]10.1.0.3/32"',)}
    world.start_hub(sites=sites)
    a = world.start_node(dataclasses.replace(world.text(A), eids=("{prefix: 10.1.0.1/32, instance-id: 7}",)))
    members = ("{prefix: 10.1.0.2/32, instance-id: 7}", "{prefix: 10.1.0.3/32, instance-id: 9}")
    b = world.start_node(dataclasses.replace(world.text(B), eids=members))

    inside = ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=3.0)
    outside = ping(world["a"], ip_address("10.1.0.3"), A.eid4, count=1, timeout_s=0.5)

    assert inside.lost == 0
    assert outside.lost == 1
    assert [one["prefix"] for one in b.ctl("database")] == ["[7]10.1.0.2/32", "[9]10.1.0.3/32"]
    assert a.ctl("lookup", "10.1.0.2", "--instance-id", "7")["locator"] == world.address("b", "wlan0")
    elsewhere = a.ctl("lookup", "10.1.0.2")
    assert (elsewhere["verdict"], elsewhere["why"]) == (
        "native",
        "this node has no EID of IPv4, so nothing is sent there through LISP",
    )
    assert a.ctl("lookup", "10.1.0.3", "--instance-id", "7")["verdict"] == "drop"
    assert "[7]10.1.0.2/32" in a.say("map-cache")


def test_through_an_uplink_of_1400_octets_large_packets_and_tcp_pass(world: World) -> None:
    world["a"].run("ip", "link", "set", "wlan0", "mtu", "1400")
    world["gw-home"].run("ip", "link", "set", "lan", "mtu", "1400")
    world.start_hub()
    a, b = world.start_pair()

    status = a.ctl("status")
    big = [exchange(world["a"], world["b"], size) for size in (1000, 1400, 4000)]
    with TcpStream(a.party(), b.party()) as stream:
        time.sleep(0.5)
        result = stream.finish()

    assert status["routing"]["mtu_bytes"] == 1400 - 56 - 28
    assert next(uplink for uplink in status["uplinks"] if uplink["name"] == "wlan0")["mtu_bytes"] == 1400
    assert big == [True, True, True]
    assert result.is_alive, result
    assert result.sent > 50_000
    assert a.counters()["out_toobig"] == 0


def test_a_small_mtu_in_the_middle_of_the_path_is_learned_and_told_to_the_application(world: World) -> None:
    for gateway in ("gw-home", "core"):
        interface = "wan" if gateway != "core" else "net0"
        world[gateway].run("ip", "link", "set", interface, "mtu", "1350")
    world.start_hub()
    a, b = world.start_pair()
    assert exchange(world["a"], world["b"], 100)

    with TcpStream(a.party(), b.party()) as stream:
        time.sleep(1.0)
        result = stream.finish()

    assert result.is_alive, result
    assert result.returned > 50_000
    assert a.counters()["mtu_learned"] >= 1
    learned = [event["fields"] for event in a.ctl_lines("events", "--kinds", "mtu-learned")]
    rlocs = {world.address("b", "wlan0", version) for version in (4, 6)}
    assert learned
    assert all(one["rloc"] in rlocs and one["mtu_bytes"] == 1350 for one in learned)


def exchange(one: Namespace, other: Namespace, size: int) -> bool:
    """True when a datagram of `size` octets, which may be fragmented, gets there and back.

    The first ones may be lost: where the path MTU is small the sender learns it by a loss.
    """
    with (
        one.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        other.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
    ):
        for end, address in ((here, A.eid4), (there, B.eid4)):
            end.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
            end.bind((str(address), 6000))
            end.settimeout(0.5)
        for _ in range(TRIES):
            with contextlib.suppress(TimeoutError):
                here.sendto(bytes(size), (str(B.eid4), 6000))
                there.sendto(there.recv(65_535), (str(A.eid4), 6000))
                return len(here.recv(65_535)) == size
    return False
