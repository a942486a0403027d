"""Sealed: the packets of two nodes, as an eavesdropper on the line sees them, who also replays one."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from lispmob.lab import move as moves
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.demo_service import Identity
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.probe import ProbeStream
from lispmob.lab.report import fact
from lispmob.lab.tcp_stream import TcpStream

CLAIMS: Final = (
    "sealed.both-ways",
    "sealed.tcp-alive",
    "sealed.rekey.lost",
    "sealed.replay.accepted",
    "copies.lost",
)
_MARK: Final = b"a line that no host on the path may read"
_PORT: Final = 47_400
_DATA_PORT: Final = 4341
_ETH_P_ALL: Final = 3
_HEADERS: Final = {4: 20, 6: 40}
_WAIT_S: Final = 5.0
_WATCH_S: Final = 1.0
_REPLAYS: Final = 20
_RATE_HZ: Final = 200.0
_REKEYS: Final = 3
_REKEY_PAUSE_S: Final = 1.1  # younger keys than a second are not replaced
_LOSS: Final = 0.2
_COPIES: Final = "steering:\n  rules:\n    - {name: calls, protocol: [udp], copies: 2}\n"


def play(stage: Stage) -> None:
    """Nothing is configured for it: the nodes learn the keys from the hub."""
    is_sealed = wait_until_sealed(stage)
    uplink = stage.lab.topology.host("b").uplinks[0].interface
    with stage.lab["b"].socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as line:
        line.bind((uplink, _ETH_P_ALL))
        heard = _say(stage, A, B) + _say(stage, B, A)
        seen = read_all(line)
    in_clear = sum(_MARK in packet for packet in seen)
    stage.screen.say(f"  {heard} of 2 lines heard; of {len(seen)} packets on the line {in_clear} show one")
    ok = is_sealed and heard == 2 and in_clear == 0
    stage.report.check(fact("sealed.both-ways", ok=ok, value=in_clear, unit="packets in clear", goal=0))
    _replay(stage, seen)
    _rekey(stage)
    _move(stage)
    _copies(stage)


def _move(stage: Stage) -> None:
    with TcpStream(stage.party(A), stage.party(B), port=_PORT) as stream:
        for kind in (Kind.ADDRESS_REMOVED, Kind.RESTORED):
            moves.perform(stage.lab, Move(kind, "a", "wlan0"))
            time.sleep(_WATCH_S)
        result = stream.finish()
    stage.report.check(fact("sealed.tcp-alive", ok=result.is_alive, value=result.returned, unit="octets returned"))


def _rekey(stage: Stage) -> None:
    """Change the keys, on alternating nodes, while packets are sent in both directions."""
    made = 0
    with ProbeStream(stage.party(A), stage.party(B), rate_hz=_RATE_HZ) as probes:
        for name in ("ab" * _REKEYS)[:_REKEYS]:
            time.sleep(_REKEY_PAUSE_S)
            told = stage.nodes[name].lispctl("key", "--rekey")
            made += told is not None and told["count"] > 0
        time.sleep(0.5)
        logs = probes.finish()
    lost = sum(packet.arrived_at is None for log in logs for packet in log.packets)
    stage.report.check(fact("sealed.rekey.lost", ok=made == _REKEYS and lost == 0, value=lost, unit="packets", goal=0))
    stage.screen.say(f"  keys changed {made} times under {sum(len(log.packets) for log in logs)} packets: {lost} lost")


def _copies(stage: Stage) -> None:
    """Node a sends each packet by both uplinks, while the line of the better one loses a fifth of its packets."""
    network = stage.lab.topology.network(stage.lab.topology.host("a").uplinks[0].network)
    stage.reconfigure(A, _COPIES)
    stage.lab.impair(network.name, replace(network.line, loss=_LOSS))
    try:
        has_copies = _wait_until(lambda: any("a copy of each packet" in step for step in _steps(stage)))
        before = _counter(stage, "a", "out_copies")
        with ProbeStream(stage.party(A), stage.party(B), rate_hz=_RATE_HZ) as probes:
            time.sleep(2.0)
            out, back = probes.finish()
        sent = _counter(stage, "a", "out_copies") - before
    finally:
        stage.lab.impair(network.name, network.line)
        stage.reconfigure(A, "")
    lost, alone = (sum(packet.arrived_at is None for packet in log.packets) for log in (out, back))
    ok = has_copies and lost == 0 and sent > 0
    stage.report.check(fact("copies.lost", ok=ok, value=lost, unit="packets", goal=0))
    stage.screen.say(f"  by two uplinks, one of which loses a fifth: {lost} of {len(out.packets)} lost, {sent} copies")
    stage.screen.say(f"  the other way, where each packet leaves once: {alone} of {len(back.packets)} lost")


def _steps(stage: Stage) -> list[str]:
    why = stage.nodes["a"].lispctl("why", "udp", f"{B.eid4}:47000") or {}
    return [str(step["text"]) for step in why.get("steps", [])]


def _replay(stage: Stage, seen: list[bytes]) -> None:
    """The hub's machine replays the last sealed packet for b."""
    own = {
        str(subnet.ip): subnet.ip
        for up in stage.lab.topology.host("b").uplinks
        for subnet in stage.lab.topology.addresses("b", up.interface)
    }
    sealed = [(to, octets) for packet in seen if (found := _sealed(packet)) for to, octets in [found] if to in own]
    if not sealed:
        stage.report.check(fact("sealed.replay.accepted", ok=False, value=0, unit="packets", goal=0))
        return
    to, octets = sealed[-1]
    before = _replays(stage)
    family = socket.AF_INET if own[to].version == 4 else socket.AF_INET6
    with stage.lab["hub"].socket(family, socket.SOCK_DGRAM) as attacker:
        for _ in range(_REPLAYS):
            attacker.sendto(octets, (to, _DATA_PORT))
    deadline = time.monotonic() + _WAIT_S
    while (counted := _replays(stage) - before) < _REPLAYS and time.monotonic() < deadline:
        time.sleep(0.1)
    accepted = _REPLAYS - counted
    stage.report.check(fact("sealed.replay.accepted", ok=accepted == 0, value=accepted, unit="packets", goal=0))
    stage.screen.say(f"  a packet sent {_REPLAYS} times again: {accepted} accepted")


