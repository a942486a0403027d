"""Checks whether an RTR's or a proxy's packets to a node still arrive: paths without return traffic are asked. Pure.

A path is one locator of the forwarding entry: a public one, or the place where a NAT shows an uplink. It is not asked
while packets come back from it. When none come for a moment, and the node has other paths, it is asked. A path that
does not answer is dead and ranks last; it is asked again now and then while packets go to the node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable
from typing import Final, TypeAlias

import msgspec

from lispmob.protocol.effect import InstallMapping, UsableLocator
from lispmob.wire.address import EidPrefix, IpAddress

DOUBT_S: Final = 0.7  # ours: how long packets may be sent on a path without return traffic
ANSWER_S: Final = 1.0  # ours: how long an answer may take
TRUST_S: Final = 2.0  # ours: after an answer, silence is attributed to the applications
ASK_AGAIN_S: Final = 5.0  # ours: of a dead path, while packets go to its node
BEHIND: Final = 254
PREFIXES_MAX: Final = 16384  # ours

_Place: TypeAlias = tuple[IpAddress, int]


class AskWay(msgspec.Struct, frozen=True):
    """Ask whether the node is at this locator."""

    prefix: EidPrefix
    locator: UsableLocator


class _Silence(msgspec.Struct):
    """Packets were sent and none came back: since when, when it was asked, and the verdict."""

    since: float | None = None
    asked_at: float | None = None
    trusted_until: float = float("-inf")
    is_dead: bool = False


class WayDoubts:
    """The state of all doubtful paths of all nodes."""

    def __init__(self) -> None:
        self._silences: dict[EidPrefix, dict[_Place, _Silence]] = {}
        self._open: set[tuple[EidPrefix, _Place]] = set()  # those that wait for a packet, or for an answer

    def demoted(self, entry: InstallMapping) -> InstallMapping:
        """The entry with its dead paths after all others."""
        if entry.prefix not in self._silences:
            return entry
        locators = [
            dataclasses.replace(locator, priority=BEHIND) if self._is_dead(entry.prefix, locator) else locator
            for locator in entry.locators
        ]
        return InstallMapping(entry.prefix, entry.disposition, tuple(sorted(locators, key=lambda one: one.priority)))

    def on_traffic(self, used: Iterable[InstallMapping], heard: Container[IpAddress], now: float) -> list[AskWay]:
        """Packets were sent by these entries, and came from these places, since the last call: returns whom to ask."""
        for prefix, place in list(self._open):
            silence = self._silences[prefix][place]
            if place[0] in heard and not silence.is_dead:
                silence.since = silence.asked_at = None
                self._open.discard((prefix, place))
        asks: list[AskWay] = []
        for entry in used:
            if len(entry.locators) < 2 or entry.disposition != "ENCAPSULATE":
                continue
            best = entry.locators[0].priority
            for locator in entry.locators:
                is_in_use = locator.priority == best or self._is_dead(entry.prefix, locator)
                if is_in_use and self._is_doubtful(entry.prefix, locator, heard, now):
                    asks.append(AskWay(entry.prefix, locator))
        return asks

    def on_alive(self, prefix: EidPrefix, address: IpAddress, port: int, now: float) -> bool:
        """The node is certainly at this place; True if it counted as dead."""
        place = address, port
        silence = self._silences.get(prefix, {}).get(place)
        if silence is None:
            return False
        self._silences[prefix][place] = _Silence(trusted_until=now + TRUST_S)
        self._open.discard((prefix, place))
        return silence.is_dead

    def judge(self, now: float) -> set[EidPrefix]:
        """Paths that were asked and did not answer are dead; returns the prefixes with a change."""
        news: set[EidPrefix] = set()
        for prefix, place in list(self._open):
            silence = self._silences[prefix][place]
            if silence.asked_at is not None and now >= silence.asked_at + ANSWER_S:
                silence.is_dead, silence.since = True, None
                self._open.discard((prefix, place))
                news.add(prefix)
        return news

    def forget(self, prefix: EidPrefix, locators: Iterable[UsableLocator]) -> None:
        """The locators of this prefix's entry."""
        known = self._silences.get(prefix)
        if known is None:
            return
        kept = {(locator.address, locator.port) for locator in locators}
        for place in known.keys() - kept:
            del known[place]
            self._open.discard((prefix, place))
        if not known:
            del self._silences[prefix]

    def _is_doubtful(self, prefix: EidPrefix, one: UsableLocator, heard: Container[IpAddress], now: float) -> bool:
        place = one.address, one.port
        if prefix not in self._silences and len(self._silences) >= PREFIXES_MAX:
            return False
        silence = self._silences.setdefault(prefix, {}).setdefault(place, _Silence())
        if silence.is_dead:
            is_due = silence.asked_at is None or now >= silence.asked_at + ASK_AGAIN_S
            silence.asked_at = now if is_due else silence.asked_at
            return is_due
        if one.address in heard or silence.asked_at is not None:
            return False
        self._open.add((prefix, place))
        if silence.since is None:
            silence.since = now
            return False
        if now < max(silence.since + DOUBT_S, silence.trusted_until):
            return False
        silence.asked_at = now
        return True

    def _is_dead(self, prefix: EidPrefix, one: UsableLocator) -> bool:
        silence = self._silences.get(prefix, {}).get((one.address, one.port))
        return silence is not None and silence.is_dead
