"""LISP-SEC authentication data (RFC 9303) in an ECM and in a Map-Reply; `lisp_sec_auth.py` computes it.

The decoder checks every length field, so that also a receiver that does not use LISP-SEC finds what follows the data.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.eid import take_eid
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.reader import Reader
from lispmob.wire.record import RECORD_LIMIT

AD_LISP_SEC: Final = 1
AD_MS_RTR: Final = 2  # NAT-traversal draft
WRAPPED_OTK_OCTETS: Final = 24  # 64 bits of preamble, 128 of key
PKT_HMAC_OCTETS: Final = (12, 16, 20, 32)  # truncated as the names of HMAC IDs 1 and 2 say, and whole

_ECM_AD: Final = Struct(">BBHHBB")
_LENGTH_AND_ID: Final = Struct(">HH")
_EID_RECORDS: Final = Struct(">BBH")
_EID: Final = Struct(">BB")


class AuthorizedEid(msgspec.Struct, frozen=True):
    """An EID-Prefix for which the Map-Server authenticates the answer."""

    eid: WireAddress
    mask_len: int


class EidAuthentication(msgspec.Struct, frozen=True):
    """The EID-AD. An ITR sends the KDF ID alone; the Map-Server adds the EID-Prefixes and its HMAC over them."""

    kdf_id: int
    hmac_id: int = 0
    eids: tuple[AuthorizedEid, ...] = ()
    hmac: bytes = b""
    has_e_bit: bool = False

    def encode(self) -> bytes:
        """The octets."""
        body = b""
        if self.eids or self.hmac or self.hmac_id:
            body = _EID_RECORDS.pack(len(self.eids), self.has_e_bit << 7, self.hmac_id)
            body += b"".join(bytes((0, entry.mask_len)) + put_address(entry.eid) for entry in self.eids) + self.hmac
        return _LENGTH_AND_ID.pack(_LENGTH_AND_ID.size + len(body), self.kdf_id) + body

    # |        EID-AD Length          |            KDF ID             |
    # | Record Count  |E| Unassigned  |         EID HMAC ID           |  \
    # |  Unassigned   | EID mask-len  |           EID-AFI             |   | from a Map-Server; the middle part
    # |   EID-Prefix ...                                              |   | Record Count times
    # |   EID HMAC ...                                                |  /
    @classmethod
    def take(cls, reader: Reader) -> EidAuthentication:
        """Read an EID-AD. Raises MalformedMessage when its lengths do not agree."""
        length, kdf_id = reader.take(_LENGTH_AND_ID)
        if length < _LENGTH_AND_ID.size:
            raise MalformedMessage("rx_truncated", f"EID-AD Length {length}")
        body = reader.window(length - _LENGTH_AND_ID.size, "rx_truncated")
        if not body.remaining:
            return cls(kdf_id)
        count, flags, hmac_id = body.take(_EID_RECORDS)
        if count > RECORD_LIMIT:
            raise MalformedMessage("rx_limit", f"{count} EIDs in an EID-AD, more than {RECORD_LIMIT}")
        eids = []
        for _ in range(count):
            _unassigned, mask_len = body.take(_EID)
            eids.append(AuthorizedEid(take_eid(body, mask_len), mask_len))
        return cls(kdf_id, hmac_id, tuple(eids), body.take_rest(), bool(flags & 0x80))


class EcmSecurity(msgspec.Struct, frozen=True):
    """The AD of an ECM: the One-Time-Key, wrapped for the next hop of the Map-Request."""

    requested_hmac_id: int
    key_id: int
    wrapping_id: int
    one_time_key: bytes  # wrapped
    eid: EidAuthentication

    def encode(self) -> bytes:
        """The octets, including the AD type."""
        head = _ECM_AD.pack(
            AD_LISP_SEC, 0, self.requested_hmac_id, len(self.one_time_key), self.key_id, self.wrapping_id
        )
        return head + self.one_time_key + self.eid.encode()

    # |  AD Type = 1  |  Unassigned   |      Requested HMAC ID        |
    # |          OTK Length           |    Key ID     | OTK Wrap. ID  |
    # |   One-Time-Key preamble (64), One-Time-Key (128)              |
    # |   EID-AD ...                                                  |
    @classmethod
    def take(cls, reader: Reader) -> EcmSecurity:
        """Read the AD of an ECM."""
        ad_type, _unassigned, hmac_id, key_length, key_id, wrapping_id = reader.take(_ECM_AD)
        if ad_type != AD_LISP_SEC:
            raise MalformedMessage("rx_truncated", f"authentication data of type {ad_type}, which LISP-SEC's is not")
        if key_length != WRAPPED_OTK_OCTETS:
            raise MalformedMessage("rx_truncated", f"OTK Length {key_length}")
        return cls(hmac_id, key_id, wrapping_id, reader.take_bytes(key_length), EidAuthentication.take(reader))


class MapReplySecurity(msgspec.Struct, frozen=True):
    """The AD of a Map-Reply: the Map-Server's authenticated EID-Prefixes, and the ETR's HMAC over the whole message."""

    eid: EidAuthentication
    packet_hmac_id: int
    packet_hmac: bytes

    def encode(self) -> bytes:
        """The octets, including the AD type."""
        length = _LENGTH_AND_ID.size + len(self.packet_hmac)
        packet = _LENGTH_AND_ID.pack(length, self.packet_hmac_id) + self.packet_hmac
        return bytes((AD_LISP_SEC, 0, 0, 0)) + self.eid.encode() + packet

    @classmethod
    def decode(cls, data: bytes) -> MapReplySecurity:
        """Read the octets of `MapReply.security`."""
        reader = Reader(data)
        security = cls.take(reader)
        reader.expect_end()
        return security

    # |  AD Type = 1  |            Unassigned                         |
    # |   EID-AD ...                                                  |
    # |         PKT-AD Length         |         PKT HMAC ID           |
    # |   PKT HMAC ...                                                |
    @classmethod
    def take(cls, reader: Reader) -> MapReplySecurity:
        """Read the AD of a Map-Reply."""
        ad_type = reader.take_u32() >> 24
        if ad_type != AD_LISP_SEC:
            raise MalformedMessage("rx_truncated", f"authentication data of type {ad_type}, which LISP-SEC's is not")
        eid = EidAuthentication.take(reader)
        length, hmac_id = reader.take(_LENGTH_AND_ID)
        if length - _LENGTH_AND_ID.size not in PKT_HMAC_OCTETS:
            raise MalformedMessage("rx_truncated", f"PKT-AD Length {length}")
        return cls(eid, hmac_id, reader.take_bytes(length - _LENGTH_AND_ID.size))
