"""What NetworkManager's states mean for our uplinks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.iface_monitor.network_manager_state import Connectivity, Device, DeviceState, ManagerState, explain


def device(**properties: Any) -> dict[str, Any]:
    return {"Interface": "wlan0", "DeviceType": 2, "State": 100, "StateReason": [100, 0], **properties}


def nm_state(*devices: dict[str, Any], **manager: Any) -> ManagerState:
    return ManagerState.of(manager, {f"/d/{number}": each for number, each in enumerate(devices)}, "/d/0")


def test_a_modem_is_known_by_the_interface_that_carries_ip() -> None:
    assert Device.of(device(Interface="cdc-wdm0", IpInterface="wwan0", DeviceType=8)).interface == "wwan0"
    assert Device.of(device(Interface="cdc-wdm0", IpInterface="", DeviceType=8)).interface == "cdc-wdm0"


@pytest.mark.parametrize(("metered", "expected"), [(0, None), (1, True), (2, False), (3, True), (4, False), (99, None)])
def test_a_guess_about_cost_counts_as_an_answer(metered: int, expected: bool | None) -> None:
    assert Device.of(device(Metered=metered)).is_metered is expected


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "is_held"),
    [(2, 0, True), (2, 1, True), (2, 4, False), (4, 2, False), (3, 3, False), (0, 0, False)],
)
def test_a_portal_in_one_family_matters_only_while_the_other_is_no_better(ipv4: int, ipv6: int, is_held: bool) -> None:
    now = nm_state(device(Ip4Connectivity=ipv4, Ip6Connectivity=ipv6))

    assert ("wlan0" in now.held_back) is is_held


def test_a_network_without_internet_is_not_held_back_for_the_map_server_may_be_in_it() -> None:
    assert nm_state(device(Ip4Connectivity=3)).held_back == {}


def test_a_portal_is_forgotten_with_the_connection() -> None:
    assert nm_state(device(Ip4Connectivity=2, State=30)).held_back == {}


def test_only_what_is_connected_or_about_to_be_can_be_metered() -> None:
    assert nm_state(device(Metered=1)).metered == {"wlan0"}
    assert nm_state(device(Metered=1, State=30)).metered == frozenset()
    assert nm_state(device(Metered=1, State=120)).metered == frozenset()


def test_the_primary_device_is_named_by_its_interface() -> None:
    now = nm_state(device(), PrimaryConnectionType="802-11-wireless", Connectivity=4)

    assert (now.primary, now.primary_kind, now.connectivity) == ("wlan0", "802-11-wireless", Connectivity.FULL)


def test_reasons_are_sentences_that_a_user_understands() -> None:
    calm = nm_state(device())
    leaving = nm_state(device(State=110, StateReason=[110, 37]))
    portal = nm_state(device(Ip4Connectivity=2, Metered=1))
    full, limited = (nm_state(device(Ip4Connectivity=number)) for number in (4, 3))

    assert explain(ManagerState(), calm) == ["NetworkManager is there"]
    assert explain(calm, leaving) == ["wlan0: deactivating (going to sleep)"]
    assert explain(calm, portal) == ["wlan0: a captive portal", "wlan0: metered"]
    assert explain(full, limited) == ["wlan0: does not reach the internet any more"]
    assert explain(limited, full) == ["wlan0: reaches the internet"]
    assert explain(portal, ManagerState()) == ["NetworkManager is gone: going by netlink alone"]
    assert leaving.held_back == {"wlan0": "is being disconnected (going to sleep)"}


def test_of_two_devices_with_one_interface_the_active_one_counts() -> None:
    now = nm_state(device(State=20), device(State=100))

    found = now.device("wlan0")
    assert found is not None
    assert found.state is DeviceState.ACTIVATED


values = st.none() | st.integers() | st.text(max_size=4) | st.booleans() | st.lists(st.integers(), max_size=3)
odd = st.dictionaries(
    st.sampled_from(["Interface", "IpInterface", "State", "StateReason", "Metered", "Ip4Connectivity", "DeviceType"]),
    values,
)


@given(odd, odd)
def test_whatever_is_told_has_a_meaning(first: dict[str, Any], second: dict[str, Any]) -> None:
    old, new = nm_state(first, Metered=first.get("Metered")), nm_state(second)

    assert isinstance(explain(old, new), list)
    assert set(new.held_back) <= {device.interface for device in new.devices}
