"""Authentication of control messages: Key ID, Algorithm ID and a MAC over the message (RFC 9301, 5.6).

The algorithms' names say that digests are truncated to 96 and 128 bits. Deployed peers send them whole, so that is the
default; both lengths are accepted. The MAC depends on the length, because it covers the field itself, set to zero.
"""

from __future__ import annotations

import dataclasses
import hmac
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias, TypeVar

from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.wire.header import MessageType
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.map_notify import MapNotify, MapNotifyAck, RtrAuthentication
from lispmob.wire.map_register import MapRegister

AuthenticatedMessage: TypeAlias = MapRegister | MapNotify | MapNotifyAck | InfoRequest | InfoReply
_Message = TypeVar("_Message", bound=AuthenticatedMessage)

# Every authenticated message has the same layout before the Authentication Data.
_NONCE: Final = slice(4, 12)
_KEY_ID: Final = 12
_ALGORITHM_ID: Final = 13
_LENGTH: Final = slice(14, 16)
_AUTHENTICATION_START: Final = 16
_RTR_AUTHENTICATION_BIT: Final = 0x04  # of a Map-Notify's first octet

# RFC 6830 had one 16-bit Key ID, 1 or 2, where RFC 9301 has Key ID and Algorithm ID. Its upper octet reads as Key ID 0.
OLD_KEY_ID: Final = 0


class Algorithm(IntEnum):
    """Algorithm ID: the key derivation and the MAC."""

    NONE = 0
    HMAC_SHA_1_96 = 1
    HMAC_SHA_256_128 = 2
    HMAC_SHA_256_128_HKDF = 3


class _Mac(NamedTuple):
    digest: str
    full_octets: int
    truncated_octets: int


_MACS: Final = {
    Algorithm.HMAC_SHA_1_96: _Mac("sha1", 20, 12),
    Algorithm.HMAC_SHA_256_128: _Mac("sha256", 32, 16),
    Algorithm.HMAC_SHA_256_128_HKDF: _Mac("sha256", 32, 16),
}

