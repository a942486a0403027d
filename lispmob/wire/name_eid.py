"""Names as EIDs (AFI 17, RFC 9735), compared without regard to the case of A to Z, as the names of flows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.record import Locator, MappingRecord

NAME_OCTETS: Final = 255
EIDS_OF_NAME: Final = 8  # ours: addresses of a host
_PRINTABLE: Final = re.compile(rb"[\x20-\x7e]{1,255}")
_LOWER: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")


def folded(name: bytes) -> bytes:
    """The name in lower case: two names are equal if these are."""
    return name.translate(_LOWER)


def may_be_name(name: bytes) -> bool:
    """True for what RFC 9735 permits as the name of an EID: US-ASCII without control characters, not empty."""
    return _PRINTABLE.fullmatch(name) is not None


def name_of(eid: WireAddress) -> bytes | None:
    """The name of an EID in lower case; None when the EID is no name, or an invalid one."""
    return folded(eid.name) if isinstance(eid, DistinguishedName) and may_be_name(eid.name) else None


def name_mask_len(name: bytes) -> int:
    """The mask length of a name as EID: the bits of the name with its NUL; 0 if that does not fit into eight bits."""
    bits = 8 * (len(name) + 1)
    return bits if bits <= 0xFF else 0


def may_be_mask_len(name: bytes, mask_len: int) -> bool:
    """True for the mask lengths that implementations send for a name: with its NUL, without it, or "all of it"."""
    return mask_len in (0, 8 * len(name), 8 * (len(name) + 1)) or (mask_len == 0xFF and not name_mask_len(name))


def may_be_asked(name: bytes, mask_len: int) -> bool:
    """True for a question about a valid name, or about the empty name, which has no owner (RFC 9735, 3)."""
    return (not name or may_be_name(name)) and may_be_mask_len(name, mask_len)


def covers_name(record: MappingRecord, name: bytes) -> bool:
    """True for a negative answer: its EID is a shorter name that the folded `name` begins with (RFC 9735, 5)."""
    found = name_of(record.eid)
    return found is not None and found != name and name.startswith(found)


def name_record(
    name: bytes, eids: Iterable[IpAddress], *, ttl_min: int, is_authoritative: bool = False
) -> MappingRecord:
    """The mapping of a name. Its locators are the EIDs of the name's host; they are never encapsulated to."""
    locators = tuple(Locator(eid) for eid in sorted(eids, key=lambda eid: (eid.version, int(eid)))[:EIDS_OF_NAME])
    mask_len = name_mask_len(name)
    return MappingRecord(DistinguishedName(name), mask_len, locators, ttl_min, is_authoritative=is_authoritative)
