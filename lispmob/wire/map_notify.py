"""Map-Notify, a Map-Server's confirmation or publication, and Map-Notify-Ack (RFC 9301, 5.7 and 5.8; RFC 9437)."""

from __future__ import annotations

from typing import ClassVar, Final, Self

import msgspec

from lispmob.wire.header import (
    SITE_ID_OCTETS,
    XTR_ID_OCTETS,
    MessageType,
    has_bit,
    open_message,
    put_authentication,
    put_site,
    take_authentication,
    take_site,
)
from lispmob.wire.reader import Reader
from lispmob.wire.record import MappingRecord, take_records

_HAS_SITE: Final = 4
_HAS_RTR_AUTHENTICATION: Final = 5
_KEEPS_KEYS: Final = 18  # ours, of the reserved bits that receivers ignore (RFC 9301, 5.7)


# |    Key ID     | Algorithm ID  |  Authentication Data Length   |
# ~                     Authentication Data                       ~
class RtrAuthentication(msgspec.Struct, frozen=True):
    """A Map-Server's proof to an RTR that it sent the Map-Notify, made with a key that the two share.

    NAT-traversal drafts: after the message (before draft -04), or in the ECM around it as AD type 2.
    """

    key_id: int
    algorithm_id: int
    authentication: bytes

    def encode(self) -> bytes:
        """The octets, without an AD type in front."""
        return put_authentication(self.key_id, self.algorithm_id, self.authentication)

    @classmethod
    def take(cls, reader: Reader) -> RtrAuthentication:
        """Read it at the reader's position."""
        return cls(*take_authentication(reader))


class _Notification(msgspec.Struct, frozen=True):
    """The body that Map-Notify and Map-Notify-Ack share: that of the Map-Register, with a MAC of its own.

    RFC 9301 has no flags here. Deployed Map-Servers copy the xTR-ID trailer and set the NAT drafts' I bit;
    `is_site_flagged` is False for a trailer that came without that bit. `keeps_keys` (K, ours): this Map-Server stores
    key records (`key_record.py`), and shows them only to receivers that can verify their owner. The MAC covers the bit.
    """

    kind: ClassVar[MessageType]

    nonce: int
    records: tuple[MappingRecord, ...]
    key_id: int = 0
    algorithm_id: int = 0
    authentication: bytes = b""
    xtr_id: bytes | None = None
    site_id: bytes | None = None
    rtr_authentication: RtrAuthentication | None = None
    is_site_flagged: bool = True
    keeps_keys: bool = False

    def encode(self) -> bytes:
        """The message's octets."""
        word = self.kind << 28 | len(self.records)
        word |= (self.xtr_id is not None and self.is_site_flagged) << 31 - _HAS_SITE
        word |= (self.rtr_authentication is not None) << 31 - _HAS_RTR_AUTHENTICATION
        word |= self.keeps_keys << 31 - _KEEPS_KEYS
        return b"".join(
            (
                word.to_bytes(4),
                self.nonce.to_bytes(8),
                put_authentication(self.key_id, self.algorithm_id, self.authentication),
                *(record.encode() for record in self.records),
                put_site(self.xtr_id, self.site_id),
                self.rtr_authentication.encode() if self.rtr_authentication else b"",
            )
        )

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |Type   |I|R|       Reserved        |K| Reserved| Record Count  |
    # |                            Nonce (64)                         |
    # |    Key ID     | Algorithm ID  |  Authentication Data Length   |
    # ~                     Authentication Data                       ~
    # |                 Mapping record, Record Count times            |
    # |        xTR-ID and Site-ID, if I, or if they are there         |
    # |        RTR authentication, if R: not under the MAC            |
    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the message. Raises MalformedMessage. Does not verify the authentication; `auth.verify` does."""
        reader, word = open_message(data, cls.kind, 16)
        nonce = int.from_bytes(reader.take_bytes(8))
        key_id, algorithm_id, authentication = take_authentication(reader)
        records = take_records(reader, word & 0xFF)
        is_flagged = has_bit(word, _HAS_SITE)
        has_rtr = has_bit(word, _HAS_RTR_AUTHENTICATION)
        is_site = is_flagged or (not has_rtr and reader.remaining == XTR_ID_OCTETS + SITE_ID_OCTETS)
        xtr_id, site_id = take_site(reader) if is_site else (None, None)
        rtr_authentication = RtrAuthentication.take(reader) if has_rtr else None
        reader.expect_end()
        return cls(
            nonce,
            records,
            key_id,
            algorithm_id,
            authentication,
            xtr_id,
            site_id,
            rtr_authentication,
            is_flagged or not is_site,
            has_bit(word, _KEEPS_KEYS),
        )


class MapNotify(_Notification, msgspec.Struct, frozen=True):
    """The answer to a Map-Register that requested one, with its nonce; or an unsolicited notice of a change."""

    kind = MessageType.MAP_NOTIFY

    @property
    def nonce_octets_reversed(self) -> int:
        """The Map-Register's nonce if the sender, lispers.net on a little-endian machine, reversed its octets."""
        return int.from_bytes(self.nonce.to_bytes(8), "little")


class MapNotifyAck(_Notification, msgspec.Struct, frozen=True):
    """The acknowledgement of an unsolicited Map-Notify: the same contents with a MAC of its own."""

    kind = MessageType.MAP_NOTIFY_ACK
