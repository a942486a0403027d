"""What the kernel must hold for the networks that the host is attached to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.iface_monitor.snapshot import Link, LocalAddress, NetworkState, Uplink
from lispmob.lispd.native_routes import NativeRoutes
from lispmob.lispd.tasks.desired_kernel import kernel_state


def configured(routing: str = "{overlay-prefixes: [10.1.0.0/16]}") -> NodeFile:
    text = f"eids: [10.1.0.1/32]\nmap-servers: [{{address: 198.51.100.1, key: a}}]\nrouting: {routing}\n"
    return read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path())


def network(*addresses: tuple[str, int], bridge: str = "") -> NetworkState:
    """`addresses`: each with its length, and its interface."""
    found = []
    for text, ifindex in addresses:
        address, _, length = text.partition("/")
        found.append(LocalAddress(ip_address(address), int(length), ifindex))
    links = [Link(9, bridge, "bridge", True, True, False, 1500)] if bridge else []
    return NetworkState.of(links, found, [])


@pytest.mark.parametrize(
    ("other", "shares"),
    [
        ("198.51.100.3/24", True),
        ("198.51.100.77/25", True),
        ("203.0.113.2/24", False),
        ("198.51.100.2/24", False),  # a modem of the same model: one address
        ("2001:db8::2/64", False),
    ],
)
def test_two_uplinks_share_a_subnet_by_their_addresses(other: str, shares: bool) -> None:
    state = network(("198.51.100.2/24", 2), (other, 3))
    uplink = Uplink("eth1", 2, (ip_address("198.51.100.2"),), 100, 1500, 1, 100)

    [known] = kernel_state(configured(), (uplink,), state, (), NativeRoutes()).uplinks

    assert known.shares_subnet is shares


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        ("{overlay-prefixes: [10.1.0.0/16]}", (ip_network("172.17.0.0/16"),)),
        ("{overlay-prefixes: [10.1.0.0/16], containers: no}", ()),
        ("{mode: full}", (ip_network("172.17.0.0/16"),)),
    ],
)
def test_networks_of_containers_are_known_unless_they_are_left_out(routing: str, expected: tuple[object, ...]) -> None:
    state = network(("172.17.0.1/16", 9), bridge="docker0")

    assert kernel_state(configured(routing), (), state, (), NativeRoutes()).container_networks == expected
