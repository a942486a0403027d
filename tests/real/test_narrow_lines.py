"""Links with a smaller MTU than their ends: transfers work, whether or not ICMP reports it, wherever the link is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab.real.narrow import FILE_OCTETS, mute, narrow, squeeze
from lispmob.lab.real.world import HUB_V4, HUB_V6, A, B, World
from lispmob.lab.transfer import Sending, Transfer, transfer

pytestmark = pytest.mark.netns

WITHIN_S = 10.0  # a few round trips and a few retransmissions; most of it is for a busy machine


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    with World(tmp_path, tier=request.param) as made:
        yield made


def start(world: World, *addresses: str) -> None:
    """Start hub and both nodes; a is in the open, with these addresses."""
    world.attach("a", "eth0", addresses, metric=100)
    hub = [HUB_V6] if all(":" in address for address in addresses) else [ip_address("198.18.0.10")]
    world.start_hub()
    world.start_node(A, hub)
    world.start_node(B, hub)
    world.wait_registered()


def back(world: World, version: int = 4) -> Transfer:
    """A transfer from b to a. The opposite direction knows the size afterwards, from TCP's headers."""
    return transfer(world.party(B, version), world.party(A, version), FILE_OCTETS, timeout_s=WITHIN_S)


def there(world: World, version: int = 4) -> Transfer:
    return transfer(world.party(A, version), world.party(B, version), FILE_OCTETS, timeout_s=WITHIN_S)


def paths(world: World, name: str) -> list[dict[str, Any]]:
    answer = world.nodes[name].lispctl("paths")
    assert isinstance(answer, dict)
    entries: list[dict[str, Any]] = answer["entries"]
    return entries


def sizes(world: World, name: str) -> set[tuple[int, str]]:
    """The path MTUs of a node, each with its source."""
    return {(path["mtu_bytes"], path["mtu_source"]) for path in paths(world, name)}


def wait_for_size(world: World, name: str, wanted: tuple[int, str]) -> None:
    world.wait(lambda: wanted in sizes(world, name), f"{name} knows {wanted}, of {sizes(world, name)}", 8.0)


@pytest.mark.parametrize("world", ["ebpf"], indirect=True)
def test_over_ipv6_alone(world: World) -> None:
    narrow(world, 1400)
    start(world, "2001:db8:a::2/64")

    assert back(world).is_complete
    assert there(world, version=6).is_complete
    wait_for_size(world, "b", (1400, "probed"))


@pytest.mark.parametrize("world", ["tun"], indirect=True)
def test_at_the_least_that_ipv6_allows(world: World) -> None:
    narrow(world, 1280)
    start(world, "198.51.100.2/24")

    assert there(world).is_complete
    assert back(world, version=6).is_complete  # packets of 1280 octets inside, which have to be fragmented outside
    wait_for_size(world, "a", (1280, "probed"))


@pytest.mark.parametrize("world", ["ebpf"], indirect=True)
def test_in_one_direction_only(world: World) -> None:
    narrow(world, 1450)
    world.cable(("inet", "wide"), ("far", "wide"), near_addresses=["10.98.0.1/24"], far_addresses=["10.98.0.2/24"])
    world.ip("far", "route replace default via 10.98.0.1")
    start(world, "198.51.100.2/24")

    assert there(world).is_complete
    assert back(world).is_complete

    wait_for_size(world, "a", (1450, "probed"))
    assert all(size == 1500 for size, _ in sizes(world, "b"))


@pytest.mark.parametrize("world", ["tun", "ebpf"], indirect=True)
def test_when_it_becomes_narrow_in_the_middle_of_a_transfer(world: World) -> None:
    narrow(world, 1500)
    start(world, "198.51.100.2/24")
    sending = Sending(world.party(A), world.party(B), FILE_OCTETS, timeout_s=15.0, pause_s=0.05)
    time.sleep(1.0)

    squeeze(world, 1400)

    assert sending.finish().is_complete
    wait_for_size(world, "a", (1400, "probed"))


@pytest.mark.parametrize("world", ["ebpf"], indirect=True)
def test_with_routers_that_say_what_they_take(world: World) -> None:
    narrow(world, 1380, is_mute=False)
    start(world, "198.51.100.2/24")

    assert back(world).is_complete
    assert there(world).is_complete

    wait_for_size(world, "b", (1380, "icmp"))


@pytest.mark.parametrize("world", ["tun", "ebpf"], indirect=True)
def test_behind_a_nat_with_an_rtr_in_between(world: World) -> None:
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.behind("a", "eth0", "n1", ["192.168.8.100/24"])
    world.ip("inet", "link set n1.wan mtu 1400")
    world.ip("n1", "link set wan mtu 1400")
    mute(world, "inet", "n1")
    world.start_hub()
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()

    assert back(world).is_complete  # the RTR has to find it out
    assert there(world).is_complete


@pytest.mark.parametrize("world", ["tun", "ebpf"], indirect=True)
def test_ipv6_of_1280_octets_passes_sealed_where_the_line_behind_the_rtr_takes_less(world: World) -> None:
    """With sealing and the RTR's headers it has 1388 octets, and IPv6 sends nothing smaller (RFC 8200, 5)."""
    world.home_router("n1", "192.168.8.1/24", "198.51.100.2/24")
    world.behind("a", "eth0", "n1", ["192.168.8.100/24"])
    world.ip("inet", "link del b.eth0")
    world.home_router("n2", "192.168.9.1/24", "203.0.113.2/24")
    world.behind("b", "eth0", "n2", ["192.168.9.100/24"])
    world.start_hub((HUB_V4,))
    world.start_node(A)
    world.start_node(B)
    world.wait_registered()
    _ = world.lost_both_ways(0.5, settle_s=2.0, version=6)
    key = world.nodes["a"].lispctl("key") or {}
    assert [peer["seal"]["state"] for peer in key["peers"]] == ["sealed"]
    world.ip("inet", "link set n2.wan mtu 1340")
    world.ip("n2", "link set wan mtu 1340")

    assert there(world, 6).is_complete  # the RTR fragments it on the path to b
    assert back(world, 6).is_complete  # b itself, from the port that its NAT knows
    assert there(world).is_complete  # TCP over IPv4 is told, and sends less
