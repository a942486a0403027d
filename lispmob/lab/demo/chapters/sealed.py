"""Sealed: what two nodes say to each other, seen by somebody on the line, who also sends it a second time."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Final

from lispmob.lab import move as moves
from lispmob.lab.demo.stage import A, B, Stage
from lispmob.lab.demo_service import Identity
from lispmob.lab.move import Kind, Move
from lispmob.lab.ping import ping
from lispmob.lab.report import fact
from lispmob.lab.tcp_stream import TcpStream

CLAIMS: Final = ("sealed.both-ways", "sealed.tcp-alive", "sealed.replay.accepted")
_MARK: Final = b"a line that nobody on the way shall read"
_PORT: Final = 47_400
_DATA_PORT: Final = 4341
_ETH_P_ALL: Final = 3
_HEADERS: Final = {4: 20, 6: 40}
_WAIT_S: Final = 5.0
_WATCH_S: Final = 1.0
_REPLAYS: Final = 20


def play(stage: Stage) -> None:
    """Nothing was configured for it: keys come from the hub."""
    is_sealed = wait_until_sealed(stage)
    uplink = stage.lab.topology.host("b").uplinks[0].interface
    with stage.lab["b"].socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as line:
        line.bind((uplink, _ETH_P_ALL))
        heard = _say(stage, A, B) + _say(stage, B, A)
        seen = _read(line)
    in_clear = sum(_MARK in packet for packet in seen)
    stage.screen.say(f"  {heard} of 2 lines heard; of {len(seen)} packets on the line {in_clear} show one")
    ok = is_sealed and heard == 2 and in_clear == 0
    stage.report.check(fact("sealed.both-ways", ok=ok, value=in_clear, unit="packets in clear", goal=0))
    _move(stage)
    _replay(stage, seen)


def _move(stage: Stage) -> None:
    with TcpStream(stage.party(A), stage.party(B), port=_PORT) as stream:
        for kind in (Kind.ADDRESS_REMOVED, Kind.RESTORED):
            moves.perform(stage.lab, Move(kind, "a", "wlan0"))
            time.sleep(_WATCH_S)
        result = stream.finish()
    stage.report.check(fact("sealed.tcp-alive", ok=result.is_alive, value=result.returned, unit="octets returned"))


def _replay(stage: Stage, seen: list[bytes]) -> None:
    """The hub's machine sends the last sealed packet for b again and again."""
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
    """Nodes a and b have a session; False: not in time."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        ping(stage.lab["a"], B.eid4, A.eid4, count=1)
        if all(_seals(stage, one, other) for one, other in ((A, B), (B, A))):
            return True
    return False


def _seals(stage: Stage, one: Identity, other: Identity) -> bool:
    keys = stage.nodes[one.name].lispctl("key") or {}
    peers: list[dict[str, Any]] = keys.get("peers", [])
    return any(peer["prefix"] == f"{other.eid4}/32" and peer["seal"]["state"] == "sealed" for peer in peers)


def _replays(stage: Stage) -> int:
    """How many b has counted; a busy node may not answer at once."""
    for _ in range(10):
        if (counters := stage.nodes["b"].lispctl("counters")) is not None:
            return int(counters["datapath"]["data_replay"])
    return 0


def _say(stage: Stage, source: Identity, destination: Identity) -> int:
    """A line in a datagram; 1 when it was heard."""
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


def _read(line: socket.socket) -> list[bytes]:
    """What has passed until now."""
    line.setblocking(False)
    found: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while len(found) < 10_000:
            found.append(line.recv(65_535))
    return found


def _sealed(packet: bytes) -> tuple[str, bytes] | None:
    """Outer destination and UDP payload of a sealed packet (KK = 1); None for any other one."""
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
