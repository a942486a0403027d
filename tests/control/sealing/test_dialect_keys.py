"""Keys of RFC 8061 and of lispers.net equal those that other code computed, octet for octet."""

from __future__ import annotations

import pytest

from lispmob.control.sealing.dialect_keys import lispers_keys, rfc8061_keys
from tests.crypto.support import ciphers, needs_libcrypto

# RFC 7748, 6.1
ITR = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
ETR_PRIVATE = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
ETR = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
NONCE = 0x0123456789ABCDEF


@needs_libcrypto
def test_the_secret_is_that_of_the_rfc() -> None:
    assert ciphers().public_key(ETR_PRIVATE) == ETR
    assert ciphers().shared_secret(ETR_PRIVATE, ITR) == SHARED


def test_the_key_of_rfc_8061_is_the_first_half_of_the_material() -> None:
    keys = rfc8061_keys(SHARED, NONCE)

    assert keys.encryption.hex() == "cbaab036ed14463fb38d913edd50409c"


@pytest.mark.parametrize("nonce", [0, NONCE + 1, (1 << 64) - 1])
def test_another_nonce_makes_another_key(nonce: int) -> None:
    assert rfc8061_keys(SHARED, nonce) != rfc8061_keys(SHARED, NONCE)


@pytest.mark.parametrize(("local", "remote"), [(ITR, ETR), (ETR, ITR)])
def test_the_keys_of_lispers_net_are_the_same_for_both_sides(local: bytes, remote: bytes) -> None:
    keys = lispers_keys(SHARED, local, remote)

    assert keys.encryption.hex() == "3035ead211c24e9729286c09181ae43d"
    assert keys.integrity.hex() == "6e9106c649706da447cf00c38f851da8"


def test_lispers_net_leaves_out_leading_zeros() -> None:
    alike = ITR[:2] + ETR[2:]  # the two begin with the same octets

    assert lispers_keys(SHARED, ITR, alike) == lispers_keys(SHARED, alike, ITR)
