"""Keys of the two dialects: what RFC 8061, 5, and lispers.net's lisp-crypto make of two X25519 keys. Pure."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal, NamedTuple, TypeAlias

DialectName: TypeAlias = Literal["rfc8061", "lispers-net"]
DIALECTS: Final[tuple[DialectName, ...]] = ("lispers-net", "rfc8061")
RFC8061_SUITE: Final = 5  # AES-128-GCM (RFC 8061, 5)
LISPERS_SUITES: Final = (2, 5)  # AES-128-CBC with HMAC-SHA-256, which it asks for; and AES-128-GCM
PUBLIC_OCTETS: Final = 32

_LABEL: Final = b"lisp-crypto"
_FIRST: Final = b"\x00\x01"
_BITS: Final = b"\x01\x00"  # 256, of all that is derived


class DialectKeys(NamedTuple):
    """16 octets each; RFC 8061 has no use for `integrity`."""

    encryption: bytes
    integrity: bytes


def rfc8061_keys(shared: bytes, nonce: int) -> DialectKeys:
    """Of the raw X25519 secret, and the nonce of the Map-Request that introduced the key."""
    context = _FIRST + _LABEL + b"\0" + nonce.to_bytes(8) + _BITS
    material = hmac.digest(shared, context, "sha256")
    return DialectKeys(material[:16], bytes(16))


def lispers_keys(shared: bytes, local_public: bytes, remote_public: bytes) -> DialectKeys:
    """The same with its texts in place of numbers, and no nonce: two public keys always make the same keys."""
    both = int.from_bytes(local_public) ^ int.from_bytes(remote_public)
    text = f"0001lisp-crypto{both:x}0100".encode()
    secret = hashlib.sha256(b"curve25519-shared:" + shared).digest()
    material = hmac.digest(text, secret, "sha256")
    return DialectKeys(material[:16], material[16:])
