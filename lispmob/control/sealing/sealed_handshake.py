"""The handshake for sealed data (ours): Noise_IK between two nodes that know each other's static keys, one round trip.

How it works. The initiator sends its encrypted static key, a timestamp that only grows, and the AEADs that it supports.
The responder accepts it if the key is not its own and the timestamp is not older than the last one of that key, and
chooses an AEAD that it supports too. Both EIDs and the Instance-ID are part of the transcript hash, so an answer is
valid for this pair only. Which static key belongs to which EID, and rate limits, are decided elsewhere. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from lispmob.control.sealing.noise import Ciphers, Initiator, KeyPair, Responder, SessionKeys
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.protocol.effect import InstallSession
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.lcaf import put_address
from lispmob.wire.sealed_handshake import (
    AES_128_GCM,
    CHACHA20_POLY1305,
    FirstMessage,
    Offer,
    SecondMessage,
    put_choice,
    take_choice,
)

LABEL: Final = b"lispmob sealed 1"
AES_KEY_OCTETS: Final = 16
ALL_AEADS: Final = AES_128_GCM | CHACHA20_POLY1305


class Pair(msgspec.Struct, frozen=True):
    """The EIDs of initiator and responder; None for a hub, which has no EID."""

    instance_id: int
    initiator: IpAddress | None
    responder: IpAddress | None

    def prologue(self) -> bytes:
        """What both sides hash first."""
        eids = put_address(self.initiator) + put_address(self.responder)
        return LABEL + self.instance_id.to_bytes(4) + eids


class Session(msgspec.Struct, frozen=True):
    """The result on both sides. `send_key` is 16 octets for AES-128-GCM, 32 for ChaCha20-Poly1305."""

    peer: bytes
    aead: int
    own_index: int
    peer_index: int
    send_key: bytes
    receive_key: bytes
    transcript: bytes

    def __repr__(self) -> str:
        return f"Session(peer={self.peer.hex()}, own_index={self.own_index}, peer_index={self.peer_index})"

    def to_install(
        self, peer: int, instance_id: int, sources: tuple[EidPrefix, ...], *, is_confirmed: bool
    ) -> InstallSession:
        """The effect that installs it for this peer, which may send from `sources`."""
        return InstallSession(
            peer,
            self.own_index,
            self.peer_index,
            self.send_key,
            self.receive_key,
            "aes-128-gcm" if self.aead == AES_128_GCM else "chacha20-poly1305",
            instance_id,
            sources,
            is_confirmed,
        )


class OpenHandshake:
    """A handshake that we began, until its answer comes."""

    def __init__(
        self, ciphers: Ciphers, pair: Pair, static: KeyPair, peer: bytes, *, ephemeral: bytes, index: int
    ) -> None:
        """`peer` is the peer's static public key; `ephemeral` 32 fresh random octets, `index` random and unused."""
        if not index:
            raise ValueError("index 0 is none")
        self._noise = Initiator(ciphers, pair.prologue(), static, KeyPair.of(ephemeral, ciphers), peer)
        self._static = static
        self._peer = peer
        self.index = index
        self._aeads = 0

    def begin(self, timestamp_ns: int, aeads: int = ALL_AEADS) -> bytes:
        """The first message; `timestamp_ns` is greater than in all earlier ones. Raises AuthenticationFailed."""
        self._aeads = aeads
        key, static, offer = self._noise.begin(Offer(timestamp_ns, aeads).encode())
        return FirstMessage(self.index, key, static, offer).encode(self._peer)

    def finish(self, answer: bytes) -> Session:
        """The session, from the second message. Raises MalformedMessage, and the genuine answer may still come."""
        message = SecondMessage.decode(answer, self._static.public)
        if message.receiver != self.index:
            raise MalformedMessage("rx_auth", f"an answer to handshake {message.receiver:#x}, not to {self.index:#x}")
        try:
            choice, keys = self._noise.finish(message.ephemeral_key, message.sealed_choice)
        except AuthenticationFailed as failure:
            raise MalformedMessage("rx_auth", str(failure)) from None
        aead = take_choice(choice)
        if aead not in (AES_128_GCM, CHACHA20_POLY1305) or not aead & self._aeads:
            raise MalformedMessage("rx_policy", f"AEAD {aead} was chosen of {self._aeads}")
        return _session(keys, self._peer, aead, self.index, message.sender, is_initiator=True)


def new_index(draw: Callable[[int], bytes], taken: Collection[int]) -> int:
    """An index for a session: random, not 0, and not taken. `draw` returns that many unpredictable octets."""
    while True:
        index = int.from_bytes(draw(4))
        if index and index not in taken:
            return index


class Answered(msgspec.Struct, frozen=True):
    """The result of a first message: the second one, the session, and the timestamp to store for this static key."""

    message: bytes
    session: Session
    timestamp_ns: int


def answer(
    ciphers: Ciphers,
    pair: Pair,
    static: KeyPair,
    first: bytes,
    *,
    latest_of: Callable[[bytes], int],
    new_ephemeral: Callable[[], bytes],
    index: int,
    aeads: int = ALL_AEADS,
) -> Answered:
    """Answer a first message. Raises MalformedMessage, after the cheap checks first.

    `latest_of` returns the last timestamp of a static key, 0 for none. `new_ephemeral` is called only for a genuine
    message. `aeads`: those that we support; AES-128-GCM is preferred.
    """
    message = FirstMessage.decode(first, static.public)
    noise = Responder(ciphers, pair.prologue(), static)
    try:
        peer, payload = noise.read(message.ephemeral_key, message.sealed_static_key, message.sealed_offer)
        offer = Offer.decode(payload)
        if peer == static.public:
            raise MalformedMessage("rx_policy", "a handshake with our own key")
        if offer.timestamp_ns <= latest_of(peer):
            raise MalformedMessage("rx_replay", f"a handshake of {offer.timestamp_ns}, which is not new")
        common = offer.aeads & aeads & ALL_AEADS
        if not common:
            raise MalformedMessage("rx_policy", f"AEADs {offer.aeads}, of which none is ours")
        aead = AES_128_GCM if common & AES_128_GCM else CHACHA20_POLY1305
        ephemeral = KeyPair.of(new_ephemeral(), ciphers)
        sealed, keys = noise.answer(ephemeral, put_choice(aead))
    except AuthenticationFailed as failure:
        raise MalformedMessage("rx_auth", str(failure)) from None
    second = SecondMessage(index, message.sender, ephemeral.public, sealed).encode(peer)
    session = _session(keys, peer, aead, index, message.sender, is_initiator=False)
    return Answered(second, session, offer.timestamp_ns)


def _session(keys: SessionKeys, peer: bytes, aead: int, own: int, theirs: int, *, is_initiator: bool) -> Session:
    octets = AES_KEY_OCTETS if aead == AES_128_GCM else len(keys.to_responder)
    to_responder, to_initiator = keys.to_responder[:octets], keys.to_initiator[:octets]
    send, receive = (to_responder, to_initiator) if is_initiator else (to_initiator, to_responder)
    return Session(peer, aead, own, theirs, send, receive, keys.transcript)
