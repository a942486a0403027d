"""Sealed data between nodes and this hub's proxy: the peers' keys, and the handshake. Pure.

How it works.
1. A node registers its static key with its EID (a key record, `wire/key_record.py`); so the hub has it first-hand.
2. The node, which has the hub's key in its configuration, begins a handshake in an RLOC-probe for no EID, since a
   hub has none. It is answered within limits, when the static key is the registered one of its Source EID.
3. The session opens the node's packets to hosts without LISP, and seals the packets they send to it. Beyond the hub
   all is clear.

The node maintains the session, and makes the next one; the hub only answers. Without a session packets go in clear.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from lispmob.control.sealing.callers import AnswerLimits
from lispmob.control.sealing.handshake_carriage import First, put_second, take_first
from lispmob.control.sealing.seal_config import SealTools
from lispmob.control.sealing.sealed_entries import FORGET_S
from lispmob.control.sealing.sealed_handshake import Pair, Session, answer, new_index
from lispmob.errors import MalformedMessage
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.protocol.effect import ForgetSession, InstallSession, SendControl
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord, take_key_record
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from lispmob.wire.sealed_handshake import FirstMessage

KEY_TTL_MIN: Final = 15  # ours
SESSIONS_MAX: Final = 24  # ours, of a node: more than it begins in the life of a key; the datapath keeps fewer
TIMES_MAX: Final = 65536  # ours: static keys whose last timestamp is remembered

SealEffect: TypeAlias = InstallSession | ForgetSession
HandshakeEffect: TypeAlias = SendControl | SealEffect


def own_records(public_key: bytes, own: Iterable[IpAddress]) -> dict[EidPrefix, MappingRecord]:
    """The Map-Resolver's records for our own addresses, for askers to whom it authenticates its answer."""
    key = KeyRecord((public_key,)).to_locator()
    return {
        (host := EidPrefix.host(address)): MappingRecord.of(host, (Locator(address), key), ttl_min=KEY_TTL_MIN)
        for address in own
    }


class _Peer(msgspec.Struct):
    """A node that registers a key; all of its EID-Prefixes are one peer. `sessions`: index and creation time."""

    number: int
    key: bytes
    prefixes: set[EidPrefix] = msgspec.field(default_factory=set)
    sessions: list[tuple[int, float]] = msgspec.field(default_factory=list)


class HubSealing:
    """All nodes that this hub has a session with, or may have one with."""

    def __init__(self, tools: SealTools) -> None:
        self._tools = tools
        self.counters: Counter[str] = Counter()
        self._peers: dict[bytes, _Peer] = {}
        self._by_prefix: PrefixTable[_Peer] = PrefixTable()
        self._next_number = 1
        self._indices: set[int] = set()
        self._times: OrderedDict[bytes, int] = OrderedDict()
        self._limits = AnswerLimits()

    @property
    def public_key(self) -> bytes:
        """This hub's key, for the nodes' configuration."""
        return self._tools.static.public

    @property
    def session_count(self) -> int:
        """The number of nodes with a session."""
        return sum(bool(peer.sessions) for peer in self._peers.values())

    def on_registration(self, change: RegistrationChanged) -> list[SealEffect]:
        """Take a registration with or without a key, or its end: sessions of a former key end."""
        key = None
        if change.record is not None:
            try:
                _, keys = take_key_record(change.record)
            except MalformedMessage:
                keys = None
            key = None if keys is None or keys.is_revoked else keys.keys[0]
        before = self._by_prefix.get(change.prefix)
        if before is not None and before.key == key:
            return []
        effects = self._leave(before, change.prefix) if before is not None else []
        if key is not None and not change.prefix.instance_id:
            peer = self._peers.get(key)
            if peer is None:
                peer = self._peers[key] = _Peer(self._next_number, key)
                self._next_number += 1
            peer.prefixes.add(change.prefix)
            self._by_prefix.insert(change.prefix, peer)
        return effects

    def peer_of(self, prefix: EidPrefix) -> int:
        """The peer whose session seals packets for this EID-Prefix; 0: none."""
        peer = self._by_prefix.get(prefix)
        return peer.number if peer is not None and peer.sessions else 0

    def on_probe(self, arrival: Arrival, now: float) -> list[HandshakeEffect] | None:
        """Handle an RLOC-probe; None when it is no handshake with the hub itself."""
        try:
            request = MapRequest.decode(arrival.payload)
            first = take_first(request)
        except MalformedMessage:
            return None  # counted where it is handled
        if first is None or first.responder is not None:
            return None
        try:
            # An invalid message costs a hash, and is charged to no peer.
            FirstMessage.decode(first.message, self._tools.static.public)
            is_known = bool(self._by_prefix.covering(first.initiator))
            if not self._limits.take(arrival.source, now, is_known=is_known):
                raise MalformedMessage("rx_rate", "more handshakes than a node needs")
            return self._answer(first, request, arrival, now)
        except MalformedMessage as malformed:
            self.counters[malformed.counter] += 1
            return []

    def _answer(self, first: First, request: MapRequest, arrival: Arrival, now: float) -> list[HandshakeEffect]:
        initiator = first.initiator
        covering = self._by_prefix.covering(initiator)
        if not covering or initiator.instance_id:
            raise MalformedMessage("rx_policy", f"a handshake of {initiator}, whose key is not registered here")
        tools, peer = self._tools, covering[0][1]
        told = answer(
            tools.ciphers,
            Pair(initiator.instance_id, initiator.address, None),
            tools.static,
            first.message,
            latest_of=lambda key: self._times.get(key, 0),
            new_ephemeral=lambda: tools.draw(32),
            index=self._new_index(),
            aeads=tools.aeads,
        )
        if told.session.peer != peer.key:
            raise MalformedMessage("rx_auth", f"a handshake of {initiator} with another key than the registered one")
        self._times[peer.key] = told.timestamp_ns
        self._times.move_to_end(peer.key)
        while len(self._times) > TIMES_MAX:
            self._times.popitem(last=False)
        payload = put_second(request.nonce, told.message, initiator, arrival.destination)
        sent = SendControl(payload, arrival.source, arrival.source_port, source=arrival.destination)
        self.counters["tx_handshake_answer"] += 1
        return [*self._install_session(peer, told.session, now), sent]

    def _install_session(self, peer: _Peer, session: Session, now: float) -> list[SealEffect]:
        """Use the completed session, and drop those that are over.

        Only the datapath knows which of the others the node sends with, so it chooses those that stay.
        """
        old = [(index, at) for index, at in peer.sessions if now - at >= FORGET_S]
        kept = [(index, at) for index, at in peer.sessions if now - at < FORGET_S]
        old += kept[: max(0, len(kept) + 1 - SESSIONS_MAX)]
        peer.sessions = [*kept[max(0, len(kept) + 1 - SESSIONS_MAX) :], (session.own_index, now)]
        self._indices.add(session.own_index)
        installed = session.to_install(peer.number, 0, tuple(sorted(peer.prefixes, key=str)), is_confirmed=False)
        return [*self._forget(index for index, _ in old), installed]

    def _leave(self, peer: _Peer, prefix: EidPrefix) -> list[SealEffect]:
        self._by_prefix.remove(prefix)
        peer.prefixes.discard(prefix)
        if peer.prefixes:
            return []
        del self._peers[peer.key]
        return self._forget(index for index, _ in peer.sessions)

    def _forget(self, indices: Iterable[int]) -> list[SealEffect]:
        gone = list(indices)
        self._indices.difference_update(gone)
        return [ForgetSession(index) for index in gone]

    def _new_index(self) -> int:
        return new_index(self._tools.draw, self._indices)
