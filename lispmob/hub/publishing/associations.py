"""The One-Time-Keys of past security associations, so that a recorded subscription cannot be replayed. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final

KEPT_S: Final = 86400.0  # ours: a day, as long as a subscription lives
KEPT_MAX: Final = 200_000  # ours: twice the subscriptions of a hub
KEPT_EACH: Final = 20_000  # ours: of one secret, so that no site takes the room of others
HASH_OCTETS: Final = 8


class Associations:
    """Stores a hash of each, oldest first."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()  # until when each counts, and its owner
        self._of: Counter[bytes] = Counter()
        self._unsaved: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    @property
    def has_new(self) -> bool:
        """True when there is something for `take_new`."""
        return bool(self._unsaved)

    def take(self, otk: bytes, nonce: int, owner: bytes, now: float) -> bool | None:
        """Make one of this One-Time-Key and nonce; False: there was one. None: this owner has no room for more."""
        while self._until and next(iter(self._until.values()))[0] <= now:
            _, (_, former) = self._until.popitem(last=False)
            self._of[former] -= 1
        digest = hashlib.sha256(otk + nonce.to_bytes(8)).digest()[:HASH_OCTETS]
        if digest in self._until:
            return False
        if self._of[owner] >= KEPT_EACH or len(self._until) >= KEPT_MAX:
            return None
        self._until[digest] = now + KEPT_S, owner
        self._unsaved[digest] = now + KEPT_S
        self._of[owner] += 1
        return True

    def take_new(self) -> dict[bytes, float]:
        """The new ones since the previous call, for the store."""
        taken, self._unsaved = self._unsaved, {}
        return taken

    def restore(self, rows: Iterable[tuple[bytes, float]], now: float) -> None:
        """Restore those from before a restart: until when each counts."""
        for digest, until in sorted(rows, key=lambda row: row[1]):
            if until > now and len(self._until) < KEPT_MAX:
                self._until.setdefault(digest, (until, b""))  # without an owner, because the file does not have it
