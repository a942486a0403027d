"""AES key wrap (RFC 3394) as LISP-SEC uses it: a 128-bit key wrapped with another one. By libcrypto, through cffi.

The compiled part is loaded on first use, so that programs which only read the configuration do without.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from lispmob.errors import LispError

KEY_OCTETS: Final = 16
WRAPPED_OCTETS: Final = 24
MISSING: Final = "LISP-SEC is not in this build: libcrypto's headers (libssl-dev) were missing when it was compiled"


class KeyWrapMissingError(LispError):
    """This build has no libcrypto; or the library is gone since."""


def load() -> Any:
    """The compiled module. Raises KeyWrapMissingError."""
    try:
        return import_module("lispmob.crypto._lispcrypto")
    except ModuleNotFoundError:
        raise KeyWrapMissingError(MISSING) from None
    except ImportError as error:
        raise KeyWrapMissingError(f"LISP-SEC cannot be used: {error}") from None


class AesKeyWrap:
    """Wraps and unwraps. Raises KeyWrapMissingError when it is made in a build without libcrypto."""

    def __init__(self) -> None:
        module = load()
        self._ffi, self._lib = module.ffi, module.lib

    def wrap(self, key: bytes, secret: bytes) -> bytes:
        """The 24 octets that hold a secret of 16; `key` has 16. ValueError for other lengths."""
        _check(key, KEY_OCTETS)
        _check(secret, KEY_OCTETS)
        out = self._ffi.new("uint8_t[]", WRAPPED_OCTETS)
        if self._lib.key_wrap_seal(key, secret, out):
            raise KeyWrapMissingError("LISP-SEC cannot be used: libcrypto refuses AES key wrap (a FIPS policy?)")
        return bytes(self._ffi.buffer(out))

    def unwrap(self, key: bytes, wrapped: bytes) -> bytes | None:
        """The secret; None when another key wrapped it, or when it was changed. ValueError for other lengths."""
        _check(key, KEY_OCTETS)
        _check(wrapped, WRAPPED_OCTETS)
        out = self._ffi.new("uint8_t[]", KEY_OCTETS)
        return None if self._lib.key_wrap_open(key, wrapped, out) else bytes(self._ffi.buffer(out))


def key_wrap() -> AesKeyWrap | None:
    """Key wrap, or None in a build without libcrypto."""
    try:
        return AesKeyWrap()
    except KeyWrapMissingError:
        return None


def why_no_key_wrap() -> str | None:
    """Why there is no key wrap; None: there is."""
    try:
        AesKeyWrap()
    except KeyWrapMissingError as missing:
        return str(missing)
    return None


def _check(octets: bytes, length: int) -> None:
    if len(octets) != length:
        raise ValueError(f"{len(octets)} octets, where AES key wrap of a 128-bit key has {length}")
