"""lispers.net's dialect with real packets: a hub that speaks nothing else, two RTRs, nodes with and without a NAT."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab.build import Lab
from lispmob.lab.demo_service import Hub, Identity, Node, hub_configuration, node_configuration
from lispmob.lab.line import Impairment
from lispmob.lab.nat import Mapping, Nat, NatGateway
from lispmob.lab.ping import ping
from lispmob.lab.probe import Party
from lispmob.lab.tcp_stream import TcpStream
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

pytestmark = pytest.mark.netns

LINE = Impairment(delay_s=0.005)
CONE, SYMMETRIC, OPEN = "cone", "symmetric", "open"
NATS = {
    CONE: Nat(ip_address("203.0.113.31")),  # type: ignore[arg-type]
    SYMMETRIC: Nat(ip_address("203.0.113.32"), Mapping.ADDRESS_AND_PORT_DEPENDENT),  # type: ignore[arg-type]
}
MODES = {CONE: "lispers-net", SYMMETRIC: "auto", OPEN: "auto"}
SERVERS = ("hub", "rtr1", "rtr2")
IDENTITIES = {
    name: Identity(name, ip_address(f"10.1.0.{number}"), ip_address(f"2001:db8:e1d::{number:x}"))
    for number, name in enumerate(MODES, start=1)
}
TOPOLOGY = Topology(
    networks=(
        AccessNetwork("home", IPv4Network("192.168.31.0/24"), line=LINE),
        AccessNetwork("office", IPv4Network("192.168.32.0/24"), line=LINE),
        AccessNetwork("cafe", IPv4Network("198.18.31.0/24"), line=LINE),
        AccessNetwork("rack", IPv4Network("198.51.100.0/24"), line=LINE),
    ),
    hosts=(
        Host(CONE, (Uplink("eth0", "home"),)),
        Host(SYMMETRIC, (Uplink("eth0", "office"),)),
        Host(OPEN, (Uplink("eth0", "cafe"),)),
        *(Host(name, (Uplink("eth0", "rack", 10 + number),)) for number, name in enumerate(SERVERS)),
    ),
)
HUB, RTR1, RTR2 = (TOPOLOGY.address(name, "eth0") for name in SERVERS)


class World:
    """All hosts and daemons of a test."""

    def __init__(self, directory: Path, opened: ExitStack) -> None:
        self.lab = opened.enter_context(Lab(TOPOLOGY, "lnet-"))
        self.gateways = {
            CONE: NatGateway(self.lab, "home", NATS[CONE]),
            SYMMETRIC: NatGateway(self.lab, "office", NATS[SYMMETRIC]),
        }
        text = hub_configuration(tuple(IDENTITIES.values()), [HUB], directory / "hub")
        text += f"rtrs: [{{address: {RTR1}}}, {{address: {RTR2}}}]\nnat-dialects: [lispers-net]\n"
        texts = {"hub": text}
        for name, address in (("rtr1", RTR1), ("rtr2", RTR2)):
            base = hub_configuration((), [address], directory / name).replace("sites:\n", "sites: []\n")
            base += f"rtr: {{enabled: yes, map-servers: [{{address: {HUB}}}]}}\n"
            texts[name] = base + "proxy: {eids: [10.1.0.0/16]}\nnat-dialects: [lispers-net]\n"
        self.servers = {name: Hub(self.lab[name], text, directory / name) for name, text in texts.items()}
        for server in self.servers.values():
            opened.callback(server.daemon.stop)
            server.wait_until_listening(timeout_s=10.0)
        self.nodes: dict[str, Node] = {}
        for name, identity in IDENTITIES.items():
            text = node_configuration(identity, HUB, ("10.1.0.0/16", "2001:db8:e1d::/48"), directory / name)
            text += f"natt: {{mode: {MODES[name]}, rtrs: [{RTR1}, {RTR2}]}}\n"
            self.nodes[name] = Node(identity, self.lab[name], text, directory / name)
            opened.callback(self.nodes[name].daemon.stop)

    def seen(self, name: str) -> dict[str, Any]:
        """The uplink as netcheck shows it; empty while the node is still starting."""
        answer = self.nodes[name].lispctl("netcheck") or {"entries": []}
        return next(iter(answer["entries"]), {})

    def lost(self, one: str, other: str) -> int:
        return ping(self.lab[one], IDENTITIES[other].eid4, IDENTITIES[one].eid4, count=3).lost

    def party(self, name: str) -> Party:
        return Party(self.lab[name], IDENTITIES[name].eid4)


def until(is_true: Callable[[], bool], patience_s: float = 20.0) -> float:
    """Seconds until it is true; fails when it never is."""
    start = time.monotonic()
    while not is_true():
        assert time.monotonic() < start + patience_s, "it did not come true"
        time.sleep(0.05)
    return time.monotonic() - start


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as opened:
        made = World(tmp_path_factory.mktemp("lispers"), opened)
        until(lambda: all(made.seen(name).get("rtr_rtt_ms") for name in NATS))
        yield made


@pytest.mark.parametrize("name", [CONE, SYMMETRIC])
def test_netcheck_shows_the_dialect_that_was_configured_or_found_out(world: World, name: str) -> None:
    seen = world.seen(name)

    assert (seen["dialect"], seen["state"], seen["has_nat"]) == ("lispers", "relayed", True)
    assert seen["seen_address"] == str(NATS[name].public)
    assert (seen["rtr"], seen["keepalive_s"]) == (str(RTR1), 15.0)
    assert seen["rtr_rtt_ms"] is not None


@pytest.mark.parametrize(("one", "other"), [(CONE, SYMMETRIC), (CONE, OPEN), (SYMMETRIC, OPEN)])
def test_ping_and_tcp_both_ways(world: World, one: str, other: str) -> None:
    until(lambda: world.lost(one, other) == 0)
    until(lambda: world.lost(other, one) == 0)

    for client, server in ((one, other), (other, one)):
        with TcpStream(world.party(client), world.party(server)) as tcp:
            time.sleep(0.3)
            assert tcp.finish().is_alive


@pytest.mark.parametrize("name", [CONE, SYMMETRIC])
def test_a_stream_lives_through_the_reboot_of_a_nat(world: World, name: str) -> None:
    other = SYMMETRIC if name == CONE else CONE
    until(lambda: world.lost(name, other) == 0)

    with TcpStream(world.party(name), world.party(other)) as tcp:
        time.sleep(0.5)
        world.gateways[name].reboot()
        time.sleep(1.5)
        result = tcp.finish()

    print(f"\n{name}: stalled for {result.longest_stall_s * 1000:.0f} ms")  # noqa: T201 - a figure for the reader
    assert result.is_alive


def test_sessions_live_when_an_rtr_dies(world: World) -> None:
    until(lambda: world.lost(CONE, SYMMETRIC) == 0)

    with TcpStream(world.party(CONE), world.party(SYMMETRIC)) as tcp:
        time.sleep(0.5)
        world.servers["rtr1"].daemon.kill()
        until(lambda: world.seen(CONE)["rtr"] == str(RTR2) == world.seen(SYMMETRIC)["rtr"])
        time.sleep(1.0)
        result = tcp.finish()

    print(f"\nstalled for {result.longest_stall_s * 1000:.0f} ms")  # noqa: T201 - a figure for the reader
    assert result.is_alive
