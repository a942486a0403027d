"""The soft state of one registered EID-Prefix: who registered it, with which locators, for how long (RFC 9301, 8.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import field, replace
from typing import Final

from lispmob.hub.host_address import is_sendable
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key
from lispmob.wire.lcaf import put_address
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import LOCATORS_PER_RECORD_LIMIT, Locator, MappingRecord

LIFETIME_S: Final = 180.0  # RFC 9301, 8.2: three minutes without a Map-Register
MAX_LIFETIME_S: Final = 86400.0  # ours: what a Record TTL in a T=1 Map-Register may ask for
RESTART_STEP: Final = 1 << 32  # ours: nonces of lispd begin at the clock, in nanoseconds, and fall behind it from there
MAX_XTRS: Final = 16  # ours: xTRs whose locators are merged for one prefix


@dataclass(frozen=True, slots=True)
class XtrRegistration:
    """What one xTR last registered for one EID-Prefix. `xtr` tells the merged xTRs of a prefix apart."""

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
    octets: int = 0
    """How long the record is, as it came."""
    interval_s: float = 0.0
    """Between its last two Map-Registers; 0: there was one."""
    has_lisp_sec: bool = False
    """It signs Map-Replies when it is asked with LISP-SEC."""
    key: Key | None = field(default=None, repr=False, compare=False)
    """That it proved itself with; None: not known any more since a restart."""

    @classmethod
    def of(
        cls, register: MapRegister, record: MappingRecord, source: IpAddress, now: float, key: Key | None = None
    ) -> XtrRegistration:
        """What a verified Map-Register says about one of its records, as of now."""
        lifetime_s = min(60.0 * record.ttl_min, MAX_LIFETIME_S) if register.uses_ttl else LIFETIME_S
        return cls(
            xtr=xtr_of(register, source),
            record=record,
            expires_at=now + lifetime_s,
            registered_at=now,
            nonce=register.nonce,
            source=source,
            proxy_map_reply=register.proxy_map_reply,
            wants_merge=register.wants_merge,
            xtr_id=register.xtr_id,
            site_id=register.site_id,
            octets=len(record.encode()),
            has_lisp_sec=register.has_lisp_sec,
            key=key,
        )


def xtr_of(register: MapRegister, source: IpAddress) -> bytes:
    """Which xTR is speaking: its xTR-ID, or else its address; all zero means "unspecified"."""
    if register.xtr_id is not None and any(register.xtr_id):
        return register.xtr_id
    return source.packed


class Registration:
    """One EID-Prefix as it stands: the last Map-Register, or the union of several xTRs that asked for merging."""

    def __init__(self, prefix: EidPrefix) -> None:
        self.prefix = prefix
        self._xtrs: dict[bytes, XtrRegistration] = {}
        self.record: MappingRecord | None = None

    def __iter__(self) -> Iterator[XtrRegistration]:
        """Every xTR's part, the one heard of longest ago first."""
        return iter(self._xtrs.values())

    @property
    def octets(self) -> int:
        """What all xTRs' records take."""
        return sum(part.octets for part in self._xtrs.values())

    def addresses(self) -> Iterator[IpAddress]:
        """Where its xTRs speak from, and all of their locators."""
        for part in self._xtrs.values():
            yield part.source
            for locator in part.record.locators:
                yield from locator.ips

    def octets_of(self, part: XtrRegistration) -> int:
        """What the records take that this part would replace."""
        if not part.wants_merge:
            return self.octets
        return self._xtrs[part.xtr].octets if part.xtr in self._xtrs else 0

    @property
    def is_empty(self) -> bool:
        """True when nobody registers the prefix any more."""
        return not self._xtrs

    @property
    def is_proxied(self) -> bool:
        """True when every xTR wants the Map-Server to answer for it."""
        return all(xtr.proxy_map_reply for xtr in self._xtrs.values())

    @property
    def expires_at(self) -> float:
        """When the next xTR's part runs out. Only for a registration that is not empty."""
        return min(xtr.expires_at for xtr in self._xtrs.values())

    def has_room_for(self, part: XtrRegistration) -> bool:
        """False when one more xTR would be one too many to merge."""
        return not part.wants_merge or part.xtr in self._xtrs or len(self._xtrs) < MAX_XTRS

    def goes_on_with(self, part: XtrRegistration) -> bool:
        """False for a node that shows that it has forgotten what it knew, as by another count of nonces.

        Who sends no xTR-ID, or does not count, cannot show it.
        """
        former = self._xtrs.get(part.xtr)
        if not part.xtr_id or not any(part.xtr_id):
            return True
        return former is not None and 0 <= part.nonce - former.nonce < RESTART_STEP

    def put(self, part: XtrRegistration) -> bool:
        """Take in what an xTR says; True when the mapping is another one now.

        Without the merge bit it speaks for the whole prefix, and what others said before is gone.
        """
        if (former := self._xtrs.get(part.xtr)) is not None:
            part = replace(part, interval_s=part.registered_at - former.registered_at)
        if part.wants_merge:
            kept = {xtr: one for xtr, one in self._xtrs.items() if one.wants_merge and xtr != part.xtr}
            self._xtrs = {**kept, part.xtr: part}
        else:
            self._xtrs = {part.xtr: part}
        return self._recompute()

    def withdraw(self, xtr: bytes, *, wants_merge: bool) -> bool:
        """Forget one xTR of a merged prefix, else all of it; True when the mapping is another one now."""
        if wants_merge:
            self._xtrs.pop(xtr, None)
        else:
            self._xtrs.clear()
        return self._recompute()

    def clear(self) -> bool:
        """Forget everything; True when there was something."""
        self._xtrs.clear()
        return self._recompute()

    def expire(self, now: float) -> bool:
        """Forget what ran out; True when the mapping is another one now."""
        self._xtrs = {xtr: part for xtr, part in self._xtrs.items() if part.expires_at > now}
        return self._recompute()

    def _recompute(self) -> bool:
        before = self.record
        self.record = _merge(self._xtrs.values())
        return self.record != before


def _merge(parts: Iterable[XtrRegistration]) -> MappingRecord | None:
    """One record from all xTRs' ones: the latest, with every locator of the others that it does not have."""
    newest_first = list(parts)[::-1]
    if not newest_first:
        return None
    record = newest_first[0].record
    if len(newest_first) == 1:
        return record
    locators: dict[object, Locator] = {}
    for part in newest_first:
        for locator in part.record.locators:
            locators.setdefault(locator.address, locator)
    merged = sorted(locators.values(), key=_wire_order)[:LOCATORS_PER_RECORD_LIMIT]
    ttl_min = min(part.record.ttl_min for part in newest_first)
    return replace(record, locators=tuple(merged), ttl_min=ttl_min)


def _wire_order(locator: Locator) -> tuple[int, bytes]:
    """IPv4 before IPv6 before LCAF, each ascending (RFC 9301, 5.4): locator-status-bits count on it."""
    octets = put_address(locator.address)
    return int.from_bytes(octets[:2]), octets[2:]


def is_usable(locator: Locator) -> bool:
    """True when something may be sent to the locator."""
    return locator.is_reachable and locator.priority < 255 and bool(locator.ips)


def best_address(record: MappingRecord, families: Iterable[int], via: IpAddress) -> IpAddress | None:
    """Where to send a control message for the mapping's ETR: its best locator of a family that we have."""
    wanted = frozenset(families)
    usable = [locator for locator in record.locators if is_usable(locator)]
    for locator in sorted(usable, key=lambda locator: locator.priority):
        for address in locator.ips:
            if address.version in wanted and is_sendable(address, via):
                return address
    return None
