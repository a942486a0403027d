"""The benchmarks measure what they say: packets on the link match the name of the path, and sums are right."""

from __future__ import annotations

import json
import shutil
import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lispmob.datapath import sealing
from lispmob.datapath.bench import static_pair
from lispmob.lab.bench import charts, sanity
from lispmob.lab.bench.paths import REFERENCES
from lispmob.lab.bench.relayed import Relayed
from lispmob.lab.bench.results import GOALS, LIMITS, Results, lines
from lispmob.lab.bench.run import Run
from lispmob.lab.bench.sealed import SealedPair, is_sealed
from lispmob.lab.bench.wire import Way, Wire
from lispmob.lab.ping import ping
from lispmob.lab.report import Machine
from lispmob.wire.address import EidPrefix

MACHINE = Machine("system", "6.0", "x86_64", "processor", 2, 4096, "3.11")
NEAR, FAR = IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2")
TUN = Way("tun-noseg", NEAR, FAR)
INNER = b"\x45" + bytes(11) + NEAR.packed + FAR.packed


def outer(port: int, payload: bytes) -> bytes:
    head = bytearray(20)
    head[0], head[9] = 0x45, socket.IPPROTO_UDP
    return bytes(head) + struct.pack("!HHHH", 50000, port, 8 + len(payload), 0) + payload


@pytest.mark.parametrize(
    ("packet", "is_lisp"),
    [
        (outer(4341, bytes(8) + INNER), True),
        (outer(4341, b"\x08" + bytes(7) + INNER), False),
        (outer(4342, bytes(8) + INNER), False),
        (outer(4789, bytes(8) + INNER), False),
        (INNER + bytes(20), False),
        (outer(4341, bytes(8) + INNER[:12] + FAR.packed + NEAR.packed), False),
        (outer(4341, b""), False),
    ],
)
def test_only_lisp_on_its_port_between_the_eids_counts_as_ours(packet: bytes, is_lisp: bool) -> None:
    assert sanity.is_of(TUN, packet) == is_lisp


def test_medians_ratios_and_the_report_come_from_the_samples(tmp_path: Path) -> None:
    results = Results(MACHINE)
    for value in (1.0, 9.0, 2.0):
        results.add("tcp1", "tun", value, "Gbit/s")
    results.add("tcp1", "vxlan", 4.0, "Gbit/s")

    results.write(tmp_path / "report.json")

    told = json.loads((tmp_path / "report.json").read_text())
    assert told["version"] == 1
    assert told["machine"]["processors"] == 2
    assert told["results"][0] == {
        "case": "tcp1",
        "path": "tun",
        "unit": "Gbit/s",
        "median": 2.0,
        "samples": [1.0, 9.0, 2.0],
    }
    goal = next(one for one in GOALS if (one.case, one.path, one.other) == ("tcp1", "tun", "vxlan"))
    assert results.ratio(goal) == 0.5
    assert results.median("tcp1", "veth") is None
    assert any("0.50" in line and "reached" in line for line in lines([results.goals_table()]))


def test_a_figure_over_its_limit_is_missed_on_whatever_path_it_was_measured() -> None:
    results = Results(MACHINE)
    results.add("resident-memory", "tun", LIMITS["resident-memory"], "MB")
    results.add("resident-memory", "ebpf", LIMITS["resident-memory"] + 1, "MB")

    verdicts = [row[-1] for row in results.goals_table().rows]

    assert verdicts == ["reached", "missed"]


def test_every_group_of_cases_has_its_picture(tmp_path: Path) -> None:
    results = Results(MACHINE)
    for case, unit in (("tcp1", "Gbit/s"), ("udp64", "kpps"), ("cpu-per-gb", "s/GB"), ("lookup-ns-10", "ns")):
        for path in ("vxlan", "tun", "tun-noseg", "ebpf-rtr"):
            results.add(case, path, 1.0, unit)

    charts.draw(results, tmp_path)

    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(drawn) == {"throughput.svg", "packets.svg", "cost.svg", "lookups.svg"}
    assert all(name in drawn["throughput.svg"] for name in ("vxlan", "tun-noseg", "ebpf-rtr", "Gbit/s"))


@pytest.mark.netns
def test_a_tier_is_measured_or_left_out_with_the_reason(tmp_path: Path) -> None:
    results = Results(MACHINE)

    Run(results, tmp_path, ["rtt"], ["ebpf"], rounds=1, seconds=1).measure()

    assert (results.median("rtt", "ebpf") is None) == bool(results.skipped.get("ebpf"))


SEALED = Way("tun-sealed", NEAR, FAR)


@pytest.mark.parametrize(
    ("packet", "counts"),
    [
        (outer(4341, b"\x01" + bytes(60)), True),
        (outer(4341, bytes(8) + INNER), False),
        (outer(4342, b"\x01" + bytes(60)), False),
        (INNER + bytes(20), False),
    ],
)
def test_a_packet_that_shows_an_inner_address_does_not_count_as_sealed(packet: bytes, counts: bool) -> None:
    assert is_sealed(packet, 4341, SEALED) == counts


def test_both_sides_of_the_sealed_paths_have_the_same_keys_and_new_ones_each_minute() -> None:
    there = EidPrefix.host(FAR)
    a, b = (static_pair.session(side, 7, "aes-128-gcm", there) for side in (0, 1))

    assert (a.send_key, a.receive_key) == (b.receive_key, b.send_key)
    assert (a.local_index, a.remote_index) == (b.remote_index, b.local_index)
    assert static_pair.session(0, 8, "aes-128-gcm", there).send_key != a.send_key


@pytest.mark.netns
@pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto")
def test_a_sealed_path_shows_no_inner_address_on_the_cable(tmp_path: Path) -> None:
    with SealedPair(tmp_path / "sealed", "tun-sealed-chacha") as pair:
        assert pair.check() == 10


@pytest.mark.netns
def test_the_nodes_beside_an_rtr_reach_each_other_through_it(tmp_path: Path) -> None:
    with Relayed(tmp_path, "tun") as relayed:
        assert relayed.check() == 10


@pytest.mark.netns
@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("ethtool")), reason="needs gcc and ethtool")
def test_every_path_goes_where_its_name_says_and_nowhere_else(tmp_path: Path) -> None:
    with Wire(tmp_path) as wire:
        ways = {name: wire.path(name) for name in (*REFERENCES, "tun")}
        for way in ways.values():
            wire.settle(way)

            assert sanity.check(wire, way) == 10

        with wire.b.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as cable:
            cable.bind(("eth0", 0x0800))
            cable.settimeout(1)
            ping(wire.a, ways["tun"].far, ways["tun"].near, count=1)
            packet = cable.recv(65535)
        assert packet[22:24] == b"\x10\xf5"  # UDP port 4341
        assert [name for name, way in ways.items() if sanity.is_of(way, packet)] == ["tun"]
