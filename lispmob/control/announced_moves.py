"""Unsolicited moves: the mappings before them, and the new locators that must answer first.

A publication, or a peer's announcement in its session, is faster than the answer to an SMR. An answer in flight may be
older than the move. An answer that equals the mapping from before the move is ignored for three seconds.

A peer that cannot register any more, because its Map-Server has no address of the family that still works, is known to
its sessions alone. So an announcement with a Map-Version Number holds: an answer with an older number does not count,
nor does "not registered". The hold ends with an equal or newer number, with another key, when the site is removed, when
no announced locator answers, and with the announced TTL. Only the owner of the EID's key can begin or renew it. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from lispmob.control.map_version import is_newer
from lispmob.protocol.effect import UsableLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Action, Locator, MappingRecord

OVERTAKEN_S: Final = 3.0  # ours: the time of a lookup, and of another one if the register overtook the first
_MOVES_MAX: Final = 1024  # ours: peers that move within three seconds
_MOVES_KEPT: Final = 3  # ours: of one peer, in that time
HOLD_MIN: Final = 30  # ours: minutes that an announcement holds at most without another one, whatever its TTL
_HOLDS_MAX: Final = 1024  # ours: as many as moves
_TTL_NO_SITE_MIN: Final = 15  # RFC 9301, 8.4: no site has this EID; 1: a site has it, and it is not registered

Locators = tuple[Locator, ...]


class Mover(msgspec.Struct, frozen=True):
    """A peer that says that it has moved: from which address, how long that counts, and its mapping until then."""

    rloc: IpAddress
    until: float
    former: Locators


class Hold(msgspec.Struct, frozen=True):
    """An announcement that the mapping system does not know yet: its Map-Version Number, and how long it counts."""

    map_version: int
    until: float


class AnnouncedMoves:
    """The unsolicited moves by EID-Prefix."""

    def __init__(self) -> None:
        self._holds: dict[EidPrefix, Hold] = {}
        self._former: dict[EidPrefix, dict[Locators, float]] = {}  # earlier mappings, and until when they are ignored
        self._on_trial: dict[IpAddress, EidPrefix] = {}

    @property
    def on_trial(self) -> Mapping[IpAddress, EidPrefix]:
        """The announced locators that have not answered yet, and the EID-Prefix that they are announced for."""
        return self._on_trial

    def on_moved(self, prefix: EidPrefix, former: Locators, present: Locators, now: float) -> None:
        """The prefix has moved."""
        if len(self._former) >= _MOVES_MAX:
            lately = {prefix: _lately(known, now) for prefix, known in self._former.items()}
            self._former = {prefix: known for prefix, known in lately.items() if known}
        if prefix not in self._former and len(self._former) >= _MOVES_MAX:
            return
        known = self._former[prefix] = _lately(self._former.get(prefix, {}), now)
        known[former] = now + OVERTAKEN_S
        known.pop(present, None)

    def on_answered(self, prefix: EidPrefix) -> None:
        """The mapping system has answered: the announcement is superseded."""
        self._former.pop(prefix, None)
        self._holds.pop(prefix, None)
        self.end_trials(prefix)

    def hold(self, prefix: EidPrefix, record: MappingRecord, now: float) -> float | None:
        """The peer announces this mapping: until when it counts, in monotonic seconds; None: until the next answer."""
        self._holds = {held: hold for held, hold in self._holds.items() if hold.until > now}
        if not record.map_version or (prefix not in self._holds and len(self._holds) >= _HOLDS_MAX):
            return None
        hold = self._holds[prefix] = Hold(record.map_version, now + 60.0 * min(record.ttl_min, HOLD_MIN))
        return hold.until

    def is_held(self, prefix: EidPrefix, now: float) -> bool:
        """Whether the mapping system has to know more than the peer's announcement to replace it."""
        return (hold := self._holds.get(prefix)) is not None and hold.until > now

    def release(self, prefix: EidPrefix) -> None:
        """The peer is not at the announced locators, or its key was replaced: any answer counts."""
        self._holds.pop(prefix, None)

    def is_outdated(self, prefix: EidPrefix, record: MappingRecord, now: float) -> bool:
        """Whether the announcement of this prefix is newer than the answer in `record`."""
        hold = self._holds.get(prefix)
        if hold is None or hold.until <= now:
            return False
        if record.locators:
            return record.map_version != 0 and is_newer(hold.map_version, record.map_version)
        return record.action == Action.NATIVELY_FORWARD and record.ttl_min < _TTL_NO_SITE_MIN

    def is_overtaken(self, prefix: EidPrefix, locators: Locators, now: float) -> bool:
        """Whether an answer with these locators is older than the move."""
        return self._former.get(prefix, {}).get(locators, now) > now

    def put_on_trial(self, prefix: EidPrefix, told: Locators, before: Locators) -> None:
        """Puts announced locators on trial that its mapping did not name before, or that had not answered."""
        named = _addresses(before) - self._on_trial.keys()
        self.end_trials(prefix)
        self._on_trial.update((address, prefix) for address in _addresses(told) if address not in named)

    def end_trials(self, prefix: EidPrefix) -> None:
        """The mapping system has answered, or the mapping is gone."""
        for remote in [remote for remote, told in self._on_trial.items() if told == prefix]:
            del self._on_trial[remote]

    def pass_trial(self, remote: IpAddress, prefix: EidPrefix) -> bool:
        """The locator has answered for this EID-Prefix; False: it was not on trial for it."""
        is_tried = self._on_trial.get(remote) == prefix
        if is_tried:
            del self._on_trial[remote]
        return is_tried

    def mark(self, prefix: EidPrefix, locators: tuple[UsableLocator, ...]) -> tuple[UsableLocator, ...]:
        """The locators of a forwarding entry, with those on trial marked."""
        if not self._on_trial:
            return locators
        return tuple(
            dataclasses.replace(locator, is_on_trial=True) if self._on_trial.get(locator.address) == prefix else locator
            for locator in locators
        )


def _lately(known: dict[Locators, float], now: float) -> dict[Locators, float]:
    latest = sorted(((until, locators) for locators, until in known.items() if until > now), key=lambda one: one[0])
    return {locators: until for until, locators in latest[-_MOVES_KEPT:]}


def _addresses(locators: Iterable[Locator]) -> set[IpAddress]:
    return {address for locator in locators for address in locator.ips}
