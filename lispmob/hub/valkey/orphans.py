"""Decides which of this hub's buckets to search, and when, for the state of hubs that are gone. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

ROUND: Final = 16  # ours: turns in which each bucket is searched for the state of hubs that were never seen


class Orphans:
    """`hub` is this hub's number."""

    def __init__(self, hub: int) -> None:
        self._hub = hub
        self._gained: set[int] = set()
        self._known: frozenset[int] | None = None
        self._has_lost = False

    @property
    def present(self) -> frozenset[int]:
        """The present hubs, including this one."""
        return (self._known or frozenset()) | {self._hub}

    def on_gained(self, bucket: int) -> None:
        """This hub keeps a bucket that it did not keep before: its former keeper may be gone."""
        self._gained.add(bucket)

    def on_present(self, hubs: Collection[int]) -> None:
        """Take the hubs that have announced themselves."""
        now = frozenset(hubs)
        self._has_lost = self._has_lost or bool((self._known or frozenset()) - now)
        self._known = now

    def take(self, kept: Collection[int], turn: int) -> frozenset[int]:
        """The buckets to search in this turn, among those that this hub keeps. None before any hub was seen.

        All of them when a hub has gone; otherwise the new ones, and the others in turn, since a hub may come and go
        unseen.
        """
        if self._known is None:
            return frozenset()
        gained, has_lost = self._gained, self._has_lost
        self._gained, self._has_lost = set(), False
        return frozenset(b for b in kept if has_lost or b in gained or b % ROUND == turn % ROUND)
