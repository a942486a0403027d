"""Map-Referral: a DDT node refers a Map-Resolver to other DDT nodes or Map-Servers (RFC 8111). Nodes drop it."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix
from lispmob.wire.eid import take_eid, to_prefix
from lispmob.wire.header import MessageType, open_message
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.reader import Reader
from lispmob.wire.record import LOCATORS_PER_MESSAGE_LIMIT, Locator, check_record_count, take_locators

_RECORD: Final = Struct(">IBBHH")
_SIGNATURE: Final = Struct(">IIIHHBxxx")


class Referral(IntEnum):
    """The result that a referral reports for the requested EID."""

    NODE = 0
    MS = 1
    MS_ACK = 2
    MS_NOT_REGISTERED = 3
    DELEGATION_HOLE = 4
    NOT_AUTHORITATIVE = 5


_REFERRALS: Final[tuple[Referral | int, ...]] = (*Referral, 6, 7)


class Signature(msgspec.Struct, frozen=True):
    """A signature over a referral record; times are seconds since 1970."""

    original_ttl_min: int
    expires_at_s: int
    valid_from_s: int
    key_tag: int
    algorithm_id: int
    signature: bytes

    def encode(self) -> bytes:
        """The octets."""
        times = (self.original_ttl_min, self.expires_at_s, self.valid_from_s)
        return _SIGNATURE.pack(*times, self.key_tag, len(self.signature), self.algorithm_id) + self.signature

    # |                 Original Record TTL, in minutes               |
    # |                      Signature Expiration                     |
    # |                      Signature Inception                      |
    # |            Key Tag            |        Signature Length       |
    # | Sig-Algorithm |                 Reserved                      |
    # ~                          Signature                            ~
    @classmethod
    def take(cls, reader: Reader) -> Signature:
        """Read a signature section."""
        ttl_min, expires_at_s, valid_from_s, key_tag, length, algorithm_id = reader.take(_SIGNATURE)
        return cls(ttl_min, expires_at_s, valid_from_s, key_tag, algorithm_id, reader.take_bytes(length))


class ReferralRecord(msgspec.Struct, frozen=True):
    """The next DDT nodes or Map-Servers, `locators`, to ask about an EID-Prefix."""

    eid: WireAddress
    mask_len: int
    referral: Referral | int
    locators: tuple[Locator, ...] = ()
    ttl_min: int = 1440
    is_authoritative: bool = False
    is_incomplete: bool = False
    map_version: int = 0
    signatures: tuple[Signature, ...] = ()

    @property
    def eid_prefix(self) -> EidPrefix | None:
        """The IP prefix, host bits cleared; None when the EID is something else."""
        return to_prefix(self.eid, self.mask_len)

    def encode(self) -> bytes:
        """The octets. ValueError for more than 15 signatures, the limit of the count field."""
        if len(self.signatures) > 15:
            raise ValueError(f"{len(self.signatures)} signatures, more than 15")
        bits = self.referral << 13 | self.is_authoritative << 12 | self.is_incomplete << 11
        version = len(self.signatures) << 12 | self.map_version
        head = _RECORD.pack(self.ttl_min, len(self.locators), self.mask_len, bits, version)
        locators = b"".join([locator.encode() for locator in self.locators])
        return head + put_address(self.eid) + locators + b"".join([part.encode() for part in self.signatures])

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |                     Record TTL, in minutes                    |
    # |Referral Count | EID mask-len  | ACT |A|I|     Reserved        |
    # |SigCnt |  Map-Version Number   |            EID-AFI            |
    # |                         EID-Prefix ...                        |
    # |             Locators, Referral Count of them                  |
    # |             Signature sections, SigCnt of them                |
    @classmethod
    def take(cls, reader: Reader) -> ReferralRecord:
        """Read one record."""
        ttl_min, locator_count, mask_len, bits, version = reader.take(_RECORD)
        eid = take_eid(reader, mask_len)
        locators = take_locators(reader, locator_count)
        signatures = tuple(Signature.take(reader) for _ in range(version >> 12))
        return cls(
            eid,
            mask_len,
            _REFERRALS[bits >> 13],
            locators,
            ttl_min,
            bool(bits & 0x1000),
            bool(bits & 0x0800),
            version & 0xFFF,
            signatures,
        )


class MapReferral(msgspec.Struct, frozen=True):
    """An answer of the delegated database tree."""

    nonce: int
    records: tuple[ReferralRecord, ...]

    def encode(self) -> bytes:
        """The message's octets."""
        head = (MessageType.MAP_REFERRAL << 28 | len(self.records)).to_bytes(4) + self.nonce.to_bytes(8)
        return head + b"".join([record.encode() for record in self.records])

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |Type=6 |                Reserved               | Record Count  |
    # |                            Nonce (64)                         |
    # |                Referral record, Record Count times            |
    @classmethod
    def decode(cls, data: bytes) -> MapReferral:
        """Read a Map-Referral. Raises MalformedMessage."""
        reader, word = open_message(data, MessageType.MAP_REFERRAL, 12)
        nonce = int.from_bytes(reader.take_bytes(8))
        check_record_count(word & 0xFF)
        records = tuple(ReferralRecord.take(reader) for _ in range(word & 0xFF))
        reader.expect_end()
        if sum(len(record.locators) for record in records) > LOCATORS_PER_MESSAGE_LIMIT:
            raise MalformedMessage("rx_limit", f"more than {LOCATORS_PER_MESSAGE_LIMIT} locators in a message")
        return cls(nonce, records)
