"""The running service on a desktop: real lispd, real NetworkManager, real packets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desktop.desktop_world import Node, used
from tests.desktop.managed_desktop import ManagedDesktop, managed_desktop
from tests.desktop.private_bus import why_no_mock
from tests.desktop.real_network_manager import why_no_network_manager

WHY_NOT = why_no_network_manager() or why_no_mock()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

ROAMS = 4
RESUMED_WITHIN_S = 1.0


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[ManagedDesktop]:
    with managed_desktop(tmp_path) as one:
        yield one


def moves_because(desk: Node, why: str) -> list[dict[str, Any]]:
    """The handovers with this reason."""
    return [move for move in desk.ask("handovers") if any(why in reason for reason in move["reasons"])]


def connectivities(status: dict[str, Any]) -> dict[str, str]:
    """NetworkManager's connectivity of each interface in use."""
    return {uplink["name"]: uplink["connectivity"] for uplink in status["uplinks"] if uplink["is_used"]}


def figures(moves: list[dict[str, Any]]) -> str:
    """The times from the event to the datapath's new uplink, and to the first Map-Register."""
    moved = [float(move["moved_after_ms"]) for move in moves]
    registered = [min(step["at_ms"] for step in move["steps"] if step["what"] == "register") for move in moves]
    assert all(first <= then for first, then in zip(moved, registered, strict=True))
    return (
        f"forwarding moved after {statistics.median(moved):.2f} ms (median of {len(moved)}, worst {max(moved):.2f}), "
        f"registered after {statistics.median(registered):.2f} ms (worst {max(registered):.2f})"
    )


def test_a_stream_lives_through_roaming_by_nmcli_and_a_restart_of_network_manager(
    desktop: ManagedDesktop, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, peer = desktop.start(0, 1)
    desk.until_on("w0", "w1")
    stream = desktop.world.stream(desk, peer)
    for _ in range(ROAMS):
        desktop.disconnect(0)
        desk.until_on("w1")
        desktop.connect(0)
        desk.wait_until(lambda status: len(used(status)) == 2, "on both")
        time.sleep(0.2)
    left = moves_because(desk, "w0: deactivating (the user said so)")

    desktop.restart()
    desk.wait_until(lambda _: desk.log().count("NetworkManager is there") == 2, "heard by a restarted NetworkManager")
    result = stream.finish()

    with capsys.disabled():
        print(  # noqa: T201 - a figure
            f"\nNetworkManager says deactivating: {figures(left)}; longest stall of the TCP stream "
            f"{result.longest_stall_s * 1000:.0f} ms, NetworkManager's restart included"
        )
    assert result.is_alive
    assert len(left) == ROAMS


def test_a_lost_carrier_is_left_before_network_manager_has_made_up_its_mind(
    desktop: ManagedDesktop, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, peer = desktop.start(0, 1)
    desk.until_on("w0", "w1")
    stream = desktop.world.stream(desk, peer)
    for _ in range(ROAMS):
        desktop.set_carrier(0, is_there=False)
        desk.until_on("w1")
        desktop.set_carrier(0, is_there=True)
        desk.until_on("w0", "w1")
        time.sleep(0.2)
    result = stream.finish()

    with capsys.disabled():
        print(f"\nlink drops: {figures(moves_because(desk, 'w0: carrier lost'))}")  # noqa: T201 - a figure
    assert result.is_alive


def test_a_captive_portal_is_not_registered_until_the_user_is_through(desktop: ManagedDesktop) -> None:
    desktop.set_portal(0, is_captive=True)
    desk, _ = desktop.start(0, 1)
    desktop.check_connectivity()

    status = desk.until_on("w1")

    (waiting,) = [uplink for uplink in status["uplinks"] if uplink["name"] == "w0"]
    assert waiting["note"] == "waits for a login page (captive portal)"
    assert [locator["interface"] for locator in status["locators"]] == ["w1"]

    desktop.set_portal(0, is_captive=False)
    status = desk.until_on("w0", "w1")
    assert {uplink["connectivity"] for uplink in status["uplinks"] if uplink["is_used"]} == {"full"}
    assert moves_because(desk, "w0: no captive portal any more")


def test_a_metered_uplink_comes_last_and_is_used_where_there_is_no_other(desktop: ManagedDesktop) -> None:
    desk, _ = desktop.start(2, 0)
    status = desk.until_on("w0", "w2")
    assert [locator["priority"] for locator in status["locators"]] == [1, 2]
    assert [uplink["is_metered"] for uplink in status["uplinks"] if uplink["is_used"]] == [False, True]

    desktop.disconnect(0)
    desk.until_on("w2")


def test_a_network_without_internet_comes_last_where_the_user_wants_that(desktop: ManagedDesktop) -> None:
    desk, _ = desktop.start(0, 1, more="network-manager: {limited: last}")
    desktop.check_connectivity()
    desk.until_on("w0", "w1")

    desktop.set_internet(0, is_there=False)
    # NetworkManager also adds 20,000 to the metric of its route, and either notification may come first.
    status = desk.wait_until(
        lambda status: connectivities(status) == {"w1": "full", "w0": "limited"}, "known to be limited"
    )
    assert [locator["priority"] for locator in status["locators"]] == [2, 1]
    desk.until_on("w1", "w0")

    desktop.set_internet(0, is_there=True)
    status = desk.wait_until(
        lambda status: connectivities(status) == {"w0": "full", "w1": "full"}, "known to be whole again"
    )
    assert [locator["priority"] for locator in status["locators"]] == [1, 2]
    desk.until_on("w0", "w1")


def test_after_a_resume_it_is_registered_within_a_second_and_a_round_trip_of_the_uplinks_return(
    desktop: ManagedDesktop, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, _ = desktop.start(0)
    desk.until_on("w0")
    watch = desktop.world.watch()
    took = []
    for number in range(2):
        time.sleep(3.2 * number)  # so that the second one counts as another suspend
        desktop.tell_sleep(is_falling_asleep=True)
        desktop.set_carrier(0, is_there=False)
        desk.wait_until(lambda status: status["state"] == "offline", "offline")
        desktop.tell_sleep(is_falling_asleep=False)
        back = time.monotonic()
        desktop.set_carrier(0, is_there=True)
        desk.until_on("w0")
        sent = watch.first("desk", "map-register", is_out=True, after=back)
        heard = watch.first("desk", "map-notify", is_out=False, after=back)
        assert sent is not None
        assert heard is not None
        took.append(heard.at - back)
    with capsys.disabled():
        print(f"\nresume: registered {max(took) * 1000:.0f} ms after the uplink's return (worst of {len(took)})")  # noqa: T201 - a figure
    assert max(took) < RESUMED_WITHIN_S
    assert desk.log().count("the machine woke up") == len(took)
