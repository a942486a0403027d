"""The benchmarks measure what they say: packets are on the cable as the path's name wants, and sums are right."""

from __future__ import annotations

import json
import shutil
import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lispmob.lab.bench import sanity
from lispmob.lab.bench.results import GOALS, Results, lines
from lispmob.lab.bench.wire import PATHS, Way, Wire
from lispmob.lab.ping import ping
from lispmob.lab.report import Machine

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


@pytest.mark.netns
@pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("ethtool")), reason="needs gcc and ethtool")
def test_every_path_goes_where_its_name_says_and_nowhere_else(tmp_path: Path) -> None:
    with Wire(tmp_path) as wire:
        ways = {name: wire.path(name) for name in PATHS}
        for way in ways.values():
            wire.settle(way)

            assert sanity.check(wire, way) == 10

        with wire.b.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as cable:
            cable.bind(("eth0", 0x0800))
            cable.settimeout(1)
            ping(wire.a, ways["tun"].far, ways["tun"].near, count=1)
            packet = cable.recv(65535)
        assert packet[22:24] == b"\x10\xf5"  # 4341
        assert [name for name, way in ways.items() if sanity.is_of(way, packet)] == ["tun"]