# RFC 9301 names those of types 3 to 5. The one of type 7 is ours and follows the same pattern.
_HKDF_SALTS: Final = {
    MessageType.MAP_REGISTER: b"Map-Register Authentication",
    MessageType.MAP_NOTIFY: b"Map-Notify Authentication",
    MessageType.MAP_NOTIFY_ACK: b"Map-Notify-Ack Authentication",
    MessageType.INFO: b"Info Authentication",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A secret shared with a Map-Server, and how to use it. `is_truncated`: truncate digests as the RFC's names say."""

    secret: bytes = dataclasses.field(repr=False)
    key_id: int = 0
    algorithm: Algorithm = Algorithm.HMAC_SHA_256_128
    is_truncated: bool = False

    @property
    def mac_octets(self) -> int:
        """Length of the Authentication Data that we send."""
        if self.algorithm is Algorithm.NONE or not self.is_truncated:
            return self.full_octets
        return _MACS[self.algorithm].truncated_octets

    @property
    def full_octets(self) -> int:
        """Length of a digest that is not truncated."""
        return 0 if self.algorithm is Algorithm.NONE else _MACS[self.algorithm].full_octets


def authenticate(message: _Message, key: Key) -> _Message:
    """Fill in Key ID, Algorithm ID and Authentication Data."""
    blank = replace(message, key_id=key.key_id, algorithm_id=int(key.algorithm), authentication=bytes(key.mac_octets))
    if key.algorithm is Algorithm.NONE:
        return blank
    return replace(blank, authentication=_mac(_covered(blank), key)[: key.mac_octets])


def sign(message: AuthenticatedMessage, key: Key) -> bytes:
    """Encode the message with Key ID, Algorithm ID and MAC filled in."""
    octets = key.mac_octets
    raw = replace(message, key_id=key.key_id, algorithm_id=int(key.algorithm), authentication=bytes(octets)).encode()
    if key.algorithm is Algorithm.NONE:
        return raw
    mac = _mac(raw[: _covered_end(raw)], key)[:octets]
    return raw[:_AUTHENTICATION_START] + mac + raw[_AUTHENTICATION_START + octets :]


def verify(raw: bytes, key: Key) -> None:
    """Check the authentication of a received message. Only its first 16 octets need to be valid.

    The algorithm must be the key's: no downgrade. The Key ID must be the key's, or that of RFC 6830's 16-bit Key ID.
    Raises AuthenticationFailed. The comparison takes constant time.
    """
    if len(raw) < _AUTHENTICATION_START:
        raise AuthenticationFailed(f"{len(raw)} octets hold no authentication")
    key_id, algorithm_id, length = raw[_KEY_ID], raw[_ALGORITHM_ID], int.from_bytes(raw[_LENGTH])
    if algorithm_id != key.algorithm:
        raise AuthenticationFailed(f"algorithm {algorithm_id}, not the configured {int(key.algorithm)}")
    if key_id not in (key.key_id, OLD_KEY_ID):
        raise AuthenticationFailed(f"key {key_id}, not the configured {key.key_id}")
    if key.algorithm is Algorithm.NONE:
        if length:
            raise AuthenticationFailed(f"{length} octets of authentication with algorithm 0")
        return
    mac = _MACS[key.algorithm]
    if length not in (mac.full_octets, mac.truncated_octets):
        raise AuthenticationFailed(f"{length} octets of authentication with algorithm {algorithm_id}")
    end = _AUTHENTICATION_START + length
    received = raw[_AUTHENTICATION_START:end]
    covered = raw[:_AUTHENTICATION_START] + bytes(length) + raw[end : _covered_end(raw)]
    if not hmac.compare_digest(received, _mac(covered, key)[:length]):
        raise AuthenticationFailed("the digest is not the one that the key gives")


def sign_again(raw: bytes, key: Key, other: Key) -> bytes:
    """Replace the MAC of a received message by the MAC of `other`, a key of the same algorithm.

    Raises AuthenticationFailed when the message is not signed with `key`.
    """
    verify(raw, key)
    length = int.from_bytes(raw[_LENGTH])
    if not length:
        return raw
    end, head = _AUTHENTICATION_START + length, raw[:_AUTHENTICATION_START]
    mac = _mac(head + bytes(length) + raw[end : _covered_end(raw)], other)
    return head + mac[:length] + raw[end:]


def sign_for_rtr(map_notify: bytes, key: Key) -> RtrAuthentication:
    """A Map-Server's proof to an RTR that a Map-Notify, given as octets, comes from it (NAT-traversal drafts)."""
    digest = hmac.digest(key.secret, map_notify, _MACS[key.algorithm].digest)
    return RtrAuthentication(key.key_id, int(key.algorithm), digest[: key.mac_octets])


def verify_for_rtr(map_notify: bytes, authentication: RtrAuthentication, key: Key) -> None:
    """Check a Map-Server's proof to an RTR. Raises AuthenticationFailed."""
    received = authentication.authentication
    mac = _MACS[key.algorithm]
    is_ours = authentication.key_id in (key.key_id, OLD_KEY_ID) and authentication.algorithm_id == key.algorithm
    digest = hmac.digest(key.secret, map_notify, mac.digest)[: len(received)]
    if (
        not is_ours
        or len(received) not in (mac.full_octets, mac.truncated_octets)
        or not hmac.compare_digest(received, digest)
    ):
        raise AuthenticationFailed("the Map-Server's authentication for the RTR is not the one that the key gives")


def derive_key(secret: bytes, nonce: int, kind: MessageType) -> bytes:
    """The per-message key of algorithm 3: HKDF-SHA256 (RFC 5869) over nonce and secret, salted by the message's name.

    RFC 9301 leaves length and info open. We take 32 octets and no info, which is one HMAC for each step.
    """
    extracted = hmac.digest(_HKDF_SALTS[kind], nonce.to_bytes(8) + secret, "sha256")
    return hmac.digest(extracted, b"\x01", "sha256")


def _mac(covered: bytes, key: Key) -> bytes:
    secret = key.secret
    if key.algorithm is Algorithm.HMAC_SHA_256_128_HKDF:
        kind = covered[0] >> 4
        if kind not in _HKDF_SALTS:
            raise AuthenticationFailed(f"a message of type {kind} has no authentication")
        secret = derive_key(secret, int.from_bytes(covered[_NONCE]), MessageType(kind))
    return hmac.digest(secret, covered, _MACS[key.algorithm].digest)


def _covered(message: AuthenticatedMessage) -> bytes:
    raw = message.encode()
    return raw[: _covered_end(raw)]


def _covered_end(raw: bytes) -> int:
    """Where the octets under the MAC end: with the message, but before the RTR authentication of old NAT drafts.

    RFC 9301 can be read to leave the xTR-ID trailer out. No known implementation does, and the trailer would then be
    unprotected.
    """
    if raw[0] >> 4 not in (MessageType.MAP_NOTIFY, MessageType.MAP_NOTIFY_ACK) or not raw[0] & _RTR_AUTHENTICATION_BIT:
        return len(raw)
    decoder = MapNotify if raw[0] >> 4 == MessageType.MAP_NOTIFY else MapNotifyAck
    try:
        trailer = decoder.decode(raw).rtr_authentication
    except MalformedMessage as malformed:
        raise AuthenticationFailed(f"the end of what the digest covers cannot be found: {malformed.why}") from None
    return len(raw) - (len(trailer.encode()) if trailer else 0)
