"""After lispd a host is as it was before: after a stop, and after a crash, a start and a stop."""

from __future__ import annotations

import dataclasses
import os
import re
import signal

import pytest

from lispmob.lab.ping import ping
from tests.lispd.running.world import A, Node, World, network_listing, settled_listing, wait_for

pytestmark = pytest.mark.netns

NATIVE_FULL = "{mode: full, fallback: native}"


def start_with_everything(world: World) -> Node:
    """A node that uses each kind of kernel state: routes, rules, addresses and translation."""
    world.start_hub()
    return world.start_node(dataclasses.replace(world.text(A), routing=NATIVE_FULL))


def same_device(listing: str) -> list[str]:
    """A listing without what may differ of lmn0: its number grows, and rules of one priority have no order."""
    return sorted(re.sub(r"^\d+: lmn0", "lmn0", line) for line in listing.splitlines())


def test_a_stop_leaves_the_host_byte_for_byte_as_it_was_and_withdraws_the_registration(world: World) -> None:
    before = network_listing(world["a"])
    hub = world.start_hub()
    node = world.start_node(dataclasses.replace(world.text(A), routing=NATIVE_FULL))
    assert network_listing(world["a"]) != before

    assert node.daemon.stop() == 0

    assert network_listing(world["a"]) == before
    assert not (node.directory / "lispd.sock").exists()
    said = hub.daemon.log.read_text()
    assert all(f"withdrawn eid={prefix}" in said for prefix in A.prefixes), said


def test_after_a_crash_the_next_start_cleans_up_and_its_stop_leaves_nothing(world: World) -> None:
    before = network_listing(world["a"])
    node = start_with_everything(world)
    running = same_device(settled_listing(world["a"]))

    os.kill(node.daemon.pid, signal.SIGKILL)
    wait_for(lambda: not node.daemon.is_running, "the end of lispd")
    assert network_listing(world["a"]) != before, "a crash leaves rules behind: else this test shows nothing"
    node.start()
    node.wait_until_registered()
    # Chains follow once nothing more urgent is to be done.
    wait_for(lambda: same_device(network_listing(world["a"])) == running, "all that was there before the crash")
    assert node.daemon.stop() == 0

    assert network_listing(world["a"]) == before


def test_between_a_crash_and_the_next_start_the_host_reaches_what_it_reached_before(world: World) -> None:
    node = start_with_everything(world)

    os.kill(node.daemon.pid, signal.SIGKILL)
    wait_for(lambda: not node.daemon.is_running, "the end of lispd")

    for host, interface in (("hub", "eth0"), ("b", "wlan0")):
        for version in (4, 6):
            assert ping(world["a"], world.lab.topology.address(host, interface, version), count=1).lost == 0


def test_a_second_start_beside_a_running_node_leaves_the_first_one_alone(world: World) -> None:
    world.start_hub()
    node = world.start_node(A)
    before = settled_listing(world["a"])

    second = Node(node.text, world["a"])
    wait_for(lambda: not second.daemon.is_running, "the end of the second lispd")

    assert second.daemon.exit_code == 1
    assert "another lispd listens here" in second.log()
    assert network_listing(world["a"]) == before
    assert node.wait_until_registered()
