"""Registrations that survive a restart: one SQLite file, written in batches.

The file holds wall-clock times, the hub runs on the monotonic clock: the caller's `Clock` is read once per batch, and
whatever ran out while the hub was down is not brought back. A file that cannot be used is reported and replaced by an
empty one: within a minute every node registers again. All calls block: use them off the event loop.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from lispmob.errors import LispError, MalformedMessage
from lispmob.hub.nonces import NO_CHANGES, Count, NonceChanges, NonceRow, old_owner
from lispmob.hub.registration import MAX_LIFETIME_S, XtrRegistration
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix
from lispmob.wire.map_register import MapRegister

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x4C495350  # ours: "LISP", so that nobody else's database is taken for this one
BUSY_TIMEOUT_S: Final = 5.0

_NONCES: Final = """
CREATE TABLE nonces (
    owner TEXT NOT NULL, name TEXT NOT NULL, nonce TEXT NOT NULL, is_counting INTEGER NOT NULL, heard_at REAL NOT NULL,
    PRIMARY KEY (owner, name)
) WITHOUT ROWID;
"""
_SCHEMA: Final = f"""
CREATE TABLE registrations (
    eid TEXT NOT NULL, xtr BLOB NOT NULL, message BLOB NOT NULL, source TEXT NOT NULL,
    registered_at REAL NOT NULL, expires_at REAL NOT NULL, PRIMARY KEY (eid, xtr)
) WITHOUT ROWID;
{_NONCES}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds: `monotonic` as the machines count, `wall` as the calendar does."""

    monotonic: Callable[[], float]
    wall: Callable[[], float]

    def offset_s(self) -> float:
        """What to add to monotonic seconds to get wall-clock seconds."""
        return self.wall() - self.monotonic()


class Store:
    """The state file. Every method raises LispError, whose text names the file and what to do."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._database: sqlite3.Connection | None = None

    def open(self) -> str | None:
        """Open or create the file. The text says why an unusable one was set aside, None when all is well."""
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
            for sidecar in ("-wal", "-shm", "-journal"):  # SQLite would play them back into the new file
                self._path.with_name(self._path.name + sidecar).unlink(missing_ok=True)
            self._database = self._connect()
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from None
        return why

    def open_to_read(self) -> None:
        """Open an existing file beside the hub that writes it."""
        try:
            self._database = sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        except sqlite3.Error as error:
            raise self._error(error) from None

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def load(self) -> tuple[list[XtrRegistration], list[NonceRow]]:
        """What had not run out when it was read, in monotonic seconds, and the last nonces."""
        return self.load_registrations(), self._load_nonces()

    def load_registrations(self) -> list[XtrRegistration]:
        """What had not run out when it was read, in monotonic seconds.

        A wall clock that was set back cannot make a registration live longer than its kind may.
        """
        offset_s, now = self._clock.offset_s(), self._clock.monotonic()
        parts: list[XtrRegistration] = []
        # A row that makes no sense is one node's registration lost, for a minute: no reason to lose the others.
        for row in self._read(
            "message, xtr, source, registered_at, expires_at FROM registrations ORDER BY registered_at"
        ):
            with contextlib.suppress(MalformedMessage, ValueError, TypeError):
                parts.append(_part(*row, offset_s=offset_s, now=now))
        return [part for part in parts if part.expires_at > now]

    def _load_nonces(self) -> list[NonceRow]:
        offset_s, now = self._clock.offset_s(), self._clock.monotonic()
        found: list[NonceRow] = []
        for owner, name, nonce, is_counting, heard_at in self._read(
            "owner, name, nonce, is_counting, heard_at FROM nonces"
        ):
            with contextlib.suppress(ValueError, TypeError):
                at = min(float(heard_at) - offset_s, now)
                found.append(((str(owner), str(name)), Count(int(nonce), bool(is_counting), at)))
        return found

    def _read(self, what: str) -> list[Any]:
        assert self._database is not None
        try:
            return self._database.execute(f"SELECT {what}").fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from None

    def save(self, changed: Mapping[EidPrefix, Iterable[XtrRegistration]], nonces: NonceChanges = NO_CHANGES) -> None:
        """Write the prefixes of a batch as they are now (no parts: not registered), and the nonces seen, at once."""
        assert self._database is not None
        offset_s = self._clock.offset_s()
        rows = [
            (
                str(prefix),
                part.xtr,
                _message(part),
                str(part.source),
                part.registered_at + offset_s,
                part.expires_at + offset_s,
            )
            for prefix, parts in changed.items()
            for part in parts
        ]
        try:
            with self._database as database:
                database.executemany("DELETE FROM registrations WHERE eid = ?", [(str(eid),) for eid in changed])
                database.executemany("INSERT INTO registrations VALUES (?, ?, ?, ?, ?, ?)", rows)
                database.executemany("DELETE FROM nonces WHERE owner = ? AND name = ?", nonces.gone)
                database.executemany(
                    "REPLACE INTO nonces VALUES (?, ?, ?, ?, ?)",
                    [
                        (owner, name, str(count.nonce), count.is_counting, count.at + offset_s)
                        for (owner, name), count in nonces.new.items()
                    ],
                )
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _connect(self) -> sqlite3.Connection:
        # The batches are written by worker threads, one at a time.
        database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not tables and not version:
                database.executescript(_SCHEMA)
            elif database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise sqlite3.DatabaseError("not a state file of lisphub")
            elif version not in (1, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"schema version {version}, this lisphub knows {SCHEMA_VERSION}")
            elif (verdict := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(f"damaged: {verdict}")
            if version == 1:
                self._upgrade(database)
            # What is written once is on the disk: a nonce that a crash makes us forget could be replayed.
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.close()
            raise
        return database

    def _upgrade(self, database: sqlite3.Connection) -> None:
        """From version 1, which kept nonces by site and key-id; nobody had been seen to count as far as it says."""
        rows = database.execute("SELECT who, nonce FROM nonces").fetchall()
        found: list[tuple[str, str, str, int, float]] = []
        for who, nonce in rows:
            with contextlib.suppress(ValueError, TypeError):
                site, key_id, name = json.loads(who)
                found.append((old_owner(str(site), int(key_id)), str(name), str(int(nonce)), 0, self._clock.wall()))
        with database:
            database.execute("BEGIN")
            database.execute("DROP TABLE nonces")
            database.execute(_NONCES)
            database.executemany("REPLACE INTO nonces VALUES (?, ?, ?, ?, ?)", found)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _error(self, error: Exception) -> LispError:
        return LispError(f"{self._path}: {error}; check the directory's owner, mode and free space")


def _message(part: XtrRegistration) -> bytes:
    """The part as the Map-Register that it came in, without its authentication: the record's own codec stores it."""
    return MapRegister(
        part.nonce,
        (part.record,),
        proxy_map_reply=part.proxy_map_reply,
        has_lisp_sec=part.has_lisp_sec,
        wants_merge=part.wants_merge,
        xtr_id=part.xtr_id,
        site_id=part.site_id,
    ).encode()


def _part(
    message: bytes,
    xtr: bytes,
    source: str,
    registered_at: float,
    expires_at: float,
    *,
    offset_s: float,
    now: float,
) -> XtrRegistration:
    register = MapRegister.decode(message)
    record = register.records[0]
    lifetime_s = min(expires_at - registered_at, MAX_LIFETIME_S)
    return XtrRegistration(
        xtr=xtr,
        record=record,
        expires_at=min(expires_at - offset_s, now + lifetime_s),
        registered_at=registered_at - offset_s,
        nonce=register.nonce,
        source=ip_address(source),
        proxy_map_reply=register.proxy_map_reply,
        wants_merge=register.wants_merge,
        xtr_id=register.xtr_id,
        site_id=register.site_id,
        octets=len(record.encode()),
        has_lisp_sec=register.has_lisp_sec,
    )
