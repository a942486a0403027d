"""Hostile packets to a working node: counted by reason, without an answer, and its own traffic goes on."""

from __future__ import annotations

import dataclasses
import random
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from lispmob.lab.probe import ProbeStream
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.data_header import DataHeader
from lispmob.wire.ip_udp import build_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.lispd.running.world import A, B, World

pytestmark = pytest.mark.netns

STRANGER = "203.0.113.10"
_SEED = 4342
_NONCE = 7


def control_messages() -> Iterator[bytes]:
    """Noise of every length and type, then well-formed messages without valid authentication."""
    noise = random.Random(_SEED)
    for kind in range(16):
        for size in (1, 4, 12, 28, 60):
            yield bytes([kind << 4]) + noise.randbytes(size - 1)
    elsewhere = Locator(ip_address(STRANGER))
    for eid in (B.eid4, A.eid4, ip_address("0.0.0.0")):
        prefix = EidPrefix.make(eid, 0 if int(eid) == 0 else 32)
        record = MappingRecord.of(prefix, (elsewhere,), is_authoritative=True)
        yield MapReply(nonce=_NONCE, records=(record,)).encode()
        notify = MapNotify(nonce=_NONCE, records=(record,), key_id=0, algorithm_id=0, authentication=b"")
        yield sign(notify, Key(b"guessed", 0, Algorithm.HMAC_SHA_256_128))
        yield sign(MapRegister(nonce=_NONCE, records=(record,)), Key(b"guessed", 0, Algorithm.HMAC_SHA_256_128))


def data_packets() -> Iterator[bytes]:
    """Encapsulated packets that a node must not deliver."""
    noise = random.Random(_SEED)
    header = DataHeader().encode()
    yield from (noise.randbytes(size) for size in (0, 1, 7, 8, 20, 28, 600))
    yield header + b"\x45" + noise.randbytes(40)
    for source, destination in (
        (B.eid4, ip_address("10.1.0.77")),  # not our EID
        (A.eid4, A.eid4),  # our own EID from outside
        (ip_address("127.0.0.1"), A.eid4),
        (ip_address("224.0.0.1"), A.eid4),
    ):
        yield header + build_ip_udp(source, 5000, destination, 6000, b"?", 64)
    good = build_ip_udp(B.eid4, 5000, A.eid4, 6000, b"?", 64)
    yield DataHeader(instance_id=99).encode() + good
    yield DataHeader(key_number=1).encode() + good


def throw(world: World, port: int, messages: Iterator[bytes]) -> int:
    """Send all of them from the attacker to both addresses of node a; returns how many each got."""
    sent = list(messages)
    with world["world"].socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for message in sent:
            for interface in ("wlan0", "lte0"):
                one.sendto(message, (world.address("a", interface), port))
    return 2 * len(sent)


def test_noise_and_forgeries_are_counted_while_traffic_flows(wide_world: World) -> None:
    world = wide_world
    world.start_hub()
    a, b = world.start_pair()
    with ProbeStream(a.party(), b.party()) as probes:
        before = {part: a.counters(part) for part in ("control", "datapath", "control-socket")}
        control = throw(world, 4342, control_messages())
        data = throw(world, 4341, data_packets())
        a.wait_until(lambda _: a.counters("control-socket")["received"] >= control, "all read")
        out, back = probes.finish()

    grown = {
        part: {name: count - old.get(name, 0) for name, count in a.counters(part).items() if count != old.get(name, 0)}
        for part, old in before.items()
    }
    assert (out.lost(0, float("inf")), back.lost(0, float("inf"))) == (0, 0)
    refused = {name: count for name, count in grown["control"].items() if name.startswith("rx_")}
    assert control <= sum(refused.values()) <= control + 4, grown  # the rest is the node's own traffic
    assert refused["rx_nonce"] >= 2 * 6
    dropped = {name: grown["datapath"][name] for name in grown["datapath"] if name.startswith("data_")}
    for name, least in {"data_short": 6, "data_inner": 2, "data_notours": 2, "data_source": 6, "data_iid": 2}.items():
        assert dropped.get(name, 0) >= least, dropped
    assert dropped["data_key"] >= 2
    drops = sum(count for name, count in dropped.items() if name not in ("data_packets", "data_octets", "data_nonce",
                "data_lsb", "data_version", "data_control", "data_ecn_odd"))  # fmt: skip
    assert drops == data, (dropped, data)
    assert "Traceback" not in a.log()
    assert not [line for line in a.log().splitlines() if "WARNING" in line or "ERROR" in line]
    assert a.ctl("map-cache")["entries"][0]["locators"][0]["address"] == world.address("b", "wlan0")
    assert a.ctl("status")["state"] == "registered"


def test_the_hub_counts_forgeries_and_goes_on_serving(wide_world: World) -> None:
    world = wide_world
    hub = world.start_hub()
    a = world.start_node(dataclasses.replace(world.text(A), eids=("10.1.0.1/32",)))
    sent = list(control_messages())
    with world["world"].socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setblocking(False)
        for message in sent:
            one.sendto(message, (world.address("hub"), 4342))
        world.start_node(B)

        with pytest.raises(BlockingIOError):
            one.recv(2000)

    assert hub.daemon.is_running
    said = hub.daemon.log.read_text()
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if "auth-failed" in line]) <= 3
    assert f"registered eid=10.1.0.1/32 rlocs={STRANGER}" not in said
    assert a.ctl("status")["state"] == "registered"
