"""A gateway whose address another router has taken, on a real kernel."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lispmob.iface_monitor.gateway_doubts import CONFIRM_S
from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.iface_monitor.neighbours import forget_unconfirmed, link_address, verify
from lispmob.lab import link
from lispmob.lab.namespace import NamespaceSet
from tests.iface_monitor.watch import ip

pytestmark = pytest.mark.netns

FORMER, PRESENT = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
PATIENCE_S = 4.0


@pytest.fixture
def inside() -> Iterator[None]:
    """The test's thread is in a namespace whose eth1 leads to the router that has the gateway's addresses now."""
    with NamespaceSet() as namespaces:
        host, router = namespaces.make("host"), namespaces.make("router")
        for one in (host, router):
            one.sysctl("ipv6/conf/default/accept_dad", "0")
        link.apply(
            host,
            [
                link.veth("eth1", router, "lan", peer_mac=PRESENT),
                "link set eth1 up",
                "addr add 192.168.1.2/24 dev eth1",
            ],
        )
        link.apply(router, ["link set lan up", "addr add 192.168.1.1/24 dev lan", "addr add fe80::1/64 dev lan nodad"])
        with host.entered():
            yield


@pytest.mark.parametrize(
    ("known", "state", "found"),
    [
        (PRESENT, "reachable", PRESENT),  # it confirms
        (FORMER, "reachable", PRESENT),
        (FORMER, "stale", PRESENT),
        (FORMER, "permanent", FORMER),  # an administrator has set it
    ],
)
@pytest.mark.parametrize("address", [ip_address("192.168.1.1"), ip_address("fe80::1")], ids=["IPv4", "IPv6"])
def test_a_gateway_that_does_not_confirm_is_looked_for_again(
    inside: None, address: IPv4Address | IPv6Address, known: str, state: str, found: str
) -> None:
    gateway = Gateway(socket.if_nametoindex("eth1"), address)
    ip(f"neigh replace {address} lladdr {known} dev eth1 nud {state}", family=f"-{address.version}")

    is_asked = verify(gateway)
    time.sleep(CONFIRM_S)
    is_forgotten = forget_unconfirmed(gateway)
    deadline = time.monotonic() + PATIENCE_S
    while link_address(gateway) != found and time.monotonic() < deadline:
        time.sleep(0.02)

    assert link_address(gateway) == found
    assert (is_asked, is_forgotten) == (state != "permanent", state != "permanent" and known == FORMER)


def test_a_gateway_that_the_kernel_does_not_know_is_left_to_it(inside: None) -> None:
    gateway = Gateway(socket.if_nametoindex("eth1"), ip_address("192.168.1.77"))

    assert (verify(gateway), forget_unconfirmed(gateway)) == (False, False)
