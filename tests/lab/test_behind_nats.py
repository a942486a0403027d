"""Nodes behind NATs of every kind, as a user runs them, with real packets."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab import move as moves
from lispmob.lab.behind_nats import FAR_NODE, HOME, HOTEL, KINDS, ROAMER, host_of
from lispmob.lab.demo.nat_stage import NatStage
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.tcp_stream import TcpStream

pytestmark = pytest.mark.netns

EI, AD, APD = "endpoint-independent", "address-dependent", "address-and-port-dependent"
WAYS = {
    "full-cone": (True, EI, EI),
    "address-filter": (True, EI, AD),
    "port-filter": (True, EI, APD),
    "symmetric": (True, AD, APD),  # at least: two hosts are all that is compared
    "double-nat": (True, EI, APD),
    "firewall": (False, None, None),
}


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatStage]:
    with NatStage(tmp_path_factory.mktemp("nats")) as stage:
        stage.wait_until_registered()
        yield stage


def found(nats: NatStage, host: str) -> dict[str, Any]:
    answer = nats.nodes[host].lispctl("netcheck")
    assert answer is not None
    return dict(answer["entries"][0])


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


def test_a_tcp_stream_lives_through_moves_between_nats_and_the_open_and_a_nat_that_forgets(nats: NatStage) -> None:
    with TcpStream(nats.party(ROAMER), nats.party(FAR_NODE)) as tcp:
        time.sleep(0.5)
        for network, leaves in (("cafe", HOME.name), (HOTEL.name, "cafe"), (HOME.name, HOTEL.name)):
            moves.perform(nats.lab, Move(Kind.NETWORK_CHANGED, ROAMER, "wlan0", network, leaves))
            time.sleep(1.5)
        nats.gateways[HOME.name].reboot()
        time.sleep(1.5)
        result = tcp.finish()

    assert result.is_alive, result


def test_what_we_send_through_a_nat_has_no_malformed_frame(nats: NatStage, tmp_path: Path) -> None:
    capture = tmp_path / "wan.pcap"
    gateway = nats.lab["gw-home"]
    tcpdump = subprocess.Popen(
        gateway.argv("tcpdump", "-i", "wan", "-U", "-w", str(capture), "udp"), stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.5)
        nats.gateways[HOME.name].reboot()  # data, a stall or a poke, a register and its answer
        ping(nats.lab[ROAMER], nats.identities[FAR_NODE].eid4, nats.identities[ROAMER].eid4, count=5)
        time.sleep(0.5)
    finally:
        tcpdump.terminate()
        tcpdump.wait(5)

    def frames(wanted: str) -> list[str]:
        command = ["tshark", "-r", str(capture), "-Y", wanted, "-d", "udp.port==4341,lisp-data"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.splitlines()

    assert frames("lisp-data or lisp")
    assert frames("_ws.malformed") == []


def test_the_next_rtr_takes_over_when_one_dies(nats: NatStage) -> None:
    source, far = nats.identities[ROAMER].eid4, nats.identities[FAR_NODE].eid4
    nats.servers["rtr1"].daemon.kill()
    deadline = time.monotonic() + 40  # whoever is silent finds out at his next keepalive only
    answered = ping(nats.lab[ROAMER], far, source, count=1)
    while answered.lost and time.monotonic() < deadline:
        answered = ping(nats.lab[ROAMER], far, source, count=1)

    assert answered.lost == 0
    assert found(nats, ROAMER)["rtr"] == "198.51.100.12"
