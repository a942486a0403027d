"""Limits how much of the DNS server one user of this host may use, so that the others are still served. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias, TypeVar

from lispmob.protocol.rate_limit import KeyedBuckets

WAITING: Final = 256  # ours: questions that wait for the mapping system
WAITING_OF_USER: Final = 128
CONNECTIONS: Final = 16
CONNECTIONS_OF_USER: Final = 8
NAMES_OF_USER_S: Final = 10.0  # ours: half of the node's rate of name questions to the mapping system, control/names.py
NAMES_OF_USER_BURST: Final = 20

K = TypeVar("K")
User: TypeAlias = int | None
"""A uid; None: all users the kernel does not know, together."""


class Shares:
    """Counts the waiting questions and the names asked for. The caller reports when one is done."""

    def __init__(self) -> None:
        self._waiting: Counter[User] = Counter()
        self._asked: Counter[bytes] = Counter()
        self._connected: Counter[User] = Counter()
        self._names: KeyedBuckets[User] = KeyedBuckets(1 / NAMES_OF_USER_S, NAMES_OF_USER_BURST)

    def wait(self, name: bytes, user: User, now: float) -> bool:
        """Take a place for a question that has to wait. A name that is asked for already costs only the place."""
        if self._waiting.total() >= WAITING or self._waiting[user] >= WAITING_OF_USER:
            return False
        if name not in self._asked and not self._names.take(user, now):
            return False
        self._waiting[user] += 1
        self._asked[name] += 1
        return True

    def wait_no_more(self, name: bytes, user: User) -> None:
        """Free the place: there is an answer, or the client has gone."""
        _take_out(self._waiting, user)
        _take_out(self._asked, name)

    def connect(self, user: User) -> bool:
        """Take a place for a connection."""
        if self._connected.total() >= CONNECTIONS or self._connected[user] >= CONNECTIONS_OF_USER:
            return False
        self._connected[user] += 1
        return True

    def disconnect(self, user: User) -> None:
        """Free the place of a connection."""
        _take_out(self._connected, user)


def _take_out(counted: Counter[K], key: K) -> None:
    counted[key] -= 1
    if not counted[key]:
        del counted[key]
