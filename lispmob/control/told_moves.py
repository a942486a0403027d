"""Moves that nobody had to ask about: what was true before them, and which of the new locators have to answer first.

A publication, or the peer itself by its sealed session, is quicker than the answer to an SMR. An answer that is on its
way meanwhile may be from before the move. It says what was true then, to the letter, and counts for nothing for three
seconds. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from lispmob.protocol.effect import UsableLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

OVERTAKEN_S: Final = 3.0  # ours: a lookup, and another one where the first was overtaken by the register
_MOVES_MAX: Final = 1024  # ours: peers that move within three seconds
_MOVES_KEPT: Final = 3  # ours: of one peer, in that time

Locators = tuple[Locator, ...]


class Mover(msgspec.Struct, frozen=True):
    """A peer that says that it has moved: where from it says so, how long that counts, and its mapping until then."""

    rloc: IpAddress
    until: float
    former: Locators


class ToldMoves:
    """Remembers them by EID-Prefix."""

    def __init__(self) -> None:
        self._former: dict[EidPrefix, dict[Locators, float]] = {}  # what was true, and until when that matters
        self._on_trial: dict[IpAddress, EidPrefix] = {}

    @property
    def on_trial(self) -> Mapping[IpAddress, EidPrefix]:
        """The locators that a peer alone has told, and that have not answered; and whose they are said to be."""
        return self._on_trial

    def on_moved(self, prefix: EidPrefix, former: Locators, present: Locators, now: float) -> None:
        """It is elsewhere now."""
        if len(self._former) >= _MOVES_MAX:
            lately = {prefix: _lately(known, now) for prefix, known in self._former.items()}
            self._former = {prefix: known for prefix, known in lately.items() if known}
        if prefix not in self._former and len(self._former) >= _MOVES_MAX:
            return
        known = self._former[prefix] = _lately(self._former.get(prefix, {}), now)
        known[former] = now + OVERTAKEN_S
        known.pop(present, None)

    def on_answered(self, prefix: EidPrefix) -> None:
        """The mapping system has answered: the peer's own word is over."""
        self._former.pop(prefix, None)
        self.end_trials(prefix)

    def is_overtaken(self, prefix: EidPrefix, locators: Locators, now: float) -> bool:
        """Whether an answer with these locators is from before the move."""
        return self._former.get(prefix, {}).get(locators, now) > now

    def put_on_trial(self, prefix: EidPrefix, told: Locators, before: Locators) -> None:
        """Of what a peer tells, those that its mapping did not name before, or that had not answered by now."""
        named = _addresses(before) - self._on_trial.keys()
        self.end_trials(prefix)
        self._on_trial.update((address, prefix) for address in _addresses(told) if address not in named)

    def end_trials(self, prefix: EidPrefix) -> None:
        """The mapping system says where it is, or nobody does."""
        for remote in [remote for remote, told in self._on_trial.items() if told == prefix]:
            del self._on_trial[remote]

    def pass_trial(self, remote: IpAddress, prefix: EidPrefix) -> bool:
        """It has answered for this EID-Prefix; False: it was not on trial for it."""
        is_tried = self._on_trial.get(remote) == prefix
        if is_tried:
            del self._on_trial[remote]
        return is_tried

    def mark(self, prefix: EidPrefix, locators: tuple[UsableLocator, ...]) -> tuple[UsableLocator, ...]:
        """The locators of a forwarding entry, those on trial marked so."""
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
