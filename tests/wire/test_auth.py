"""Authentication Data: the vectors' MACs, every flipped bit, and what is refused before any digest is computed."""

from __future__ import annotations

import dataclasses
from itertools import permutations
from typing import cast

import pytest
from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed
from lispmob.wire.auth import (
    Algorithm,
    AuthenticatedMessage,
    Key,
    derive_key,
    sign,
    sign_for_rtr,
    verify,
    verify_for_rtr,
)
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import MessageType
from lispmob.wire.map_notify import MapNotify, RtrAuthentication
from lispmob.wire.map_register import MapRegister
from lispmob.wire.message import decode_control
from tests.wire.vectors import CONTROL, MACS, SECRET

RTR_KEY = Key(b"rtr-ms-key", 0, Algorithm.HMAC_SHA_1_96)


def authenticated(name: str) -> bytes:
    """The vector, without the ECM around it."""
    raw = CONTROL[name]
    return EncapsulatedControl.decode(raw).message if raw[0] >> 4 == 8 else raw


@pytest.mark.parametrize("name", MACS)
def test_signing_gives_the_macs_of_the_vectors(name: str) -> None:
    message = cast(AuthenticatedMessage, decode_control(authenticated(name)))
    blank = replace(message, key_id=0, algorithm_id=0, authentication=b"")

    assert message.authentication == MACS[name].mac
    assert sign(blank, MACS[name].key) == authenticated(name)


@pytest.mark.parametrize("name", MACS)
def test_the_vectors_verify(name: str) -> None:
    verify(authenticated(name), MACS[name].key)


@pytest.mark.parametrize("name", MACS)
def test_every_flipped_bit_fails_verification(name: str) -> None:
    raw = authenticated(name)

    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(AuthenticationFailed):
            verify(bytes(flipped), MACS[name].key)


@pytest.mark.parametrize("name", MACS)
def test_a_message_cut_anywhere_fails_verification(name: str) -> None:
    raw = authenticated(name)

    for length in range(len(raw)):
        with pytest.raises(AuthenticationFailed):
            verify(raw[:length], MACS[name].key)


@pytest.mark.parametrize("name", [name for name, mac in MACS.items() if mac.derived_key])
def test_algorithm_3_derives_the_key_from_nonce_and_message_type(name: str) -> None:
    raw = authenticated(name)

    assert derive_key(SECRET, int.from_bytes(raw[4:12]), MessageType(raw[0] >> 4)) == MACS[name].derived_key


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("is_truncated", [False, True])
@pytest.mark.parametrize("name", MACS)
def test_what_is_signed_verifies_with_the_same_key_and_length(
    name: str, algorithm: Algorithm, is_truncated: bool
) -> None:
    key = Key(SECRET, 7, algorithm, is_truncated)
    message = cast(AuthenticatedMessage, decode_control(authenticated(name)))

    raw = sign(message, key)

    verify(raw, key)
    verify(raw, dataclasses.replace(key, is_truncated=not is_truncated))


def test_the_default_digest_is_whole() -> None:
    assert len(cast(MapRegister, decode_control(sign(register(), Key(SECRET)))).authentication) == 32


def test_another_secret_fails() -> None:
    with pytest.raises(AuthenticationFailed):
        verify(sign(register(), Key(SECRET)), Key(b"another"))


@pytest.mark.parametrize(("configured", "sent"), list(permutations(Algorithm, 2)))
def test_an_algorithm_other_than_the_configured_one_fails(configured: Algorithm, sent: Algorithm) -> None:
    with pytest.raises(AuthenticationFailed, match="algorithm"):
        verify(sign(register(), Key(SECRET, 0, sent)), Key(SECRET, 0, configured))


def test_the_old_16_bit_key_id_is_accepted_for_any_configured_key_id() -> None:
    verify(sign(register(), Key(SECRET, 0)), Key(SECRET, 1))


def test_another_key_id_fails() -> None:
    with pytest.raises(AuthenticationFailed, match="key 2"):
        verify(sign(register(), Key(SECRET, 2)), Key(SECRET, 1))


@pytest.mark.parametrize("octets", [0, 1, 15, 17, 31, 33])
def test_a_digest_of_another_length_fails(octets: int) -> None:
    forged = replace(register(), algorithm_id=2, authentication=bytes(octets))

    with pytest.raises(AuthenticationFailed, match="octets of authentication"):
        verify(forged.encode(), Key(SECRET))


def test_octets_of_authentication_without_an_algorithm_fail() -> None:
    with pytest.raises(AuthenticationFailed):
        verify(replace(register(), authentication=b"x").encode(), Key(b"", 0, Algorithm.NONE))


def test_an_algorithm_3_digest_is_good_for_one_message_type_only() -> None:
    key = Key(SECRET, 0, Algorithm.HMAC_SHA_256_128_HKDF)
    raw = bytearray(sign(register(), key))
    raw[0] = 0x40 | raw[0] & 0x08

    with pytest.raises(AuthenticationFailed):
        verify(bytes(raw), key)


def test_a_message_type_without_authentication_fails() -> None:
    raw = bytes.fromhex("2000000100000000000000010003002000") + bytes(40)

    with pytest.raises(AuthenticationFailed):
        verify(raw, Key(SECRET, 0, Algorithm.HMAC_SHA_256_128_HKDF))


def test_a_key_does_not_show_its_secret() -> None:
    assert "lisp-test-key" not in repr(Key(SECRET))


def test_a_map_server_proves_itself_to_an_rtr() -> None:
    ecm = EncapsulatedControl.decode(CONTROL["NAT3"])

    assert ecm.rtr_authentication == sign_for_rtr(ecm.message, RTR_KEY)
    verify_for_rtr(ecm.message, sign_for_rtr(ecm.message, RTR_KEY), RTR_KEY)


@pytest.mark.parametrize(
    "forged",
    [RtrAuthentication(0, 1, bytes(20)), RtrAuthentication(0, 1, b""), RtrAuthentication(0, 2, bytes(32))],
)
def test_an_rtr_refuses_what_its_map_server_did_not_sign(forged: RtrAuthentication) -> None:
    with pytest.raises(AuthenticationFailed):
        verify_for_rtr(authenticated("NAT3"), forged, RTR_KEY)


def test_the_mac_does_not_cover_the_rtr_authentication_behind_it() -> None:
    notify = MapNotify.decode(authenticated("MNT1"))
    key = MACS["MNT1"].key
    with_trailer = replace(notify, rtr_authentication=RtrAuthentication(0, 1, bytes(20)))

    raw = bytearray(sign(with_trailer, key))
    raw[-1] ^= 1

    verify(bytes(raw), key)


def register() -> MapRegister:
    message = decode_control(CONTROL["MRG1"])
    assert isinstance(message, MapRegister)
    return replace(message, key_id=0, algorithm_id=0, authentication=b"")
