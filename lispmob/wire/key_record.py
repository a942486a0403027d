"""The key record (ours): a node's static public keys as an additional locator, the last, of its mapping.

    |  Priority 255, Weight 0, R = 0  |  AFI = LCAF, Type 11 (RFC 8060, 4.7), suite 241  |  1 or 2 keys  |  AFI = 0  |

It belongs to the EID-Prefix, whatever the other locators are. It has no address, so nothing is ever sent to it.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.wire.lcaf_types import SecurityKey
from lispmob.wire.record import Locator, MappingRecord
from lispmob.wire.sealed_handshake import SUITE

KEY_OCTETS: Final = 32
KEYS_MAX: Final = 2  # ours: the old and the new key during a key change
_NEVER: Final = 255


class KeyRecord(msgspec.Struct, frozen=True):
    """The static public keys of an EID-Prefix, preferred key first. Revoked keys must no longer be used."""

    keys: tuple[bytes, ...]
    is_revoked: bool = False

    def to_locator(self) -> Locator:
        """The keys as a locator of a mapping record. ValueError for an invalid key record."""
        if not 1 <= len(self.keys) <= KEYS_MAX or any(len(key) != KEY_OCTETS for key in self.keys):
            raise ValueError(f"a key record has 1 to {KEYS_MAX} keys of {KEY_OCTETS} octets")
        address = SecurityKey(SUITE, self.keys, None, self.is_revoked)
        return Locator(address, priority=_NEVER, weight=0, is_reachable=False)


def is_key_record(locator: Locator) -> bool:
    """True for a locator that holds keys of our suite and no address."""
    address = locator.address
    return isinstance(address, SecurityKey) and address.cipher_suite == SUITE and address.address is None


def without_key_record(record: MappingRecord) -> MappingRecord:
    """The mapping for receivers that cannot verify the keys' owner."""
    if not any(map(is_key_record, record.locators)):
        return record
    return replace(record, locators=tuple(locator for locator in record.locators if not is_key_record(locator)))


def take_key_record(record: MappingRecord) -> tuple[MappingRecord, KeyRecord | None]:
    """Split a mapping into the mapping without its key record, and that record.

    Raises MalformedMessage for two key records, or other keys.
    """
    found = [locator.address for locator in record.locators if is_key_record(locator)]
    if not found:
        return record, None
    bare = without_key_record(record)
    address = found[0]
    assert isinstance(address, SecurityKey)
    if len(found) > 1 or not 1 <= len(address.keys) <= KEYS_MAX or any(len(key) != KEY_OCTETS for key in address.keys):
        raise MalformedMessage("rx_lcaf", f"a key record of {len(address.keys)} keys, {len(found)} in one mapping")
    return bare, KeyRecord(address.keys, address.is_revoked)
