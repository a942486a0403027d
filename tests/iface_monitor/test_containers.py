"""Which networks are those of containers and virtual machines of this host."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from lispmob.iface_monitor.containers import container_networks
from lispmob.iface_monitor.snapshot import MAIN_TABLE, DefaultRoute, Link, LocalAddress, NetworkState


def state(name: str, *addresses: str, kind: str = "bridge", routes: tuple[DefaultRoute, ...] = ()) -> NetworkState:
    found = []
    for text in addresses:
        address, _, length = text.partition("/")
        found.append(LocalAddress(ip_address(address), int(length), 7))
    return NetworkState.of([Link(7, name, kind, True, True, True, 1500)], found, list(routes))


@pytest.mark.parametrize(
    "name",
    ["docker0", "docker_gwbridge", "br-0a1b2c3d4e5f", "podman0", "cni0", "cni-podman0", "virbr0", "lxdbr0", "incusbr0"],
)
def test_a_bridge_of_an_engine_has_a_network_of_guests(name: str) -> None:
    assert container_networks(state(name, "172.17.0.1/16")) == (ip_network("172.17.0.0/16"),)


@pytest.mark.parametrize("name", ["br-lan", "br0", "docker", "br-0a1b2c3d4e5g", "bridge", "xvirbr0", "docker0-x"])
def test_a_bridge_with_another_name_may_be_a_households_network(name: str) -> None:
    assert container_networks(state(name, "172.17.0.1/16")) == ()


def test_a_network_of_public_addresses_is_not_translated_by_its_engine_and_is_left_alone() -> None:
    assert container_networks(state("docker0", "192.0.2.1/24", "2001:db8::1/64", "fd00:1::1/64", "10.9.0.1/32")) == (
        ip_network("fd00:1::/64"),
    )


def test_an_uplink_and_an_interface_that_is_no_bridge_have_no_guests() -> None:
    route = DefaultRoute(4, 7, ip_address("172.17.0.2"), 100, table=MAIN_TABLE)

    assert container_networks(state("docker0", "172.17.0.1/16", routes=(route,))) == ()
    assert container_networks(state("docker0", "172.17.0.1/16", kind="veth")) == ()
