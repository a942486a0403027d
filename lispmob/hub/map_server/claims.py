"""Two nodes with one EID-Prefix: which one keeps it, which is refused, and who is informed. Pure.

Without the merge bit a Map-Register speaks for the whole EID-Prefix (RFC 9301, 8.2), so two nodes that register the
same one, as after a copied configuration, would take it from each other with every refresh. The first one keeps it for
as long as it refreshes; a reinstalled machine gets it once the old one has been silent. xTR-IDs distinguish nodes: a
node that moves keeps its own, and one without an xTR-ID is accepted. Two routers of one site do not compete: other
implementations have each of them register the whole Locator-Set, with both addresses and without the merge bit.

Two machines with one xTR-ID, as after a copied disk, are distinguished by their nonces: the one that began later is
ahead, and keeps the EID-Prefix, because a node that was restarted elsewhere looks the same. The nonces of the other one
are old. So are those of replayed messages: therefore several must come, from other addresses than the holder's, each
newer than the one before it, over some seconds. A forger gains nothing: the refused node is only informed.

Both learn of it from their Map-Notifies, whose records show the present mapping: the locators of the refused node have
priority 255. The refused node's record also has the action Drop/Policy-Denied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.map_server.registration import Registration
from lispmob.protocol.effect import Event
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import is_key_record, without_key_record
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import LOCATORS_PER_RECORD_LIMIT, Action, Locator, MappingRecord

HOLD_S: Final = 90.0  # ours: nodes refresh every minute, and try again for 15 s
HOLD_INTERVALS: Final = 1.5  # ours: of a node that is known to refresh less often
RIVAL_S: Final = 180.0  # ours: how long a refused node is reported
LOGGED_AGAIN_S: Final = 600.0  # ours: one log line for each pair in this time
RIVALS_LIMIT: Final = 1024
OVERTAKEN_S: Final = 1.0  # ours: how much later a message may come than one that was sent after it
COPIES: Final = 3  # ours: old nonces of a second machine; one or two may be late datagrams
COPY_S: Final = 5.0  # ours: no datagram is so late


SeenAt: TypeAlias = Callable[[EidPrefix, bytes, IpAddress], IpAddress | None]
"""Where an RTR sees this node's uplink, by its address behind the NAT; None: unknown."""


class _Copy(msgspec.Struct, frozen=True):
    """Old nonces that seem to come from a second machine: the last one, how many in a row, the first and last times."""

    nonce: int
    count: int
    since: float
    at: float


class _Rival(msgspec.Struct, frozen=True):
    """The refused node; `nat`: where the RTR in this process saw it, if it came that way."""

    part: XtrRegistration
    nat: IpAddress | None


class Claims:
    """Decides which node has an EID-Prefix."""

    def __init__(self) -> None:
        self._rivals: dict[EidPrefix, _Rival] = {}  # the last refused one
        self._copies: dict[tuple[EidPrefix, bytes], _Copy] = {}
        self._log_limit: KeyedBuckets[tuple[EidPrefix, bytes, bytes]] = KeyedBuckets(LOGGED_AGAIN_S, limit=RIVALS_LIMIT)

    def holder(self, registration: Registration, part: XtrRegistration, now: float) -> XtrRegistration | None:
        """The node that `part` must yield to; None if it may have the EID-Prefix."""
        return holder_of(registration, part, now)

    def original(
        self, registered: Iterable[XtrRegistration], part: XtrRegistration, now: float, *, is_elsewhere: bool = False
    ) -> XtrRegistration | None:
        """The node whose xTR-ID a second machine uses, which sent `part` with an older nonce; None while in doubt.

        `is_elsewhere`: our RTR sees the node with the same address behind another NAT. Home networks use the same
        addresses.
        """
        held = next(iter(registered), None)
        prefix = part.record.eid_prefix
        if held is None or prefix is None or not _is_named(part) or held.xtr != part.xtr:
            return None
        if held.wants_merge or part.wants_merge or part.nonce >= held.nonce:
            return None
        if _places(part) & _places(held) and not is_elsewhere:
            return None
        key = prefix, part.xtr
        seen = self._copies.pop(key, None)
        goes_on = seen is not None and part.nonce > seen.nonce and now - seen.at < RIVAL_S
        before = seen if seen is not None and goes_on else _Copy(part.nonce, 0, now, now)
        copy = self._copies[key] = _Copy(part.nonce, before.count + 1, before.since, now)
        while len(self._copies) > RIVALS_LIMIT:
            del self._copies[next(iter(self._copies))]
        return held if copy.count >= COPIES and now - copy.since >= COPY_S else None

    def refuse(
        self, part: XtrRegistration, holder: XtrRegistration, now: float, nat: IpAddress | None = None
    ) -> list[Event]:
        """`part` was refused: include it in the holder's next Map-Notify, and report it now and then.

        `nat`: where the RTR in this process saw it.
        """
        prefix = part.record.eid_prefix
        assert prefix is not None
        if part.record.ttl_min:
            self._rivals.pop(prefix, None)
            self._rivals[prefix] = _Rival(part, nat)
            while len(self._rivals) > RIVALS_LIMIT:
                del self._rivals[next(iter(self._rivals))]
        else:
            self._rivals.pop(prefix, None)
        pair = (prefix, holder.xtr, part.xtr)
        if not part.record.ttl_min or not self._log_limit.take(pair, now):
            return []
        return [
            Event(
                "duplicate",
                {
                    "eid": str(prefix),
                    "text": f"two nodes register it: {_who(holder)} keeps it, {_who(part, nat)} is refused",
                },
            )
        ]

    def denied(self, record: MappingRecord, holder: XtrRegistration) -> MappingRecord:
        """The answer to the refused node: the present mapping, with its own locators unusable."""
        shown = (*holder.record.locators, *_unused(record.locators))[:LOCATORS_PER_RECORD_LIMIT]
        return replace(record, locators=shown, action=Action.DROP_POLICY_DENIED)

    def with_rival(
        self, record: MappingRecord, part: XtrRegistration, now: float, nat: IpAddress | None = None
    ) -> MappingRecord:
        """The answer to the holder: its own locators, and those of a recently refused node.

        For a rival behind a NAT that is the NAT's address, because its own address is not unique.
        """
        prefix = record.eid_prefix
        rival = self._rivals.get(prefix) if prefix is not None else None
        if prefix is None or rival is None or not record.ttl_min:
            return record
        other, is_same_nat = rival.part, rival.nat == nat
        is_itself = other.xtr == part.xtr and is_same_nat and bool(_places(other) & _places(part))
        if is_itself or now - other.registered_at >= RIVAL_S:
            del self._rivals[prefix]
            return record
        seen = () if rival.nat is None else (Locator(rival.nat),)
        shown = (*record.locators, *_unused((*seen, *other.record.locators)))[:LOCATORS_PER_RECORD_LIMIT]
        return replace(record, locators=shown)


