"""AES key wrap by libcrypto, with the test vector of RFC 3394 (4.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.crypto.support import KEY_WRAP, needs_libcrypto

pytestmark = needs_libcrypto

KEY = bytes(range(16))
SECRET = bytes.fromhex("00112233445566778899aabbccddeeff")
WRAPPED = bytes.fromhex("1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5")
octets16 = st.binary(min_size=16, max_size=16)


def test_a_key_is_wrapped_as_the_rfc_s_example_says() -> None:
    assert KEY_WRAP.wrap(KEY, SECRET) == WRAPPED


@given(octets16, octets16)
def test_what_was_wrapped_is_unwrapped_again(key: bytes, secret: bytes) -> None:
    assert KEY_WRAP.unwrap(key, KEY_WRAP.wrap(key, secret)) == secret


@pytest.mark.parametrize("bit", range(0, 192, 5))
def test_a_changed_bit_is_noticed(bit: int) -> None:
    changed = (int.from_bytes(WRAPPED) ^ 1 << bit).to_bytes(24)

    assert KEY_WRAP.unwrap(KEY, changed) is None


def test_another_key_opens_nothing() -> None:
    assert KEY_WRAP.unwrap(SECRET, WRAPPED) is None


@pytest.mark.parametrize(("key", "octets"), [(15, 24), (16, 23), (16, 25), (16, 0), (32, 24)])
def test_other_lengths_never_reach_the_library(key: int, octets: int) -> None:
    with pytest.raises(ValueError, match="octets"):
        KEY_WRAP.unwrap(bytes(key), bytes(octets))
    with pytest.raises(ValueError, match="octets"):
        KEY_WRAP.wrap(bytes(key), bytes(octets - 8 if octets > 8 else octets))
