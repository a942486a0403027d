"""Destinations without LISP in each mode; the host's own connections never break."""

from __future__ import annotations

import dataclasses
import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from lispmob.lab.link import IpAddress
from lispmob.lab.ping import ping
from lispmob.lab.probe import Party
from lispmob.lab.tcp_stream import TcpStream
from tests.lispd.running.world import OVERLAY, A, B, Node, World

pytestmark = pytest.mark.netns

# An address that the overlay routes into lmn0, that no site has, and that a host without LISP has.
NO_EID = ip_address("10.1.200.1")


def routing(mode: str, fallback: str) -> str:
    overlay = ", ".join(f'"{prefix}"' for prefix in OVERLAY)
    return f"{{mode: {mode}, overlay-prefixes: [{overlay}], fallback: {fallback}}}"


def fetch(world: World, source: IpAddress | None, destination: IpAddress, patience_s: float = 6.0) -> str:
    """The address that `destination` sees when a connects by TCP, from `source` if given."""
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    with world["world"].socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(destination), 8080))
        listener.listen()
        listener.settimeout(patience_s)
        with world["a"].socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(patience_s)
            if source is not None:
                client.bind((str(source), 0))
            client.connect((str(destination), 8080))
            connection, peer = listener.accept()
            with connection:
                connection.sendall(b"x")
                assert client.recv(1) == b"x"
    return str(peer[0])


@contextmanager
def host_connections(world: World) -> Iterator[None]:
    """Connections to a's underlay addresses, from the Internet and from its own LAN, which must not break."""
    with (
        TcpStream(
            Party(world["world"], world.lab.topology.address("world", "eth0")),
            Party(world["a"], world.lab.topology.address("a", "wlan0")),
            port=2222,
        ) as ssh,
        TcpStream(
            Party(world["gw-home"], world.lab.topology.network("home").gateways[0]),
            Party(world["a"], world.lab.topology.address("a", "wlan0")),
            port=2223,
        ) as lan,
    ):
        yield
        assert ssh.finish().is_alive
        assert lan.finish().is_alive
    assert ping(world["a"], world.lab.topology.network("home").gateways[0], count=1).lost == 0


def start(world: World, mode: str, fallback: str, **keys: str) -> tuple[Node, Node]:
    """Both nodes, and a host without LISP that has an address inside the overlay prefix."""
    world["world"].run("ip", "address", "add", f"{NO_EID}/32", "dev", "lo")
    world["core"].run("ip", "route", "add", str(NO_EID), "via", gateway_of(world, "web"))
    world["gw-web"].run("ip", "route", "add", str(NO_EID), "via", world.address("world"))
    text = dataclasses.replace(world.text(A), routing=routing(mode, fallback), keys=dict(keys))
    a = world.start_node(text)
    return a, world.start_node(B)


@pytest.mark.parametrize("mode", ["split", "full"])
def test_with_native_fallback_a_host_without_lisp_is_reached_and_sees_an_address_of_the_network(
    wide_world: World, mode: str
) -> None:
    world = wide_world
    world.start_hub()
    a, _ = start(world, mode, "native")
    outside = world.lab.topology.address("world", "eth0")
    rloc = world.address("a", "wlan0")

    with host_connections(world):
        first = fetch(world, None, NO_EID)
        later = [fetch(world, None, NO_EID) for _ in range(2)]
        from_eid = fetch(world, A.eid4, NO_EID)
        web = [fetch(world, None, outside) for _ in range(2)]
        web6 = fetch(world, None, world.lab.topology.address("world", "eth0", 6))
        assert ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=3.0).lost == 0

    assert {first, *later, from_eid, *web} == {rloc}
    assert web6 == world.address("a", "wlan0", 6)
    assert a.ctl("lookup", str(NO_EID))["verdict"] == "native"
    assert a.counters()["out_packets"] >= 2


def test_with_proxy_fallback_a_host_without_lisp_talks_to_the_eid_by_way_of_the_hub_wherever_it_is(
    wide_world: World,
) -> None:
    world = wide_world
    forward(world)
    world.start_hub(more="proxy: {enabled: yes}\n")
    world["core"].run("ip", "route", "replace", "10.1.0.0/24", "via", gateway_of(world, "rack"))
    world["gw-rack"].run("ip", "route", "replace", "10.1.0.0/24", "via", world.address("hub"))
    hub = world.address("hub")
    a, _ = start(world, "full", "proxy", **{"proxy-etrs": f"[{hub}]", "proxy-itrs": f"[{hub}]"})
    outside = world.lab.topology.address("world", "eth0")

    with host_connections(world):
        seen = [fetch(world, A.eid4, outside) for _ in range(2)]
        answered = ping(world["world"], A.eid4, outside, count=2, timeout_s=3.0)
        assert ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=3.0).lost == 0

    with TcpStream(a.party(), Party(world["world"], outside)) as stream:
        world["a"].run("ip", "link", "set", "wlan0", "down")
        a.wait_until(lambda status: status["last_handover"] is not None, "moved")
        time.sleep(0.6)
        moved = stream.finish()

    assert set(seen) == {str(A.eid4)}
    assert answered.lost == 0
    assert moved.is_alive, moved
    assert a.ctl("lookup", str(outside))["locator"] == hub


def test_with_drop_a_host_without_lisp_is_unreachable_at_once(wide_world: World) -> None:
    world = wide_world
    world.start_hub()
    a, _ = start(world, "split", "drop")

    with host_connections(world):
        complaints = [refusal(world, NO_EID) for _ in range(2)]
        outside = fetch(world, None, world.lab.topology.address("world", "eth0"))

    assert outside == world.address("a", "wlan0")
    for number, after_s in complaints:
        assert number in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES), errno.errorcode.get(number)
        assert after_s < 3.0  # a TCP connection that no host refuses takes two minutes to fail
    assert a.ctl("lookup", str(NO_EID))["verdict"] == "drop"
    counted = a.counters()
    assert counted["out_drop"] + counted["out_pending_failed"] >= 2
    assert counted["icmp_sent"] >= 2


def refusal(world: World, destination: IpAddress) -> tuple[int, float]:
    """(errno, seconds) of a TCP connection that cannot be made."""
    with world["a"].socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(6.0)
        began = time.monotonic()
        number = client.connect_ex((str(destination), 8080))
        return number, time.monotonic() - began


def forward(world: World) -> None:
    world["hub"].sysctl("ipv4/ip_forward", "1")


def gateway_of(world: World, network: str) -> str:
    """The address of a network's gateway on its link to the core."""
    listed = world[f"gw-{network}"].run("ip", "-4", "-o", "address", "show", "dev", "wan")
    return listed.split()[3].partition("/")[0]
