"""The prefix of the translator on the way to IPv4 (NAT64), for uplinks that have IPv6 only; pure.

How it works. What the configuration names counts before everything. What a router says on an interface (RFC 8781)
counts for that interface. For the others the host's DNS server is asked for the IPv6 address of a name that has none
(RFC 7050): the answer has the prefix in it. Where it has none, or no answer comes, the well-known prefix is tried, for
a network may translate and leave DNS alone. Nothing is asked while no uplink needs it. Nothing of this proves that the
translator works: a Map-Server has to answer through it, which has our key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv6Network
from typing import Final, TypeAlias

from lispmob.control.server_addresses import AskName
from lispmob.wire.address import IpAddress
from lispmob.wire.embedded_ipv4 import IPV4_ONLY_NAME, WELL_KNOWN, prefix_of

SLOW_S: Final = 2.0  # ours: a DNS server of the network that has not answered by then may be none
RENEW_S: Final = 600.0  # ours: the resolver of the C library tells no time to live
FIRST_RETRY_S: Final = 5.0  # ours; doubles up to RENEW_S

Needy: TypeAlias = Mapping[int, IPv6Network | None]
"""By index, the interfaces that have IPv6 only, each with the prefix that a router there names."""


class TranslatorSearch:
    """`jitter` is in [0, 1)."""

    def __init__(self, *, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._named: IPv6Network | None = None
        self._is_off = False
        self._needy: Needy = {}
        self._found: IPv6Network | None = None  # by DNS, or guessed
        self._number = 0  # of the last question
        self._due: float | None = None
        self._slow_at: float | None = None
        self._retry_s = FIRST_RETRY_S

    @property
    def prefixes(self) -> dict[int, IPv6Network]:
        """The prefix for each interface that needs one; none yet where DNS has just been asked."""
        wanted = ((ifindex, self._named or routed or self._found) for ifindex, routed in self._needy.items())
        return {} if self._is_off else {ifindex: prefix for ifindex, prefix in wanted if prefix is not None}

    @property
    def is_open(self) -> bool:
        """True while an interface needs a prefix, and DNS may yet give one."""
        return self._slow_at is not None

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None while nothing is to be asked."""
        return min((at for at in (self._due, self._slow_at) if at is not None), default=None)

    def on_config(self, named: IPv6Network | None, now: float, *, is_off: bool = False) -> list[AskName]:
        """The configuration names a prefix, or wants no translator (`is_off`), or leaves it to us."""
        self._named, self._is_off = named, is_off
        return self._settle(now)

    def on_uplinks(self, needy: Needy, now: float) -> list[AskName]:
        """These need a translator now. Another interface may be in another network, with other answers."""
        is_news = bool(needy.keys() - self._needy.keys())
        self._needy = dict(needy)
        if is_news:
            self._due, self._retry_s = None, FIRST_RETRY_S
        return self._settle(now)

    def on_answer(self, number: int, addresses: Iterable[IpAddress], now: float) -> None:
        """The addresses that DNS has for the name, or none. An answer to an earlier question counts for nothing."""
        if number != self._number or self._due is None:
            return
        found = next((prefix for prefix in map(prefix_of, addresses) if prefix is not None), None)
        self._found, self._slow_at = found or WELL_KNOWN, None
        self._due = now + (RENEW_S if found else self._retry_s) * (1.0 + self._jitter() / 10)
        self._retry_s = FIRST_RETRY_S if found else min(2 * self._retry_s, RENEW_S)

    def on_timer(self, now: float) -> list[AskName]:
        """A deadline may have passed."""
        if self._slow_at is not None and now >= self._slow_at:
            self._slow_at = None
            self._found = self._found or WELL_KNOWN
        return self._ask(now) if self._due is not None and now >= self._due else []

    def _settle(self, now: float) -> list[AskName]:
        """Ask as long as an interface depends on it."""
        if self._is_off or self._named is not None or all(prefix is not None for prefix in self._needy.values()):
            self._due = self._slow_at = self._found = None
            return []
        return self._ask(now) if self._due is None else []

    def _ask(self, now: float) -> list[AskName]:
        self._number += 1
        self._due = now + RENEW_S
        self._slow_at = now + SLOW_S if self._found is None else None
        return [AskName(IPV4_ONLY_NAME, self._number)]
