"""Names as EIDs (AFI 17, RFC 9735), compared as the names of flows are: letters A to Z without case. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.record import Locator, MappingRecord

NAME_OCTETS: Final = 255
EIDS_OF_NAME: Final = 8  # ours: addresses of one host
_PRINTABLE: Final = re.compile(rb"[\x20-\x7e]{1,255}")
_LOWER: Final = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")


def folded(name: bytes) -> bytes:
    """What two names are compared by."""
    return name.translate(_LOWER)


def may_be_name(name: bytes) -> bool:
    """True for what RFC 9735 lets be the name of an EID: US-ASCII without control characters, and not nothing."""
    return _PRINTABLE.fullmatch(name) is not None


def name_of(eid: WireAddress) -> bytes | None:
    """The name, folded, that an EID consists of; None when it is no name, or one that may not be."""
    return folded(eid.name) if isinstance(eid, DistinguishedName) and may_be_name(eid.name) else None


def name_mask_len(name: bytes) -> int:
    """The mask length of a name as EID: the bits of the name with its NUL; 0 where eight bits do not hold that."""
    bits = 8 * (len(name) + 1)
    return bits if bits <= 0xFF else 0


def may_be_mask_len(name: bytes, mask_len: int) -> bool:
    """True for what others send as the mask length of a name: with its NUL, without it, or "all of it"."""
    return mask_len in (0, 8 * len(name), 8 * (len(name) + 1)) or (mask_len == 0xFF and not name_mask_len(name))


def may_be_asked(name: bytes, mask_len: int) -> bool:
    """True for a question about a name that somebody could have; the empty name is one (RFC 9735, 3), and nobody's."""
    return (not name or may_be_name(name)) and may_be_mask_len(name, mask_len)


def covers_name(record: MappingRecord, name: bytes) -> bool:
    """True for an answer about a shorter name that this folded one begins with (RFC 9735, 5): nobody has this one."""
    found = name_of(record.eid)
    return found is not None and found != name and name.startswith(found)


def name_record(
    name: bytes, eids: Iterable[IpAddress], *, ttl_min: int, is_authoritative: bool = False
) -> MappingRecord:
    """The mapping of a name: its locators are the EIDs of its host, to which nobody encapsulates."""
    locators = tuple(Locator(eid) for eid in sorted(eids, key=lambda eid: (eid.version, int(eid)))[:EIDS_OF_NAME])
    mask_len = name_mask_len(name)
    return MappingRecord(DistinguishedName(name), mask_len, locators, ttl_min, is_authoritative=is_authoritative)
