"""X25519 and ChaCha20-Poly1305 by libcrypto, with the examples of their RFCs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lispmob.crypto.noise_ciphers import COUNTERS
from tests.crypto.support import ciphers, needs_libcrypto

pytestmark = needs_libcrypto

# RFC 7748, 6.1
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
octets32 = st.binary(min_size=32, max_size=32)


def test_whatever_one_side_derives_so_does_the_other() -> None:
    one = ciphers()

    alice, bob = one.public_key(ALICE), one.public_key(BOB)

    assert one.shared_secret(ALICE, bob) == one.shared_secret(BOB, alice) is not None


def test_bob_s_keys_are_those_of_the_rfc() -> None:
    assert ciphers().public_key(BOB).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"


@pytest.mark.parametrize(
    "point",
    [
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ],
)
def test_a_point_of_small_order_makes_no_secret(point: str) -> None:
    assert ciphers().shared_secret(BOB, bytes.fromhex(point)) is None


def test_sealing_gives_what_the_rfc_says() -> None:
    """RFC 8439, A.5, opened: its nonce has the form of Noise's, with four octets of zeros in front."""
    key = bytes.fromhex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0")
    counter = int.from_bytes(bytes.fromhex("0102030405060708"), "little")
    data = bytes.fromhex("f33388860000000000004e91")
    sealed = bytes.fromhex(
        "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100"
        "d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b350638"
        "3606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f83fa115"
        "5b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10"
        "49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f"
        "38"
    )

    plain = ciphers().open(key, counter, data, sealed)

    assert plain is not None
    assert plain.startswith(b"Internet-Drafts are draft documents")
    assert ciphers().seal(key, counter, data, plain) == sealed


@settings(max_examples=50)
@given(octets32, st.integers(0, COUNTERS - 1), st.binary(max_size=60), st.binary(max_size=100), st.data())
def test_what_was_sealed_is_opened_and_a_changed_bit_is_not(
    key: bytes, counter: int, data: bytes, plain: bytes, draw: st.DataObject
) -> None:
    one = ciphers()
    sealed = one.seal(key, counter, data, plain)
    bit = draw.draw(st.integers(0, 8 * len(sealed) - 1))
    changed = (int.from_bytes(sealed) ^ 1 << bit).to_bytes(len(sealed))

    assert one.open(key, counter, data, sealed) == plain
    assert one.open(key, counter, data, changed) is None
    assert one.open(key, counter, data + b"?", sealed) is None
    assert one.open(key, counter, data, sealed[:15]) is None


def test_a_counter_that_is_used_up_and_keys_of_other_lengths_never_reach_the_library() -> None:
    one = ciphers()

    for counter in (-1, COUNTERS):
        with pytest.raises(ValueError, match="counter"):
            one.seal(ALICE, counter, b"", b"")
    for key in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="octets"):
            one.public_key(key)
        with pytest.raises(ValueError, match="octets"):
            one.shared_secret(ALICE, key)
        with pytest.raises(ValueError, match="octets"):
            one.open(key, 0, b"", bytes(16))
