"""The EID-to-RLOC mapping record with its locators, which most control messages contain (RFC 9301, 5.4)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.eid import from_prefix, take_eid, take_known_address, to_prefix
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.lcaf_types import WireAddress
from lispmob.wire.reader import Reader

# Ours, to limit the work that a message may cause; the fields allow 255 of each.
RECORD_LIMIT: Final = 32
LOCATORS_PER_RECORD_LIMIT: Final = 32
LOCATORS_PER_MESSAGE_LIMIT: Final = 256

TTL_RECEIVER_DECIDES: Final = 0xFFFFFFFF  # RFC 9301: the receiver decides how long it keeps the record

_RECORD: Final = Struct(">IBBHH")
_LOCATOR: Final = Struct(">BBBBH")


class Action(IntEnum):
    """What to do with packets to the EIDs of a record without locators."""

    NO_ACTION = 0
    NATIVELY_FORWARD = 1
    SEND_MAP_REQUEST = 2
    DROP = 3
    DROP_POLICY_DENIED = 4
    DROP_AUTH_FAILURE = 5


# RFC 9301 leaves 6 and 7 unassigned: they are kept as numbers, and treated as NO_ACTION.
_ACTIONS: Final[tuple[Action | int, ...]] = (*Action, 6, 7)


class Locator(msgspec.Struct, frozen=True):
    """An RLOC. Priority: lower is better, 255 is "not for unicast"; weight: share among equal priorities.

    `is_local` (L): a locator of the sender of the Map-Reply. `is_probed` (p): the locator that an RLOC-probe was sent
    to. `is_reachable` (R): if False, the locator must not be encapsulated to.
    """

    address: WireAddress
    priority: int = 1
    weight: int = 100
    multicast_priority: int = 255
    multicast_weight: int = 0
    is_local: bool = False
    is_probed: bool = False
    is_reachable: bool = True

    @property
    def ip(self) -> IpAddress | None:
        """The address to encapsulate to: the first of several alternatives, or None."""
        if isinstance(self.address, IPv4Address | IPv6Address):
            return self.address
        return next(iter(self.ips), None)

    @property
    def ips(self) -> tuple[IpAddress, ...]:
        """All addresses to encapsulate to that the locator offers, in its order."""
        return ip_addresses(self.address)

    def encode(self) -> bytes:
        """The locator's octets."""
        flags = self.is_local << 2 | self.is_probed << 1 | self.is_reachable
        return _LOCATOR.pack(
            self.priority, self.weight, self.multicast_priority, self.multicast_weight, flags
        ) + put_address(self.address)


class MappingRecord(msgspec.Struct, frozen=True):
    """An EID-Prefix and its locators. `ttl_min` is in minutes; 0 removes the mapping now.

    `eid` and `mask_len` are as on the wire: the mask is that of the inner address of an Instance-ID.
    """

    eid: WireAddress
    mask_len: int
    locators: tuple[Locator, ...] = ()
    ttl_min: int = 1440
    action: Action | int = Action.NO_ACTION
    is_authoritative: bool = False
    map_version: int = 0

    @classmethod
    def of(
        cls,
        prefix: EidPrefix,
        locators: Iterable[Locator] = (),
        *,
        ttl_min: int = 1440,
        action: Action | int = Action.NO_ACTION,
        is_authoritative: bool = False,
        map_version: int = 0,
    ) -> MappingRecord:
        """A record for an IP prefix."""
        eid = from_prefix(prefix)
        return cls(eid, prefix.mask_len, tuple(locators), ttl_min, action, is_authoritative, map_version)

    @property
    def eid_prefix(self) -> EidPrefix | None:
        """The IP prefix, host bits cleared; None when the EID is something else."""
        return to_prefix(self.eid, self.mask_len)

    def encode(self) -> bytes:
        """The record's octets."""
        head = _RECORD.pack(
            self.ttl_min,
            len(self.locators),
            self.mask_len,
            self.action << 13 | self.is_authoritative << 12,
            self.map_version,
        )
        return head + put_address(self.eid) + b"".join([locator.encode() for locator in self.locators])


#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |                     Record TTL, in minutes                    |
# | Locator Count | EID mask-len  | ACT |A|       Reserved        |
# | Rsvd  |  Map-Version Number   |         EID-Prefix-AFI        |
# |                         EID-Prefix ...                        |
# |   Priority    |    Weight     |  M Priority   |   M Weight    |  \
# |      Unused flags       |L|p|R|           Loc-AFI             |   > Locator Count times
# |                          Locator ...                          |  /
def take_record(reader: Reader) -> MappingRecord:
    """Read a mapping record."""
    ttl_min, locator_count, mask_len, bits, version = reader.take(_RECORD)
    eid = take_eid(reader, mask_len)
    locators = take_locators(reader, locator_count)
    return MappingRecord(eid, mask_len, locators, ttl_min, _ACTIONS[bits >> 13], bool(bits & 0x1000), version & 0xFFF)


def take_locators(reader: Reader, count: int) -> tuple[Locator, ...]:
    """Read `count` locators, in the order sent: locator-status-bits refer to positions."""
    if count > LOCATORS_PER_RECORD_LIMIT:
        raise MalformedMessage("rx_limit", f"{count} locators in a record, more than {LOCATORS_PER_RECORD_LIMIT}")
    locators = []
    for _ in range(count):
        priority, weight, multicast_priority, multicast_weight, flags = reader.take(_LOCATOR)
        locators.append(
            Locator(
                take_known_address(reader),
                priority,
                weight,
                multicast_priority,
                multicast_weight,
                bool(flags & 4),
                bool(flags & 2),
                bool(flags & 1),
            )
        )
    return tuple(locators)


def take_records(reader: Reader, count: int) -> tuple[MappingRecord, ...]:
    """Read the `count` records of a message: at least one, and no EID-Prefix twice."""
    check_record_count(count)
    if count == 1:
        return (take_record(reader),)
    records: list[MappingRecord] = []
    seen: set[object] = set()
    locator_count = 0
    for _ in range(count):
        record = take_record(reader)
        locator_count += len(record.locators)
        if locator_count > LOCATORS_PER_MESSAGE_LIMIT:
            raise MalformedMessage("rx_limit", f"more than {LOCATORS_PER_MESSAGE_LIMIT} locators in a message")
        seen.add(record.eid_prefix or (record.eid, record.mask_len))
        records.append(record)
    if len(seen) < count:
        # If the last record won, a sender could get a second answer past a check of the first.
        raise MalformedMessage("rx_policy", "the same EID-Prefix twice in one message")
    return tuple(records)


def check_record_count(count: int) -> None:
    """Raise for a message without records, and for one with more than the limit."""
    if not count:
        raise MalformedMessage("rx_policy", "no record: nothing asked, nothing said")
    if count > RECORD_LIMIT:
        raise MalformedMessage("rx_limit", f"{count} records, more than {RECORD_LIMIT}")
