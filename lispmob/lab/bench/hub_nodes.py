"""Nodes of a hub, for its bench: a process that registers and asks for many nodes, from some addresses of its own.

    registers   as lispd sends them: one EID-Prefix, one locator, an xTR-ID, HMAC-SHA-256
    requests    Map-Requests in ECMs, for one EID each

All messages of a phase are encoded before it begins. Answers are matched by their nonces.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from lispmob.lab.namespace import Namespace
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord

KEY: Final = Key(b"only-for-the-bench")
HUB: Final = IPv4Address("127.0.0.1")
SOURCES: Final = tuple(IPv4Address("127.0.0.2") + number for number in range(8))
FIRST_EID: Final = 10 << 24
_FIRST_RLOC: Final = (100 << 24) + (64 << 16)
_CONTROL_PORT: Final = 4342
_ASKING_PORT: Final = 50000
_ANSWER_S: Final = 1.0
_PRIVATE: Final = IPv4Address("192.168.1.2")


@dataclass(slots=True)
class Phase:
    """The result of sending some messages."""

    sent: int = 0
    answered: int = 0
    seconds: float = 0.0
    round_trips_ms: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the round trips; missing answers count as the longest."""
        times = sorted(self.round_trips_ms) + [1000 * _ANSWER_S] * (self.sent - self.answered)
        return times[min(len(times) - 1, int(0.99 * len(times)))]


def register(number: int, nonce: int, rloc: IPv4Address | None = None) -> bytes:
    """A Map-Register of a node."""
    eid = EidPrefix.host(IPv4Address(FIRST_EID + number))
    record = MappingRecord.of(eid, (Locator(rloc or IPv4Address(_FIRST_RLOC + number)),), ttl_min=10)
    message = MapRegister(
        nonce, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=(number + 1).to_bytes(16), site_id=bytes(8)
    )
    return sign(message, KEY)


def relayed(number: int, nonce: int) -> bytes:
    """A Map-Register of a node behind a NAT, through the hub as its RTR."""
    return EncapsulatedControl(
        _PRIVATE, _CONTROL_PORT, HUB, _CONTROL_PORT, register(number, nonce, HUB), to_rtr=True
    ).encode()


def request(number: int, nonce: int, itr: IPv4Address) -> bytes:
    """A Map-Request for a node."""
    eid = IPv4Address(FIRST_EID + number)
    asked = MapRequest(nonce, IPv4Address("10.255.255.254"), (itr,), (EidRecord.of(EidPrefix.host(eid)),))
    inner = IPv4Address("10.255.255.254")
    return EncapsulatedControl(inner, _ASKING_PORT, eid, _CONTROL_PORT, asked.encode()).encode()


class Nodes:
    """Sockets at all `SOURCES`: one port each for registers and for requests, which also receives their answers."""

    def __init__(self, space: Namespace) -> None:
        self._nonce = time.time_ns()
        self._open = contextlib.ExitStack()
        self._sockets = {port: [self._bind(space, source, port) for source in SOURCES] for port in (4342, _ASKING_PORT)}

    def close(self) -> None:
        """Close the sockets."""
        self._open.close()

    def registers(self, numbers: Sequence[int], *, is_relayed: bool = False) -> list[bytes]:
        """A Map-Register for each of these nodes."""
        made = relayed if is_relayed else register
        return [made(number, self._next()) for number in numbers]

    def requests(self, numbers: Sequence[int]) -> list[bytes]:
        """A Map-Request for each of these nodes, from all sources in turn."""
        return [request(one, self._next(), SOURCES[turn % len(SOURCES)]) for turn, one in enumerate(numbers)]

    def introduce(self) -> None:
        """Register all sources, so that the hub answers their requests as those of nodes."""
        made = [register((1 << 23) + turn, self._next(), rloc) for turn, rloc in enumerate(SOURCES)]
        self.run(made, window=1)

    def ask_once(self, number: int, wait_s: float) -> bool:
        """Whether a Map-Request is answered in time, with a mapping that has a locator."""
        one = self._sockets[_ASKING_PORT][0]
        one.sendto(request(number, self._next(), SOURCES[0]), (str(HUB), _CONTROL_PORT))
        if not select.select([one], [], [], wait_s)[0]:
            return False
        with contextlib.suppress(ConnectionRefusedError):
            answer = one.recv(2048)
            return answer[0] >> 4 == 2 and answer[16] > 0  # locator count of the first record
        return False

    def run(self, messages: Sequence[bytes], *, window: int, per_s: float | None = None) -> Phase:
        """Send all messages: at most `window` without an answer, and at the pace `per_s` if given."""
        phase, unanswered = Phase(), dict[int, float]()
        sockets = self._sockets[4342 if _is_register(messages[0]) else _ASKING_PORT]
        began_at = time.monotonic()
        for turn, message in enumerate(messages):
            due = began_at if per_s is None else began_at + turn / per_s
            self._receive(sockets, unanswered, phase, due, window)
            unanswered[_nonce_in(message)] = time.monotonic()
            sockets[turn % len(sockets)].sendto(message, (str(HUB), _CONTROL_PORT))
            phase.sent += 1
        self._receive(sockets, unanswered, phase, time.monotonic(), 1)
        phase.seconds = time.monotonic() - began_at
        return phase

    def _receive(
        self, sockets: list[socket.socket], unanswered: dict[int, float], phase: Phase, until: float, window: int
    ) -> None:
        """Receive answers until `until`, and until fewer than `window` are missing."""
        while True:
            is_full = len(unanswered) >= window
            wait_s = until - time.monotonic()
            if not is_full and wait_s <= 0:
                return
            readable, _, _ = select.select(sockets, [], [], _ANSWER_S if is_full else wait_s)
            if is_full and not readable:
                unanswered.clear()  # count them as lost
            for sock in readable:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sent_at = unanswered.pop(_nonce_in(sock.recv(2048)), None)
                        if sent_at is not None:
                            phase.answered += 1
                            phase.round_trips_ms.append(1000 * (time.monotonic() - sent_at))

    def _next(self) -> int:
        self._nonce += 1
        return self._nonce

    def _bind(self, space: Namespace, address: IPv4Address, port: int) -> socket.socket:
        one = self._open.enter_context(space.socket(socket.AF_INET, socket.SOCK_DGRAM))
        one.setblocking(False)
        one.bind((str(address), port))
        return one


def _is_register(message: bytes) -> bool:
    return message[0] >> 4 == 3 or (message[0] >> 4 == 8 and bool(message[1] & 0x40))


def _nonce_in(message: bytes) -> int:
    """The nonce of a message, of the one in an ECM (behind 4 octets, IPv4, UDP), or in data (behind 8, IPv4, UDP)."""
    at = {8: 32, 0: 36}.get(message[0] >> 4, 0)
    return int.from_bytes(message[at + 4 : at + 12])
