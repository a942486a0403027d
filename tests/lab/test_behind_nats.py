"""Nodes behind NATs of every kind, as a user runs them, with real packets."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab.behind_nats import FAR_NODE, HOME, KINDS, ROAMER, host_of
from lispmob.lab.demo.nat_stage import NatStage
from lispmob.lab.ping import ping
from lispmob.wire.data_header import DataHeader
from lispmob.wire.ip_udp import build_ip_udp
from tests.lab.capture import Capture
from tests.wire.pcap import write_pcap

pytestmark = pytest.mark.netns

EI, AD, APD = "endpoint-independent", "address-dependent", "address-and-port-dependent"
WAYS = {
    "full-cone": (True, EI, EI),
    "address-filter": (True, EI, AD),
    "port-filter": (True, EI, APD),
    "symmetric": (True, AD, APD),  # at least: only two hosts are compared
    "double-nat": (True, EI, APD),
    "firewall": (False, None, None),
}


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatStage]:
    with NatStage(tmp_path_factory.mktemp("nats")) as stage:
        stage.wait_until_registered()
        yield stage


def found(nats: NatStage, host: str) -> dict[str, Any]:
    return nats.netcheck(host)


def found_in_time(nats: NatStage, host: str, *keys: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while any((seen := found(nats, host))[key] is None for key in keys) and time.monotonic() < deadline:
        time.sleep(0.5)
    return seen


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_netcheck_tells_what_is_in_the_way(nats: NatStage, kind: Any) -> None:
    has_nat, mapping, filtering = WAYS[kind.name]
    keys = ("mapping", "filtering") if has_nat else ("has_firewall",)

    seen = found_in_time(nats, host_of(kind), *keys)

    assert (seen["has_nat"], seen["mapping"], seen["filtering"]) == (has_nat, mapping, filtering)
    assert seen["rtr"] == "198.51.100.11"
    assert (seen["dialect"], seen["keepalive_s"]) == ("e19", 20.0)


def test_nodes_behind_nats_of_every_kind_reach_each_other(nats: NatStage) -> None:
    found_in_time(nats, host_of(KINDS[-1]), "has_firewall")

    assert nats.everywhere() == {kind.name: (0, True) for kind in KINDS}


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_what_we_send_through_a_nat_has_no_malformed_frame(nats: NatStage, tmp_path: Path) -> None:
    with Capture(nats.lab["gw-home"], "wan") as seen:
        nats.gateways[HOME.name].reboot()  # data, a stall or a message that opens a binding, a register and its answer
        ping(nats.lab[ROAMER], nats.identities[FAR_NODE].eid4, nats.identities[ROAMER].eid4, count=5)
        time.sleep(0.5)
    capture = tmp_path / "wan.pcap"
    write_pcap(capture, seen.packets)

    def frames(wanted: str) -> list[str]:
        command = ["tshark", "-r", str(capture), "-Y", wanted, "-d", "udp.port==4341,lisp-data"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()

    assert frames("lisp-data or lisp")
    # The ciphertext of a sealed packet (KK bits, which tshark calls reserved) may look like an inner header to it.
    assert frames("_ws.malformed and not lisp-data.flags.res > 0") == []


def test_data_that_a_stranger_sends_to_the_rtr_in_the_name_of_a_node_goes_nowhere(nats: NatStage) -> None:
    victim, far = nats.identities[ROAMER].eid4, nats.identities[FAR_NODE].eid4
    rtr = str(nats.lab.topology.address(nats.rtr_of(FAR_NODE), "eth0"))
    with (
        nats.lab[FAR_NODE].socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
        nats.lab["core"].socket(socket.AF_INET, socket.SOCK_DGRAM) as forging,
        nats.lab[ROAMER].socket(socket.AF_INET, socket.SOCK_DGRAM) as honest,
    ):
        listening.bind((str(far), 5000))
        listening.settimeout(2.0)
        honest.bind((str(victim), 5001))
        forged = DataHeader(instance_id=0).encode() + build_ip_udp(victim, 5001, far, 5000, b"forged")
        for _ in range(5):
            forging.sendto(forged, (rtr, 4341))
        time.sleep(0.3)
        honest.sendto(b"honest", (str(far), 5000))

        assert listening.recv(64) == b"honest"


def test_the_next_rtr_takes_over_when_one_dies(nats: NatStage) -> None:
    source, far = nats.identities[ROAMER].eid4, nats.identities[FAR_NODE].eid4
    nats.servers["rtr1"].daemon.kill()
    deadline = time.monotonic() + 40  # a silent node detects it only at its next keepalive
    answered = ping(nats.lab[ROAMER], far, source, count=1)
    while answered.lost and time.monotonic() < deadline:
        answered = ping(nats.lab[ROAMER], far, source, count=1)

    assert answered.lost == 0
    assert found(nats, ROAMER)["rtr"] == "198.51.100.12"
