"""Key wrap and Noise's ciphers for tests, which are skipped in a build without libcrypto."""

from __future__ import annotations

from typing import Final

import pytest

from lispmob.crypto.key_wrap import AesKeyWrap, KeyWrapMissingError
from lispmob.crypto.noise_ciphers import NoiseCiphers


def _key_wrap() -> AesKeyWrap | None:
    try:
        return AesKeyWrap()
    except KeyWrapMissingError:
        return None


_FOUND: Final = _key_wrap()
needs_libcrypto: Final = pytest.mark.skipif(_FOUND is None, reason="built without libcrypto (libssl-dev)")
KEY_WRAP: Final[AesKeyWrap] = _FOUND if _FOUND is not None else AesKeyWrap.__new__(AesKeyWrap)
"""For tests with `needs_libcrypto` only."""


def ciphers() -> NoiseCiphers:
    """Noise's ciphers, for tests with `needs_libcrypto` only."""
    return NoiseCiphers()
