"""New uplinks and their gateways on a real kernel."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.iface_monitor.neighbours import link_address
from tests.iface_monitor.watch import Watch, attach, ip, run

pytestmark = pytest.mark.netns


def test_a_new_uplink_waits_for_its_gateway_while_another_one_works(inside: None) -> None:
    attach()
    ip("link add eth1 type veth peer name far1", "link set far1 arp off up", "link set eth1 up")

    async def body(watch: Watch) -> None:
        ip("addr add 198.51.100.2/24 dev eth1", "route add default via 198.51.100.1 dev eth1 metric 7")
        await watch.until(lambda: watch.monitor.waiting == {"eth1"})
        used_while_waiting = [uplink.name for uplink in watch.deltas[-1].uplinks]
        ip("neigh replace 198.51.100.1 lladdr 02:00:00:00:00:01 dev eth1 nud permanent")
        await watch.until(lambda: not watch.monitor.waiting)

        assert used_while_waiting == ["eth0"]
        assert [uplink.name for uplink in watch.deltas[-1].uplinks] == ["eth0", "eth1"]
        assert watch.deltas[-1].reasons[0].text == "eth1: waits no longer for its gateway"

    run(body)


def test_an_uplink_that_waits_is_used_at_once_when_it_is_the_last_one(inside: None) -> None:
    attach()
    ip("link add eth1 type veth peer name far1", "link set far1 arp off up", "link set eth1 up")

    async def body(watch: Watch) -> None:
        ip("addr add 198.51.100.2/24 dev eth1", "route add default via 198.51.100.1 dev eth1 metric 7")
        await watch.until(lambda: watch.monitor.waiting == {"eth1"})
        ip("link set eth0 down")
        await watch.until(lambda: [uplink.name for uplink in watch.deltas[-1].uplinks] == ["eth1"])

    run(body)


def test_an_uplink_whose_route_needs_no_gateway_does_not_wait(inside: None) -> None:
    attach()
    ip("link add eth1 type veth peer name far1", "link set far1 up", "link set eth1 up")

    async def body(watch: Watch) -> None:
        ip("addr add 198.51.100.2/24 dev eth1", "route add default dev eth1 metric 7")
        await watch.until(lambda: len(watch.deltas[-1].uplinks) == 2)

        assert not any("waits" in reason.text for delta in watch.deltas for reason in delta.reasons)

    run(body)


def test_the_link_layer_address_of_a_gateway_is_told_once_the_kernel_knows_it(inside: None) -> None:
    attach()
    ip("link add eth1 type veth peer name far1", "link set far1 arp off up", "link set eth1 up")
    ip(
        "addr add 198.51.100.2/24 dev eth1",
        "neigh replace 198.51.100.1 lladdr 02:00:00:00:00:0a dev eth1 nud permanent",
    )
    eth1 = socket.if_nametoindex("eth1")

    known, unknown = (link_address(Gateway(eth1, ip_address(address))) for address in ("198.51.100.1", "198.51.100.77"))

    assert (known, unknown) == ("02:00:00:00:00:0a", None)
