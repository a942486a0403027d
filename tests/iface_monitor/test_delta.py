"""Every difference between two snapshots is reported with its reason."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.iface_monitor.delta import ReasonKind, diff
from lispmob.iface_monitor.snapshot import DefaultRoute, Link, LocalAddress, NetworkState, UplinkPolicy, UplinkRule

LINK = Link(2, "eth0", "", True, True, False, 1500)
ADDRESS = LocalAddress(ip_address("192.0.2.2"), 24, 2)
OTHER_ADDRESS = LocalAddress(ip_address("192.0.2.3"), 24, 2)
ROUTE = DefaultRoute(4, 2, ip_address("192.0.2.1"), 100)
ATTACHED = NetworkState((LINK,), (ADDRESS,), (ROUTE,))
POLICY = UplinkPolicy()


def changed(**fields: object) -> NetworkState:
    return replace(ATTACHED, **fields)


@pytest.mark.parametrize(
    ("new", "kind"),
    [
        (changed(links=(replace(LINK, is_up=False),)), ReasonKind.LINK_DOWN),
        (changed(links=(replace(LINK, has_carrier=False),)), ReasonKind.CARRIER_LOST),
        (changed(links=(replace(LINK, mtu_bytes=1400),)), ReasonKind.MTU_CHANGED),
        (changed(links=(replace(LINK, name="lan0"),)), ReasonKind.RENAMED),
        (changed(addresses=()), ReasonKind.ADDRESS_REMOVED),
        (changed(addresses=(ADDRESS, OTHER_ADDRESS)), ReasonKind.ADDRESS_ADDED),
        (changed(addresses=(OTHER_ADDRESS,)), ReasonKind.RENUMBERED),
        (
            changed(addresses=(ADDRESS, replace(OTHER_ADDRESS, is_tentative=True, is_duplicate=True))),
            ReasonKind.DUPLICATE_FOUND,
        ),
        (changed(default_routes=()), ReasonKind.DEFAULT_ROUTE_REMOVED),
        (changed(default_routes=(replace(ROUTE, metric=600),)), ReasonKind.METRIC_CHANGED),
        (changed(default_routes=(replace(ROUTE, gateway=None),)), ReasonKind.DEFAULT_ROUTE_CHANGED),
    ],
)
def test_a_single_change_has_a_single_reason(new: NetworkState, kind: ReasonKind) -> None:
    delta = diff(ATTACHED, new, POLICY)

    assert [reason.kind for reason in delta.reasons] == [kind]


def test_another_gateway_is_told_but_leaves_the_uplinks_as_they_were() -> None:
    delta = diff(ATTACHED, changed(default_routes=(replace(ROUTE, gateway=ip_address("192.0.2.9")),)), POLICY)

    assert delta.reasons[0].text == "eth0: IPv4 default route via 192.0.2.1 metric 100 is now via 192.0.2.9 metric 100"
    assert not delta.has_changed


def test_a_lost_address_changes_the_uplinks() -> None:
    assert diff(ATTACHED, changed(addresses=()), POLICY).has_changed


def test_the_way_back_is_told_as_well() -> None:
    down = changed(links=(replace(LINK, is_up=False),), default_routes=())

    kinds = [reason.kind for reason in diff(down, ATTACHED, POLICY).reasons]

    assert kinds == [ReasonKind.LINK_UP, ReasonKind.DEFAULT_ROUTE_ADDED]


def test_a_lost_interface_takes_its_addresses_and_routes_with_it_in_one_delta() -> None:
    delta = diff(ATTACHED, NetworkState(), POLICY)

    assert [reason.kind.value for reason in delta.reasons] == ["link-lost", "address-removed", "default-route-removed"]
    assert delta.uplinks == ()


def test_an_interface_of_our_own_gives_no_reason() -> None:
    ours = Link(9, "lmn0", "tun", True, True, False, 1400)

    delta = diff(ATTACHED, changed(links=(LINK, ours)), POLICY)

    assert delta.reasons == ()
    assert not delta.has_changed


def test_an_address_is_added_when_its_duplicate_detection_is_done() -> None:
    tentative = replace(ADDRESS, is_tentative=True)

    assert diff(changed(addresses=()), changed(addresses=(tentative,)), POLICY).reasons == ()
    assert diff(changed(addresses=(tentative,)), ATTACHED, POLICY).reasons[0].text == "eth0: 192.0.2.2 added"


def test_another_policy_changes_the_uplinks_of_the_same_state() -> None:
    delta = diff(ATTACHED, ATTACHED, UplinkPolicy((UplinkRule("eth0", is_allowed=False),)), POLICY)

    assert delta.reasons[0].kind is ReasonKind.POLICY_CHANGED
    assert delta.has_changed
