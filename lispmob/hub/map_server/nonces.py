"""Decides by their nonces which Map-Registers are older than the last (RFC 9301, 5.6).

Each nonce of an xTR that counts proves that the message is newer than the last. The counts are kept by key: with
another key an old message proves nothing, and a site that only changes its name keeps its counts. The rows are:

    xTR-ID               the last nonce of a named xTR
    EID-Prefix           the last nonce without an xTR-ID: the address changes when the node moves
    EID-Prefix, named    the largest nonce with any xTR-ID

A node may send both kinds from one counter, named behind a NAT and unnamed elsewhere. So an unnamed message has to be
newer than both kinds about its EID-Prefixes, and a named one newer than those of its xTR and the unnamed ones. The two
kinds take different paths, one of them through an RTR, and may overtake each other within a second.

A count is never lost. Where there are too many, or their key is gone, one row replaces those that have been silent for
longer than any registration lives: a message of an unknown xTR has to be newer than all of them.

Counts are kept and stored as octets, under names of octets: each registration has two, and there may be a million. Each
step of the work is bounded: silent names are looked for a few at a time, in a round over all names.

Before the state file is read, and while it is, `unread` finds the counts of a name in it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Container, Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from lispmob.errors import MalformedMessage
from lispmob.hub.map_server.part import MAX_LIFETIME_S
from lispmob.hub.map_server.unread import Unread
from lispmob.protocol.split_dict import AnyDict, grown
from lispmob.wire.address import DistinguishedName, EidPrefix
from lispmob.wire.auth import Key
from lispmob.wire.map_register import MapRegister
from lispmob.wire.name_eid import name_of

STEP_MAX: Final = 1 << 32  # ours: the largest step of a counter; random nonces step less once in 2^31 times
OVERTAKING_S: Final = 1.0  # ours: how much later a message through an RTR may arrive than one sent after it
DEFAULT_LIMIT: Final = 16384
LOOKED_AT: Final = 256  # ours: names checked for a silent one when a new one comes
REPLACED_AT_ONCE: Final = 64  # ours: a slice of the work after a change of keys
FLOOR: Final = b""  # the row that replaces all removed ones

_EID_NAME: Final = Struct(">BBI")  # 0, or 1 for "named"; mask length, Instance-ID; the address follows
_COUNT: Final = Struct(">Qd?")

NonceKey: TypeAlias = tuple[str, bytes]
"""The key that proved the nonces (`owner_of`), and the name: an xTR-ID or an EID-Prefix (`eid_name`)."""


class Count(NamedTuple):
    """The last nonce, and when it came. `is_counting`: it has been seen to grow in small steps."""

    nonce: int
    is_counting: bool
    at: float

    def encode(self) -> bytes:
        """As octets."""
        return _COUNT.pack(self.nonce, self.at, self.is_counting)

    @staticmethod
    def shifted(packed: bytes, later_s: float, now: float = float("inf")) -> bytes:
        """The octets on a clock that is so much ahead, and shows `now`. ValueError."""
        if len(packed) != _COUNT.size:
            raise ValueError(f"a count of {len(packed)} octets")
        nonce, at, is_counting = _COUNT.unpack(packed)
        return _COUNT.pack(nonce, min(at + later_s, now), is_counting)

    @classmethod
    def decode(cls, packed: bytes) -> Count:
        """Decode octets. struct.error for those that are no count."""
        nonce, at, is_counting = _COUNT.unpack(packed)
        return cls(nonce, is_counting, at)


NonceRow: TypeAlias = tuple[NonceKey, bytes]


class NonceChanges(NamedTuple):
    """Changes for the store: rows that are new or changed, and rows to delete."""

    new: dict[NonceKey, bytes]
    gone: frozenset[NonceKey]

    def before(self, later: NonceChanges) -> NonceChanges:
        """These changes followed by the later ones."""
        new = {row: count for row, count in self.new.items() if row not in later.gone}
        return NonceChanges(new | later.new, (self.gone - later.new.keys()) | later.gone)


NO_CHANGES: Final = NonceChanges({}, frozenset())


@lru_cache(65536)
def owner_of(key: Key) -> str:
    """An identifier of a secret, where the secret must not be written."""
    return hmac.digest(key.secret, b"lispmob nonces", hashlib.sha256)[:8].hex()


def old_owner(site: str, key_id: int) -> str:
    """The identifier of a key in state files of version 1: the site's name and the key-id."""
    return f"{key_id} {site}"


