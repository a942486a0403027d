"""NetworkManager's states become a policy for uplinks, below the user's wishes."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.iface_monitor.delta import diff
from lispmob.iface_monitor.network_manager_state import Connectivity, Device, DeviceState, ManagerState
from lispmob.iface_monitor.snapshot import DefaultRoute, Link, LocalAddress, NetworkState
from lispmob.lispd import assembly

WLAN = Link(2, "wlan0", "", True, True, False, 1500, "wifi")
WWAN = Link(3, "wwan0", "", True, True, False, 1500, "wwan")
STATE = NetworkState.of(
    [WLAN, WWAN],
    [LocalAddress(ip_address("192.0.2.2"), 24, 2), LocalAddress(ip_address("198.51.100.2"), 24, 3)],
    [DefaultRoute(4, 2, ip_address("192.0.2.1"), 600), DefaultRoute(4, 3, ip_address("198.51.100.1"), 100)],
)


def file_with(wishes: str = "", uplinks: str = "[]") -> NodeFile:
    text = f"eids: [10.1.0.1/32]\nmap-servers: [{{address: 203.0.113.1, key: a}}]\nuplinks: {uplinks}\n{wishes}\n"
    return read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path())


def nm_state_of(name: str, **fields: object) -> ManagerState:
    device = Device(name, state=fields.pop("state", DeviceState.ACTIVATED), **fields)  # type: ignore[arg-type]
    return ManagerState(is_running=True, devices=(device,))


def ranking(file: NodeFile, nm_state: ManagerState) -> list[tuple[str, int]]:
    return [(up.name, up.priority) for up in STATE.uplinks(assembly.uplink_policy(file, nm_state))]


def test_a_login_page_that_is_outlasted_keeps_only_an_uplink_beside_others_from_being_used() -> None:
    outlasted = frozenset({"wlan0", "wwan0"})
    alone = NetworkState.of([WLAN], list(STATE.addresses[:1]), list(STATE.default_routes[-1:]))

    waiting, tried = (
        [up.name for up in alone.uplinks(assembly.uplink_policy(file_with(), PORTAL, names))]
        for names in (frozenset[str](), outlasted)
    )
    beside = [up.name for up in STATE.uplinks(assembly.uplink_policy(file_with(), PORTAL, outlasted))]

    assert (waiting, tried, beside) == ([], ["wlan0"], ["wwan0"])


METERED = nm_state_of("wwan0", is_metered=True)
PORTAL = nm_state_of("wlan0", connectivity_ipv4=Connectivity.PORTAL)
LIMITED = nm_state_of("wwan0", connectivity_ipv4=Connectivity.LIMITED)
LEAVING = nm_state_of("wwan0", state=DeviceState.DEACTIVATING)


@pytest.mark.parametrize(
    ("wishes", "nm_state", "expected"),
    [
        ("", ManagerState(), [("wwan0", 1), ("wlan0", 2)]),
        ("", METERED, [("wlan0", 1), ("wwan0", 2)]),
        ("network-manager: {metered: use}", METERED, [("wwan0", 1), ("wlan0", 2)]),
        ("network-manager: {metered: never}", METERED, [("wlan0", 1)]),
        ("", PORTAL, [("wwan0", 1)]),
        ("network-manager: {portal: use}", PORTAL, [("wwan0", 1), ("wlan0", 2)]),
        ("", LIMITED, [("wwan0", 1), ("wlan0", 2)]),
        ("network-manager: {limited: last}", LIMITED, [("wlan0", 1), ("wwan0", 2)]),
        ("network-manager: {use: no, limited: last}", LIMITED, [("wwan0", 1), ("wlan0", 2)]),
        ("", LEAVING, [("wlan0", 1)]),
        ("network-manager: {use: no}", LEAVING, [("wwan0", 1), ("wlan0", 2)]),
        ("network-manager: {use: no, metered: never}", METERED, [("wwan0", 1), ("wlan0", 2)]),
    ],
)
def test_portals_wait_what_costs_comes_last_and_what_leaves_is_left_unless_told_otherwise(
    wishes: str, nm_state: ManagerState, expected: list[tuple[str, int]]
) -> None:
    assert ranking(file_with(wishes), nm_state) == expected


def test_a_priority_that_the_user_wrote_stands_even_for_a_metered_uplink() -> None:
    file = file_with(uplinks='[{name: "wwan*", priority: 1}, {name: "wlan*", priority: 9}]')

    assert ranking(file, METERED) == [("wwan0", 1), ("wlan0", 9)]


@pytest.mark.parametrize(
    ("wishes", "uplinks", "expected"),
    [
        ("", "[]", True),
        ("network-manager: {metered: use}", "[]", True),
        ("network-manager: {use: no}", "[]", False),
        ("", '[{name: "wwan*", metered: no}]', False),
        ("network-manager: {use: no}", '[{name: "wwan*", metered: yes}]', True),
        ("network-manager: {use: no}", "[{type: wwan, metered: yes}]", True),
        ("network-manager: {use: no}", "[{type: usb, metered: yes}]", False),
    ],
)
def test_rules_that_must_not_cost_believe_the_user_or_else_network_manager(
    wishes: str, uplinks: str, expected: bool
) -> None:
    file = file_with(wishes, uplinks)
    found = assembly.steering_uplinks(file, STATE.uplinks(assembly.uplink_policy(file, METERED)), METERED)

    assert {uplink.name: uplink.is_metered for uplink in found} == {"wlan0": False, "wwan0": expected}


def test_the_reasons_of_a_move_are_the_sentences_of_network_manager() -> None:
    before, now = (assembly.uplink_policy(file_with(), nm_state) for nm_state in (ManagerState(), LEAVING))

    delta = diff(STATE, STATE, now, before, ["wwan0: deactivating (the user said so)"])

    assert [reason.text for reason in delta.reasons] == ["wwan0: deactivating (the user said so)"]
    assert delta.has_changed


def test_an_uplink_left_in_good_time_is_remembered_until_its_address_is_gone() -> None:
    policy = assembly.uplink_policy(file_with(), LEAVING)
    former = STATE.uplinks(assembly.uplink_policy(file_with()))

    leaving = assembly.leaving_uplinks(former, policy, STATE)

    assert [up.name for up in leaving] == ["wwan0"]
    assert assembly.lost_addresses(leaving, STATE) == ()
    gone = NetworkState(STATE.links, STATE.addresses[:1], STATE.default_routes)
    assert [str(lost.address) for lost in assembly.lost_addresses(leaving, gone)] == ["198.51.100.2"]
    assert assembly.leaving_uplinks(leaving, policy, gone) == ()
