"""Whether what an RTR or a proxy sends to a node still arrives: a way that nothing comes back from is asked about.

A way is one locator of the forwarding entry: an open one, or the place where a NAT shows an uplink. Nothing is asked
as long as packets come from where packets go. When none come for a moment, and the node has other ways, it is asked;
what does not answer is dead, comes after all others, and is asked again now and then while packets go there. Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from lispmob.control.effect import InstallMapping, UsableLocator
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress

DOUBT_S: Final = 0.7  # ours: so long packets may leave by a way and nothing come from its place
ANSWER_S: Final = 1.0  # ours: so long an answer may take
TRUST_S: Final = 2.0  # ours: after an answer silence is put down to the applications
ASK_AGAIN_S: Final = 5.0  # ours: of a dead way, while packets go to its node
BEHIND: Final = 254
WAYS_MAX: Final = 16384


@dataclass(frozen=True, slots=True)
class AskWay:
    """Is there anybody at this locator of the node?"""

    prefix: EidPrefix
    locator: UsableLocator


@dataclass(slots=True)
class _Silence:
    """Packets left and none came back: since when, when somebody was asked, and the verdict."""

    since: float | None = None
    asked_at: float | None = None
    trusted_until: float = float("-inf")
    is_dead: bool = False


class WayDoubts:
    """The doubts about all ways of all nodes; remembers only those that there are some about."""

    def __init__(self) -> None:
        self._silences: dict[tuple[EidPrefix, IpAddress, int], _Silence] = {}

    def demoted(self, entry: InstallMapping) -> InstallMapping:
        """The entry with its dead ways behind all others."""
        locators = [
            UsableLocator(one.address, BEHIND, one.weight, one.port, one.source, one.source_port)
            if self._is_dead(entry.prefix, one)
            else one
            for one in entry.locators
        ]
        return InstallMapping(entry.prefix, entry.disposition, tuple(sorted(locators, key=lambda one: one.priority)))

    def on_traffic(self, used: Iterable[InstallMapping], heard: Container[IpAddress], now: float) -> list[AskWay]:
        """Packets left by these entries, and came from these places, since the last call: about whom to ask."""
        for (_, address, _), silence in self._silences.items():
            if address in heard:
                silence.since = None
                silence.asked_at = silence.asked_at if silence.is_dead else None
        asks: list[AskWay] = []
        for entry in used:
            if len(entry.locators) < 2 or entry.disposition != "ENCAPSULATE":
                continue
            best = entry.locators[0].priority
            for one in entry.locators:
                is_dead = self._is_dead(entry.prefix, one)
                if (is_dead or one.priority == best) and self._is_doubtful(entry.prefix, one, heard, now):
                    asks.append(AskWay(entry.prefix, one))
        return asks

    def on_alive(self, prefix: EidPrefix, address: IpAddress, port: int, now: float) -> bool:
        """Somebody is at this place, for sure; True when it counted as dead."""
        silence = self._silences.get((prefix, address, port))
        was_dead = silence is not None and silence.is_dead
        if silence is not None:
            self._silences[prefix, address, port] = _Silence(trusted_until=now + TRUST_S)
        return was_dead

    def judge(self, now: float) -> set[EidPrefix]:
        """Who was asked and did not answer is dead; the prefixes about which that is news."""
        news: set[EidPrefix] = set()
        for (prefix, _, _), silence in self._silences.items():
            is_late = silence.asked_at is not None and now >= silence.asked_at + ANSWER_S
            if is_late and not silence.is_dead:
                silence.is_dead, silence.since = True, None
                news.add(prefix)
        return news

    def forget(self, prefix: EidPrefix, locators: Iterable[UsableLocator]) -> None:
        """The entry of this prefix has these locators now."""
        kept = {(one.address, one.port) for one in locators}
        for key in [key for key in self._silences if key[0] == prefix and key[1:] not in kept]:
            del self._silences[key]

    def _is_doubtful(self, prefix: EidPrefix, one: UsableLocator, heard: Container[IpAddress], now: float) -> bool:
        key = prefix, one.address, one.port
        if key not in self._silences and len(self._silences) >= WAYS_MAX:
            return False
        silence = self._silences.setdefault(key, _Silence())
        if silence.is_dead:
            is_due = silence.asked_at is None or now >= silence.asked_at + ASK_AGAIN_S
        elif one.address in heard or silence.asked_at is not None:
            return False
        elif silence.since is None:
            silence.since = now
            return False
        else:
            is_due = now >= max(silence.since + DOUBT_S, silence.trusted_until)
        if is_due:
            silence.asked_at = now
        return is_due

    def _is_dead(self, prefix: EidPrefix, one: UsableLocator) -> bool:
        silence = self._silences.get((prefix, one.address, one.port))
        return silence is not None and silence.is_dead
