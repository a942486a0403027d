"""How much of the DNS server one user of this host may have, so that there is something left for the others. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final, TypeAlias, TypeVar

from lispmob.protocol.rate_limit import KeyedBuckets

WAITING: Final = 256  # ours: questions that wait for the mapping system
WAITING_OF_USER: Final = 128
CONNECTIONS: Final = 16
CONNECTIONS_OF_USER: Final = 8
NAMES_OF_USER_S: Final = 10.0  # ours: half of what the node asks the mapping system for, control/names.py
NAMES_OF_USER_BURST: Final = 20

K = TypeVar("K")
User: TypeAlias = int | None
"""A uid; None: whoever the kernel does not know, all of them together."""


class Shares:
    """Counts what waits, and the names that were asked for. The caller says when something is over."""

    def __init__(self) -> None:
        self._waiting: Counter[User] = Counter()
        self._asked: Counter[bytes] = Counter()
        self._connected: Counter[User] = Counter()
        self._names: KeyedBuckets[User] = KeyedBuckets(1 / NAMES_OF_USER_S, NAMES_OF_USER_BURST)

    def wait(self, name: bytes, user: User, now: float) -> bool:
        """Take a place for a question that has to wait. A name that is asked for already costs no more than that."""
        if self._waiting.total() >= WAITING or self._waiting[user] >= WAITING_OF_USER:
            return False
        if name not in self._asked and not self._names.take(user, now):
            return False
        self._waiting[user] += 1
        self._asked[name] += 1
        return True

    def wait_no_more(self, name: bytes, user: User) -> None:
        """There is an answer, or nobody waits for it any longer."""
        _take_out(self._waiting, user)
        _take_out(self._asked, name)

    def connect(self, user: User) -> bool:
        """Take a place for a connection."""
        if self._connected.total() >= CONNECTIONS or self._connected[user] >= CONNECTIONS_OF_USER:
            return False
        self._connected[user] += 1
        return True

    def disconnect(self, user: User) -> None:
        """A connection is over."""
        _take_out(self._connected, user)


def _take_out(counted: Counter[K], key: K) -> None:
    counted[key] -= 1
    if not counted[key]:
        del counted[key]
