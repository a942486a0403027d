"""A suspend during which the NAT forgets its bindings: after the resume the node trusts none of them. Real packets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest

from lispmob.lab.behind_nats import FAR_NODE, HOME, ROAMER, ROUND_TRIP_S
from lispmob.lab.demo.nat_stage import OVERLAY, NatStage
from lispmob.lab.demo_service import Node, node_configuration
from lispmob.lab.namespace import why_unavailable
from lispmob.lab.ping import ping
from tests.desktop.managed_desktop import tell_sleep
from tests.desktop.private_bus import PrivateBus, private_bus, wait_for, why_no_mock

WHY_NOT = why_unavailable() or why_no_mock()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

ANOTHER_ADDRESS: Final = IPv4Address("203.0.113.99")
FOUND_WITHIN_S: Final = 1.0
QUIET_S: Final = 2.0  # an unanswered packet makes the node check, too: after this time there is none
NAP_S: Final = 1.0  # far below any keepalive: only the resume can make the node check


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[PrivateBus]:
    with private_bus(tmp_path) as one:
        one.mock("logind")
        wait_for(lambda: "login1" in one.gdbus(*_NAMES), "logind is there")
        yield one


def start_on_bus(nats: NatStage, bus: PrivateBus, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Start the roamer again; now it is told of suspends."""
    nats.nodes[ROAMER].daemon.stop()
    identity, map_server = nats.identities[ROAMER], nats.lab.topology.address("hub", "eth0")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.address)
    text = node_configuration(identity, map_server, OVERLAY, directory)
    assert "dbus: no" in text
    node = Node(
        identity,
        nats.lab[ROAMER],
        text.replace("dbus: no", "dbus: yes").replace("level: info", "level: debug"),
        directory,
    )
    nats.nodes[ROAMER] = node
    wait_for(node.is_registered, "registered")
    wait_for(lambda: ((node.lispctl("netcheck") or {}).get("entries") or [{}])[0].get("rtr") is not None, "relayed")
    return node


def test_bindings_that_a_nat_forgot_in_our_sleep_are_replaced_at_once_when_we_wake(
    tmp_path: Path, bus: PrivateBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with NatStage(tmp_path / "nats", kinds=()) as nats:
        nats.wait_until_registered()
        node = start_on_bus(nats, bus, tmp_path / "again", monkeypatch)
        eids = nats.identities[ROAMER].eid4, nats.identities[FAR_NODE].eid4

        def is_reached() -> bool:
            return ping(nats.lab[FAR_NODE], *eids, count=1, timeout_s=0.2).lost == 0

        wait_for(is_reached, "reached through its NAT")
        rtrs = [entry["rtr"] for entry in (node.lispctl("netcheck") or {})["entries"]]
        assert [locator["rtr"] for locator in (node.lispctl("status") or {})["locators"]] == rtrs
        assert f"'rtr': <'{rtrs[0]}'>" in bus.gdbus(*_LOCATORS)
        time.sleep(QUIET_S)
        tell_sleep(bus, is_falling_asleep=True)
        nats.gateways[HOME.name].renumber(ANOTHER_ADDRESS)
        asleep_until = time.monotonic() + NAP_S
        while time.monotonic() < asleep_until:
            assert not is_reached(), (
                node.daemon.log_tail() + "nothing comes in by the bindings of yesterday: else this test shows nothing"
            )

        tell_sleep(bus, is_falling_asleep=False)
        woken = time.monotonic()
        wait_for(is_reached, "reached again, without a packet of the applications")
        took_s = time.monotonic() - woken

        assert "the machine woke up" in node.daemon.log_text()
    with capsys.disabled():
        print(f"\nresume behind a NAT that has another address: reached after {took_s * 1000:.0f} ms")  # noqa: T201 - a figure
    assert took_s < FOUND_WITHIN_S + 3 * ROUND_TRIP_S


_LOCATORS: Final = (
    *("call", "--system", "--dest", "net.lispmob.Daemon1", "--object-path", "/net/lispmob/Daemon1"),
    *("--method", "org.freedesktop.DBus.Properties.Get", "net.lispmob.Daemon1", "Locators"),
)
_NAMES: Final = (
    *("call", "--system", "--dest", "org.freedesktop.DBus", "--object-path", "/org/freedesktop/DBus"),
    *("--method", "org.freedesktop.DBus.ListNames"),
)
