"""Many nodes in one process, for hubs that share a registry: they register, move, and fail over to other hubs.

A node has a hub of its own, and uses the next one when that does not answer: after 1 s, then 2, then 4.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from lispmob.lab.namespace import Namespace
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord

KEY: Final = Key(b"only-for-the-demonstration")
FIRST_EID: Final = 10 << 24
FIRST_RLOC: Final = (100 << 24) + (64 << 16)
SOURCE: Final = "127.0.1.1"
RETRIES_S: Final = (1.0, 2.0, 4.0, 4.0)
BUCKETS: Final = 1024
_PORT: Final = 4342
_INNER: Final = IPv4Address("10.255.255.254")
_MAP_REPLY: Final = 2
_MAP_NOTIFY: Final = 4


@dataclass(slots=True)
class Node:
    """A node: the last registration that it sent, and the last that was acknowledged."""

    number: int
    hub: int
    rloc: int
    acknowledged: int | None = None
    waiting_since: float | None = None
    retry_at: float = 0.0
    tries: int = 0
    nonce: int = 0
    longest_wait_s: float = 0.0

    @property
    def eid(self) -> IPv4Address:
        """Its EID."""
        return IPv4Address(FIRST_EID + self.number)

    @property
    def bucket(self) -> str:
        """The hash tag of the registry's bucket that contains its EID."""
        name = struct.pack(">IB", 0, 32) + self.eid.packed
        return str(crc_hqx(name, 0) % BUCKETS)


class Fleet:
    """`hubs` are the addresses to register at."""

    def __init__(self, space: Namespace, hubs: Sequence[str], count: int) -> None:
        self.hubs = list(hubs)
        self.nodes = [Node(number, number % len(hubs), FIRST_RLOC + number) for number in range(count)]
        self._nonce = time.time_ns()
        self._by_nonce: dict[int, Node] = {}
        self._replies: dict[int, MapReply | None] = {}
        self._turn = 0
        self._socket = space.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((SOURCE, _PORT))
        self.acknowledgements: list[tuple[float, Node]] = []

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def register(self, node: Node, *, move: bool = False) -> None:
        """Make a node register now, with another locator if it moves."""
        if move:
            node.rloc = FIRST_RLOC + (node.rloc - FIRST_RLOC + 100_000) % (1 << 22)
        node.waiting_since, node.tries = time.monotonic(), 0
        self._send(node)

    def message(self, node: Node, nonce: int) -> bytes:
        """Its Map-Register."""
        record = MappingRecord.of(EidPrefix.host(node.eid), (Locator(IPv4Address(node.rloc)),), ttl_min=10)
        register = MapRegister(
            nonce,
            (record,),
            proxy_map_reply=True,
            want_map_notify=True,
            xtr_id=(node.number + 1).to_bytes(16),
            site_id=bytes(8),
        )
        return sign(register, KEY)

    def run(self, seconds: float, per_s: float, nodes: Sequence[Node] | None = None) -> None:
        """Move nodes in turn, `per_s` a second, and repeat registers that are not acknowledged."""
        among = list(nodes or self.nodes)
        began_at = time.monotonic()
        done = 0
        while (now := time.monotonic()) < began_at + seconds:
            while done < (now - began_at) * per_s:
                node = among[self._turn % len(among)]
                self._turn += 1
                done += 1
                if node.waiting_since is None:
                    self.register(node, move=True)
            self.step(0.005)

    def settle(self, patience_s: float) -> bool:
        """Wait until every register is acknowledged; returns False after `patience_s`."""
        until = time.monotonic() + patience_s
        while any(node.waiting_since is not None for node in self.nodes):
            if time.monotonic() > until:
                return False
            self.step(0.01)
        return True

    def step(self, wait_s: float) -> None:
        """Process received messages, and repeat registers that are due."""
        if select.select([self._socket], [], [], wait_s)[0]:
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                while True:
                    self._take(self._socket.recv(2048))
        now = time.monotonic()
        for node in self.nodes:
            if node.waiting_since is not None and now >= node.retry_at:
                node.hub = (node.hub + 1) % len(self.hubs)
                node.tries += 1
                self._send(node)

    def ask(self, node: Node, hub: str, wait_s: float) -> int | None:
        """The locator of a node in a hub's answer; 0: a negative answer; None: no answer."""
        nonce = self._next()
        request = MapRequest(nonce, _INNER, (IPv4Address(SOURCE),), (EidRecord.of(EidPrefix.host(node.eid)),))
        self._replies[nonce] = None
        ecm = EncapsulatedControl(_INNER, _PORT, node.eid, _PORT, request.encode())
        self._put(ecm.encode(), hub)
        until = time.monotonic() + wait_s
        while self._replies[nonce] is None and time.monotonic() < until:
            self.step(min(0.001, wait_s))
        reply = self._replies.pop(nonce)
        if reply is None:
            return None
        locators = reply.records[0].locators
        return int(locators[0].ips[0]) if locators else 0

    def where(self, node: Node, hub: str) -> int | None:
        """The same, with three tries."""
        return next((found for _ in range(3) if (found := self.ask(node, hub, 1.0)) is not None), None)

    def send_again(self, payload: bytes, hub: str) -> None:
        """Replay a recorded Map-Register, as an attacker would."""
        self._put(payload, hub)

    def _send(self, node: Node) -> None:
        node.nonce = self._next()
        self._by_nonce[node.nonce] = node
        node.retry_at = time.monotonic() + RETRIES_S[min(node.tries, len(RETRIES_S) - 1)]
        self._put(self.message(node, node.nonce), self.hubs[node.hub])

    def _put(self, payload: bytes, hub: str) -> None:
        with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
            self._socket.sendto(payload, (hub, _PORT))

    def _take(self, payload: bytes) -> None:
        kind, nonce = payload[0] >> 4, int.from_bytes(payload[4:12])
        if kind == _MAP_REPLY and nonce in self._replies:
            self._replies[nonce] = MapReply.decode(payload)
        elif kind == _MAP_NOTIFY and (node := self._by_nonce.pop(nonce, None)) is not None:
            now = time.monotonic()
            self.acknowledgements.append((now, node))
            if node.waiting_since is not None and nonce == node.nonce:
                node.longest_wait_s = max(node.longest_wait_s, now - node.waiting_since)
                node.waiting_since = None
                node.acknowledged = node.rloc

    def _next(self) -> int:
        self._nonce += 1
        return self._nonce
