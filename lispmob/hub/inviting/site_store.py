"""The invited sites on disk, in an SQLite file. All calls block.

Registrations may be lost, because nodes repeat them; keys may not. So this file is never replaced: an unusable one is
reported, and no invitations are made until it is usable. Every change is on disk when the call returns.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

from lispmob.errors import LispError
from lispmob.hub.inviting.invited import InvitedSite
from lispmob.joining.exchange import KEY_OCTETS
from lispmob.wire.address import EidPrefix

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x4C495349  # ours: "LISI"
BUSY_TIMEOUT_S: Final = 5.0

HUB_KEY: Final = "private key"

_SETTINGS: Final = "CREATE TABLE IF NOT EXISTS hub (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
_HUB_KEY: Final = "SELECT value FROM hub WHERE name = ?"
_SCHEMA: Final = f"""
CREATE TABLE sites (
    name TEXT NOT NULL PRIMARY KEY, eids TEXT NOT NULL, identifier BLOB NOT NULL, secret BLOB NOT NULL,
    invited_at REAL NOT NULL, expires_at REAL NOT NULL, key BLOB, joined_at REAL, question BLOB, answer BLOB
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


class SiteStore:
    """Every method raises LispError, whose text names the file and the remedy."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: sqlite3.Connection | None = None

    def open(self) -> list[InvitedSite]:
        """Open the file; returns its contents. It is created when there is something to write."""
        if not self._path.exists():
            return []
        database = self._connect()
        try:
            found = [_site(row) for row in database.execute("SELECT * FROM sites ORDER BY invited_at, name")]
        except (sqlite3.Error, ValueError, TypeError) as error:
            database.close()
            raise self._error(error) from None
        self._database = database
        return found

    def _connect(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # it holds keys
            database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise self._error(error) from None
        try:
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                database.executescript(_SCHEMA)
            if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise sqlite3.DatabaseError("not a file of invited sites of lisphub")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"schema version {version}, this lisphub knows {SCHEMA_VERSION}")
            database.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            database.close()
            raise self._error(error) from None
        return database

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def known_hub_key(self) -> bytes | None:
        """The hub's permanent private key; None if there was no invitation yet, or only by an older version."""
        if self._database is None:
            return None
        try:
            has_table = self._database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'hub'").fetchone()[0]
            row = self._database.execute(_HUB_KEY, (HUB_KEY,)).fetchone() if has_table else None
        except sqlite3.Error as error:
            raise self._error(error) from None
        return None if row is None else self._checked(row[0])

    def hub_key(self, fresh: bytes) -> bytes:
        """The hub's permanent private key; if there is none yet, `fresh` is stored as such."""
        database = self._database = self._database or self._connect()
        try:
            with database:
                database.execute(_SETTINGS)  # older files have no such table
                database.execute("INSERT OR IGNORE INTO hub VALUES (?, ?)", (HUB_KEY, fresh))
            (key,) = database.execute(_HUB_KEY, (HUB_KEY,)).fetchone()
        except sqlite3.Error as error:
            raise self._error(error) from None
        return self._checked(key)

    def _checked(self, key: object) -> bytes:
        if not isinstance(key, bytes) or len(key) != KEY_OCTETS:
            raise self._error(ValueError("the hub's private key in it is damaged"))
        return key

    def put(self, site: InvitedSite) -> None:
        """Write a site, replacing one of the same name."""
        values = (
            site.name,
            " ".join(map(str, site.eids)),
            site.identifier,
            site.secret,
            site.invited_at,
            site.expires_at,
            site.key,
            site.joined_at,
            site.question,
            site.answer,
        )
        self._write("REPLACE INTO sites VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def remove(self, name: str) -> None:
        """Delete a site."""
        self._write("DELETE FROM sites WHERE name = ?", (name,))

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        database = self._database = self._database or self._connect()
        try:
            with database:
                database.execute(statement, values)
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> LispError:
        return LispError(f"{self._path}: {error}; check the file, and the directory's owner, mode and free space")


def _site(row: Any) -> InvitedSite:
    name, eids, *rest = row
    return InvitedSite(name, tuple(EidPrefix.parse(text) for text in eids.split()), *rest)
