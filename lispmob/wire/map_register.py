"""Map-Register: an ETR registers the locators of its EID-Prefixes with a Map-Server (RFC 9301, 5.6)."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.wire.header import (
    Flags,
    MessageType,
    flag_word,
    has_bit,
    open_message,
    put_authentication,
    put_site,
    read_flags,
    take_authentication,
    take_site,
)
from lispmob.wire.record import MappingRecord, take_records

_HAS_SITE: Final = 6
_FLAGS: Final[Flags] = {
    4: "proxy_map_reply",  # P
    5: "has_lisp_sec",  # S
    7: "is_for_rtr",  # R of NAT drafts before -04
    19: "wants_eid_notify",  # E
    20: "uses_ttl",  # T
    21: "wants_merge",  # a
    22: "is_mobile_node",  # m, of the LISP-MN draft
    23: "want_map_notify",  # M
}


class MapRegister(msgspec.Struct, frozen=True):
    """A registration. Its nonce is a counter: every Map-Register has a larger nonce than those before it.

    `uses_ttl` (T): the registration is valid for its Record TTL rather than for three minutes. `wants_merge` (a): merge
    it with what other xTRs register for the EID. `auth.sign` fills in Key ID, Algorithm ID and Authentication Data.
    """

    nonce: int
    records: tuple[MappingRecord, ...]
    key_id: int = 0
    algorithm_id: int = 0
    authentication: bytes = b""
    proxy_map_reply: bool = False
    has_lisp_sec: bool = False
    is_for_rtr: bool = False
    wants_eid_notify: bool = False
    uses_ttl: bool = False
    wants_merge: bool = False
    is_mobile_node: bool = False
    want_map_notify: bool = False
    xtr_id: bytes | None = None
    site_id: bytes | None = None

    def encode(self) -> bytes:
        """The message's octets."""
        word = flag_word(MessageType.MAP_REGISTER, _FLAGS, self) | (self.xtr_id is not None) << 31 - _HAS_SITE
        return b"".join(
            (
                (word + len(self.records)).to_bytes(4),
                self.nonce.to_bytes(8),
                put_authentication(self.key_id, self.algorithm_id, self.authentication),
                *(record.encode() for record in self.records),
                put_site(self.xtr_id, self.site_id),
            )
        )

    #  0                   1                   2                   3
    #  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    # +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    # |Type=3 |P|S|I|R|      Reserved       |E|T|a|m|M| Record Count  |
    # |                            Nonce (64)                         |
    # |    Key ID     | Algorithm ID  |  Authentication Data Length   |
    # ~                     Authentication Data                       ~
    # |                 Mapping record, Record Count times            |
    # |                   xTR-ID and Site-ID, if I                    |
    @classmethod
    def decode(cls, data: bytes) -> MapRegister:
        """Read a Map-Register. Raises MalformedMessage. Does not verify the authentication; `auth.verify` does."""
        reader, word = open_message(data, MessageType.MAP_REGISTER, 16)
        nonce = int.from_bytes(reader.take_bytes(8))
        key_id, algorithm_id, authentication = take_authentication(reader)
        records = take_records(reader, word & 0xFF)
        xtr_id, site_id = take_site(reader) if has_bit(word, _HAS_SITE) else (None, None)
        reader.expect_end()
        return cls(
            nonce,
            records,
            key_id,
            algorithm_id,
            authentication,
            xtr_id=xtr_id,
            site_id=site_id,
            **read_flags(word, _FLAGS),
        )


def xtr_id_in(data: bytes) -> bytes | None:
    """The xTR-ID at the end of a Map-Register that was decoded before; None without an xTR-ID."""
    has_site = len(data) >= 28 and has_bit(int.from_bytes(data[:4]), _HAS_SITE)
    return data[-24:-8] if has_site else None
