"""The locators of an uplink: several addresses on one interface, one family of two, default routes of any metric."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

import pytest

from lispmob.lab import link
from lispmob.lab.ping import ping
from lispmob.lab.tcp_stream import TcpStream
from tests.lispd.running.world import A, B, Node, World, wait_for

pytestmark = pytest.mark.netns

ETH_P_ALL, PACKET_HOST = 3, 0
MOST = 4096  # packets read at a time
DATA_PORT = (4341).to_bytes(2, "big")
V4, V6 = "198.18.1.10", "2001:db8:18:1::a"


def start(world: World) -> tuple[Node, Node]:
    """The hub, a and b, each of which knows the hub by an address of either family."""
    world.start_hub()
    servers = [world.address("hub", version=version) for version in (4, 6)]
    nodes = [world.start_node(world.text(who, *servers), is_awaited=False) for who in (A, B)]
    for node in nodes:
        node.wait_until_registered()
    return nodes[0], nodes[1]


def addresses(node: Node, interface: str = "wlan0") -> list[str]:
    """The RLOCs of an uplink in their order; none when it is no uplink."""
    listed = [one for one in node.ctl("uplinks") if one["name"] == interface and one["is_used"]]
    return [str(address) for one in listed for address in one["addresses"]]


class Tap:
    """What has come in by b's only uplink, and from which RLOCs of a."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def sources(self) -> set[str]:
        """The sources of LISP data since the last call."""
        found = set()
        with contextlib.suppress(BlockingIOError):
            for _ in range(MOST):
                packet, where = self._sock.recvfrom(64)
                is_v4 = packet[:1] == b"\x45"
                at, source = (20, packet[12:16]) if is_v4 else (40, packet[8:24])
                if where[2] == PACKET_HOST and packet[at + 2 : at + 4] == DATA_PORT:
                    found.add(str(IPv4Address(source) if is_v4 else IPv6Address(source)))
        return found


@contextmanager
def tapped(world: World) -> Iterator[Tap]:
    with world["b"].socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sock:
        sock.bind(("wlan0", ETH_P_ALL))
        sock.setblocking(False)
        yield Tap(sock)


def reaches_from(world: World, tap: Tap, *rlocs: str) -> bool:
    """True when pings of both families of EIDs are answered, and a sent all of them from these RLOCs."""
    tap.sources()
    trips = [
        ping(world[one.name], far, near, count=2)
        for one, other in ((A, B), (B, A))
        for near, far in ((one.eid4, other.eid4), (one.eid6, other.eid6))
    ]
    found = tap.sources()
    return sum(trip.lost for trip in trips) == 0 and bool(found) and found <= set(rlocs)


def sends_to(node: Node, eid: object, rloc: str) -> bool:
    return bool(node.ctl("lookup", str(eid))["locator"] == rloc)


def test_of_several_addresses_the_primary_is_used_both_ways_and_the_next_one_takes_over_from_it(world: World) -> None:
    world["a"].sysctl("ipv4/conf/wlan0/promote_secondaries", "1")
    link.apply(world["a"], ["link set lte0 down", "addr flush dev wlan0"])
    own = ["198.18.1.30", "198.18.1.20", "198.18.1.40"]  # the first to be added is the primary
    link.apply(world["a"], [f"addr add {address}/24 dev wlan0" for address in own])
    link.apply(world["a"], ["route add default via 198.18.1.1 dev wlan0 metric 100"])
    world.start_hub()
    a, b = world.start_pair()

    with tapped(world) as tap, TcpStream(a.party(), b.party()) as stream:
        assert addresses(a) == ["198.18.1.30", "198.18.1.20", "198.18.1.40"]
        assert reaches_from(world, tap, "198.18.1.30")
        assert sends_to(b, A.eid4, "198.18.1.30")
        for gone, then in (("198.18.1.30", "198.18.1.20"), ("198.18.1.20", "198.18.1.40")):
            link.apply(world["a"], [f"addr del {gone}/24 dev wlan0"])
            wait_for(lambda then=then: addresses(a)[:1] == [then], f"{then} first")  # type: ignore[misc]
            wait_for(lambda then=then: reaches_from(world, tap, then), f"packets from {then}")  # type: ignore[misc]
            wait_for(lambda then=then: sends_to(b, A.eid4, then), f"packets to {then}")  # type: ignore[misc]
        result = stream.finish()

    assert result.is_alive, result


def test_an_uplink_of_ipv6_alone_carries_eids_of_both_families(world: World) -> None:
    link.apply(world["a"], ["link set lte0 down", f"addr del {V4}/24 dev wlan0"])
    world.start_hub()
    servers = [world.address("hub", version=version) for version in (4, 6)]
    a = world.start_node(world.text(A, servers[1]))
    world.start_node(world.text(B, *servers))

    with tapped(world) as tap:
        assert addresses(a) == [V6]
        wait_for(lambda: reaches_from(world, tap, V6), "packets over IPv6")


@pytest.mark.parametrize("by", ["address", "default route"])
def test_a_stream_lives_through_the_loss_of_either_family_of_an_uplink(world: World, by: str) -> None:
    link.apply(world["a"], ["link set lte0 down"])
    a, b = start(world)
    has4, has6 = f"{V4}/24 dev wlan0", f"{V6}/64 dev wlan0 nodad"
    via4, via6 = (f"default via {hop} dev wlan0 metric 100" for hop in ("198.18.1.1", "2001:db8:18:1::1"))
    lose4, lose6 = [f"addr del {has4}"], [f"addr del {V6}/64 dev wlan0", f"route del {via6}"]
    gain4, gain6 = [f"addr add {has4}", f"route replace {via4}"], [f"addr add {has6}", f"route replace {via6}"]
    if by == "default route":
        lose4, gain4, lose6, gain6 = [f"route del {via4}"], [f"route add {via4}"], lose6[1:], gain6[1:]

    with tapped(world) as tap, TcpStream(a.party(4), b.party(4)) as old, TcpStream(a.party(6), b.party(6)) as new:
        for lines, left in ((lose4, [V6]), (gain4, [V4, V6]), (lose6, [V4]), (gain6, [V4, V6])):
            link.apply(world["a"], lines)
            wait_for(lambda left=left: sorted(addresses(a)) == left, f"{left} used")  # type: ignore[misc]
            wait_for(lambda left=left: reaches_from(world, tap, *left), f"packets over {left}")  # type: ignore[misc]
        results = old.finish(), new.finish()

    assert all(result.is_alive for result in results), results


def test_a_default_route_of_any_metric_makes_an_uplink_and_the_lower_one_carries(world: World) -> None:
    a, _ = start(world)  # lte0 has metric 200
    lte = [str(own.ip) for own in world.lab.topology.addresses("a", "lte0")]
    gateways = world.lab.topology.network("home").gateways

    with tapped(world) as tap:
        for metric, carriers in ((0, [V4, V6]), (100, [V4, V6]), (20000, lte)):
            world["a"].run("ip", "route", "flush", "default", "dev", "wlan0")
            world["a"].run("ip", "-6", "route", "flush", "default", "dev", "wlan0")
            link.apply(world["a"], [link.default_route("wlan0", gateway, metric) for gateway in gateways])

            wait_for(lambda: set(addresses(a)) == {V4, V6}, f"used with metric {metric}")
            wait_for(lambda carriers=carriers: reaches_from(world, tap, *carriers), f"by {metric}")  # type: ignore[misc]
        world["a"].run("ip", "link", "set", "lte0", "down")
        wait_for(lambda: reaches_from(world, tap, V4, V6), "by metric 20000 when no other is left")
