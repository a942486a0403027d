"""Uplinks for use only without a better one: a translator's tunnel, and a network that is said to want a login."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.iface_monitor.portal_patience import PATIENCE_S, PortalPatience
from lispmob.iface_monitor.snapshot import (
    DefaultRoute,
    Link,
    LocalAddress,
    NetworkState,
    UplinkPolicy,
    UplinkRule,
)
from tests.iface_monitor.test_snapshot import ANY, ETH, WIFI, at, state, via

CLAT = Link(7, "clat", "tun", True, True, False, 1472)
VPN = Link(8, "tun0", "tun", True, True, False, 1400)
PORTAL = UplinkPolicy(held_back=frozenset({"wlan0"}))
OUTLASTED = replace(PORTAL, stopgaps=frozenset({"wlan0"}))


def host(*links: Link, others: tuple[tuple[Link, str, str | None], ...] = ()) -> NetworkState:
    """A host with IPv6-only Wi-Fi, a CLAT, and other interfaces with an address and a gateway each."""
    addresses = [at(WIFI, "2001:db8:1::2"), LocalAddress(ip_address("192.0.0.1"), 32, CLAT.ifindex)]
    routes = [via(WIFI, "2001:db8:1::1", 600), DefaultRoute(4, CLAT.ifindex, None, 2048)]
    for link, address, gateway in others:
        addresses.append(at(link, address))
        routes.append(via(link, gateway, 100))
    return state([WIFI, CLAT, *links], addresses, routes)


def names(found: NetworkState, policy: UplinkPolicy = ANY) -> list[str]:
    return [uplink.name for uplink in found.uplinks(policy)]


def test_the_tunnel_of_a_translator_is_the_uplink_for_ipv4_of_a_host_that_has_none() -> None:
    uplinks = host().uplinks(ANY)

    assert [uplink.name for uplink in uplinks] == ["wlan0", "clat"]
    assert uplinks[1].addresses == (ip_address("192.0.0.1"),)


def test_where_another_interface_has_ipv4_the_translator_is_left_alone() -> None:
    assert names(host(ETH, others=((ETH, "192.0.2.2", "192.0.2.1"),))) == ["eth0", "wlan0"]


def test_a_vpn_is_no_translator() -> None:
    found = state(
        [WIFI, VPN], [at(WIFI, "2001:db8:1::2"), at(VPN, "10.8.0.2")], [via(WIFI, "2001:db8:1::1"), via(VPN, None)]
    )

    assert names(found) == ["wlan0"]


@pytest.mark.parametrize(
    "policy",
    [
        UplinkPolicy(rules=(UplinkRule("clat", is_allowed=False),)),
        UplinkPolicy(held_back=frozenset({"clat"})),
        UplinkPolicy(ignored_interfaces=("clat",)),
    ],
    ids=["forbidden", "held-back", "ignored"],
)
def test_a_translator_that_the_user_or_the_system_speaks_against_is_not_used(policy: UplinkPolicy) -> None:
    assert names(host(), policy) == ["wlan0"]


def test_a_translator_ranks_behind_everything_else() -> None:
    assert [uplink.priority for uplink in host().uplinks(ANY)] == [1, 2]


def test_a_network_that_wants_a_login_is_not_used() -> None:
    found = state([WIFI], [at(WIFI, "192.0.2.2")], [via(WIFI, "192.0.2.1")])

    assert names(found, PORTAL) == []


def test_after_a_while_it_is_tried_where_nothing_else_is() -> None:
    found = state([WIFI], [at(WIFI, "192.0.2.2")], [via(WIFI, "192.0.2.1")])

    assert names(found, OUTLASTED) == ["wlan0"]


@pytest.mark.parametrize("metric", [100, 900])
def test_beside_another_uplink_it_is_not_tried_however_long_it_lasts(metric: int) -> None:
    routes = [via(WIFI, "192.0.2.1", 600), via(ETH, "198.51.100.1", metric)]
    found = state([WIFI, ETH], [at(WIFI, "192.0.2.2"), at(ETH, "198.51.100.2")], routes)

    assert names(found, OUTLASTED) == ["eth0"]


def test_what_is_held_back_for_another_reason_is_no_stopgap() -> None:
    found = state([WIFI], [at(WIFI, "192.0.2.2")], [via(WIFI, "192.0.2.1")])
    leaving = UplinkPolicy(held_back=frozenset({"wlan0"}), stopgaps=frozenset({"eth0"}))

    assert names(found, leaving) == []


def test_patience_runs_from_when_the_login_page_was_first_spoken_of() -> None:
    patience = PortalPatience()
    patience.on_portals(["wlan0"], 10.0)
    patience.on_portals(["wlan0", "eth0"], 25.0)

    assert patience.outlasted(10.0 + PATIENCE_S) == {"wlan0"}
    assert patience.wake_at(10.0 + PATIENCE_S) == 25.0 + PATIENCE_S
    assert patience.outlasted(25.0 + PATIENCE_S) == {"wlan0", "eth0"}
    assert patience.wake_at(25.0 + PATIENCE_S) is None


def test_a_login_that_was_done_is_waited_for_again_the_next_time() -> None:
    patience = PortalPatience()
    patience.on_portals(["wlan0"], 0.0)
    patience.on_portals([], 30.0)
    patience.on_portals(["wlan0"], 40.0)

    assert patience.outlasted(41.0) == frozenset()
