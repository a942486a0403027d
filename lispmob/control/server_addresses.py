"""The addresses of servers that are configured by host name: when to resolve the names, and which answer counts.

1. A new name is resolved at once. A failure is repeated after 1 s, 2 s and so on, up to a minute.
2. Addresses are kept until better ones are known: a name that fails later loses no address.
3. A network with a login page answers every name with its own address. So a Map-Server's former addresses stay in use
   beside the new ones until a Map-Server at one of the new ones has confirmed a registration.
4. A name is resolved again when the uplinks change, as another network may give other answers; when a server at one
   of its addresses does not answer; and every five minutes, because the C library reports no time to live.
5. A query may hang for half a minute on a network that is gone. So the next one does not wait for it, and an answer
   that comes after a later query's does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final

import msgspec

from lispmob.wire.address import IpAddress

RENEW_S: Final = 300.0  # ours: a usual time to live of an address that is expected to change
FIRST_RETRY_S: Final = 1.0  # ours
LAST_RETRY_S: Final = 60.0  # ours
UNANSWERED_S: Final = 30.0  # ours: for a server that is off, its name is resolved no more often
MOVE_PAUSE_S: Final = 1.0  # ours: a move consists of several changes
OPEN_MAX: Final = 3  # ours: of one name; each is a thread that waits
SLOW_S: Final = 3.0  # ours: a working resolver has answered by then
SLOW: Final = "no DNS server has answered yet"
ADDRESSES_MAX: Final = 8  # ours: of one name; we register with each


class AskName(msgspec.Struct, frozen=True):
    """Resolve `name`; the answer comes with this number."""

    name: str
    number: int


class NameFailure(msgspec.Struct, frozen=True):
    """A name that could not be resolved the last time. `has_addresses`: earlier ones stay in use."""

    name: str
    why: str
    has_addresses: bool


class _Known(msgspec.Struct):
    due: float
    addresses: tuple[IpAddress, ...] = ()
    former: tuple[IpAddress, ...] = ()
    is_confirmed_by_registers: bool = False
    failure: str | None = None
    retry_s: float = FIRST_RETRY_S
    asked_at: float = float("-inf")
    first_asked_at: float = float("inf")
    answered: int = 0
    open: set[int] = msgspec.field(default_factory=set)

    def is_slow(self, now: float) -> bool:
        """It has not been resolved yet, for longer than DNS takes."""
        return not self.addresses and bool(self.open) and now >= self.first_asked_at + SLOW_S


class ServerAddresses:
    """All names of a node. `jitter` is in [0, 1)."""

    def __init__(self, *, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._known: dict[str, _Known] = {}
        self._number = 0

    @property
    def answers(self) -> dict[str, tuple[IpAddress, ...]]:
        """The addresses of every name that has any."""
        return {name: (*known.addresses, *known.former) for name, known in self._known.items() if known.addresses}

    def failures(self, now: float) -> tuple[NameFailure, ...]:
        """The names that cannot be resolved."""
        return tuple(
            NameFailure(name, why, bool(known.addresses))
            for name, known in self._known.items()
            if (why := known.failure or (SLOW if known.is_slow(now) else None)) is not None
        )

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None without a name."""
        return min((known.due for known in self._known.values()), default=None)

    def on_names(self, names: Iterable[str], now: float, map_servers: Container[str] = ()) -> list[AskName]:
        """The set of names has changed to these. Kept names keep their addresses."""
        self._known = {name: self._known.get(name) or _Known(due=now) for name in names}
        for name, known in self._known.items():
            known.is_confirmed_by_registers = name in map_servers
        return self.on_timer(now)

    def on_uplinks(self, now: float) -> list[AskName]:
        """The uplinks have changed."""
        for known in self._known.values():
            known.retry_s = FIRST_RETRY_S
            known.due = max(now, known.asked_at + MOVE_PAUSE_S)
        return self.on_timer(now)

    def on_unanswered(self, server: IpAddress, now: float) -> list[AskName]:
        """A server does not answer: its address may have changed."""
        for known in self._known.values():
            if server in (*known.addresses, *known.former):
                known.due = min(known.due, max(now, known.asked_at + UNANSWERED_S))
        return self.on_timer(now)

    def on_registered(self, server: IpAddress) -> bool:
        """A Map-Server has confirmed a registration. True when this changes the addresses of its name."""
        settled = [known for known in self._known.values() if known.former and server in known.addresses]
        for known in settled:
            known.former = ()
        return bool(settled)

    def on_timer(self, now: float) -> list[AskName]:
        """A deadline may have passed."""
        return [self._ask(name, known, now) for name, known in self._known.items() if self._is_due(known, now)]

    def on_answer(self, number: int, addresses: Iterable[IpAddress], why_none: str, now: float) -> bool:
        """The answer to a query, or the reason for none. True when it changes the addresses of a name."""
        known = next((known for known in self._known.values() if number in known.open), None)
        if known is None:
            return False
        known.open.remove(number)
        if number < known.answered:
            return False
        known.answered = number
        found = list(dict.fromkeys(addresses))
        if not found:
            known.failure = why_none
            known.due = now + known.retry_s
            known.retry_s = min(2 * known.retry_s, LAST_RETRY_S)
            return False
        # Resolvers rotate the order: known addresses keep their place.
        kept = [address for address in known.addresses if address in found]
        usable = (*kept, *(address for address in found if address not in kept))[:ADDRESSES_MAX]
        is_other = usable != known.addresses
        if is_other and known.is_confirmed_by_registers:
            gone = (address for address in (*known.addresses, *known.former) if address not in usable)
            known.former = tuple(dict.fromkeys(gone))[:ADDRESSES_MAX]
        known.addresses, known.failure, known.retry_s = usable, None, FIRST_RETRY_S
        known.due = now + RENEW_S * (1.0 + self._jitter() / 10)
        return is_other

    def _is_due(self, known: _Known, now: float) -> bool:
        if now < known.due:
            return False
        if len(known.open) >= OPEN_MAX:
            known.due = now + FIRST_RETRY_S
            return False
        return True

    def _ask(self, name: str, known: _Known, now: float) -> AskName:
        self._number += 1
        known.open.add(self._number)
        known.asked_at, known.due = now, now + LAST_RETRY_S
        known.first_asked_at = min(known.first_asked_at, now)
        return AskName(name, self._number)
