"""Which Map-Registers are older than what is known, by their nonces (RFC 9301, 5.6).

An xTR that counts proves with each nonce that the message is newer than the last. The counts are kept by key: with
another key an old message proves nothing, and a site that only gets another name keeps its counts. What is kept:

    xTR-ID               the last nonce of a named xTR
    EID-Prefix           the last nonce without an xTR-ID: the address is what changes when the node moves
    EID-Prefix, named    the largest nonce with any xTR-ID

A node may send both kinds from one counter, named behind a NAT and unnamed elsewhere. So an unnamed message has to be
newer than both kinds about its EID-Prefixes, and a named one newer than those of its xTR and the unnamed ones. The two
kinds take different ways, the one by an RTR, and may overtake each other within a second.

A count is never forgotten. Where there are too many, or their key is gone, one row takes the place of those that have
been silent for longer than any registration lives: what an unknown xTR sends has to be newer than all of them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from lispmob.hub.registration import MAX_LIFETIME_S
from lispmob.wire.auth import Key
from lispmob.wire.map_register import MapRegister

STEP_MAX: Final = 1 << 32  # ours: who counts steps no further than this; random nonces do so once in 2^31 times
OVERTAKING_S: Final = 1.0  # ours: how much later a message may come by an RTR than one that was sent after it
DEFAULT_LIMIT: Final = 16384
FLOOR: Final = ""  # the row that stands for all that are gone

NonceKey: TypeAlias = tuple[str, str]
"""Whose nonces: the key that proved them (`owner_of`), and the xTR-ID in hexadecimal or an EID-Prefix."""


class Count(NamedTuple):
    """The last nonce, and when it came. `is_counting`: it has been seen to grow in small steps."""

    nonce: int
    is_counting: bool
    at: float


NonceRow: TypeAlias = tuple[NonceKey, Count]


class NonceChanges(NamedTuple):
    """What the store has to write: rows that are new or other ones now, and rows to delete."""

    new: dict[NonceKey, Count]
    gone: frozenset[NonceKey]

    def before(self, later: NonceChanges) -> NonceChanges:
        """These changes and then the later ones, as one."""
        new = {row: count for row, count in self.new.items() if row not in later.gone}
        return NonceChanges(new | later.new, (self.gone - later.new.keys()) | later.gone)


NO_CHANGES: Final = NonceChanges({}, frozenset())


def owner_of(key: Key) -> str:
    """What stands for a secret where it must not be written itself."""
    return hmac.digest(key.secret, b"lispmob nonces", hashlib.sha256)[:8].hex()


def old_owner(site: str, key_id: int) -> str:
    """What stood for a key in state files of version 1: the site's name and the key-id."""
    return f"{key_id} {site}"


class TooManyXtrs(Exception):
    """More xTRs than may be remembered, all of them alive."""


class _Owner:
    """The counts under one key, the one heard of longest ago first."""

    def __init__(self) -> None:
        self.counts: OrderedDict[str, Count] = OrderedDict()
        self.floor = -1

    def heard_at(self, name: str) -> float:
        """When this name was heard last; long ago, when it is not known."""
        return self.counts[name].at if name in self.counts else float("-inf")

    def silent(self, now: float) -> str | None:
        """The name that was silent longest, when that is longer than any registration lives."""
        name = next(iter(self.counts), None)
        return name if name is not None and now - self.counts[name].at >= MAX_LIFETIME_S else None


