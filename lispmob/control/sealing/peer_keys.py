"""The static keys of other nodes by EID-Prefix, each with its grade of trust.

| grade      | where the key comes from                                                            |
|------------|-------------------------------------------------------------------------------------|
| pinned     | the configuration; nothing else counts for its EID-Prefixes                          |
| vouched    | the key record of a mapping that LISP-SEC has shown to be genuine (RFC 9303)         |
| remembered | was vouched for once: still used, so that an attacker gains nothing by leaving it out    |

Other keys are not used. A vouched key that differs from the one before is accepted, with an event, because the
Map-Server vouches for it; with strict keys it waits until a client accepts it, unless the owner of the former key has
announced it in a session. Vouched keys, whether they had a
session, and the last timestamp of each key are kept over restarts. Pure.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from lispmob.protocol.effect import Event, EventValue, MachineEffect
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord

V = TypeVar("V")
KeyGrade: TypeAlias = Literal["pinned", "vouched", "remembered"]
REMEMBERED_MAX: Final = 4096  # ours: EID-Prefixes; the oldest is evicted first, those that have sealed last
TIMES_MAX: Final = 4096  # ours: static keys
NOWHERE: Final = 0xFFFFFF  # the Instance-ID of control messages in data: no EID is in it
PARTS_MAX: Final = 256  # ours: of an EID-Prefix that others have keys inside of; a session lists each
_LABEL: Final = b"lispmob fingerprint"
_ANNOUNCED: Final = "the new one is used: the owner of the old one announced it in a session"


class PinnedKey(msgspec.Struct, frozen=True):
    """A configured EID-Prefix and the key of its node."""

    prefix: EidPrefix
    key: bytes


class PeerKey(msgspec.Struct, frozen=True):
    """The key to use for an EID-Prefix. `has_been_sealed`: there was a session, so clear text is refused."""

    prefix: EidPrefix
    key: bytes
    grade: KeyGrade
    has_been_sealed: bool = False


class KeptKey(msgspec.Struct, frozen=True):
    """The stored state of an EID-Prefix."""

    key: bytes
    has_been_sealed: bool = False


class KeyMemory(Protocol):
    """State that is kept over restarts."""

    def load_keys(self) -> Mapping[EidPrefix, KeptKey]:
        """The stored keys, the one vouched for longest ago first."""
        ...

    def save_keys(self, keys: Mapping[EidPrefix, KeptKey]) -> None:
        """Store these, and no others."""
        ...

    def load_times(self) -> Mapping[bytes, int]:
        """The last handshake timestamp of each static key, in nanoseconds."""
        ...

    def save_times(self, times: Mapping[bytes, int]) -> None:
        """Store these, and no others."""
        ...


class NoKeyMemory:
    """Keeps nothing over restarts."""

    def load_keys(self) -> Mapping[EidPrefix, KeptKey]:
        """None."""
        return {}

    def save_keys(self, keys: Mapping[EidPrefix, KeptKey]) -> None:
        """Does nothing."""

    def load_times(self) -> Mapping[bytes, int]:
        """None."""
        return {}

    def save_times(self, times: Mapping[bytes, int]) -> None:
        """Does nothing."""


def fingerprint(key: bytes) -> str:
    """For comparing keys by voice: 80 bits of a hash of the key, in five groups."""
    digits = hashlib.sha256(_LABEL + key).hexdigest()[:20]
    return "-".join(digits[at : at + 4] for at in range(0, 20, 4))


class PeerKeys:
    """Holds keys; their use is decided elsewhere."""

    def __init__(self, pinned: Iterable[PinnedKey], memory: KeyMemory, *, is_strict: bool = False) -> None:
        self.version = 0
        """Grows with every change of the stored keys."""
        self._memory = memory
        self._kept: OrderedDict[EidPrefix, KeptKey] = OrderedDict(memory.load_keys())
        self._times: OrderedDict[bytes, int] = OrderedDict(memory.load_times())
        self._vouched: set[EidPrefix] = set()  # of the stored keys: by the last genuine answer
        self._waiting: dict[EidPrefix, bytes] = {}  # vouched for, but not accepted yet
        self._announced: dict[EidPrefix, bytes] = {}  # by a session of the stored key, but not vouched for yet
        self._table: PrefixTable[KeptKey] = PrefixTable()
        for prefix, kept in self._kept.items():
            self._table.insert(prefix, kept)
        self.on_config(pinned, is_strict=is_strict)

    def on_config(self, pinned: Iterable[PinnedKey], *, is_strict: bool) -> None:
        """The configuration has changed."""
        self._is_strict = is_strict
        self._pinned: PrefixTable[bytes] = PrefixTable()
        for pinned_key in pinned:
            self._pinned.insert(pinned_key.prefix, pinned_key.key)

    @property
    def waiting(self) -> Mapping[EidPrefix, bytes]:
        """Keys that wait for a client's acceptance."""
        return self._waiting

    @property
    def prefixes(self) -> tuple[EidPrefix, ...]:
        """Every EID-Prefix with a known key."""
        return tuple(dict.fromkeys((*(prefix for prefix, _ in self._pinned), *self._kept)))

    @property
    def refused_clear(self) -> tuple[EidPrefix, ...]:
        """Prefixes that had a session: clear text from there is forged."""
        return tuple(prefix for prefix, kept in self._kept.items() if kept.has_been_sealed)

    def of(self, prefix: EidPrefix) -> PeerKey | None:
        """The key for all of this EID-Prefix."""
        pinned = _covering(self._pinned, prefix)
        kept = _covering(self._table, prefix)
        if pinned is not None:
            has_been_sealed = kept is not None and kept[1].has_been_sealed and kept[1].key == pinned[1]
            return PeerKey(pinned[0], pinned[1], "pinned", has_been_sealed)
        if kept is None:
            return None
        grade: KeyGrade = "vouched" if kept[0] in self._vouched else "remembered"
        return PeerKey(kept[0], kept[1].key, grade, kept[1].has_been_sealed)

    def of_host(self, address: IpAddress, instance_id: int) -> PeerKey | None:
        """The key of one EID."""
        return self.of(EidPrefix.host(address, instance_id))

    def within(self, prefix: EidPrefix) -> tuple[EidPrefix, ...]:
        """Every EID-Prefix inside of this one that has a key of its own."""
        tables = self._pinned.covered(prefix), self._table.covered(prefix)
        return tuple(dict.fromkeys(at for found in tables for at, _ in found))

    def is_of(self, prefix: EidPrefix, key: bytes) -> bool:
        """Whether this EID-Prefix has this key."""
        known = self.of(prefix)
        return known is not None and known.key == key

    def sources(self, known: PeerKey) -> tuple[EidPrefix, ...]:
        """Every EID-Prefix of its Instance-ID that has this key, without the parts of it that have another one."""
        found = [prefix for prefix, key in self._pinned if key == known.key]
        found += [prefix for prefix, kept in self._kept.items() if kept.key == known.key]
        fitting = (prefix for prefix in found if prefix.instance_id == known.prefix.instance_id)
        own = dict.fromkeys((known.prefix, *(prefix for prefix in fitting if self.is_of(prefix, known.key))))
        parts = tuple(dict.fromkeys(part for prefix in own for part in self._without_others(prefix, known.key)))
        return parts or (EidPrefix.host(known.prefix.address, NOWHERE),)  # none would stand for a hub's session

    def _without_others(self, prefix: EidPrefix, key: bytes) -> list[EidPrefix]:
        """The parts of a prefix whose key is not another one; not all of them if there are too many."""
        others = [inside for inside in self.within(prefix) if not self.is_of(inside, key)]
        parts = [prefix]
        for other in others:
            parts = [piece for part in parts for piece in (_beside(part, other) if part.covers(other) else [part])]
            if len(parts) > PARTS_MAX:
                return [part for part in parts if not any(part.covers(one) for one in others)][:PARTS_MAX]
        return parts

    def on_vouched(self, prefix: EidPrefix, record: KeyRecord | None) -> list[MachineEffect]:
        """A genuine mapping of this EID-Prefix has these keys, or none."""
        if record is None:
            self._vouched.discard(prefix)
            return []
        return self._on_revoked(prefix, record.keys) if record.is_revoked else self._take(prefix, record.keys[0])

    def accept(self, prefix: EidPrefix) -> list[MachineEffect]:
        """A client accepts the new key of this EID-Prefix. ValueError if none is waiting."""
        if prefix not in self._waiting:
            raise ValueError(f"no new key of {prefix} waits")
        return self._keep(prefix, self._waiting.pop(prefix))

    def on_announced(self, known: PeerKey, key: bytes) -> list[MachineEffect]:
        """The owner of this stored key announces, in a session of it, that it will have another one."""
        kept = self._kept.get(known.prefix)
        if kept is None or kept.key != known.key or key == kept.key:
            return []
        self._announced[known.prefix] = key
        if self._waiting.get(known.prefix) != key:
            return []
        return [_changed(known.prefix, kept.key, key, _ANNOUNCED), *self.accept(known.prefix)]

    def forget(self, prefix: EidPrefix) -> None:
        """A client says that this EID-Prefix no longer has a key. ValueError if none is stored."""
        if self._kept.pop(prefix, None) is None:
            raise ValueError(f"no key of {prefix} is kept")
        self._waiting.pop(prefix, None)
        self._announced.pop(prefix, None)
        self._vouched.discard(prefix)
        self._table.remove(prefix)
        self._save()

    def on_session(self, known: PeerKey) -> bool:
        """A session with this node was made; True for the first one."""
        kept = self._kept.get(known.prefix)
        if kept == KeptKey(known.key, has_been_sealed=True):
            return False
        self._put(known.prefix, KeptKey(known.key, has_been_sealed=True))
        return True

    def last_time_of(self, key: bytes) -> int:
        """The last handshake timestamp of a static key, in nanoseconds; 0 for none."""
        return self._times.get(key, 0)

    def on_time(self, key: bytes, timestamp_ns: int) -> None:
        """A handshake of this key had this timestamp."""
        self._times[key] = timestamp_ns
        self._times.move_to_end(key)
        while len(self._times) > TIMES_MAX:
            self._times.popitem(last=False)
        self._memory.save_times(self._times)

    def _on_revoked(self, prefix: EidPrefix, keys: tuple[bytes, ...]) -> list[MachineEffect]:
        self._waiting.pop(prefix, None)
        kept = self._kept.get(prefix)
        if kept is None or kept.key not in keys:
            return []
        told: dict[str, EventValue] = {"eid": str(prefix), "fingerprint": fingerprint(kept.key)}
        if self._is_strict:
            is_news = prefix in self._vouched
            self._vouched.discard(prefix)
            told["text"] = f"it is used until you remove it: lispctl key --forget {prefix}"
            return [Event("key-revoked", told)] * is_news
        self.forget(prefix)
        return [Event("key-revoked", told)]

    def _take(self, prefix: EidPrefix, key: bytes) -> list[MachineEffect]:
        kept = self._kept.get(prefix)
        if kept is not None and kept.key == key:
            self._vouched.add(prefix)
            self._waiting.pop(prefix, None)
            return []
        pinned = _covering(self._pinned, prefix)
        if pinned is not None and pinned[1] != key:
            return [_changed(prefix, pinned[1], key, "the pinned one is used")]
        if kept is None:
            return self._keep(prefix, key)
        if self._is_strict and self._announced.get(prefix) == key:
            return [_changed(prefix, kept.key, key, _ANNOUNCED), *self._keep(prefix, key)]
        if self._is_strict:
            is_news = self._waiting.get(prefix) != key
            self._waiting[prefix] = key
            return [_changed(prefix, kept.key, key, "the old one is used until the new one is accepted")] * is_news
        return [_changed(prefix, kept.key, key, "the new one is used"), *self._keep(prefix, key)]

    def _keep(self, prefix: EidPrefix, key: bytes) -> list[MachineEffect]:
        before = self._kept.get(prefix)
        # A prefix that has been sealed stays so, whatever its key is.
        self._put(prefix, KeptKey(key, has_been_sealed=before is not None and before.has_been_sealed))
        self._vouched.add(prefix)
        return []

    def _put(self, prefix: EidPrefix, kept: KeptKey) -> None:
        if (before := self._kept.get(prefix)) is not None and before.key != kept.key:
            self._announced.pop(prefix, None)
            self._waiting.pop(prefix, None)
        self._kept[prefix] = kept
        self._kept.move_to_end(prefix)
        self._table.insert(prefix, kept)
        while len(self._kept) > REMEMBERED_MAX:
            oldest = self._oldest()
            del self._kept[oldest]
            self._vouched.discard(oldest)
            self._announced.pop(oldest, None)
            self._table.remove(oldest)
        self._save()

    def _oldest(self) -> EidPrefix:
        """The entry to evict. Prefixes that have been sealed come last: without a key we would send in clear again."""
        unsealed = (prefix for prefix, kept in self._kept.items() if not kept.has_been_sealed)
        return next(unsealed, next(iter(self._kept)))

    def _save(self) -> None:
        self.version += 1
        self._memory.save_keys(self._kept)


def _beside(prefix: EidPrefix, hole: EidPrefix) -> list[EidPrefix]:
    """The prefix without this part of it."""
    if prefix == hole or hole.covers(prefix):
        return []
    mask_len = prefix.mask_len + 1
    upper = prefix.number | 1 << prefix.width - mask_len
    found: list[EidPrefix] = []
    for number in (prefix.number, upper):
        half = EidPrefix.make(type(prefix.address)(number), mask_len, prefix.instance_id)
        found += _beside(half, hole) if half.covers(hole) else [half]
    return found


def _covering(table: PrefixTable[V], prefix: EidPrefix) -> tuple[EidPrefix, V] | None:
    return next(iter(table.covering(prefix)), None)


def _changed(prefix: EidPrefix, old: bytes, new: bytes, what: str) -> Event:
    fields = {"eid": str(prefix), "old": fingerprint(old), "new": fingerprint(new), "text": what}
    return Event("key-changed", fields)
