"""Behind real NATs the kernel's programs send to the RTR, if the NAT passes their packets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path

import pytest

from lispmob.datapath import tier
from lispmob.lab.build import Lab
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.line import Impairment
from lispmob.lab.nat import Nat, NatGateway
from lispmob.lab.probe import Party
from lispmob.lab.tcp_stream import TcpStream
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not tier.OBJECT.exists(), reason="built without clang or libbpf's headers"),
]

CLEAR = "datapath: {tier: ebpf}\nsecurity: {seal: off}\n"
"""Sealed packets are sent by the threads."""
PASSES, DROPS = "passes", "drops"
LINE = Impairment(delay_s=0.002)
TOPOLOGY = Topology(
    networks=(
        AccessNetwork("home", IPv4Network("192.168.61.0/24"), line=LINE),
        AccessNetwork("office", IPv4Network("192.168.62.0/24"), line=LINE),
        AccessNetwork("rack", IPv4Network("198.51.100.0/24"), line=LINE),
    ),
    hosts=(
        Host(PASSES, (Uplink("eth0", "home"),)),
        Host(DROPS, (Uplink("eth0", "office"),)),
        Host("hub", (Uplink("eth0", "rack"),)),
    ),
)
HUB = TOPOLOGY.address("hub", "eth0")
IDENTITIES = {
    name: Identity(name, ip_address(f"10.1.0.{number}"), ip_address(f"2001:db8:e1d::{number}"))
    for number, name in enumerate((PASSES, DROPS), start=1)
}


def until(is_true: Callable[[], bool], patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


class Stage:
    """A hub with an RTR, and two nodes, each behind a NAT of its own."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.lab = opened.enter_context(Lab(TOPOLOGY, "zero-"))
        self.home = NatGateway(self.lab, "home", Nat(IPv4Address("203.0.113.61")))
        NatGateway(self.lab, "office", Nat(IPv4Address("203.0.113.62"), passes_zero=False))
        text = hub_configuration(tuple(IDENTITIES.values()), [HUB], directory / "hub") + "rtr: {enabled: yes}\n"
        hub = Hub(self.lab["hub"], text, directory / "hub")
        opened.callback(hub.daemon.stop)
        hub.wait_until_listening(timeout_s=10.0)
        self.nodes: dict[str, Node] = {}
        for name, identity in IDENTITIES.items():
            text = node_configuration(identity, HUB, ("10.1.0.0/16", "2001:db8:e1d::/48"), directory / name)
            self.nodes[name] = Node(identity, self.lab[name], text + CLEAR, directory / name)
            opened.callback(self.nodes[name].daemon.stop)
        for name in IDENTITIES:
            until(lambda name=name: self.netcheck(name).get("state") == "relayed")  # type: ignore[misc]

    def netcheck(self, name: str) -> dict[str, object]:
        answer = self.nodes[name].lispctl("netcheck") or {"entries": []}
        return next(iter(answer["entries"]), {})

    def sent_by_programs(self, name: str) -> int:
        answer = self.nodes[name].lispctl("counters")
        assert answer is not None
        return int(answer["datapath"].get("kernel_out_packets", 0))

    def party(self, name: str) -> Party:
        return Party(self.lab[name], IDENTITIES[name].eid4)

    def stream(self, client: str, server: str, *, reboots: bool = False) -> bool:
        """True when all octets of a stream of one second arrived; `reboots`: the NAT at home does so meanwhile."""
        with TcpStream(self.party(client), self.party(server)) as tcp:
            time.sleep(0.5)
            if reboots:
                self.home.reboot()
            time.sleep(1.5 if reboots else 0.5)
            return tcp.finish().is_alive


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as opened:
        yield Stage(tmp_path_factory.mktemp("zero"), opened)


def test_netcheck_tells_whether_packets_without_a_checksum_get_through(stage: Stage) -> None:
    until(lambda: stage.netcheck(PASSES)["passes_zero_checksum"] is True)
    until(lambda: stage.netcheck(DROPS)["passes_zero_checksum"] is False)


def test_a_stream_through_the_rtr_takes_the_short_way_where_the_nat_passes_it(stage: Stage) -> None:
    until(lambda: stage.netcheck(PASSES)["passes_zero_checksum"] is True)
    before = stage.sent_by_programs(PASSES)

    assert stage.stream(PASSES, DROPS)
    assert stage.sent_by_programs(PASSES) > before + 100


def test_behind_a_nat_that_drops_packets_without_a_checksum_a_stream_is_as_whole(stage: Stage) -> None:
    assert stage.stream(DROPS, PASSES)
    assert stage.sent_by_programs(DROPS) == 0


def test_a_stream_on_the_short_way_lives_through_the_reboot_of_the_nat(stage: Stage) -> None:
    assert stage.stream(PASSES, DROPS, reboots=True)
