"""Key wrap for tests; what needs it is skipped in a build without libcrypto."""

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
"""Not to be used without `needs_libcrypto`."""


def ciphers() -> NoiseCiphers:
    """Of Noise; not to be used without `needs_libcrypto`."""
    return NoiseCiphers()
