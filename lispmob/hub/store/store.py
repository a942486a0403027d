"""Registrations that survive a restart: one SQLite file, written in batches.

The file holds wall-clock times, the hub runs on the monotonic clock: the caller's `Clock` is read once per batch, and
expired entries are not restored. Only changes are written. A refresh changes a nonce, whose row has its time; the
registration itself stays as it is in the file.

A file that cannot be used is reported and replaced by an empty one: within a minute every node registers again. All
calls block. `save` is for a thread beside the event loop, and has its own connection; reads take a slice at a time, or
single rows, because the hub serves meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import msgspec

from lispmob.errors import LispError, MalformedMessage
from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.askers import LIFETIME_MAX_S, Asker, AskerChanges
from lispmob.hub.map_server.nonces import NO_CHANGES, Count, NonceChanges, NonceKey, NonceRow, old_owner
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.publishing.associations import KEPT_S
from lispmob.hub.publishing.subscription import LIFETIME_S, Subscription, SubscriptionChanges
from lispmob.hub.store import stored_rows, stored_subscriptions
from lispmob.wire.address import EidPrefix
from lispmob.wire.map_register import MapRegister

END: Final = object()
SCHEMA_VERSION: Final = 3
APPLICATION_ID: Final = 0x4C495350  # ours: "LISP", so that the database of another program is not taken for this one
BUSY_TIMEOUT_S: Final = 5.0
CHECKED_OCTETS: Final = 8 << 20  # ours: a smaller file is checked when it is opened; a larger one would take seconds
ROWS_AT_ONCE: Final = (64, 8, 1)  # ours: in one statement, during which SQLite releases the interpreter lock

_SCHEMA: Final = f"""
CREATE TABLE registrations (eid BLOB NOT NULL PRIMARY KEY, parts BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE nonces (
    owner TEXT NOT NULL, name BLOB NOT NULL, count BLOB NOT NULL, PRIMARY KEY (owner, name)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
# Not in all files of this version; older programs ignore it.
_ASKERS: Final = """
CREATE TABLE IF NOT EXISTS askers (
    eid BLOB NOT NULL, itr BLOB NOT NULL, own BLOB NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (eid, itr)
) WITHOUT ROWID
"""

_SUBSCRIPTIONS: Final = (
    """
CREATE TABLE IF NOT EXISTS subscriptions (
    eid BLOB NOT NULL, xtr_id BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (eid, xtr_id)
) WITHOUT ROWID
""",
    "CREATE TABLE IF NOT EXISTS associations (hash BLOB NOT NULL PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
)

StoredAsker: TypeAlias = tuple[EidPrefix, Asker]
"""The prefix of an answer, and its holder, in monotonic seconds."""
StoredRegistration: TypeAlias = tuple[EidPrefix, tuple[bytes, ...]]
"""An EID-Prefix and its parts, in monotonic seconds (`packed_part.py`)."""


class Clock(msgspec.Struct, frozen=True):
    """Seconds of both clocks: `monotonic` of the machines, `wall` of the calendar."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]

    def offset_s(self) -> float:
        """The offset from monotonic to wall-clock seconds."""
        return self.wall() - self.monotonic()


class Store:
    """The state file. Every method raises LispError, whose text names the file and the remedy."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._database: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    def open(self) -> str | None:
        """Open or create the file. Returns why an unusable one was set aside, None if all is well."""
        try:
            self._database = self._connect()
            return None
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise self._error(error) from None
            aside = self._path.with_name(self._path.name + ".unusable")
            why = f"{self._path}: {error}; kept as {aside}, starting without registrations"
        try:
            self._path.replace(aside)
            for sidecar in ("-wal", "-shm", "-journal"):  # SQLite would apply them to the new file
                self._path.with_name(self._path.name + sidecar).unlink(missing_ok=True)
            self._database = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from None
        return why

    def open_to_read(self) -> None:
        """Open an existing file while the hub writes it."""
        try:
            self._database = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        except sqlite3.Error as error:
            raise self._error(error) from None

    def begin_reading(self) -> None:
        """Open a connection for reading, so that reads do not wait for writes."""
        try:
            self._reader = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        except sqlite3.Error as error:
            raise self._error(error) from None

    def end_reading(self) -> None:
        """Close it."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close(self) -> None:
        """Close the file. May be called twice."""
        self.end_reading()
        if self._database is not None:
            self._database.close()
            self._database = None

    def load(self) -> tuple[list[NonceRow], list[StoredRegistration]]:
        """All of it at once, the last nonces first."""
        nonces, registrations = list[NonceRow](), list[StoredRegistration]()
        at: object = None
        while at is not END:
            some, at = self.nonces_after(at, 4096)
            nonces += some
        at = None
        while at is not END:
            more, at = self.registrations_after(at, 4096)
            registrations += more
        return nonces, registrations

    def nonces_after(self, place: object, limit: int) -> tuple[list[NonceRow], object]:
        """Some of the last nonces, in monotonic seconds, and where to continue; None: from the start, END: no more."""
        where, values = ("(owner, name) > (?, ?)", place) if isinstance(place, tuple) else ("?", (1,))
        rows = self._read(f"owner, name, count FROM nonces WHERE {where} ORDER BY owner, name LIMIT {limit}", values)
        offset_s, now = self._clock.offset_s(), self._clock.monotonic()
        found: list[NonceRow] = []
        for owner, name, count in rows:
            with contextlib.suppress(ValueError, TypeError):
                found.append(((owner, name), Count.shifted(count, -offset_s, now)))
        return found, rows[-1][:2] if len(rows) == limit else END

    def registrations_after(self, place: object, limit: int) -> tuple[list[StoredRegistration], object]:
        """Some of the registrations, in monotonic seconds, and where to continue, as for the nonces."""
        where, value = ("eid > ?", place) if isinstance(place, bytes) else ("?", 1)
        rows = self._read(f"eid, parts FROM registrations WHERE {where} ORDER BY eid LIMIT {limit}", (value,))
        return self._stored(rows), rows[-1][0] if len(rows) == limit else END

    def nonce(self, owner: str, name: bytes) -> bytes | None:
        """One of the last nonces, in monotonic seconds."""
        rows = self._read("count FROM nonces WHERE owner = ? AND name = ?", (owner, name))
        if not rows:
            return None
        return Count.shifted(rows[0][0], -self._clock.offset_s(), self._clock.monotonic())

    def has_owner(self, owner: str) -> bool:
        """Whether there are nonces under this key."""
        return bool(self._read("1 FROM nonces WHERE owner = ? LIMIT 1", (owner,)))

    def registrations(self, asked: EidPrefix) -> list[StoredRegistration]:
        """The registrations of an EID-Prefix, and of those that hold it."""
        keys = stored_rows.covering_keys(asked)
        return self._stored(self._read(f"eid, parts FROM registrations WHERE eid IN ({_places(len(keys))})", keys))

    def askers_after(self, place: object, limit: int) -> tuple[list[StoredAsker], object]:
        """Some of the askers, in monotonic seconds, and where to continue, as for the nonces."""
        where, values = ("(eid, itr) > (?, ?)", place) if isinstance(place, tuple) else ("?", (1,))
        what = f"eid, itr, own, expires_at FROM askers WHERE {where} ORDER BY eid, itr LIMIT {limit}"
        rows = self._read(what, values)
        offset_s, found = self._clock.offset_s(), list[StoredAsker]()
        latest = self._clock.monotonic() + LIFETIME_MAX_S
        for eid, itr, own, expires_at in rows:
            with contextlib.suppress(ValueError, TypeError):
                asker = Asker(ip_address(itr), ip_address(own), min(float(expires_at) - offset_s, latest))
                found.append((stored_rows.prefix_of(eid), asker))
        return found, rows[-1][:2] if len(rows) == limit else END

    def save_askers(self, changes: AskerChanges) -> None:
        """Write the changes of askers."""
        database = self._database
        assert database is not None
        offset_s = self._clock.offset_s()
        try:
            with database:
                database.execute("BEGIN")
                gone = ((stored_rows.key_of(prefix), itr.packed) for prefix, itr in changes.gone)
                database.executemany("DELETE FROM askers WHERE eid = ? AND itr = ?", gone)
                _put(database, "REPLACE INTO askers VALUES", 4, (
                    (stored_rows.key_of(prefix), itr.packed, asker.own.packed, asker.expires_at + offset_s)
                    for (prefix, itr), asker in changes.new.items()
                ))  # fmt: skip
        except sqlite3.Error as error:
            raise self._error(error) from None

    def subscriptions_after(self, place: object, limit: int) -> tuple[list[Subscription], object]:
        """Some of the subscriptions, in monotonic seconds, and where to continue, as for the nonces."""
        where, values = ("(eid, xtr_id) > (?, ?)", place) if isinstance(place, tuple) else ("?", (1,))
        what = f"eid, xtr_id, value FROM subscriptions WHERE {where} ORDER BY eid, xtr_id LIMIT {limit}"
        rows = self._read(what, values)
        offset_s, found = self._clock.offset_s(), list[Subscription]()
        latest = self._clock.monotonic() + LIFETIME_S
        for eid, xtr_id, value in rows:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                found.append(stored_subscriptions.unpack(eid, xtr_id, value, -offset_s, latest))
        return found, rows[-1][:2] if len(rows) == limit else END

    def associations(self) -> list[tuple[bytes, float]]:
        """Hashes of the One-Time-Keys of recent security associations, and until when each counts."""
        offset_s, now = self._clock.offset_s(), self._clock.monotonic()
        rows = self._read("hash, until FROM associations WHERE until > ?", (now + offset_s,))
        return [(digest, min(until - offset_s, now + KEPT_S)) for digest, until in rows]

    def save_subscriptions(self, changes: SubscriptionChanges) -> None:
        """Write the changes of subscriptions."""
        database = self._database
        assert database is not None
        offset_s, now = self._clock.offset_s(), self._clock.monotonic()
        try:
            with database:
                database.execute("BEGIN")
                gone = ((stored_rows.key_of(prefix), xtr_id) for prefix, xtr_id in changes.gone)
                database.executemany("DELETE FROM subscriptions WHERE eid = ? AND xtr_id = ?", gone)
                database.execute("DELETE FROM associations WHERE until <= ?", (now + offset_s,))
                _put(database, "REPLACE INTO subscriptions VALUES", 3, (
                    (stored_rows.key_of(prefix), xtr_id, stored_subscriptions.pack(subscription, offset_s))
                    for (prefix, xtr_id), subscription in changes.new.items()
                ))  # fmt: skip
                _put(database, "REPLACE INTO associations VALUES", 2, (
                    (digest, until + offset_s) for digest, until in changes.associations.items()
                ))  # fmt: skip
        except sqlite3.Error as error:
            raise self._error(error) from None

    def load_parts(self) -> list[XtrRegistration]:
        """Every xTR's unexpired part, in monotonic seconds, as of its last refresh."""
        nonces, registrations = self.load()
        heard_at: dict[bytes, float] = {}
        for (_, name), count in nonces:
            heard_at[name] = max(heard_at.get(name, float("-inf")), Count.decode(count).at)
        now = self._clock.monotonic()
        parts = [
            packed_part.shifted(part, 0.0, heard_at.get(packed_part.nonce_name(part, prefix), float("-inf")), now=now)
            for prefix, parts in registrations
            for part in parts
        ]
        return [packed_part.unpack(part) for part in parts if packed_part.expires_at(part) > now]

    def _stored(self, rows: Iterable[tuple[Any, Any]]) -> list[StoredRegistration]:
        offset_s, now = self._clock.offset_s(), self._clock.monotonic()
        found: list[StoredRegistration] = []
        for eid, parts in rows:
            # An invalid row is one node's registration, lost for a minute: no reason to lose the others.
            with contextlib.suppress(MalformedMessage, ValueError, TypeError):
                found.append((stored_rows.prefix_of(eid), stored_rows.split(parts, -offset_s, now)))
        return found

    def _read(self, what: str, values: Sequence[object]) -> list[Any]:
        database = self._reader or self._database
        assert database is not None
        try:
            return database.execute(f"SELECT {what}", values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None

    def save(self, changed: Mapping[EidPrefix, Sequence[bytes]], nonces: NonceChanges = NO_CHANGES) -> None:
        """Write the prefixes of a batch as they are now (no parts: not registered), and the new nonces, at once."""
        database = self._database
        assert database is not None
        offset_s = self._clock.offset_s()
        try:
            with database:
                database.execute("BEGIN")
                _put(database, "REPLACE INTO registrations VALUES", 2, (
                    (stored_rows.key_of(prefix), stored_rows.join(parts, offset_s))
                    for prefix, parts in changed.items() if parts
                ))  # fmt: skip
                gone = [(stored_rows.key_of(prefix),) for prefix, parts in changed.items() if not parts]
                database.executemany("DELETE FROM registrations WHERE eid = ?", gone)
                database.executemany("DELETE FROM nonces WHERE owner = ? AND name = ?", nonces.gone)
                _put(database, "REPLACE INTO nonces VALUES", 3, (
                    (owner, name, Count.shifted(count, offset_s)) for (owner, name), count in nonces.new.items()
                ))  # fmt: skip
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _connect(self) -> sqlite3.Connection:
        # The batches are written by worker threads, one at a time.
        database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables and not version:
                database.executescript(_SCHEMA)
            elif database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise sqlite3.DatabaseError("not a state file of lisphub")
            elif version not in (1, 2, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"schema version {version}, this lisphub knows {SCHEMA_VERSION}")
            elif self._path.stat().st_size <= CHECKED_OCTETS:
                verdict = database.execute("PRAGMA quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(f"damaged: {verdict}")
            if version in (1, 2):
                self._upgrade(database, version)
            for statement in (_ASKERS, *_SUBSCRIPTIONS):
                database.execute(statement)
            # A write is on disk when it returns: a nonce lost in a crash could be replayed.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.close()
            raise
        return database

    def _upgrade(self, database: sqlite3.Connection, version: int) -> None:
        """From versions 1 and 2, which had a column for each field.

        Version 1 stored nonces by site and key-id, without whether a node counts.
        """
        now = self._clock.wall()
        nonces: dict[NonceKey, bytes] = {}
        for row in database.execute("SELECT * FROM nonces"):
            with contextlib.suppress(ValueError, TypeError, struct.error):
                if version == 1:
                    site, key_id, name = json.loads(row[0])
                    row = (old_owner(str(site), int(key_id)), str(name), row[1], 0, now)
                owner, name, nonce, is_counting, at = row
                count = Count(int(nonce), bool(is_counting), float(at)).encode()
                nonces[str(owner), stored_rows.nonce_name(name)] = count
        parts: dict[EidPrefix, list[bytes]] = {}
        for row in database.execute("SELECT * FROM registrations ORDER BY registered_at"):
            with contextlib.suppress(MalformedMessage, ValueError, TypeError):
                part = _part_of_version_2(*row[1:])
                if (prefix := part.record.eid_prefix) is not None:
                    parts.setdefault(prefix, []).append(packed_part.pack(part, 0.0))
        with database:
            database.execute("BEGIN")
            database.execute("DROP TABLE nonces")
            database.execute("DROP TABLE registrations")
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            _put(database, "REPLACE INTO nonces VALUES", 3, ((*key, count) for key, count in nonces.items()))
            _put(database, "REPLACE INTO registrations VALUES", 2, (
                (stored_rows.key_of(prefix), stored_rows.join(some, 0.0)) for prefix, some in parts.items()
            ))  # fmt: skip

    def _error(self, error: Exception) -> LispError:
        return LispError(f"{self._path}: {error}; check the directory's owner, mode and free space")


def _put(database: sqlite3.Connection, head: str, width: int, rows: Iterable[tuple[object, ...]]) -> None:
    """Insert or replace rows, many by one statement: between two of them this thread waits for the loop."""
    left, at = list(rows), 0
    for size in ROWS_AT_ONCE:
        statement = f"{head} {', '.join([f'({_places(width)})'] * size)}"
        while at + size <= len(left):
            database.execute(statement, tuple(chain.from_iterable(left[at : at + size])))
            at += size


def _places(count: int) -> str:
    return ", ".join("?" * count)


def _part_of_version_2(
    xtr: bytes, message: bytes, source: str, registered_at: float, expires_at: float
) -> XtrRegistration:
    register = MapRegister.decode(message)
    return XtrRegistration(
        xtr=xtr,
        record=register.records[0],
        expires_at=expires_at,
        registered_at=registered_at,
        nonce=register.nonce,
        source=ip_address(source),
        proxy_map_reply=register.proxy_map_reply,
        wants_merge=register.wants_merge,
        xtr_id=register.xtr_id,
        site_id=register.site_id,
    )
