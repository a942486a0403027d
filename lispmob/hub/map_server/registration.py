"""The soft state of one registered EID-Prefix: its xTRs, locators and lifetime (RFC 9301, 8.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.lcaf import put_address
from lispmob.wire.record import LOCATORS_PER_RECORD_LIMIT, Locator, MappingRecord

RESTART_STEP: Final = 1 << 32  # ours: lispd's nonces start at the clock, in nanoseconds, and then fall behind it
MAX_XTRS: Final = 16  # ours: xTRs whose locators are merged for one prefix


class Registration:
    """One EID-Prefix: the last Map-Register, or the union of several xTRs that requested merging.

    There may be a million, so it is stored as octets (`packed_part.py`), and decoded on demand. The owner of the table
    sets the rest: `site` is charged `octets`, and the registration is checked in the second `due`.
    """

    __slots__ = ("_parts", "due", "octets", "prefix", "site")

    def __init__(self, prefix: EidPrefix) -> None:
        self.prefix = prefix
        self._parts: tuple[bytes, ...] = ()  # the one heard longest ago first
        self.site = ""
        self.octets = 0
        self.due: int | None = None

    def __iter__(self) -> Iterator[XtrRegistration]:
        """Every xTR's part, the one heard longest ago first."""
        return map(packed_part.unpack, self._parts)

    @property
    def record(self) -> MappingRecord | None:
        """The mapping for answers; None if it is not registered."""
        if len(self._parts) == 1:
            return packed_part.record_of(self._parts[0])
        return _merge(self)

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Every xTR's part as octets, the one heard longest ago first."""
        return self._parts

    def restore(self, parts: Iterable[bytes]) -> None:
        """Restore the parts, as `parts` returned them before a restart."""
        self._parts = tuple(parts)

    def octets_of(self, part: XtrRegistration) -> int:
        """The size of the records that this part would replace."""
        if not part.wants_merge:
            return sum(packed_part.record_octets(datagram) for datagram in self._parts)
        former = self.part_of(part.xtr)
        return packed_part.record_octets(former) if former is not None else 0

    @property
    def is_empty(self) -> bool:
        """True when it has no part any more."""
        return not self._parts

    @property
    def is_proxied(self) -> bool:
        """True when every xTR wants the Map-Server to answer for it."""
        return all(map(packed_part.is_proxied, self._parts))

    @property
    def expires_at(self) -> float:
        """When the next xTR's part expires. Only for a non-empty registration."""
        return min(map(packed_part.expires_at, self._parts))

    def is_held_by(self, part: XtrRegistration) -> bool:
        """True when this xTR is the only one."""
        return len(self._parts) == 1 and packed_part.xtr_of(self._parts[0]) == part.xtr

    def has_room_for(self, part: XtrRegistration) -> bool:
        """False when another xTR would exceed the limit of merged ones."""
        return not part.wants_merge or len(self._parts) < MAX_XTRS or self.part_of(part.xtr) is not None

    def goes_on_with(self, part: XtrRegistration) -> bool:
        """False for a node that has shown that it lost its memory, by a new count of nonces.

        A node without an xTR-ID, or that does not count, cannot show it.
        """
        if not part.xtr_id or not any(part.xtr_id):
            return True
        former = self.part_of(part.xtr)
        return former is not None and 0 <= part.nonce - packed_part.nonce_of(former) < RESTART_STEP

    def put(self, part: XtrRegistration) -> bool:
        """Apply an xTR's part; True when the mapping has changed.

        Without the merge bit it speaks for the whole prefix, and replaces all others.
        """
        former = self.part_of(part.xtr)
        interval_s = 0.0 if former is None else part.registered_at - packed_part.registered_at(former)
        packed = packed_part.pack(part, interval_s)
        if not part.wants_merge:
            if len(self._parts) == 1 and packed_part.is_same_record(self._parts[0], packed):
                self._parts = (packed,)
                return False
            return self._becomes((packed,))
        others = (
            datagram
            for datagram in self._parts
            if packed_part.wants_merge(datagram) and packed_part.xtr_of(datagram) != part.xtr
        )
        return self._becomes((*others, packed))

    def withdraw(self, xtr: bytes, *, wants_merge: bool) -> bool:
        """Remove one xTR of a merged prefix, or else all of it; True when the mapping has changed."""
        return self._becomes(
            tuple(part for part in self._parts if packed_part.xtr_of(part) != xtr) if wants_merge else ()
        )

    def clear(self) -> bool:
        """Remove everything; True when there was something."""
        return self._becomes(())

    def expire(self, now: float) -> bool:
        """Remove expired parts; True when the mapping has changed."""
        return self._becomes(tuple(part for part in self._parts if packed_part.expires_at(part) > now))

    def part_of(self, xtr: bytes) -> bytes | None:
        """The part of one xTR, as octets."""
        return next((part for part in self._parts if packed_part.xtr_of(part) == xtr), None)

    def _becomes(self, parts: tuple[bytes, ...]) -> bool:
        if parts == self._parts:
            return False
        before = self.record
        self._parts = parts
        return self.record != before


def addresses_of(parts: Iterable[bytes]) -> set[int]:
    """The sources of the xTRs of a registration, and all of their locators (`packed_part.number_of`)."""
    return set().union(*map(packed_part.addresses, parts))


def is_at_same_places(parts: tuple[bytes, ...], before: tuple[bytes, ...]) -> bool:
    """True when as many xTRs have the same mapping and sources."""
    return len(parts) == len(before) and all(map(packed_part.is_same_place, parts, before))


def has_moved(parts: tuple[bytes, ...], before: tuple[bytes, ...]) -> bool:
    """True when an xTR has another source or another locator than before, and not only other weights or keys."""
    return addresses_of(parts) != addresses_of(before) or _locators_of(parts) != _locators_of(before)


def _locators_of(parts: Iterable[bytes]) -> set[IpAddress]:
    return {ip for packed in parts for locator in packed_part.record_of(packed).locators for ip in locator.ips}


def _merge(parts: Iterable[XtrRegistration]) -> MappingRecord | None:
    """One record from all xTRs' records: the latest, with all additional locators of the others."""
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
    """IPv4 before IPv6 before LCAF, each ascending (RFC 9301, 5.4): required by locator-status-bits."""
    octets = put_address(locator.address)
    return int.from_bytes(octets[:2]), octets[2:]


def is_usable(locator: Locator) -> bool:
    """True when the locator may be sent to."""
    return locator.is_reachable and locator.priority < 255 and bool(locator.ips)


def best_address(record: MappingRecord, families: Iterable[int], via: IpAddress) -> IpAddress | None:
    """The destination of control messages to the mapping's ETR: its best locator of a family that we have."""
    wanted = frozenset(families)
    usable = [locator for locator in record.locators if is_usable(locator)]
    for locator in sorted(usable, key=lambda locator: locator.priority):
        for address in locator.ips:
            if address.version in wanted and is_sendable(address, via):
                return address
    return None
