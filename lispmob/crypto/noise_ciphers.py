"""What Noise_25519_ChaChaPoly computes with (Noise, revision 34, 12): X25519 and ChaCha20-Poly1305, by libcrypto."""

from __future__ import annotations

from typing import Final

from lispmob.crypto.key_wrap import load

KEY_OCTETS: Final = 32
TAG_OCTETS: Final = 16
COUNTERS: Final = (1 << 64) - 1  # Noise, 5.1: the last one is not for messages


class NoiseCiphers:
    """Raises KeyWrapMissingError when it is made in a build without libcrypto."""

    def __init__(self) -> None:
        module = load()
        self._ffi, self._lib = module.ffi, module.lib

    def public_key(self, private_key: bytes) -> bytes:
        """The public key of a private one; both have 32 octets."""
        _check(private_key)
        out = self._ffi.new("uint8_t[]", KEY_OCTETS)
        if self._lib.x25519_public(private_key, out):
            raise ValueError("libcrypto takes no X25519 key")
        return bytes(self._ffi.buffer(out))

    def shared_secret(self, private_key: bytes, public_key: bytes) -> bytes | None:
        """32 octets; None for a public key of small order, with which there is no secret (RFC 7748, 6.1)."""
        _check(private_key)
        _check(public_key)
        out = self._ffi.new("uint8_t[]", KEY_OCTETS)
        return None if self._lib.x25519_shared(private_key, public_key, out) else bytes(self._ffi.buffer(out))

    def seal(self, key: bytes, counter: int, data: bytes, plain: bytes) -> bytes:
        """Ciphertext and tag; `data` is authenticated with it. ValueError for a counter that is used up."""
        _check(key)
        out = self._ffi.new("uint8_t[]", len(plain) + TAG_OCTETS)
        if self._lib.chacha_seal(key, _nonce(counter), data, len(data), plain, len(plain), out):
            raise ValueError("libcrypto seals nothing")
        return bytes(self._ffi.buffer(out))

    def open(self, key: bytes, counter: int, data: bytes, sealed: bytes) -> bytes | None:
        """What was sealed; None when the tag is not the one that the key gives."""
        _check(key)
        if len(sealed) < TAG_OCTETS:
            return None
        out = self._ffi.new("uint8_t[]", len(sealed))
        if self._lib.chacha_open(key, _nonce(counter), data, len(data), sealed, len(sealed), out):
            return None
        return bytes(self._ffi.buffer(out, len(sealed) - TAG_OCTETS))


def _nonce(counter: int) -> bytes:
    if not 0 <= counter < COUNTERS:
        raise ValueError(f"{counter} is no counter of a key")
    return bytes(4) + counter.to_bytes(8, "little")


def _check(key: bytes) -> None:
    if len(key) != KEY_OCTETS:
        raise ValueError(f"{len(key)} octets, where a key has {KEY_OCTETS}")
