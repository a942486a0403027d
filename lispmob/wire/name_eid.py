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


def name_record(
    name: bytes, eids: Iterable[IpAddress], *, ttl_min: int, is_authoritative: bool = False
) -> MappingRecord:
    """The mapping of a name: its locators are the EIDs of its host, to which nobody encapsulates.

    The mask length is 0, for eight bits do not hold the length of every name.
    """
    locators = tuple(Locator(eid) for eid in sorted(eids, key=lambda eid: (eid.version, int(eid)))[:EIDS_OF_NAME])
    return MappingRecord(DistinguishedName(name), 0, locators, ttl_min, is_authoritative=is_authoritative)
