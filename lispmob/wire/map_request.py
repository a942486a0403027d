"""Map-Request: asks for the mapping of an EID. Also RLOC-probe, Solicit-Map-Request and subscription.

RFC 9301, 5.2; RFC 9437.
"""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix
from lispmob.wire.eid import from_prefix, take_eid, take_known_address, to_prefix
from lispmob.wire.header import Flags, MessageType, flag_word, has_bit, open_message, put_site, read_flags, take_site
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.reader import Reader
from lispmob.wire.record import MappingRecord, check_record_count, take_record

ITR_RLOC_LIMIT: Final = 32  # the field: five bits, "minus one"

_HAS_MAPPING: Final = 5
_IS_PROBE: Final = 6
_HAS_SITE: Final = 11
_FLAGS: Final[Flags] = {
    4: "wants_authoritative",  # A
    6: "is_probe",  # P
    7: "is_smr",  # S
    8: "is_pitr",  # p
    9: "is_smr_invoked",  # s
    10: "is_mobile_node",  # m, of the LISP-MN draft
    17: "is_local_xtr",  # L
    18: "dont_map_reply",  # D
}


class EidRecord(msgspec.Struct, frozen=True):
    """An EID-Prefix to ask for. `wants_notify` (N, RFC 9437) subscribes to its changes."""

    eid: WireAddress
    mask_len: int
    wants_notify: bool = False

    @classmethod
    def of(cls, prefix: EidPrefix, *, wants_notify: bool = False) -> EidRecord:
        """A record for an IP prefix."""
        return cls(from_prefix(prefix), prefix.mask_len, wants_notify)

    @property
    def eid_prefix(self) -> EidPrefix | None:
        """The IP prefix, host bits cleared; None when the EID is something else."""
        return to_prefix(self.eid, self.mask_len)

    def encode(self) -> bytes:
        """The record's octets."""
        return bytes((self.wants_notify << 7, self.mask_len)) + put_address(self.eid)


class MapRequest(msgspec.Struct, frozen=True):
    """A request for mappings. We send one record; the answer goes to one of `itr_rlocs`, with the same nonce.

    `source_eid` is the EID whose packet missed the map-cache; in an SMR the EID that moved; None in a probe. `mapping`
    (M) is the sender's own mapping, which is not authenticated. `xtr_id` (I) and `site_id` go together.
    """

    nonce: int
    source_eid: WireAddress
    itr_rlocs: tuple[WireAddress, ...]
    records: tuple[EidRecord, ...]
    wants_authoritative: bool = False
    mapping: MappingRecord | None = None
    is_probe: bool = False
    is_smr: bool = False
    is_pitr: bool = False
    is_smr_invoked: bool = False
    is_mobile_node: bool = False
    dont_map_reply: bool = False
    is_local_xtr: bool = False
    xtr_id: bytes | None = None
    site_id: bytes | None = None

    def encode(self) -> bytes:
        """The message's octets. ValueError without ITR-RLOCs, or with more than 32."""
        if not 1 <= len(self.itr_rlocs) <= ITR_RLOC_LIMIT:
            raise ValueError(f"a Map-Request names 1 to {ITR_RLOC_LIMIT} ITR-RLOCs, not {len(self.itr_rlocs)}")
        word = flag_word(MessageType.MAP_REQUEST, _FLAGS, self)
        word |= (self.mapping is not None) << 31 - _HAS_MAPPING | (self.xtr_id is not None) << 31 - _HAS_SITE
        word |= len(self.itr_rlocs) - 1 << 8
        return b"".join(
            (
                (word + len(self.records)).to_bytes(4),
                self.nonce.to_bytes(8),
                put_address(self.source_eid),
                *map(put_address, self.itr_rlocs),
                *(record.encode() for record in self.records),
                self.mapping.encode() if self.mapping else b"",
                put_site(self.xtr_id, self.site_id),
            )
        )

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |Type=1 |A|M|P|S|p|s|m|I|  Rsvd   |L|D|   IRC   | Record Count  |
    # |                            Nonce (64)                         |
    # |         Source-EID-AFI        |   Source EID Address ...      |
    # |         ITR-RLOC-AFI          |   ITR-RLOC Address ...        |   IRC + 1 times
    # |N|  Reserved   | EID mask-len  |        EID-Prefix-AFI         |  \ Record Count times
    # |                         EID-Prefix ...                        |  /
    # |                     Mapping record, if M                      |
    # |                   xTR-ID and Site-ID, if I                    |
    # |                  Zeros, in an RLOC-probe ...                  |
    @classmethod
    def decode(cls, data: bytes) -> MapRequest:
        """Read a Map-Request. Raises MalformedMessage."""
        reader, word = open_message(data, MessageType.MAP_REQUEST, 12)
        nonce = int.from_bytes(reader.take_bytes(8))
        source_eid = take_known_address(reader)
        itr_rlocs = tuple(take_known_address(reader) for _ in range((word >> 8 & 0x1F) + 1))
        record_count = word & 0xFF
        check_record_count(record_count)
        records = tuple(_take_eid_record(reader) for _ in range(record_count))
        mapping = take_record(reader) if has_bit(word, _HAS_MAPPING) else None
        xtr_id, site_id = take_site(reader) if has_bit(word, _HAS_SITE) else (None, None)
        if has_bit(word, _IS_PROBE) and mapping is None and xtr_id is None:
            reader.expect_padding()  # a probe of the path MTU is padded to the size that it tests
        else:
            reader.expect_end()
        request = cls(
            nonce,
            source_eid,
            itr_rlocs,
            records,
            mapping=mapping,
            xtr_id=xtr_id,
            site_id=site_id,
            **read_flags(word, _FLAGS),
        )
        _check_sense(request)
        return request


def _take_eid_record(reader: Reader) -> EidRecord:
    flags, mask_len = reader.take_u8(), reader.take_u8()
    return EidRecord(take_eid(reader, mask_len), mask_len, bool(flags & 0x80))


def _check_sense(request: MapRequest) -> None:
    """Raise `rx_policy` for a message that can be decoded but not answered."""
    if all(rloc is None for rloc in request.itr_rlocs) and not any(r.wants_notify for r in request.records):
        # With N it means "unsubscribe" (RFC 9437, 5).
        raise MalformedMessage("rx_policy", "no ITR-RLOC to answer to")
    if request.xtr_id is None and any(record.wants_notify for record in request.records):
        raise MalformedMessage("rx_policy", "a subscription that does not say whose it is (RFC 9437, 5)")
    if request.is_smr and request.is_smr_invoked:
        raise MalformedMessage("rx_policy", "an SMR that says it was provoked by an SMR")
    if (request.is_smr or request.is_probe) and len(request.records) > 1:
        raise MalformedMessage("rx_policy", "an SMR or RLOC-probe with more than one record")