class Nonces:
    """The last nonces of every xTR."""

    def __init__(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._new: dict[NonceKey, Count] = {}
        self._gone: set[NonceKey] = set()

    def __len__(self) -> int:
        return sum(len(one.counts) for one in self._owners.values())

    @property
    def has_new(self) -> bool:
        """True when there is something for the store."""
        return bool(self._new or self._gone)

    def accepts(
        self,
        register: MapRegister,
        key: Key,
        now: float,
        *,
        must_grow: bool | None,
        others: Iterable[Key] = (),
        limit: int = DEFAULT_LIMIT,
    ) -> bool:
        """Take in the nonce of a Map-Register that `key` proved; False when it is an old one.

        `must_grow` None: only of xTRs that have been seen to count. `others` are the site's other keys, under which the
        same xTR may have sent before. `limit` is for this key. Raises TooManyXtrs.
        """
        own, other_kind, told = _names(register)
        nonce = register.nonce
        owners = {owner_of(key), *map(owner_of, others)}
        if must_grow is not False:
            for owner in owners:
                if any(self._is_old(owner, name, nonce, must_grow=must_grow) for name in own):
                    return False
                overtaken = [name for name in other_kind if self._is_old(owner, name, nonce, must_grow=must_grow)]
                if any(now - self._owners[owner].heard_at(name) >= OVERTAKING_S for name in overtaken):
                    return False
        mine = self._owners.setdefault(owner_of(key), _Owner())
        self._make_room(owner_of(key), mine, sum(name not in mine.counts for name in told), limit, now)
        for name in told:
            self._put(owner_of(key), mine, name, _after(mine.counts.get(name), nonce, now))
        return True

    def restore(self, rows: Iterable[NonceRow]) -> None:
        """Take back what was known before a restart."""
        for (owner, name), count in sorted(rows, key=lambda row: row[1].at):
            one = self._owners.setdefault(owner, _Owner())
            if name == FLOOR:
                one.floor = max(one.floor, count.nonce)
            else:
                one.counts[name] = count

    def on_keys(self, keys: Iterable[Key], now: float) -> None:
        """Only these keys are valid now. Of the others one row each stays in the end: they may come back."""
        valid = {owner_of(key) for key in keys}
        for owner, one in self._owners.items():
            while owner not in valid and (silent := one.silent(now)) is not None:
                self._bury(owner, one, silent, now)

    def take_new(self) -> NonceChanges:
        """Those taken in and those given up since the previous call, for the store."""
        taken = NonceChanges(self._new, frozenset(self._gone))
        self._new, self._gone = {}, set()
        return taken

    def _is_old(self, owner: str, name: str, nonce: int, *, must_grow: bool | None) -> bool:
        one = self._owners.get(owner)
        if one is None:
            return False
        known = one.counts.get(name)
        if known is None:
            return nonce <= one.floor
        return nonce <= known.nonce and bool(must_grow or known.is_counting)

    def _put(self, owner: str, one: _Owner, name: str, count: Count) -> None:
        one.counts[name] = count
        one.counts.move_to_end(name)
        self._new[owner, name] = count
        self._gone.discard((owner, name))

    def _make_room(self, owner: str, one: _Owner, wanted: int, limit: int, now: float) -> None:
        while wanted and len(one.counts) + wanted > limit:
            silent = one.silent(now)
            if silent is None:
                raise TooManyXtrs
            self._bury(owner, one, silent, now)

    def _bury(self, owner: str, one: _Owner, name: str, now: float) -> None:
        count = one.counts.pop(name)
        self._new.pop((owner, name), None)
        self._gone.add((owner, name))
        if count.nonce > one.floor:
            one.floor = count.nonce
            self._new[owner, FLOOR] = Count(count.nonce, is_counting=True, at=now)


def _names(register: MapRegister) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """The names that the nonce has to be newer for: of its own kind, and of the other; and those that remember it."""
    eids = [str(record.eid_prefix or f"name {record.eid}") for record in register.records]
    by_name = [f"{eid}, named" for eid in eids]
    if register.xtr_id is None or not any(register.xtr_id):
        return eids, by_name, eids
    xtr = register.xtr_id.hex()
    if register.wants_merge:
        return [xtr], [], [xtr]  # xTRs that share an EID-Prefix, each with a counter of its own
    return [xtr], eids, [xtr, *by_name]


def _after(before: Count | None, nonce: int, now: float) -> Count:
    is_counting = before is not None and (before.is_counting or 0 < nonce - before.nonce <= STEP_MAX)
    return Count(nonce, is_counting, now)
