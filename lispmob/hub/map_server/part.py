"""The registration of one EID-Prefix by one xTR (RFC 9301, 5.6)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from lispmob.wire.address import IpAddress
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import MappingRecord

LIFETIME_S: Final = 180.0  # RFC 9301, 8.2: three minutes without a Map-Register
MAX_LIFETIME_S: Final = 86400.0  # ours: the longest Record TTL that a T=1 Map-Register may set


@dataclass(frozen=True, slots=True)
class XtrRegistration:
    """The last registration of one EID-Prefix by one xTR. `xtr` distinguishes the merged xTRs of a prefix."""

    xtr: bytes
    record: MappingRecord
    expires_at: float
    registered_at: float
    nonce: int
    source: IpAddress
    proxy_map_reply: bool
    wants_merge: bool
    xtr_id: bytes | None = None
    site_id: bytes | None = None
    encoded: bytes = b""
    """The record's octets."""
    interval_s: float = 0.0
    """Between its last two Map-Registers; 0: there was only one."""
    has_lisp_sec: bool = False
    """It signs Map-Replies to requests with LISP-SEC."""
    key_index: int | None = dataclasses.field(default=None, compare=False)
    """The site key that authenticated it; None: unknown since a restart."""

    @classmethod
    def of(
        cls,
        register: MapRegister,
        record: MappingRecord,
        source: IpAddress,
        now: float,
        key_index: int | None = None,
    ) -> XtrRegistration:
        """One record of a verified Map-Register, as of now."""
        lifetime_s = min(60.0 * record.ttl_min, MAX_LIFETIME_S) if register.uses_ttl else LIFETIME_S
        return cls(
            xtr_of(register, source),
            record,
            now + lifetime_s,
            now,
            register.nonce,
            source,
            register.proxy_map_reply,
            register.wants_merge,
            register.xtr_id,
            register.site_id,
            record.encode(),
            has_lisp_sec=register.has_lisp_sec,
            key_index=key_index,
        )

    @property
    def octets(self) -> int:
        """The length of the record."""
        return len(self.encoded)


def xtr_of(register: MapRegister, source: IpAddress) -> bytes:
    """The identity of the xTR: its xTR-ID, or else its address; all zero means "unspecified"."""
    if register.xtr_id is not None and any(register.xtr_id):
        return register.xtr_id
    return source.packed