def holder_of(registered: Iterable[XtrRegistration], part: XtrRegistration, now: float) -> XtrRegistration | None:
    """The registered node that `part` must yield to."""
    for held in registered:
        is_other = _is_named(held) and _is_named(part) and held.xtr_id != part.xtr_id
        if is_other and not (held.wants_merge or part.wants_merge or _are_siblings(held, part)):
            silence_s = now - held.registered_at
            if silence_s < max(HOLD_S, HOLD_INTERVALS * held.interval_s):
                return held
    return None


def _are_siblings(held: XtrRegistration, part: XtrRegistration) -> bool:
    """True for two routers of a site that register one Locator-Set, in which both of them are: neither is a rival.

    Each sends from a locator of the set. Where a NAT or an RTR is on the way the same locators prove nothing.
    """
    sets = [
        {(locator.ip, locator.priority, locator.weight) for locator in one.record.locators if locator.is_reachable}
        for one in (held, part)
    ]
    is_open = len(sets[0]) == len(held.record.locators) == len(part.record.locators)
    addresses = {ip for ip, _, _ in sets[0]}
    return is_open and sets[0] == sets[1] and held.source != part.source and {held.source, part.source} <= addresses


def is_sibling(registered: Iterable[XtrRegistration], part: XtrRegistration) -> bool:
    """True for another router of the site that is registered: it says the same, with a count of nonces of its own."""
    return not part.wants_merge and any(_are_siblings(held, part) for held in registered)


def is_overtaken(
    register: MapRegister, source: IpAddress, registrations: OrderedPrefixTable[Registration], now: float
) -> bool:
    """True when the xTR has said the same a moment ago, in a message that it sent later.

    This happens with a node that registers at an IPv4 and an IPv6 address of this hub. Such a message may be
    acknowledged, and changes nothing. It must come from one of its own locators, so a replay reveals nothing.
    """
    xtr = register.xtr_id
    if xtr is None or not any(xtr):
        return False
    for record in register.records:
        registration = registrations.get(record.eid_prefix) if record.eid_prefix else None
        part = next((claim for claim in registration or () if claim.xtr == xtr), None)
        if part is None or part.record != record or register.nonce >= part.nonce:
            return False
        if (
            not any(source in locator.ips for locator in record.locators)
            or not 0 <= now - part.registered_at < OVERTAKEN_S
        ):
            return False
    return bool(register.records)


def _is_named(part: XtrRegistration) -> bool:
    return part.xtr_id is not None and any(part.xtr_id)


def _places(part: XtrRegistration) -> set[IpAddress]:
    """Its own locators. A node behind a NAT also names its RTRs, which other nodes share."""
    locators = without_key_record(part.record).locators
    private = [locator for locator in locators if not locator.is_reachable]
    return {part.source, *(address for locator in private or locators for address in locator.ips)}


def _unused(locators: tuple[Locator, ...]) -> tuple[Locator, ...]:
    return tuple(
        replace(locator, priority=255, weight=0, is_local=False, is_probed=False)
        for locator in locators
        if not is_key_record(locator)
    )


def _who(part: XtrRegistration, nat: IpAddress | None = None) -> str:
    places = (
        ", ".join(str(locator.ip or locator.address) for locator in without_key_record(part.record).locators)
        or "nowhere"
    )
    behind = "" if nat is None else f" behind {nat}"
    return f"xTR-ID {part.xtr.hex()} at {places} (from {part.source}{behind})"
