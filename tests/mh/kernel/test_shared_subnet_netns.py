"""Two uplinks in one subnet: the router reaches each address by its own interface, whatever the host's ARP settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.mh.kernel.kernel import KernelRouter, KernelState, KernelUplink
from tests.mh.kernel.test_kernel_router import run

pytestmark = pytest.mark.netns

ROUTER = ip_address("198.51.100.1")
ADDRESSES = {"eth1": ip_address("198.51.100.2"), "eth2": ip_address("198.51.100.3")}
STATE = KernelState(
    "lmn0",
    uplinks=tuple(KernelUplink(name, (address,), (ROUTER,), shares_subnet=True) for name, address in ADDRESSES.items()),
)


@pytest.fixture
def router() -> Iterator[Namespace]:
    """The test is on the host; the router has a bridge with two ports to it."""
    with NamespaceSet("shared") as namespaces:
        host, router = namespaces.make("host"), namespaces.make("router")
        router.run("ip", "link", "add", "lan", "type", "bridge", "forward_delay", "0")
        for number, (name, address) in enumerate(ADDRESSES.items(), start=1):
            host.run(*f"ip link add {name} type veth peer name p{number} netns {router.name}".split())
            host.run(*f"ip addr add {address}/24 dev {name}".split())
            host.run("ip", "link", "set", name, "up")
            router.run("ip", "link", "set", f"p{number}", "up", "master", "lan")
        router.run("ip", "addr", "add", f"{ROUTER}/24", "dev", "lan")
        router.run("ip", "link", "set", "lan", "up")
        with host.entered():
            yield router


@pytest.mark.parametrize("setting", ["arp_filter", "rp_filter", "arp_ignore"])
def test_the_router_resolves_each_address_by_its_own_interface(router: Namespace, setting: str) -> None:
    for name in ("all", *ADDRESSES):
        run(f"echo 1 > /proc/sys/net/ipv4/conf/{name}/{setting}")

    assert asyncio.run(KernelRouter().route(STATE)) == ()

    links = {name: run(f"ip -br link show dev {name}").split()[2] for name in ADDRESSES}
    for name, address in ADDRESSES.items():
        router.run("sh", "-c", f"ping -c 1 -W 2 {address}")
        assert links[name] in router.run("ip", "neigh", "show", str(address))