def wait_until_sealed(stage: Stage) -> bool:
    """Wait until nodes a and b have a session; returns False after a timeout."""

    def seals() -> bool:
        ping(stage.lab["a"], B.eid4, A.eid4, count=1)
        return all(_seals(stage, one, other) for one, other in ((A, B), (B, A)))

    return _wait_until(seals)


def _wait_until(is_so: Callable[[], bool]) -> bool:
    """Returns False after a timeout."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.05)
    return False


def _seals(stage: Stage, one: Identity, other: Identity) -> bool:
    keys = stage.nodes[one.name].lispctl("key") or {}
    peers: list[dict[str, Any]] = keys.get("peers", [])
    return any(peer["prefix"] == f"{other.eid4}/32" and peer["seal"]["state"] == "sealed" for peer in peers)


def _replays(stage: Stage) -> int:
    return _counter(stage, "b", "data_replay")


def _counter(stage: Stage, node: str, name: str) -> int:
    """A counter of a node's datapath; a busy node may not answer at once."""
    for _ in range(10):
        if (counters := stage.nodes[node].lispctl("counters")) is not None:
            return int(counters["datapath"][name])
    return 0


def _say(stage: Stage, source: Identity, destination: Identity) -> int:
    """Send a line in a datagram; returns 1 when it was received."""
    with (
        stage.lab[destination.name].socket(socket.AF_INET, socket.SOCK_DGRAM) as listening,
        stage.lab[source.name].socket(socket.AF_INET, socket.SOCK_DGRAM) as speaking,
    ):
        listening.bind((str(destination.eid4), _PORT))
        listening.settimeout(2.0)
        speaking.bind((str(source.eid4), 0))
        speaking.sendto(_MARK, (str(destination.eid4), _PORT))
        try:
            return int(listening.recv(1000) == _MARK)
        except TimeoutError:
            return 0


def read_all(line: socket.socket) -> list[bytes]:
    """Read all packets so far."""
    line.setblocking(False)
    found: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while len(found) < 10_000:
            found.append(line.recv(65_535))
    return found


def _sealed(packet: bytes) -> tuple[str, bytes] | None:
    """Outer destination and UDP payload of a sealed packet (KK = 1); None for any other packet."""
    version = packet[0] >> 4 if packet else 0
    if version not in _HEADERS:
        return None
    at = _HEADERS[version]
    udp = packet[at : at + 8]
    is_udp = packet[9 if version == 4 else 6] == socket.IPPROTO_UDP
    if not is_udp or len(packet) < at + 16 or int.from_bytes(udp[2:4]) != _DATA_PORT or packet[at + 8] & 3 != 1:
        return None
    octets = packet[16:20] if version == 4 else packet[24:40]
    return socket.inet_ntop(socket.AF_INET if version == 4 else socket.AF_INET6, octets), packet[at + 8 :]
