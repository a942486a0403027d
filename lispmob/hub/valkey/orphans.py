"""Which buckets to look through for what a hub that is gone has left: those of this hub, and when. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

ROUND: Final = 16  # ours: turns in which each bucket is looked at for what hubs have left that were never seen


class Orphans:
    """`hub` is our own number."""

    def __init__(self, hub: int) -> None:
        self._hub = hub
        self._gained: set[int] = set()
        self._known: frozenset[int] | None = None
        self._has_lost = False

    @property
    def present(self) -> frozenset[int]:
        """The hubs that are there, this one too."""
        return (self._known or frozenset()) | {self._hub}

    def on_gained(self, bucket: int) -> None:
        """This hub keeps a bucket that it did not keep before: its former keeper may be gone."""
        self._gained.add(bucket)

    def on_present(self, hubs: Collection[int]) -> None:
        """These say of themselves that they are there."""
        now = frozenset(hubs)
        self._has_lost = self._has_lost or bool((self._known or frozenset()) - now)
        self._known = now

    def take(self, kept: Collection[int], turn: int) -> frozenset[int]:
        """Those to look through in this turn, of the buckets that this hub keeps. None before anybody was seen.

        All of them when a hub has gone, otherwise those that are new, and in turn all: a hub may come and go unseen.
        """
        if self._known is None:
            return frozenset()
        gained, has_lost = self._gained, self._has_lost
        self._gained, self._has_lost = set(), False
        return frozenset(b for b in kept if has_lost or b in gained or b % ROUND == turn % ROUND)