def eid_name(prefix: EidPrefix, *, is_named: bool = False) -> bytes:
    """The name of an EID-Prefix's row; `is_named`: of that for messages with an xTR-ID. No xTR-ID is as long."""
    octets = 4 if prefix.family == 4 else 16
    return _EID_NAME.pack(is_named, prefix.mask_len, prefix.instance_id) + prefix.number.to_bytes(octets)


def host_name(eid: DistinguishedName, *, is_named: bool = False) -> bytes:
    """The same for a name as EID (RFC 9735). Neither an xTR-ID nor an EID-Prefix has this length."""
    return bytes((2 + is_named,)) + hashlib.sha256(name_of(eid) or b"").digest()


class OldNonce(MalformedMessage):
    """A Map-Register whose nonce is not newer than the last."""


class TooManyXtrs(Exception):
    """More live xTRs than can be remembered."""


class _Owner:
    """The counts under one key. `round` has every name once, in the order in which they are checked."""

    __slots__ = ("counts", "floor", "round")

    def __init__(self) -> None:
        self.counts: AnyDict[bytes, bytes] = {}
        self.round: deque[bytes] = deque()
        self.floor = -1

    def put(self, name: bytes, packed: bytes) -> None:
        """Add the count of a new name."""
        self.counts[name] = packed
        self.counts = grown(self.counts)
        self.round.append(name)

    def heard_at(self, name: bytes) -> float:
        """When this name was heard last; long ago, when it is not known."""
        packed = self.counts.get(name)
        return _COUNT.unpack(packed)[1] if packed is not None else float("-inf")

    def silent(self, now: float, but: Container[bytes] = ()) -> bytes | None:
        """Remove and return a name silent for longer than any registration lives; None: none was found."""
        for _ in range(min(LOOKED_AT, len(self.round))):
            name = self.round.popleft()
            if now - self.heard_at(name) >= MAX_LIFETIME_S and name not in but:
                return name
            self.round.append(name)
        return None


