"""Two nodes and a hub with default settings: their packets are sealed, and attackers on the path cannot use them."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lispmob.lab.tcp_stream import TcpStream, pattern
from tests.crypto.support import needs_libcrypto
from tests.lab.capture import Capture
from tests.lispd.running.world import A, B, Node, World, city, wait_for, world_of

pytestmark = [pytest.mark.netns, needs_libcrypto]

MARK = b"nobody on the way shall read this"
_UDP_DATA = 4341
_ETH_P_ALL = 3


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Node, Node]]:
    """An IPv4 network with a hub, and a and b registered; no packets have passed between them yet."""
    with world_of(city(versions=(4,)), tmp_path_factory.mktemp("sealed")) as world:
        world.start_hub()
        a, b = (world.start_node(dataclasses.replace(world.text(who), eids=(f'"{who.eid4}/32"',))) for who in (A, B))
        yield world, a, b


def seal_of(node: Node, other: Node) -> dict[str, Any] | None:
    """How packets to the other node leave, as lispctl says."""
    peers = node.ctl("key")["peers"]
    return next((peer["seal"] for peer in peers if peer["prefix"] == f"{other.identity.eid4}/32"), None)


def is_sealed(node: Node, other: Node) -> bool:
    seal = seal_of(node, other)
    return seal is not None and seal["state"] == "sealed"


def say(node: Node, other: Node, text: bytes) -> None:
    with node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(text, (str(other.identity.eid4), 9))


def pings(node: Node, other: Node) -> bool:
    return "bytes from" in node.namespace.run("sh", "-c", f"ping -n -c 1 -W 1 {other.identity.eid4} || true")


def seal(a: Node, b: Node) -> None:
    """Send packets until both seal."""
    for node, other in ((a, b), (b, a)):
        wait_for(lambda: pings(node, other) and is_sealed(node, other), f"{node.identity.name} seals")  # noqa: B023


def test_what_two_nodes_say_is_sealed_both_ways_without_a_line_of_configuration(
    pair: tuple[World, Node, Node],
) -> None:
    world, a, b = pair
    seal(a, b)
    with Capture(world["b"], "wlan0") as wire:
        with b.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
            heard.bind((str(b.identity.eid4), 9))
            heard.settimeout(5.0)
            say(a, b, MARK)
            assert heard.recv(1000) == MARK
        say(b, a, MARK)
        assert pings(b, a)

    assert len(wire.packets) >= 3
    assert not [packet for packet in wire.packets if MARK in packet]
    told = seal_of(a, b)
    assert told is not None
    assert (told["grade"], told["fingerprint"]) == ("vouched", b.ctl("key")["fingerprint"])
    assert told["packets_out"] > 0
    assert "sealed" in a.ctl("paths")[0]["seal"]
    steps = {step["stage"]: step["text"] for step in a.ctl("why", str(B.eid4))["steps"]}
    assert steps["seal"].startswith("sealed")


def test_a_tcp_stream_goes_on_sealed_over_a_move(pair: tuple[World, Node, Node]) -> None:
    world, a, b = pair
    seal(a, b)
    before = {peer["seal"]["fingerprint"] for peer in a.ctl("key")["peers"]}
    with Capture(world["b"], "wlan0") as wire, TcpStream(a.party(), b.party()) as stream:
        wait_for(lambda: len(wire.packets) > 20, "a stream")
        world["a"].run("ip", "link", "set", "wlan0", "down")
        a.wait_until(lambda status: [locator["interface"] for locator in status["locators"]] == ["lte0"], "on lte0")
        lte = world.lab.topology.address("a", "lte0", 4).packed
        wait_for(lambda: sum(packet[12:16] == lte for packet in wire.packets) > 20, "data by the other uplink")
        result = stream.finish()
    world["a"].run("ip", "link", "set", "wlan0", "up")

    assert result.is_alive, result
    assert {peer["seal"]["fingerprint"] for peer in a.ctl("key")["peers"]} == before
    text = pattern(0, 64)
    assert not [packet for packet in wire.packets if text[:32] in packet]


def test_a_sealed_packet_that_comes_again_by_whatever_way_is_dropped_and_counted(
    pair: tuple[World, Node, Node],
) -> None:
    world, a, b = pair
    seal(a, b)
    with Capture(world["b"], "wlan0") as wire:
        assert pings(a, b)
    sealed = next(
        packet[28:]
        for packet in wire.packets
        if int.from_bytes(packet[22:24]) == _UDP_DATA
        and packet[16:20] == world.lab.topology.address("b", "wlan0", 4).packed
    )
    before = b.counters()["data_replay"]
    with world["hub"].socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.sendto(sealed, (world.address("b", "wlan0"), _UDP_DATA))
        wait_for(lambda: b.counters()["data_replay"] == before + 1, "a replay is counted")


def has_settled(node: Node, other: Node) -> bool:
    """True once clear text from the other node is no longer accepted."""
    kept = (node.directory / "state" / "peer-keys").read_text().splitlines()
    return any(line.startswith(f"{other.identity.eid4}/") and line.endswith(" sealed") for line in kept)


def test_clear_text_in_the_name_of_a_peer_that_has_sealed_is_dropped(pair: tuple[World, Node, Node]) -> None:
    world, a, b = pair
    seal(a, b)
    wait_for(lambda: has_settled(b, a), "b remembers that a seals")
    inner = bytes.fromhex("45000024000040004011000000000000000000000009000900100000") + b"in clear"
    inner = inner[:12] + A.eid4.packed + B.eid4.packed + inner[20:]
    total = sum(int.from_bytes(inner[at : at + 2]) for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    inner = inner[:10] + (~total & 0xFFFF).to_bytes(2) + inner[12:]
    before = b.counters()["data_clear"]
    with world["a"].socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
        forger.bind((world.address("a", "wlan0"), 0))
        forger.sendto(b"\x08" + bytes(7) + inner, (world.address("b", "wlan0"), _UDP_DATA))
        wait_for(lambda: b.counters()["data_clear"] == before + 1, "clear text is counted")


def test_a_peer_that_was_restarted_is_talked_to_again_sealed(pair: tuple[World, Node, Node]) -> None:
    _, a, b = pair
    seal(a, b)
    public_key = b.ctl("key")["public_key"]
    b.daemon.stop()
    b.start()
    b.wait_until_registered()

    wait_for(lambda: pings(a, b), "a is heard by b again")
    assert b.ctl("key")["public_key"] == public_key
    assert is_sealed(a, b)


def test_a_key_that_was_lost_is_replaced_by_one_command_and_connections_go_on(pair: tuple[World, Node, Node]) -> None:
    world, a, b = pair
    seal(a, b)
    before = a.ctl("key")["fingerprint"]
    with TcpStream(a.party(), b.party()) as stream:
        time.sleep(0.3)
        fresh = a.ctl("key", "--replace")["fingerprint"]
        wait_for(lambda: (seal_of(b, a) or {}).get("fingerprint") == fresh, "b has the new key")
        wait_for(lambda: is_sealed(a, b) and is_sealed(b, a), "both seal again")
        result = stream.finish()
    del world

    assert result.is_alive, result
    assert fresh != before
    assert a.ctl("key")["fingerprint"] == fresh
    assert (a.directory / "state" / "static-key").stat().st_mode & 0o777 == 0o600


def test_a_node_that_is_told_to_seal_no_more_says_so_provably_and_is_talked_to_in_clear(
    pair: tuple[World, Node, Node],
) -> None:
    _, a, b = pair
    seal(a, b)
    wait_for(lambda: has_settled(a, b), "a remembers that b seals")
    b.daemon.stop()
    usual, b.text = b.text, dataclasses.replace(b.text, keys={"security": "{seal: off}"})
    b.write()
    b.start()
    b.wait_until_registered()

    wait_for(lambda: pings(a, b) and pings(b, a), "they talk in clear")
    assert seal_of(a, b) is None or not is_sealed(a, b)
    b.daemon.stop()
    b.text = usual
    b.write()
    b.start()
    b.wait_until_registered()
    seal(a, b)
    wait_for(lambda: has_settled(a, b), "a remembers it again")


def test_a_node_that_cannot_seal_any_more_is_not_spoken_to_in_clear(pair: tuple[World, Node, Node]) -> None:
    world, a, b = pair
    seal(a, b)
    b.daemon.stop()
    b.text = dataclasses.replace(b.text, keys={"log": "{record: yes}"})  # a recording has no keys
    b.write()
    b.start()
    b.wait_until_registered()

    before = a.counters()["data_clear"]
    with Capture(world["b"], "wlan0") as wire:
        assert not pings(a, b)
        say(a, b, MARK)
        assert not pings(b, a)
        wait_for(lambda: a.counters()["data_clear"] > before, "the clear ping is counted")

    assert not [packet for packet in wire.packets if MARK in packet]
