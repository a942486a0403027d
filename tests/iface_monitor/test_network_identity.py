"""Which network an interface is in, and how rules use that."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from lispmob.config.node import FamilySection, UplinkSection
from lispmob.iface_monitor.gateway_trials import Gateway
from lispmob.iface_monitor.network_identity import Network, NetworkPattern, is_in
from lispmob.iface_monitor.network_manager_state import ManagerState
from lispmob.iface_monitor.snapshot import DefaultRoute, Link, LocalAddress, NetworkState, UplinkPolicy
from lispmob.lispd.gateway_addresses import GatewayAddresses

HOME = Network(ssid="Home", connection="Home 5 GHz", uuid="3a1d", gateways=frozenset({"52:54:00:12:34:56"}))
GATEWAY = Gateway(3, ip_address("192.168.1.1"))
STATE = NetworkState.of(
    [Link(3, "wlan0", "", is_up=True, has_carrier=True, is_loopback=False, mtu_bytes=1500)],
    [LocalAddress(ip_address("192.168.1.5"), 24, 3)],
    [DefaultRoute(4, 3, GATEWAY.address, 100)],
)


@pytest.mark.parametrize(
    ("text", "is_home"),
    [
        ("Home", True),
        ("Ho*", True),
        ("3a1d", True),
        ("Home 5 GHz", True),
        ("ssid:Home", True),
        ("ssid: Home", True),
        ("ssid:Home 5 GHz", False),
        ("connection:Home 5 GHz", True),
        ("connection:Home", False),
        ("52:54:00:12:34:56", True),
        ("gateway:52:54:00:12:34:56", True),
        ("52:54:00:12:34:57", False),
        ("home", False),
    ],
)
def test_a_network_is_known_by_its_ssid_its_connection_or_its_gateway(text: str, is_home: bool) -> None:
    assert is_in((NetworkPattern.parse(text),), HOME) is is_home
    assert not is_in((NetworkPattern.parse(text),), Network())


@pytest.mark.parametrize("text", ["", "x" * 256, "a\nb", "gateway:home"])
def test_what_names_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no name of a network"):
        NetworkPattern.parse(text)


def test_a_rule_about_a_network_counts_while_the_interface_is_in_it() -> None:
    rule = UplinkSection(network=(NetworkPattern.parse("Home"),), priority=7).to_rule()

    priorities = [
        STATE.uplinks(UplinkPolicy((rule,), networks=networks))[0].priority for networks in ((), (("wlan0", HOME),))
    ]

    assert priorities == [1, 7]


def test_network_manager_tells_the_connection_and_the_ssid_of_a_device_that_is_up() -> None:
    devices: dict[str, dict[str, object]] = {
        "/d/1": {"Interface": "wlan0", "State": 100, "ActiveConnection": "/a/1"},
        "/d/2": {"Interface": "eth0", "State": 30, "ActiveConnection": "/a/2"},
    }
    connections: dict[str, dict[str, object]] = {
        "/a/1": {"Id": "Home 5 GHz", "Uuid": "3a1d", "Ssid": b"Caf\xc3\xa9\xff\x1b"},
        "/a/2": {"Id": "Wired", "Uuid": "77", "Ssid": None},
    }

    nm_state = ManagerState.of({}, devices, None, connections)

    assert nm_state.networks == (("wlan0", Network(r"Café\xff\x1b", "Home 5 GHz", "3a1d")),)


def test_a_gateway_that_answers_late_is_asked_again_and_changes_the_network_then() -> None:
    answers = iter([None, "52:54:00:12:34:56"])
    told: list[ManagerState] = []

    async def watch() -> list[bool]:
        addresses = GatewayAddresses(
            lambda: told.append(addresses.onto(ManagerState())), lambda _gateway: next(answers)
        )
        addresses.look(STATE, is_wanted=False)
        addresses.look(STATE, is_wanted=True)
        asked = [bool(told)]
        for _ in range(100):
            await asyncio.sleep(0.01)
            if told:
                break
        addresses.look(STATE, is_wanted=False)
        await asyncio.sleep(0)
        return asked

    assert asyncio.run(watch()) == [False]
    assert [dict(nm_state.networks).get("wlan0", Network()).gateways for nm_state in told] == [
        frozenset({"52:54:00:12:34:56"}),
        frozenset(),
    ]


def test_a_family_of_an_interface_may_count_something_of_its_own() -> None:
    section = UplinkSection(name="wlan0", priority=1, weight=100, ipv6=FamilySection(priority=3))

    (uplink,) = STATE.uplinks(UplinkPolicy((section.to_rule(),)))

    assert (uplink.rank(4), uplink.rank(6)) == ((1, 100), (3, 100))
