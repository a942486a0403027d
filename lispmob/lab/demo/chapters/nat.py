"""NAT: nodes behind NATs of every kind, moves between them, a NAT that loses its bindings, an RTR that is killed."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from lispmob.lab import behind_nats
from lispmob.lab import move as moves
from lispmob.lab.behind_nats import FAR_NODE, HOME, HOTEL, KINDS, ROAMER, ROUND_TRIP_S
from lispmob.lab.demo.chapters.sealed import read_all
from lispmob.lab.demo.nat_stage import NatStage
from lispmob.lab.demo.stage import Stage
from lispmob.lab.move import Kind, Move
from lispmob.lab.packet_log import PacketLog
from lispmob.lab.probe import ProbeStream
from lispmob.lab.report import fact, figure
from lispmob.lab.tcp_stream import TcpStream

CLAIMS: Final = (
    *(f"nat.{kind.name}.both-ways" for kind in KINDS),
    "sealed.rtr.plaintext-seen",
    "nat.move.tcp-alive",
    "nat.new-uplink.rtts",
    "nat.reboot.recovery",
    "nat.changed-address.recovery",
    "nat.rtr-restart.recovery",
    "nat.rtr-failover.recovery",
)
_WATCH_S: Final = 1.2  # after each event
_RESTART_WATCH_S: Final = 3.3  # a little more than the goal
_FAILOVER_WATCH_S: Final = 4.0
_NEW_UPLINK_GOAL: Final = 3 + 0.020 / ROUND_TRIP_S  # round trips to the Map-Server
_REBOOT_GOAL_MS: Final = 2 * ROUND_TRIP_S * 1000 + 100
_PROBE_INTERVAL_S: Final = 1.0
_GOALS_MS: Final = {
    "reboot": _REBOOT_GOAL_MS,
    "changed-address": _REBOOT_GOAL_MS,
    "rtr-restart": 3 * _PROBE_INTERVAL_S * 1000,
    "rtr-failover": 3 * _PROBE_INTERVAL_S * 1000,
}
_RATE_HZ: Final = 200.0
_SEAL_WAIT_S: Final = 8.0
_MARK: Final = b"a line that no RTR shall read"
_EVERYTHING: Final = (socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
_OTHER_PUBLIC: Final = IPv4Address("203.0.113.222")


def play(stage: Stage) -> None:
    """Play in a separate laboratory, so that the other chapters are not disturbed."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lispmob-nat-") as directory, NatStage(Path(directory)) as nats:
        nats.wait_until_registered()
        stage.screen.say(f"  {len(nats.nodes)} nodes behind NATs registered after {time.monotonic() - began:.1f} s")
        _play_sealed(stage, nats)
        with TcpStream(nats.party(ROAMER), nats.party(FAR_NODE)) as tcp:
            _play_events(stage, nats)
            result = tcp.finish()
        check = fact("nat.move.tcp-alive", ok=result.is_alive, value=result.returned, unit="octets returned")
        stage.report.check(check)


def _play_sealed(stage: Stage, nats: NatStage) -> None:
    """Two nodes behind NATs exchange data through the RTRs, and the RTRs' cables are read."""
    ends = {name: nats.identities[name].eid4 for name in (ROAMER, FAR_NODE)}
    deadline = time.monotonic() + _SEAL_WAIT_S
    while not (is_sealed := nats.seals(ROAMER, FAR_NODE) and nats.seals(FAR_NODE, ROAMER)):
        if time.monotonic() > deadline:
            break
        nats.say(ROAMER, FAR_NODE, b"a first word")
        nats.say(FAR_NODE, ROAMER, b"and one back")
    with contextlib.ExitStack() as open_:
        lines = [open_.enter_context(nats.lab[server].socket(*_EVERYTHING)) for server in behind_nats.SERVERS]
        heard = nats.say(ROAMER, FAR_NODE, _MARK) + nats.say(FAR_NODE, ROAMER, _MARK)
        seen = [packet for line in lines for packet in read_all(line)]
    passed = [packet for packet in seen if all(eid.packed in packet for eid in ends.values())]
    in_clear = sum(_MARK in packet for packet in seen)
    stage.screen.say(f"  {heard} of 2 lines heard through an RTR; of {len(passed)} packets there {in_clear} show one")
    ok = is_sealed and heard == 2 and len(passed) >= 2 and in_clear == 0
    check = fact("sealed.rtr.plaintext-seen", ok=ok, value=in_clear, unit="packets in clear", goal=0)
    stage.report.check(check)


