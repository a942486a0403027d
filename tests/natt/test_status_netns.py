"""The status behind a real NAT: no RTR, an RTR that failed, another key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.nat import Nat, NatGateway
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

pytestmark = pytest.mark.netns

PATIENCE_S = 40.0
TOPOLOGY = Topology(
    networks=(
        AccessNetwork("home", IPv4Network("192.168.63.0/24")),
        AccessNetwork("rack", IPv4Network("198.51.100.0/24")),
    ),
    hosts=(Host("a", (Uplink("wlan0", "home"),)), Host("hub", (Uplink("eth0", "rack"),))),
)
HUB = TOPOLOGY.address("hub", "eth0")
A = Identity("a", ip_address("10.1.0.1"), ip_address("2001:db8:e1d::1"))


class Home:
    """A node behind a NAT, and a hub in the open, each started by the test."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.directory = directory
        self.lab = opened.enter_context(Lab(TOPOLOGY, "told-"))
        self._opened = opened
        self.gateway = NatGateway(self.lab, "home", Nat(IPv4Address("203.0.113.63")))
        self.node: Node

    def start_hub(self, more: str = "") -> Hub:
        text = hub_configuration([A], [HUB], self.directory / "hub") + more
        hub = Hub(self.lab["hub"], text, self.directory / "hub")
        self._opened.callback(hub.daemon.stop)
        hub.wait_until_listening(timeout_s=10.0)
        return hub

    def start_node(self, change: Callable[[str], str] = lambda text: text) -> None:
        directory = self.directory / "a"
        text = change(node_configuration(A, HUB, ("10.1.0.0/16", "2001:db8:e1d::/48"), directory))
        self.node = Node(A, self.lab["a"], text, directory)
        self._opened.callback(self.node.daemon.stop)

    def until(self, is_so: Callable[[Any], bool]) -> Any:
        """The first status for which `is_so` is true."""
        deadline = time.monotonic() + PATIENCE_S
        status: Any = None
        while time.monotonic() < deadline:
            status = self.node.lispctl("status")
            if status is not None and is_so(status):
                return status
            time.sleep(0.2)
        raise AssertionError(f"it did not come true: {status}\n{self.node.daemon.log_tail()}")

    def told(self, key: str) -> Any:
        """The first status with this problem, once the start is over."""

        def is_reported(status: Any) -> bool:
            keys = [problem["key"] for problem in status["problems"]]
            return key in keys and "starting" not in keys

        return self.until(is_reported)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with ExitStack() as opened:
        yield Home(tmp_path, opened)


def test_a_hub_without_an_rtr_is_the_reason_and_the_remedy_names_the_line(home: Home) -> None:
    home.start_hub()
    home.start_node()

    status = home.told("no-rtr")

    assert status["headline"].startswith("not working: wlan0 (192.168.63.")
    assert "is behind a NAT, and there is no RTR" in status["headline"]
    assert "rtr: enabled: yes" in status["problems"][0]["remedy"]


def test_a_dead_rtr_is_the_reason_and_when_it_is_back_all_is_well(home: Home) -> None:
    hub = home.start_hub("rtr: {enabled: yes}\n")
    home.start_node()
    home.until(lambda status: status["state"] == "registered" and status["verdict"] == "working")

    hub.daemon.stop()
    status = home.told("rtr-dead")
    assert status["verdict"] == "not-working"
    assert f"the RTR {HUB} does not answer" in status["headline"]
    assert status["state"] != "registered"

    home.start_hub("rtr: {enabled: yes}\n")
    home.until(lambda status: status["verdict"] == "working")


def test_another_key_behind_a_nat_is_told_from_a_filter(home: Home) -> None:
    home.start_hub("rtr: {enabled: yes}\n")
    home.start_node(lambda text: "\n".join(_with_another_key(line) for line in text.splitlines()) + "\n")

    status = home.told("wrong-key")

    assert status["verdict"] == "not-working"


def _with_another_key(line: str) -> str:
    return "    key: another-one" if line.strip().startswith("key:") else line
