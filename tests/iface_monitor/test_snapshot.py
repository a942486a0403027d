"""Which interfaces are uplinks, in which order, with which addresses."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.iface_monitor.snapshot import (
    DefaultRoute,
    Link,
    LocalAddress,
    NetworkState,
    Uplink,
    UplinkPolicy,
    UplinkRule,
)

LO = Link(1, "lo", "", True, True, True, 65536)
ETH = Link(2, "eth0", "", True, True, False, 1500)
WIFI = Link(3, "wlan0", "", True, True, False, 1500)
ANY = UplinkPolicy()


def at(link: Link, address: str, **flags: bool | int) -> LocalAddress:
    return LocalAddress(ip_address(address), 24, link.ifindex, **flags)  # type: ignore[arg-type]


def via(link: Link, gateway: str | None, metric: int = 0, table: int = 254, source: str | None = None) -> DefaultRoute:
    hop = ip_address(gateway) if gateway else None
    family = hop.version if hop else 4
    return DefaultRoute(family, link.ifindex, hop, metric, ip_address(source) if source else None, table)


def state(links: list[Link], addresses: list[LocalAddress], routes: list[DefaultRoute]) -> NetworkState:
    return NetworkState.of([LO, *links], addresses, routes)


def attached(link: Link) -> NetworkState:
    return state([link], [at(link, "192.0.2.2")], [via(link, "192.0.2.1")])


def addresses_of(found: tuple[Uplink, ...]) -> list[str]:
    return [str(address) for uplink in found for address in uplink.addresses]


def test_an_interface_with_an_address_and_a_default_route_is_an_uplink() -> None:
    (uplink,) = attached(ETH).uplinks(ANY)

    assert uplink == Uplink("eth0", 2, (ip_address("192.0.2.2"),), 0, 1500, 1, 100)


def test_an_interface_without_a_default_route_is_no_uplink() -> None:
    assert state([ETH], [at(ETH, "192.0.2.2")], []).uplinks(ANY) == ()


def test_an_ipv6_default_route_does_not_make_an_ipv4_address_an_rloc() -> None:
    found = state([ETH], [at(ETH, "192.0.2.2"), at(ETH, "2001:db8::2")], [via(ETH, "fe80::1")]).uplinks(ANY)

    assert addresses_of(found) == ["2001:db8::2"]


@pytest.mark.parametrize("flag", ["is_tentative", "is_deprecated", "is_temporary"])
def test_an_address_that_is_not_for_keeps_is_no_rloc_beside_one_that_is(flag: str) -> None:
    locals_ = [at(ETH, "2001:db8::1", **{flag: True}), at(ETH, "2001:db8::2")]

    assert addresses_of(state([ETH], locals_, [via(ETH, "fe80::1")]).uplinks(ANY)) == ["2001:db8::2"]


def test_an_address_that_the_kernel_does_not_use_yet_is_no_rloc() -> None:
    local = at(ETH, "2001:db8::2", is_tentative=True)

    assert state([ETH], [local], [via(ETH, "fe80::1")]).uplinks(ANY) == ()


@pytest.mark.parametrize(
    ("flags", "used"),
    [
        ([{"is_deprecated": True}], ["2001:db8::1"]),
        ([{"is_temporary": True}], ["2001:db8::1"]),
        ([{"is_deprecated": True}, {"is_temporary": True}], ["2001:db8::2"]),
        ([{"is_temporary": True}, {"is_temporary": True, "is_deprecated": True}], ["2001:db8::1"]),
        ([{"is_deprecated": True}, {"is_tentative": True}], ["2001:db8::1"]),
        ([{"is_deprecated": True}, {"is_deprecated": True}], ["2001:db8::1", "2001:db8::2"]),
    ],
    ids=["deprecated", "temporary", "temporary first", "of two days", "next one not ready", "both"],
)
def test_an_address_that_will_not_last_serves_where_there_is_no_other(
    flags: list[dict[str, bool]], used: list[str]
) -> None:
    locals_ = [at(ETH, f"2001:db8::{number}", **flag) for number, flag in enumerate(flags, start=1)]
    locals_ += [at(ETH, "192.0.2.2"), at(ETH, "fe80::2", scope=253)]

    found = state([ETH], locals_, [via(ETH, "fe80::1")]).uplinks(ANY)

    assert addresses_of(found) == used


def test_a_kill_switch_made_of_a_dummy_is_no_uplink_unless_a_rule_says_so() -> None:
    dummy = Link(5, "pvpnksintrf0", "dummy", True, True, False, 1500)
    beside = state(
        [ETH, dummy],
        [at(ETH, "192.0.2.2"), at(dummy, "100.85.0.1")],
        [via(ETH, "192.0.2.1", metric=100), via(dummy, "100.85.0.2", metric=98)],
    )

    assert [uplink.name for uplink in beside.uplinks(ANY)] == ["eth0"]
    named = UplinkPolicy(rules=(UplinkRule("pvpn*", is_allowed=True),))
    assert [uplink.name for uplink in beside.uplinks(named)] == ["pvpnksintrf0", "eth0"]


@pytest.mark.parametrize("address", ["127.0.0.5", "169.254.9.9", "0.0.0.0", "224.0.0.1"])
def test_an_address_that_no_host_can_reach_is_no_rloc(address: str) -> None:
    assert state([ETH], [at(ETH, address)], [via(ETH, "192.0.2.1")]).uplinks(ANY) == ()


def test_link_local_addresses_are_used_when_the_policy_says_so() -> None:
    found = state([ETH], [at(ETH, "fe80::2", scope=253)], [via(ETH, "fe80::1")]).uplinks(
        UplinkPolicy(use_link_local=True)
    )

    assert addresses_of(found) == ["fe80::2"]


def test_temporary_and_deprecated_addresses_come_last_when_the_policy_allows_them() -> None:
    locals_ = [
        at(ETH, "2001:db8::1", is_deprecated=True),
        at(ETH, "2001:db8::2", is_temporary=True),
        at(ETH, "fd00::3"),
        at(ETH, "2600::4"),
    ]
    policy = UplinkPolicy(use_temporary=True, use_deprecated=True)

    found = state([ETH], locals_, [via(ETH, "fe80::1")]).uplinks(policy)

    assert addresses_of(found) == ["2600::4", "fd00::3", "2001:db8::2", "2001:db8::1"]


def test_the_source_that_the_default_route_prefers_comes_first() -> None:
    locals_ = [at(ETH, "192.0.2.2"), at(ETH, "192.0.2.3")]

    found = state([ETH], locals_, [via(ETH, "192.0.2.1", source="192.0.2.3")]).uplinks(ANY)

    assert addresses_of(found) == ["192.0.2.3", "192.0.2.2"]


def test_an_unnumbered_interface_borrows_the_address_that_its_default_route_names() -> None:
    found = state([ETH], [at(LO, "203.0.113.5")], [via(ETH, None, source="203.0.113.5")]).uplinks(ANY)

    assert addresses_of(found) == ["203.0.113.5"]


@given(st.permutations([at(ETH, f"192.0.2.{n}") for n in range(2, 8)]))
def test_the_order_of_addresses_does_not_depend_on_the_order_of_the_listing(locals_: list[LocalAddress]) -> None:
    found = state([ETH], locals_, [via(ETH, "192.0.2.1")]).uplinks(ANY)

    assert addresses_of(found) == [f"192.0.2.{n}" for n in range(2, 8)]


@pytest.mark.parametrize(
    "link",
    [Link(2, "eth0", "", False, True, False, 1500), Link(2, "eth0", "", True, False, False, 1500)],
    ids=["set down", "without carrier"],
)
def test_an_interface_that_is_down_is_no_uplink(link: Link) -> None:
    assert attached(link).uplinks(ANY) == ()


@pytest.mark.parametrize("kind", ["", "ppp", "vlan", "bridge", "bond", "veth", "macvlan"])
def test_every_kind_of_path_of_its_own_is_an_uplink(kind: str) -> None:
    assert len(attached(Link(2, "x0", kind, True, True, False, 1500)).uplinks(ANY)) == 1


@pytest.mark.parametrize("kind", ["tun", "wireguard", "gre", "sit", "vxlan"])
def test_a_tunnel_is_an_uplink_only_when_the_policy_names_it(kind: str) -> None:
    tunnel = attached(Link(2, "vpn0", kind, True, True, False, 1420))

    assert tunnel.uplinks(ANY) == ()
    assert tunnel.uplinks(UplinkPolicy((UplinkRule("vpn*", priority=7),))) == ()
    assert len(tunnel.uplinks(UplinkPolicy((UplinkRule("vpn*", is_allowed=True),)))) == 1


def test_a_rule_speaks_of_interfaces_of_its_type_and_the_first_of_name_and_type_decides() -> None:
    cable, stick = replace(ETH, type="ethernet"), Link(4, "eth1", "", True, True, False, 1500, "usb")
    both = state(
        [cable, stick],
        [at(cable, "192.0.2.2"), at(stick, "192.0.2.4")],
        [via(cable, "192.0.2.1", 100), via(stick, "192.0.2.1", 200)],
    )

    denied = both.uplinks(UplinkPolicy((UplinkRule("*", is_allowed=False, type="usb"),)))
    listed = both.uplinks(UplinkPolicy((UplinkRule("*", weight=7, type="usb"), UplinkRule("*", is_allowed=False))))
    narrow = both.uplinks(UplinkPolicy((UplinkRule("eth0", is_allowed=False, type="usb"),)))

    assert [(uplink.name, uplink.type) for uplink in denied] == [("eth0", "ethernet")]
    assert [(uplink.name, uplink.weight) for uplink in listed] == [("eth1", 7)]
    assert [uplink.name for uplink in narrow] == ["eth0", "eth1"]


def test_interfaces_of_our_own_are_never_uplinks() -> None:
    ours = attached(Link(2, "lmn0", "", True, True, False, 1400))

    assert ours.uplinks(UplinkPolicy((UplinkRule("*", is_allowed=True),))) == ()


def test_a_better_metric_ranks_before_and_equal_metrics_share_a_rank() -> None:
    lte = Link(4, "wwan0", "", True, True, False, 1428)
    links = [ETH, WIFI, lte]
    routes = [via(ETH, "192.0.2.1", 100), via(WIFI, "198.51.100.1", 600), via(lte, None, 600)]

    found = state(links, [at(link, f"192.0.2.{link.ifindex}") for link in links], routes).uplinks(ANY)

    assert [(uplink.name, uplink.priority) for uplink in found] == [("eth0", 1), ("wlan0", 2), ("wwan0", 2)]


def test_a_default_route_of_another_table_ranks_behind_those_of_the_main_table() -> None:
    routes = [via(ETH, "192.0.2.1", 0, table=100), via(WIFI, "198.51.100.1", 600)]

    found = state([ETH, WIFI], [at(ETH, "192.0.2.2"), at(WIFI, "198.51.100.2")], routes).uplinks(ANY)

    assert [uplink.name for uplink in found] == ["wlan0", "eth0"]


def test_the_first_rule_that_matches_decides_on_use_priority_and_weight() -> None:
    rules = (
        UplinkRule("eth*", is_allowed=False),
        UplinkRule("w*", priority=9, weight=30),
        UplinkRule("wlan0", priority=1),
    )
    routes = [via(ETH, "192.0.2.1"), via(WIFI, "198.51.100.1")]

    (found,) = state([ETH, WIFI], [at(ETH, "192.0.2.2"), at(WIFI, "198.51.100.2")], routes).uplinks(UplinkPolicy(rules))

    assert (found.name, found.priority, found.weight) == ("wlan0", 9, 30)
