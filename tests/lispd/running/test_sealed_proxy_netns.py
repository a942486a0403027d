"""A node and its hub's proxy: packets to and from a host without LISP are sealed as far as the hub."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lispmob.hub.asking import ask
from lispmob.lab.probe import Party
from lispmob.lab.tcp_stream import TcpStream, pattern
from lispmob.lab.valkey import ValkeyServer, program
from tests.crypto.support import needs_libcrypto
from tests.lab.capture import Capture
from tests.lispd.running.test_modes import forward, gateway_of, routing
from tests.lispd.running.world import A, Node, World, wait_for

pytestmark = [pytest.mark.netns, needs_libcrypto]

MARK = b"no access network shall read this"


def hub_key(world: World) -> str:
    """The public key as the operator reads it."""
    control = world.directory / "hub" / "lisphub.sock"
    wait_for(control.exists, "lisphub answers")
    return str(ask(control, "status")["public_key"])


def seal_of(node: Node, other: str) -> str:
    steps: list[dict[str, Any]] = node.ctl("why", "udp", f"{other}:9")["steps"]
    return next((step["text"] for step in steps if step["stage"] == "seal"), "")


@pytest.fixture
def servers(wide_world: World, tmp_path: Path) -> Iterator[str]:
    """hub.conf for several processes, of which not the first one is asked, and the server that they share."""
    if program() is None:
        pytest.skip("no Valkey or Redis server is installed: apt-get install redis-tools")
    server = ValkeyServer(tmp_path / "server", "127.0.0.11", 7100, (), wide_world["hub"]).start()
    try:
        server.wait()
        asker = int(ip_address(wide_world.address("a", "wlan0")))
        spread = (asker * 0x9E3779B1 & 0xFFFFFFFF) >> 16  # control_port/steering.py
        processes = next(count for count in range(2, 9) if spread % count)
        yield f"workers: {processes}\nregistry: {{valkey: ['127.0.0.11:7100']}}\n"
    finally:
        server.kill()


def test_a_node_learns_the_key_of_a_hub_of_several_processes_from_any_and_its_session_is_that_of_the_first(
    wide_world: World, servers: str
) -> None:
    send_both_ways_sealed(wide_world, is_written=False, more=servers)


@pytest.mark.parametrize("is_written", [False, True])
def test_what_goes_to_a_host_without_lisp_is_sealed_as_far_as_the_hub(wide_world: World, is_written: bool) -> None:
    send_both_ways_sealed(wide_world, is_written=is_written)


def send_both_ways_sealed(world: World, *, is_written: bool, more: str = "") -> None:
    """A node, a proxy, and a host without LISP; the node has the proxy's key in its file, or gets it."""
    forward(world)
    world.start_hub(more=f"proxy: {{enabled: yes}}\n{more}")
    world["core"].run("ip", "route", "replace", "10.1.0.0/24", "via", gateway_of(world, "rack"))
    world["gw-rack"].run("ip", "route", "replace", "10.1.0.0/24", "via", world.address("hub"))
    hub, outside = world.address("hub"), world.address("world")
    proxy = f"{{address: {hub}, public-key: {hub_key(world)}}}" if is_written else hub
    keys = {"proxy-etrs": f"[{proxy}]", "proxy-itrs": f"[{hub}]"}
    text = dataclasses.replace(world.text(A), eids=(f'"{A.eid4}/32"',), routing=routing("full", "proxy"), keys=keys)
    a = world.start_node(text)

    def pings() -> bool:
        said = a.namespace.run("sh", "-c", f"ping -n -c 1 -W 1 -I {A.eid4} {outside} || true")
        return "bytes from" in said and seal_of(a, outside).startswith("sealed")

    wait_for(pings, f"the way to the hub is sealed: {seal_of(a, outside)}")
    with (
        Capture(world["a"], "wlan0") as access,
        Capture(world["world"], "eth0") as beyond,
        world["world"].socket(socket.AF_INET, socket.SOCK_DGRAM) as host,
        a.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as own,
    ):
        host.bind((outside, 9))
        own.bind((str(A.eid4), 9))
        for end in (host, own):
            end.settimeout(5.0)
        own.sendto(MARK, (outside, 9))
        assert host.recv(1000) == MARK
        host.sendto(MARK, (str(A.eid4), 9))
        assert own.recv(1000) == MARK
        with TcpStream(a.party(), Party(world["world"], world.lab.topology.address("world", "eth0"))) as stream:
            wait_for(lambda: len(access.packets) > 60, "a stream")
            result = stream.finish()

    assert result.is_alive, result
    assert seal_of(a, outside).startswith("sealed to the hub, clear beyond")
    assert not [packet for packet in access.packets if MARK in packet or pattern(0, 64)[:32] in packet]
    assert [packet for packet in beyond.packets if MARK in packet]
    assert a.counters()["data_clear"] == 0
    kinds = {peer["seal"]["state"] for peer in a.ctl("key")["peers"]}
    assert "sealed to the hub, clear beyond" in kinds
