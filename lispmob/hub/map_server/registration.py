"""The soft state of one registered EID-Prefix: who registered it, with which locators, for how long (RFC 9301, 8.2)."""

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

RESTART_STEP: Final = 1 << 32  # ours: nonces of lispd begin at the clock, in nanoseconds, and fall behind it from there
MAX_XTRS: Final = 16  # ours: xTRs whose locators are merged for one prefix


class Registration:
    """One EID-Prefix as it stands: the last Map-Register, or the union of several xTRs that asked for merging.

    There may be a million, so what is known is kept as octets (`packed_part.py`), and made values of where it is asked.
    `site` is charged `octets`, and the registration waits to be looked at in the second `due`: for whoever keeps it.
    """

    __slots__ = ("_parts", "due", "octets", "prefix", "site")

    def __init__(self, prefix: EidPrefix) -> None:
        self.prefix = prefix
        self._parts: tuple[bytes, ...] = ()  # the one heard of longest ago first
        self.site = ""
        self.octets = 0
        self.due: int | None = None

    def __iter__(self) -> Iterator[XtrRegistration]:
        """Every xTR's part, the one heard of longest ago first."""
        return map(packed_part.unpack, self._parts)

    @property
    def record(self) -> MappingRecord | None:
        """The mapping as it is answered; None when nobody registers it."""
        if len(self._parts) == 1:
            return packed_part.record_of(self._parts[0])
        return _merge(self)

    @property
    def parts(self) -> tuple[bytes, ...]:
        """Every xTR's part as octets, the one heard of longest ago first."""
        return self._parts

    def restore(self, parts: Iterable[bytes]) -> None:
        """These are its parts, as `parts` gave them before a restart."""
        self._parts = tuple(parts)

    def octets_of(self, part: XtrRegistration) -> int:
        """What the records take that this part would replace."""
        if not part.wants_merge:
            return sum(packed_part.record_octets(datagram) for datagram in self._parts)
        former = self.part_of(part.xtr)
        return packed_part.record_octets(former) if former is not None else 0

    @property
    def is_empty(self) -> bool:
        """True when nobody registers the prefix any more."""
        return not self._parts

    @property
    def is_proxied(self) -> bool:
        """True when every xTR wants the Map-Server to answer for it."""
        return all(map(packed_part.is_proxied, self._parts))

    @property
    def expires_at(self) -> float:
        """When the next xTR's part runs out. Only for a registration that is not empty."""
        return min(map(packed_part.expires_at, self._parts))

    def is_held_by(self, part: XtrRegistration) -> bool:
        """True when the xTR that says this is the only one there is."""
        return len(self._parts) == 1 and packed_part.xtr_of(self._parts[0]) == part.xtr

    def has_room_for(self, part: XtrRegistration) -> bool:
        """False when one more xTR would be one too many to merge."""
        return not part.wants_merge or len(self._parts) < MAX_XTRS or self.part_of(part.xtr) is not None

    def goes_on_with(self, part: XtrRegistration) -> bool:
        """False for a node that shows that it has forgotten what it knew, as by another count of nonces.

        Who sends no xTR-ID, or does not count, cannot show it.
        """
        if not part.xtr_id or not any(part.xtr_id):
            return True
        former = self.part_of(part.xtr)
        return former is not None and 0 <= part.nonce - packed_part.nonce_of(former) < RESTART_STEP

    def put(self, part: XtrRegistration) -> bool:
        """Take in what an xTR says; True when the mapping is another one now.

        Without the merge bit it speaks for the whole prefix, and what others said before is gone.
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
        """Forget one xTR of a merged prefix, else all of it; True when the mapping is another one now."""
        return self._becomes(
            tuple(part for part in self._parts if packed_part.xtr_of(part) != xtr) if wants_merge else ()
        )

    def clear(self) -> bool:
        """Forget everything; True when there was something."""
        return self._becomes(())

    def expire(self, now: float) -> bool:
        """Forget what ran out; True when the mapping is another one now."""
        return self._becomes(tuple(part for part in self._parts if packed_part.expires_at(part) > now))

    def part_of(self, xtr: bytes) -> bytes | None:
        """What one xTR says, as octets."""
        return next((part for part in self._parts if packed_part.xtr_of(part) == xtr), None)

    def _becomes(self, parts: tuple[bytes, ...]) -> bool:
        if parts == self._parts:
            return False
        before = self.record
        self._parts = parts
        return self.record != before


def addresses_of(parts: Iterable[bytes]) -> set[int]:
    """Where the xTRs of a registration speak from, and all of their locators (`packed_part.number_of`)."""
    return set().union(*map(packed_part.addresses, parts))


def is_at_same_places(parts: tuple[bytes, ...], before: tuple[bytes, ...]) -> bool:
    """True when as many xTRs say the same from the same addresses."""
    return len(parts) == len(before) and all(map(packed_part.is_same_place, parts, before))


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
