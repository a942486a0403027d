"""Noise_IK_25519_ChaChaPoly_SHA256 (Noise, revision 34): both sides' state of one handshake. Pure.

    IK:  <- s                       the initiator knows the responder's static key before
         ...
         -> e, es, s, ss            and tells its own in the first message, sealed
         <- e, ee, se

The ciphers are passed in. After the second message both sides have the same two keys. Computing them takes a static
private key and the ephemeral key of the same side.
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from typing import Final, Protocol

import msgspec

from lispmob.errors import AuthenticationFailed

NAME: Final = b"Noise_IK_25519_ChaChaPoly_SHA256"  # 32 octets: it is its own hash (Noise, 5.2)


class Ciphers(Protocol):
    """X25519, and ChaCha20-Poly1305 with Noise's nonce: four octets of zeros, then the counter, little-endian."""

    def public_key(self, private_key: bytes) -> bytes:
        """Of 32 octets."""
        ...

    def shared_secret(self, private_key: bytes, public_key: bytes) -> bytes | None:
        """Of 32 octets; None where it would be all zeros."""
        ...

    def seal(self, key: bytes, counter: int, data: bytes, plain: bytes) -> bytes:
        """Ciphertext and tag."""
        ...

    def open(self, key: bytes, counter: int, data: bytes, sealed: bytes) -> bytes | None:
        """The plaintext; None for a wrong tag."""
        ...


class KeyPair(msgspec.Struct, frozen=True):
    """Both halves of an X25519 key, 32 octets each."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"

    @classmethod
    def of(cls, private: bytes, ciphers: Ciphers) -> KeyPair:
        """From the private half."""
        return cls(private, ciphers.public_key(private))


class SessionKeys(msgspec.Struct, frozen=True):
    """The result of a handshake. `transcript` identifies it: it is equal on both sides, and unique."""

    to_responder: bytes
    to_initiator: bytes
    transcript: bytes

    def __repr__(self) -> str:
        return f"SessionKeys(transcript={self.transcript.hex()})"


class _Symmetric:
    """Chaining key, hash of the messages so far, and current key (Noise, 5.1 and 5.2)."""

    def __init__(self, ciphers: Ciphers, prologue: bytes, responder: bytes) -> None:
        self._ciphers = ciphers
        self._hash = self._chaining_key = NAME
        self._key = b""
        self._counter = 0
        self.mix_hash(prologue)
        self.mix_hash(responder)

    def mix_hash(self, octets: bytes) -> None:
        self._hash = hashlib.sha256(self._hash + octets).digest()

    def mix_secret(self, own: KeyPair, other: bytes) -> None:
        secret = self._ciphers.shared_secret(own.private, other)
        if secret is None:
            raise AuthenticationFailed("a public key with which there is no secret")
        self._chaining_key, self._key = _derive(self._chaining_key, secret)
        self._counter = 0

    def seal(self, plain: bytes) -> bytes:
        sealed = self._ciphers.seal(self._key, self._counter, self._hash, plain)
        self._counter += 1
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        plain = self._ciphers.open(self._key, self._counter, self._hash, sealed)
        if plain is None:
            raise AuthenticationFailed("a handshake message that was sealed with other keys, or changed")
        self._counter += 1
        self.mix_hash(sealed)
        return plain

    def split(self) -> SessionKeys:
        first, second = _derive(self._chaining_key, b"")
        return SessionKeys(first, second, self._hash)


class Initiator:
    """The side that begins. One object per handshake: call `begin` once, then `finish` with each answer."""

    def __init__(
        self, ciphers: Ciphers, prologue: bytes, static: KeyPair, ephemeral: KeyPair, responder: bytes
    ) -> None:
        """`ephemeral` is generated for this handshake alone; `responder` is the other side's static public key."""
        self._state = _Symmetric(ciphers, prologue, responder)
        self._static = static
        self._ephemeral = ephemeral
        self._responder = responder

    def begin(self, payload: bytes) -> tuple[bytes, bytes, bytes]:
        """The ephemeral public key; the static one and the payload, encrypted. Raises AuthenticationFailed."""
        state = self._state
        state.mix_hash(self._ephemeral.public)
        state.mix_secret(self._ephemeral, self._responder)
        sealed_static = state.seal(self._static.public)
        state.mix_secret(self._static, self._responder)
        return self._ephemeral.public, sealed_static, state.seal(payload)

    def finish(self, ephemeral: bytes, sealed_payload: bytes) -> tuple[bytes, SessionKeys]:
        """The responder's payload, and the keys. Raises AuthenticationFailed, and changes nothing then.

        So another answer may still come: any host that has seen the first message can forge one.
        """
        state = copy.copy(self._state)
        state.mix_hash(ephemeral)
        state.mix_secret(self._ephemeral, ephemeral)
        state.mix_secret(self._static, ephemeral)
        return state.open(sealed_payload), state.split()


class Responder:
    """The side that answers. One object per handshake; call each method once, in this order."""

    def __init__(self, ciphers: Ciphers, prologue: bytes, static: KeyPair) -> None:
        self._state = _Symmetric(ciphers, prologue, static.public)
        self._static = static
        self._their_ephemeral = self._their_static = b""

    def read(self, ephemeral: bytes, sealed_static: bytes, sealed_payload: bytes) -> tuple[bytes, bytes]:
        """The initiator's static public key, and its payload. Raises AuthenticationFailed.

        A replayed first message passes too: the payload must show that it is new.
        """
        state = self._state
        state.mix_hash(ephemeral)
        state.mix_secret(self._static, ephemeral)
        self._their_ephemeral, self._their_static = ephemeral, state.open(sealed_static)
        state.mix_secret(self._static, self._their_static)
        return self._their_static, state.open(sealed_payload)

    def answer(self, ephemeral: KeyPair, payload: bytes) -> tuple[bytes, SessionKeys]:
        """The encrypted payload, and the keys; `ephemeral` is generated for this handshake alone."""
        state = self._state
        state.mix_hash(ephemeral.public)
        state.mix_secret(ephemeral, self._their_ephemeral)
        state.mix_secret(ephemeral, self._their_static)
        return state.seal(payload), state.split()


def _derive(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (Noise, 4.3)."""
    extracted = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(extracted, b"\x01", "sha256")
    return first, hmac.digest(extracted, first + b"\x02", "sha256")
