"""Limits handshakes that others begin, and answers that they forge; holds those whose key is not known yet. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.control.sealing.handshake_carriage import First
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import EidPrefix, IpAddress

ANSWER_INTERVAL_S: Final = 0.05  # ours: 20 handshakes a second are answered for a source
ANSWER_BURST: Final = 20
ANSWERS_INTERVAL_S: Final = 0.01  # ours: and 100 of all strangers, at a quarter of a millisecond each
ANSWERS_BURST: Final = 100
KNOWN_ANSWERS_S: Final = 0.0025  # ours: and 400 of all whose locators are in use, in a tenth of the time
KNOWN_ANSWERS_BURST: Final = 400
FORGERY_INTERVAL_S: Final = 1 / 128  # ours: forged answers that are computed, at an eighth of a millisecond each
FORGERY_BURST: Final = 32
HELD_MAX: Final = 64  # ours: first messages that wait for a lookup
HELD_EACH: Final = 8  # ours: of those, from one sender, however many EIDs it names
HELD_S: Final = 2.0  # ours


class Held(msgspec.Struct, frozen=True):
    """A waiting first message. `is_known`: it came from a locator of a mapping that we use."""

    first: First
    datagram: Datagram
    nonce: int
    until: float
    is_known: bool


class AnswerLimits:
    """A handshake costs a quarter of a millisecond: strangers share one budget, known senders have another."""

    def __init__(self) -> None:
        self._per_source: KeyedBuckets[int] = KeyedBuckets(ANSWER_INTERVAL_S, ANSWER_BURST)
        self._per_known_source: KeyedBuckets[int] = KeyedBuckets(ANSWER_INTERVAL_S, ANSWER_BURST)
        self._forgeries = TokenBucket(FORGERY_INTERVAL_S, FORGERY_BURST)
        # Locators in use can be forged, so all of them together have a limit too.
        self._in_all = {
            False: TokenBucket(ANSWERS_INTERVAL_S, ANSWERS_BURST),
            True: TokenBucket(KNOWN_ANSWERS_S, KNOWN_ANSWERS_BURST),
        }

    def may_verify(self, now: float) -> bool:
        """Whether another answer to a handshake of ours is computed; genuine ones use up nothing."""
        return self._forgeries.available_at(now) <= now

    def on_forged(self, now: float) -> None:
        """An answer was forged."""
        self._forgeries.take(now)

    def take(self, sender: IpAddress, now: float, *, is_known: bool) -> bool:
        """Whether another handshake of this sender is answered."""
        per_source, source = self._per_known_source if is_known else self._per_source, owner_of(sender)
        if per_source.available_at(source, now) > now or not self._in_all[is_known].take(now):
            return False
        return per_source.take(source, now)


class HeldHandshakes:
    """First messages whose key nothing vouches for yet, by the named EID and the sender."""

    def __init__(self) -> None:
        self._held: dict[tuple[EidPrefix, int], Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def wake_at(self) -> float | None:
        """When the first of them expires; all wait equally long."""
        return next((held.until for held in self._held.values()), None)

    def clear(self) -> None:
        """Remove all of them."""
        self._held.clear()

    def names(self, eid: EidPrefix) -> bool:
        """True when a message in the name of this EID waits, so that its key is being looked up."""
        return any(place[0] == eid for place in self._held)

    def add(self, first: First, datagram: Datagram, nonce: int, now: float, *, is_known: bool) -> tuple[bool, int]:
        """Add a message: whether it was added, and how many were refused for it.

        A message from a known locator replaces the oldest one from a stranger.
        """
        sender = owner_of(datagram.source)
        place = first.initiator, sender
        if place in self._held or sum(other[1] == sender for other in self._held) >= HELD_EACH:
            return False, 1
        refused = 0
        if len(self._held) >= HELD_MAX:
            stranger = next((other for other, held in self._held.items() if not held.is_known), None)
            if not is_known or stranger is None:
                return False, 1
            del self._held[stranger]
            refused = 1
        self._held[place] = Held(first, datagram, nonce, now + HELD_S, is_known)
        return True, refused

    def take_within(self, prefix: EidPrefix) -> list[Held]:
        """Remove and return those in the name of EIDs of this prefix."""
        return [self._held.pop(place) for place in [*self._held] if prefix.covers(place[0])]

    def take_over(self, now: float) -> int:
        """Remove the expired ones. Returns how many."""
        over = [place for place, held in self._held.items() if now >= held.until]
        for place in over:
            del self._held[place]
        return len(over)
