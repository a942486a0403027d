"""A hub with 10,000 EIDs under a flood from one source: how late its timers are, and which nodes it still answers.

       nodes ── hub ── flooder         each in a network namespace of its own, two cables

The nodes are one host that registers all EIDs, half of them as from behind NATs, and refreshes them at an even pace.
The flood is junk first, then the most expensive messages: well-formed, but with a wrong key.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any, Final

from lispmob.closing import Closing
from lispmob.lab import link
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Daemon, ProcessFailed, module
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord

EIDS: Final = 10_000
JUNK_PER_S: Final = 60_000
WORST_PER_S: Final = 1_000
REGISTERS_PER_S: Final = 100  # of 10,000 long-registered nodes, half of them behind NATs
PHASE_S: Final = 10.0
_WINDOW: Final = 16
_PAUSE_S: Final = 5.0  # after that the hub's limits of each node are full again
ANSWER_S: Final = 1.0  # how long a node waits before it repeats
_PATIENCE_S: Final = 60.0
_CONTROL_PORT: Final = 4342
_KEY: Final = Key(b"only-for-the-bench", algorithm=Algorithm.HMAC_SHA_256_128)
_NOBODYS: Final = Key(b"nobody's", algorithm=Algorithm.HMAC_SHA_256_128)
_HUB: Final = (IPv4Address("198.18.1.1"), IPv4Address("198.18.2.1"))
_NODES: Final = IPv4Address("198.18.1.10")
_FLOODER: Final = IPv4Address("198.18.2.10")
_PRIVATE: Final = IPv4Address("192.168.1.2")


@dataclass
class _Sent:
    """Registers in flight, by nonce: when they were sent."""

    open: dict[int, float]
    answered: int = 0
    lost: int = 0


class Nodes:
    """10,000 registrations that one sender refreshes; each register has to be answered within a second."""

    def __init__(self, space: Namespace) -> None:
        self._socket = space.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((str(_NODES), _CONTROL_PORT))
        self._socket.settimeout(0.0005)
        self._nonces = count(time.time_ns())
        self._next = 0
        self._sent = _Sent({})
        self.round_trips_ms: list[float] = []

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def fill(self) -> None:
        """Register every EID once, a few at a time. Raises ProcessFailed when many are not answered."""
        self._sent, lost = _Sent({}), 0
        for _ in range(EIDS):
            self._send()
            deadline = time.monotonic() + ANSWER_S
            while len(self._sent.open) >= _WINDOW and time.monotonic() < deadline:
                self._receive(time.monotonic())
            if len(self._sent.open) >= _WINDOW:
                lost += len(self._sent.open)
                self._sent.open.clear()
        if lost > EIDS / 100:
            raise ProcessFailed(f"{lost} registers were not answered, without a flood")

    def run(self, per_s: int, number: int) -> float:
        """Send `number` registers at this pace; returns the percentage that was not answered in time."""
        self._sent, self.round_trips_ms = _Sent({}), []
        start = time.monotonic()
        for sent in range(number):
            self._send()
            self._receive(start + (sent + 1) / per_s)
        self._receive(time.monotonic() + ANSWER_S)
        return 100 * (number - self._sent.answered) / number

    def _send(self) -> None:
        nonce = next(self._nonces)
        payload = self._register(self._next, nonce)
        self._next = (self._next + 1) % EIDS
        self._sent.open[nonce] = time.monotonic()
        self._socket.sendto(payload, (str(_HUB[0]), _CONTROL_PORT))

    def _receive(self, until: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                octets = self._socket.recv(4096)
                # A Map-Notify, or a data packet with one behind its header, IPv4 and UDP.
                at = 36 if octets[0] >> 4 == 0 else 0
                sent_at = self._sent.open.pop(int.from_bytes(octets[at + 4 : at + 12]), None)
                if sent_at is not None and time.monotonic() - sent_at <= ANSWER_S:
                    self._sent.answered += 1
                    self.round_trips_ms.append(1000 * (time.monotonic() - sent_at))
            if time.monotonic() >= until:
                return

    def _register(self, number: int, nonce: int) -> bytes:
        eid = EidPrefix.host(IPv4Address((10 << 24) + (1 << 16) + number))
        is_relayed = bool(number % 2)
        record = MappingRecord.of(eid, (Locator(_HUB[0] if is_relayed else _NODES),), ttl_min=1440)
        xtr_id = number.to_bytes(16) if is_relayed else None
        message = MapRegister(
            nonce, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=xtr_id, uses_ttl=True
        )
        payload = sign(message, _KEY)
        if not is_relayed:
            return payload
        return EncapsulatedControl(_PRIVATE, _CONTROL_PORT, _HUB[0], _CONTROL_PORT, payload, to_rtr=True).encode()


class FloodedHub(Closing):
    """The hub, its nodes, and the flooder."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._open = contextlib.ExitStack()
        try:
            spaces = self._open.enter_context(NamespaceSet("flood-"))
            self._hub, self._near, self._far = (spaces.make(word) for word in ("hub", "nodes", "flooder"))
            self._lay_cables()
            self._log = directory / "hub.log"
            path = directory / "hub.conf"
            path.touch(mode=0o600)
            path.write_text(_configuration(directory))
            self._daemon = Daemon("hub", self._hub, module("lispmob.hub.bench.measure", str(path)), self._log)
            self._open.callback(self._daemon.stop)
            self.nodes = Nodes(self._near)
            self._open.callback(self.nodes.close)
            self._wait_until_listening()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything. Idempotent."""
        self._open.close()

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not self._hub.run("ss", "-lunH", f"sport = :{_CONTROL_PORT}").strip():
            self._daemon.check()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"the hub does not listen\n{self._daemon.log_tail()}")
            time.sleep(0.05)

    def settle(self) -> None:
        """Register all EIDs, and wait until the resulting work is done. Raises ProcessFailed."""
        self.nodes.fill()
        time.sleep(3)

    def phases(self) -> Iterator[tuple[str, Figures]]:
        """Quiet, junk, and each of the most expensive messages in turn."""
        yield "hub-quiet", self._phase(None)
        yield "hub-junk", self._phase((JUNK_PER_S, "junk"))
        for name, payload in worst_messages().items():
            yield f"hub-{name}", self._phase((WORST_PER_S, payload.hex()))

    def _phase(self, flood: tuple[int, str] | None) -> Figures:
        time.sleep(_PAUSE_S)
        self._figures()  # discard earlier figures
        flooding = contextlib.nullcontext() if flood is None else self._flood(*flood)
        with flooding:
            lost = self.nodes.run(REGISTERS_PER_S, int(REGISTERS_PER_S * PHASE_S))
            late = self._figures()["late-ms"]
        return {
            "flood-late": (late["median"], "ms"),
            "flood-late-worst": (late["worst"], "ms"),
            "flood-lost": (lost, "%"),
            "flood-answer": (statistics.median(self.nodes.round_trips_ms or [0.0]), "ms"),
        }

    @contextlib.contextmanager
    def _flood(self, per_s: int, kind: str) -> Iterator[None]:
        command = module(
            "lispmob.lab.bench.flooding.flooder", str(_HUB[1]), str(per_s), str(PHASE_S + 2 * ANSWER_S), kind
        )
        with subprocess.Popen(self._far.argv(*command), stdout=subprocess.PIPE, text=True) as process:
            try:
                time.sleep(0.5)
                yield
                told, _ = process.communicate(timeout=_PATIENCE_S)
            finally:
                process.kill()
        if float(told) < 0.9 * per_s:
            print(f"the flooder managed no more than {float(told):.0f} packets a second", flush=True)

    def _figures(self) -> Any:
        before = self._log.read_text().count("late-ms")
        os.kill(self._daemon.pid, signal.SIGUSR2)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            found = [line for line in self._log.read_text().splitlines() if '"late-ms"' in line]
            if len(found) > before:
                return json.loads(found[-1])
            if time.monotonic() > deadline:
                raise ProcessFailed(f"the hub does not answer\n{self._daemon.log_tail()}")
            time.sleep(0.02)

    def _lay_cables(self) -> None:
        for space, number, address in ((self._near, 0, _NODES), (self._far, 1, _FLOODER)):
            far = f"to-{number}"
            link.apply(space, [link.veth("eth0", self._hub, far)])
            link.apply(self._hub, [f"link set {far} up", f"addr add {_HUB[number]}/24 dev {far}"])
            link.apply(space, ["link set eth0 up", f"addr add {address}/24 dev eth0"])


def worst_messages() -> dict[str, bytes]:
    """The most expensive message of each kind that a sender without a key can send."""
    evil, eid = IPv4Address("66.66.66.66"), EidPrefix.parse("10.1.0.1/32")
    records = tuple(
        MappingRecord.of(EidPrefix.host(IPv4Address((10 << 24) + (1 << 16) + number)), [Locator(evil)] * 1)
        for number in range(32)
    )
    register = sign(MapRegister(1, records, want_map_notify=True, xtr_id=bytes(range(16))), _NOBODYS)
    relayed = EncapsulatedControl(_PRIVATE, _CONTROL_PORT, _HUB[1], _CONTROL_PORT, register, to_rtr=True)
    rlocs = tuple(IPv4Address(int(_FLOODER) + number) for number in range(32))
    eids = tuple(EidRecord.of(EidPrefix.parse(f"11.{number}.0.1/32")) for number in range(4))
    asked = MapRequest(7, eid.address, rlocs, eids)
    request = EncapsulatedControl(evil, _CONTROL_PORT, eid.address, _CONTROL_PORT, asked.encode())
    probe = MapRequest(7, None, rlocs, eids[:1], is_probe=True)
    return {
        "register": register,
        "relayed-register": relayed.encode(),
        "map-request": request.encode(),
        "probe": probe.encode(),
    }


def _configuration(directory: Path) -> str:
    return f"""\
sites:
  - name: all
    eids: [10.0.0.0/8]
    key: {_KEY.secret.decode()}
    accept-more-specifics: yes
rtr: {{enabled: yes}}
state-file: {directory}/hub.sqlite
control-socket: {directory}/lisphub.sock
log: {{level: warning}}
"""
