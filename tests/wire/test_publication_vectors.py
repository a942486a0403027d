"""The key of a subscription (RFC 9437, 7.1), and what it signs, octet for octet as computed by independent code."""

from __future__ import annotations

from lispmob.hub.publishing.subscription import key_of
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import sign, verify
from lispmob.wire.lisp_sec_auth import publication_key
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import ip

OTK, NONCE = bytes(range(16)), 0x0123456789ABCDEF
KEY_ID = 1
SECRET = bytes.fromhex("5592c07d8f00129e9d74b811cdc4bbf5")
CONFIRMED = bytes.fromhex(
    "400000010123456789abcdef0102002004ea9c8dc6cb227ae403078403dc34f9eb96a36d9a94cc5a36eefbb46f375e1d"
    "000005a001101000000000010a0200000164ff0000050001cb007105"
)
GONE = bytes.fromhex(
    "400000010123456789abcdf001020020042edec1304f9d6e007fc2e60f24c844e97573cf9ff5d8f96e7eb2b68110b221"
    "0000000000100000000000010a020000"
)


def test_the_key_follows_from_one_time_key_and_nonce() -> None:
    assert publication_key(OTK, NONCE) == SECRET
    assert publication_key(OTK, NONCE + 1) != SECRET


def test_a_confirmation_and_a_publication_have_these_octets() -> None:
    prefix = EidPrefix.parse("10.2.0.0/16")
    there = MappingRecord.of(prefix, (Locator(ip("203.0.113.5"), is_local=True),), is_authoritative=True)
    gone = MappingRecord.of(prefix, ttl_min=0)

    assert sign(MapNotify(NONCE, (there,)), key_of(SECRET, KEY_ID)) == CONFIRMED
    assert sign(MapNotify(NONCE + 1, (gone,)), key_of(SECRET, KEY_ID)) == GONE


def test_both_verify_and_say_the_same_again() -> None:
    for octets in (CONFIRMED, GONE):
        verify(octets, key_of(SECRET, KEY_ID))
        assert MapNotify.decode(octets).encode() == octets