def _play_kinds(stage: Stage, nats: NatStage) -> None:
    for name, (lost, has_tcp) in nats.everywhere().items():
        stage.screen.say(f"  {name}: {lost} pings lost, TCP {'works' if has_tcp else 'FAILS'} both ways")
        check = fact(f"nat.{name}.both-ways", ok=lost == 0 and has_tcp, value=lost, unit="packets lost", goal=0)
        stage.report.check(check)


def _play_events(stage: Stage, nats: NatStage) -> None:
    """One probe stream during all events."""
    marks: dict[str, tuple[float, float]] = {}

    def move(network: str, leaves: str, watch_s: float = _WATCH_S) -> tuple[float, float]:
        moment = moves.perform(nats.lab, Move(Kind.NETWORK_CHANGED, ROAMER, "wlan0", network, leaves))
        time.sleep(watch_s)
        return moment.ended_at, time.monotonic()

    def event(what: Callable[[], object], watch_s: float = _WATCH_S) -> tuple[float, float]:
        at = time.monotonic()
        what()
        time.sleep(watch_s)
        return at, time.monotonic()

    with ProbeStream(nats.party(ROAMER), nats.party(FAR_NODE), rate_hz=_RATE_HZ) as probes:
        time.sleep(0.5)
        marks["to-public"] = move("cafe", HOME.name)
        marks["new-uplink"] = move(HOTEL.name, "cafe")
        marks["back-home"] = move(HOME.name, HOTEL.name)
        home = nats.gateways[HOME.name]
        marks["reboot"] = event(home.reboot)
        marks["changed-address"] = event(lambda: home.renumber(_OTHER_PUBLIC))
        _play_kinds(stage, nats)  # before an RTR is killed: an idle node notices that only a keepalive later
        used = nats.rtr_of(ROAMER)
        marks["rtr-restart"] = event(lambda: nats.restart_server(used), _RESTART_WATCH_S)
        used = nats.rtr_of(ROAMER)
        marks["rtr-failover"] = event(lambda: nats.servers[used].daemon.kill(), _FAILOVER_WATCH_S)
        logs = probes.finish()
    gaps = {name: _gap_ms(logs, *window) for name, window in marks.items()}
    for name, gap in gaps.items():
        stage.report.event("nat-event", marks[name][0], name=name, gap_ms=gap)
        stage.screen.say(f"  {name}: open both ways again after {'never' if gap is None else f'{gap:.0f} ms'}")
    new = gaps["new-uplink"]
    rtts = None if new is None else new / 1000 / ROUND_TRIP_S
    stage.report.check(figure("nat.new-uplink.rtts", rtts, "RTT", _NEW_UPLINK_GOAL))
    for name, goal_ms in _GOALS_MS.items():
        stage.report.check(figure(f"nat.{name}.recovery", gaps[name], "ms", goal_ms))


def _gap_ms(logs: tuple[PacketLog, PacketLog], began_at: float, ended_at: float) -> float | None:
    """The time from the event until both directions carry packets steadily again, within the window."""
    worst = 0.0
    for log in logs:
        inside = PacketLog(log.between(float("-inf"), ended_at - 0.3))  # the last ones may still be in flight
        reopened = inside.reopened_at(began_at, began_at)
        if reopened is None:
            return None
        worst = max(worst, reopened - began_at)
    return round(worst * 1000, 2)