class Nonces:
    """The last nonces of every xTR."""

    def __init__(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._new: dict[NonceKey, bytes] = {}
        self._gone: set[NonceKey] = set()
        self._valid: frozenset[str] = frozenset()
        self._leaving: list[str] = []  # owners whose keys are not valid: their names are replaced in slices
        self.unread: Unread | None = None

    def __len__(self) -> int:
        return sum(len(owner.counts) for owner in self._owners.values())

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
        prefixes: Sequence[EidPrefix] | None = None,
    ) -> bool:
        """Take in the nonce of a Map-Register that `key` proved; False when it is an old one.

        `must_grow` None: only of xTRs that have been seen to count. `others` are the site's other keys, under which the
        same xTR may have sent before. `limit` is for this key. `prefixes` are the records', where they are known
        already. Raises TooManyXtrs.
        """
        own, other_kind, told = _names(register, prefixes)
        nonce, owner = register.nonce, owner_of(key)
        owners = {owner, *map(owner_of, others)}
        if self.unread is not None:
            self.read(owners, {*own, *other_kind, *told})
        if must_grow is not False:
            for holder in owners:
                if any(self._is_old(holder, name, nonce, must_grow=must_grow) for name in own):
                    return False
                overtaken = [name for name in other_kind if self._is_old(holder, name, nonce, must_grow=must_grow)]
                if any(now - self._owners[holder].heard_at(name) >= OVERTAKING_S for name in overtaken):
                    return False
        mine = self._owners.get(owner)
        if mine is None:
            mine = self._owners[owner] = _Owner()
        if len(mine.counts) + len(told) > limit:
            self._make_room(owner, mine, told, limit, now)
        self._take_in(owner, mine, told, nonce, now)
        return True

    def heard_at(self, owners: Iterable[str], name: bytes) -> float:
        """When a message with one of these keys last came under this name."""
        found = (self._owners[owner].heard_at(name) for owner in owners if owner in self._owners)
        return max(found, default=float("-inf"))

    def restore(self, rows: Iterable[NonceRow]) -> None:
        """Restore the counts from before a restart. Counts received since then are newer."""
        for (owner, name), packed in rows:
            one = self._owners.get(owner)
            if one is None:
                one = self._owners[owner] = _Owner()
            if name == FLOOR:
                one.floor = max(one.floor, Count.decode(packed).nonce)
            elif name not in one.counts:
                one.put(name, packed)

    def on_keys(self, keys: Iterable[Key], now: float) -> None:
        """Only these keys are valid now. One row replaces the counts of each other key, which may come back."""
        self._valid = frozenset(map(owner_of, keys))
        self._leaving = [owner for owner in self._owners if owner not in self._valid]
        self.replace_some(now)

    def replace_some(self, now: float) -> bool:
        """Replace some counts whose key is gone; True while there may be more to replace at once."""
        for _ in range(REPLACED_AT_ONCE):
            if not self._leaving:
                break
            owner = self._leaving[-1]
            silent = self._owners[owner].silent(now)
            if silent is None:
                self._leaving.pop()  # the others are alive: they are checked again with the next configuration
            else:
                self._replace(owner, self._owners[owner], silent, now)
        return bool(self._leaving)

    def take_new(self) -> NonceChanges:
        """Counts added and replaced since the previous call, for the store."""
        taken = NonceChanges(self._new, frozenset(self._gone))
        self._new, self._gone = {}, set()
        return taken

    def read(self, owners: Iterable[str], names: Iterable[bytes]) -> None:
        """Load the counts of these names into memory, if there are any, also while the state file is being read."""
        if self.unread is not None:
            for owner in owners:
                for name in (FLOOR, *names):
                    if (packed := self.unread.nonce(owner, name)) is not None:
                        self.restore([((owner, name), packed)])

    def _is_old(self, owner: str, name: bytes, nonce: int, *, must_grow: bool | None) -> bool:
        one = self._owners.get(owner)
        if one is None:
            return False
        known = one.counts.get(name)
        if known is None:
            return nonce <= one.floor
        last, _, is_counting = _COUNT.unpack(known)
        return nonce <= last and bool(must_grow or is_counting)

    def _take_in(self, owner: str, one: _Owner, names: Iterable[bytes], nonce: int, now: float) -> None:
        made: dict[bool, bytes] = {}  # names of the same message share their octets
        for name in names:
            before = one.counts.get(name)
            is_counting = False
            if before is not None:
                last, _, is_counting = _COUNT.unpack(before)
                is_counting = is_counting or 0 < nonce - last <= STEP_MAX
            packed = made.get(is_counting)
            if packed is None:
                packed = made[is_counting] = _COUNT.pack(nonce, now, is_counting)
            if before is None:
                one.put(name, packed)
            else:
                one.counts[name] = packed
            self._new[owner, name] = packed
            if self._gone:
                self._gone.discard((owner, name))

    def _make_room(self, owner: str, one: _Owner, names: Sequence[bytes], limit: int, now: float) -> None:
        wanted = sum(name not in one.counts for name in names)
        while wanted and len(one.counts) + wanted > limit:
            silent = one.silent(now, names)
            if silent is None:
                raise TooManyXtrs
            self._replace(owner, one, silent, now)

    def _replace(self, owner: str, one: _Owner, name: bytes, now: float) -> None:
        """Replace the count of a name that is out of the round."""
        count = Count.decode(one.counts[name])
        del one.counts[name]
        self._new.pop((owner, name), None)
        self._gone.add((owner, name))
        if count.nonce > one.floor:
            one.floor = count.nonce
            self._new[owner, FLOOR] = Count(count.nonce, is_counting=True, at=now).encode()


def _names(
    register: MapRegister, prefixes: Sequence[EidPrefix] | None
) -> tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]]:
    """The names whose nonces must be smaller: of the same kind and of the other; and the names to store it under."""
    if prefixes is None:
        prefixes = [prefix for record in register.records if (prefix := record.eid_prefix) is not None]
    eids = list(map(eid_name, prefixes))
    by_name = [eid_name(prefix, is_named=True) for prefix in prefixes]
    hosts = [eid for record in register.records if isinstance(eid := record.eid, DistinguishedName)]
    eids += map(host_name, hosts)
    by_name += [host_name(eid, is_named=True) for eid in hosts]
    if register.xtr_id is None or not any(register.xtr_id):
        return eids, by_name, eids
    xtr = register.xtr_id
    if register.wants_merge:
        return [xtr], [], [xtr]  # xTRs that share an EID-Prefix, each with its own counter
    return [xtr], eids, [xtr, *by_name]
