"""What LISP-SEC computes, against vectors that other code computed from RFC 9303; and all that must be refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.wire import lisp_sec_auth
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.lisp_sec import AuthorizedEid, EcmSecurity, EidAuthentication, MapReplySecurity
from lispmob.wire.lisp_sec_auth import Fault, NotGenuine, sign_eids, sign_reply, verify_reply
from lispmob.wire.map_reply import MapReply
from lispmob.wire.reader import Reader
from lispmob.wire.record import MappingRecord
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.wire.strategies import eids, record_sets
from tests.wire.vectors import LISP_SEC

NONCE = 0x0123456789ABCDEF
ITR_OTK = bytes(range(16))
MS_OTK = bytes.fromhex("4e24185f0cf7d7413ccbe2ba72d38dfc")
FROM_ITR = LISP_SEC["ECM from an ITR"]
TO_ETR = LISP_SEC["ECM from a Map-Server to an ETR"]
REPLY = LISP_SEC["Map-Reply"]
NEGATIVE = LISP_SEC["Negative Map-Reply about an EID-Prefix whose ETRs cannot sign"]


def security_in(raw: bytes) -> EcmSecurity:
    authentication = EncapsulatedControl.decode(raw).authentication
    assert authentication is not None
    return EcmSecurity.take(Reader(authentication))


def test_keys_are_derived_as_the_vectors_say() -> None:
    assert lisp_sec_auth.wrapping_key(NONCE, b"itr-mr-secret").hex() == "286abc06384ecc8fb6a52ecd540ae451"
    assert lisp_sec_auth.wrapping_key(NONCE, b"etr-ms-secret").hex() == "4b2823117093c0a5bd18d2e9349daa41"
    assert lisp_sec_auth.ms_otk(ITR_OTK, 2) == MS_OTK
    assert lisp_sec_auth.ms_otk(ITR_OTK, 1).hex() == "a3cb62376327483300cf1304d4330601"


def test_hkdf_gives_what_its_rfc_says() -> None:
    """RFC 5869, A.3 and A.6, cut to one digest; their info is empty."""
    sha256 = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"

    assert lisp_sec_auth.hkdf(b"\x0b" * 22, 32).hex() == sha256
    assert lisp_sec_auth.hkdf(b"\x0b" * 22, 20, "sha1").hex() == "0ac1af7002b3d761d1e55298da9d0506b9ae5205"


def test_the_resolver_s_secret_is_not_the_registration_key_and_needs_it() -> None:
    derived = lisp_sec_auth.resolver_secret(b"key")

    assert len(derived) == 32
    assert derived not in (lisp_sec_auth.resolver_secret(b"kez"), b"key")


@needs_libcrypto
@pytest.mark.parametrize(
    ("raw", "secret", "otk"), [(FROM_ITR, b"itr-mr-secret", ITR_OTK), (TO_ETR, b"etr-ms-secret", MS_OTK)]
)
def test_a_one_time_key_is_wrapped_and_unwrapped_as_the_vectors_say(raw: bytes, secret: bytes, otk: bytes) -> None:
    security = security_in(raw)

    assert lisp_sec_auth.wrapped_otk(KEY_WRAP, NONCE, secret, otk) == security.one_time_key
    assert lisp_sec_auth.unwrapped_otk(KEY_WRAP, NONCE, secret, security) == otk
    assert lisp_sec_auth.unwrapped_otk(KEY_WRAP, NONCE, b"another", security) is None
    assert lisp_sec_auth.unwrapped_otk(KEY_WRAP, NONCE + 1, secret, security) is None
    for wrapping_id in (0, 1, 3):
        assert lisp_sec_auth.unwrapped_otk(KEY_WRAP, NONCE, secret, replace(security, wrapping_id=wrapping_id)) is None


def test_a_map_server_signs_as_the_vectors_say() -> None:
    signed = security_in(TO_ETR).eid

    assert sign_eids(replace(signed, hmac=b""), ITR_OTK) == signed


@pytest.mark.parametrize(("raw", "key"), [(REPLY, MS_OTK), (NEGATIVE, MS_OTK)])
def test_a_map_reply_is_signed_as_the_vectors_say(raw: bytes, key: bytes) -> None:
    reply = MapReply.decode(raw)
    assert reply.security is not None
    eid_ad = MapReplySecurity.decode(reply.security).eid.encode()

    assert sign_reply(replace(reply, security=None), eid_ad, 2, key) == raw


def test_the_old_algorithms_give_what_the_vectors_say() -> None:
    reply = MapReply.decode(REPLY)
    assert reply.security is not None
    eids = MapReplySecurity.decode(reply.security).eid
    old = sign_eids(replace(eids, kdf_id=1, hmac_id=1, hmac=b""), ITR_OTK)
    whole = sign_reply(replace(reply, security=None), old.encode(), 1, lisp_sec_auth.ms_otk(ITR_OTK, 1))

    assert old.hmac.hex() == "134bf879d112c792da16b01f"
    assert whole[-12:].hex() == "0cea740a9758f9e073a47ca8"
    assert verify_reply(whole, MapReply.decode(whole), ITR_OTK, 1, 1) == old


def test_what_an_etr_copies_is_the_eid_ad_as_it_came() -> None:
    ecm = EncapsulatedControl.decode(TO_ETR)
    assert ecm.authentication is not None
    # The HMAC also covers bits without a meaning.
    changed = ecm.authentication[:40] + b"\x55" + ecm.authentication[41:]

    assert lisp_sec_auth.eid_ad_of(ecm.authentication) == security_in(TO_ETR).eid.encode()
    assert lisp_sec_auth.eid_ad_of(changed)[8:9] == b"\x55"


@pytest.mark.parametrize(("raw", "has_e_bit"), [(REPLY, False), (NEGATIVE, True)])
def test_a_genuine_map_reply_says_for_which_eids_the_map_server_vouches(raw: bytes, has_e_bit: bool) -> None:
    found = verify_reply(raw, MapReply.decode(raw), ITR_OTK, 2, 2)

    assert (found.eids, found.has_e_bit) == ((AuthorizedEid(found.eids[0].eid, 16),), has_e_bit)


def fault(raw: bytes, otk: bytes = ITR_OTK, hmac_id: int = 2, kdf_id: int = 2) -> Fault | str:
    try:
        verify_reply(raw, MapReply.decode(raw), otk, hmac_id, kdf_id)
    except NotGenuine as refused:
        return refused.fault
    except MalformedMessage as malformed:
        return malformed.counter
    raise AssertionError("it passed for genuine")


@pytest.mark.parametrize("raw", [REPLY, NEGATIVE], ids=["positive", "negative"])
def test_no_octet_of_a_map_reply_can_be_changed(raw: bytes) -> None:
    """Except the nonce, by which the key is found: with another one there is no key at all."""
    for place in (*range(4), *range(12, len(raw))):
        for flip in (1, 0x80, 0xFF):
            assert fault(raw[:place] + bytes((raw[place] ^ flip,)) + raw[place + 1 :])


@pytest.mark.parametrize("raw", [FROM_ITR, TO_ETR], ids=["from an ITR", "to an ETR"])
def test_an_ecm_s_authentication_cut_anywhere_is_refused(raw: bytes) -> None:
    authentication = EncapsulatedControl.decode(raw).authentication
    assert authentication is not None

    for end in range(len(authentication)):
        with pytest.raises(MalformedMessage):
            EcmSecurity.take(Reader(authentication[:end]))


def changed(**ad: Any) -> bytes:
    reply = MapReply.decode(REPLY)
    assert reply.security is not None
    security = replace(MapReplySecurity.decode(reply.security), **ad)
    return replace(reply, security=security.encode()).encode()


EID_AD = security_in(TO_ETR).eid


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (replace(MapReply.decode(REPLY), security=None).encode(), Fault.MISSING),
        (changed(packet_hmac=bytes(16)), Fault.HMAC),
        (changed(packet_hmac_id=1), Fault.ALGORITHM),
        (changed(packet_hmac_id=0), Fault.ALGORITHM),
        (changed(eid=replace(EID_AD, kdf_id=1)), Fault.ALGORITHM),
        (changed(eid=replace(EID_AD, hmac_id=1)), Fault.ALGORITHM),
        (changed(eid=EidAuthentication(2)), Fault.ALGORITHM),
        (changed(packet_hmac=bytes(12)), Fault.AUTH),
        (changed(packet_hmac=bytes(20)), Fault.AUTH),
        (changed(eid=replace(EID_AD, hmac=bytes(12))), Fault.AUTH),
        (changed(eid=replace(EID_AD, hmac=b"")), Fault.AUTH),
        (changed(eid=replace(EID_AD, eids=())), Fault.AUTH),
        (changed(packet_hmac=bytes(15)), "rx_truncated"),
        (REPLY.replace(bytes.fromhex("01000000002000"), bytes.fromhex("02000000002000")), "rx_truncated"),
        (REPLY.replace(bytes.fromhex("00200002010000"), bytes.fromhex("00030002010000")), "rx_truncated"),
        (REPLY.replace(bytes.fromhex("00200002010000"), bytes.fromhex("40200002010000")), "rx_truncated"),
        (REPLY.replace(bytes.fromhex("00140002"), bytes.fromhex("00030002")), "rx_truncated"),
    ],
)
def test_each_way_of_being_wrong_has_its_counter(raw: bytes, expected: Fault | str) -> None:
    assert fault(raw) == expected


def test_another_one_time_key_verifies_nothing() -> None:
    assert fault(REPLY, otk=bytes(16)) is Fault.HMAC


def test_an_answer_by_a_weaker_algorithm_than_asked_is_no_answer() -> None:
    assert fault(REPLY, hmac_id=1) is Fault.ALGORITHM
    assert fault(REPLY, kdf_id=1) is Fault.ALGORITHM


@settings(max_examples=40)
@given(
    st.binary(min_size=16, max_size=16),
    st.sampled_from((1, 2)),
    st.sampled_from((1, 2)),
    st.lists(eids, min_size=1, max_size=3),
    record_sets,
    st.integers(0, (1 << 64) - 1),
    st.booleans(),
)
def test_whatever_is_signed_is_verified(
    otk: bytes,
    hmac_id: int,
    kdf_id: int,
    prefixes: list[tuple[object, int]],
    records: tuple[MappingRecord, ...],
    nonce: int,
    has_e_bit: bool,
) -> None:
    authorized = tuple(AuthorizedEid(*entry) for entry in prefixes)  # type: ignore[arg-type]
    eid_ad = sign_eids(EidAuthentication(kdf_id, hmac_id, authorized, b"", has_e_bit), otk)
    key = lisp_sec_auth.ms_otk(otk, kdf_id)
    raw = sign_reply(MapReply(nonce, records), eid_ad.encode(), hmac_id, key)

    assert verify_reply(raw, MapReply.decode(raw), otk, hmac_id, kdf_id) == eid_ad


@pytest.mark.parametrize("wrapping_id", [0, 1, 3, 255])
def test_a_one_time_key_in_clear_proves_no_sender(wrapping_id: int) -> None:
    with pytest.raises(AuthenticationFailed, match="Wrapping"):
        lisp_sec_auth.require_itr_request(replace(security_in(FROM_ITR), wrapping_id=wrapping_id))
    with pytest.raises(AuthenticationFailed, match="Wrapping"):
        lisp_sec_auth.require_map_server_request(replace(security_in(TO_ETR), wrapping_id=wrapping_id))


def test_what_an_itr_and_what_a_map_server_sends_are_not_mixed_up() -> None:
    lisp_sec_auth.require_itr_request(security_in(FROM_ITR))
    lisp_sec_auth.require_map_server_request(security_in(TO_ETR))

    with pytest.raises(AuthenticationFailed, match="vouches"):
        lisp_sec_auth.require_itr_request(security_in(TO_ETR))
    with pytest.raises(AuthenticationFailed, match="EID-AD"):
        lisp_sec_auth.require_map_server_request(security_in(FROM_ITR))
    with pytest.raises(AuthenticationFailed, match="unknown"):
        lisp_sec_auth.require_map_server_request(replace(security_in(TO_ETR), requested_hmac_id=9))


@pytest.mark.parametrize("octets", [0, 16, 23, 25, 32])
def test_a_one_time_key_of_another_length_is_cut_off(octets: int) -> None:
    raw = replace(security_in(FROM_ITR), one_time_key=bytes(octets)).encode()

    with pytest.raises(MalformedMessage, match="rx_truncated"):
        EcmSecurity.take(Reader(raw))
