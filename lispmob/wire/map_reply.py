"""Map-Reply: the mappings that a Map-Request asked for (RFC 9301, 5.4)."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.wire.header import Flags, MessageType, flag_word, has_bit, open_message, read_flags
from lispmob.wire.lisp_sec import MapReplySecurity
from lispmob.wire.record import MappingRecord, take_records

_HAS_SECURITY: Final = 6
_FLAGS: Final[Flags] = {
    4: "is_probe",  # P
    5: "has_echo_nonce",  # E
}


class MapReply(msgspec.Struct, frozen=True):
    """An answer, tied to its Map-Request only by the nonce. A record without locators is a negative answer.

    `security` (S) is the LISP-SEC authentication data as octets; `lisp_sec.MapReplySecurity.decode` reads them.
    """

    nonce: int
    records: tuple[MappingRecord, ...]
    is_probe: bool = False
    has_echo_nonce: bool = False
    security: bytes | None = None

    def encode(self) -> bytes:
        """The message's octets."""
        word = flag_word(MessageType.MAP_REPLY, _FLAGS, self) | (self.security is not None) << 31 - _HAS_SECURITY
        head = (word + len(self.records)).to_bytes(4) + self.nonce.to_bytes(8)
        return head + b"".join([record.encode() for record in self.records]) + (self.security or b"")

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |Type=2 |P|E|S|          Reserved               | Record Count  |
    # |                            Nonce (64)                         |
    # |                 Mapping record, Record Count times            |
    # |                 Authentication data, if S                     |
    @classmethod
    def decode(cls, data: bytes) -> MapReply:
        """Read a Map-Reply. Raises MalformedMessage."""
        reader, word = open_message(data, MessageType.MAP_REPLY, 12)
        nonce = int.from_bytes(reader.take_bytes(8))
        records = take_records(reader, word & 0xFF)
        security = None
        if has_bit(word, _HAS_SECURITY):
            start = reader.position
            MapReplySecurity.take(reader)
            security = data[start : reader.position]
        reader.expect_end()
        return cls(nonce, records, security=security, **read_flags(word, _FLAGS))
