"""Moves shared keys from an old file to key files. Keys are never printed.

A key of key-type 0 was sent over the networks in clear, so an eavesdropper may have it: it is refused. A key is also
refused if there is no file to write it to. The user then names a key file.
"""

from __future__ import annotations

import contextlib
import grp
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from lispmob.config.secrecy import SERVICE_GROUP
from lispmob.config.values import MAX_KEY_OCTETS
from lispmob.convert.report import Report

ALGORITHMS: Final = {1: "hmac-sha-1-96", 2: "hmac-sha-256-128"}
"""RFC 6830, 6.1, called Key ID 1 and 2 what is the Algorithm ID now."""
CLEAR_TEXT: Final = 0
UNREADABLE: Final = "\ufffd"  # stands for octets that are not UTF-8


class KeyFile(msgspec.Struct, frozen=True):
    """A key file that the new configuration names. `octets` None: the user's own file, which we do not write."""

    path: str
    octets: bytes | None

    def __repr__(self) -> str:
        return f"KeyFile({self.path!r}, not shown)"


class KeyFiles:
    """Assigns a file to every key. `stem`: the beginning of their names. `may_write` False: the user has to name all.

    `given`: the user's files, by the address or name that the old file has for the other end.
    """

    def __init__(self, stem: str, given: Mapping[str, str], report: Report, *, may_write: bool) -> None:
        self.files: list[KeyFile] = []
        self._by_key: dict[bytes, str] = {}
        self._stem = stem
        self._given = given
        self._report = report
        self._may_write = may_write

    def file_for(
        self, role: str, ends: tuple[str, ...], key: str | None, key_type: int | None, line: int, place: str
    ) -> str:
        """The value of `key-file`.

        `ends`: names and addresses of the other end; `role` is part of a new file's name.
        """
        named = next((self._given[end] for end in ends if end in self._given), None)
        if named is not None:
            self.files.append(KeyFile(named, None))
            return named
        why_not = self._why_refused(key, key_type)
        if why_not is None and key is not None:
            return self._own_file(role, key.encode())
        say = f"--key-file {ends[0] if ends else role}=PATH"
        self._report.refuse(line, f"{why_not}; then say: {say}", place)
        return self._new_file(role, None)

    def _why_refused(self, key: str | None, key_type: int | None) -> str | None:
        """Why a key is refused and what to do about it; None if it is accepted."""
        if key_type == CLEAR_TEXT:
            return (
                "the key is not taken over: with key-type 0 it went over the networks in clear, so others have it. Ask "
                "the Map-Server's operator for another, put it into a file that only you can read, and name that file"
            )
        if key is None:
            return "there is no key; put it into a file that only you can read, and name that file"
        if not 1 <= len(key.encode()) <= MAX_KEY_OCTETS or UNREADABLE in key:
            return (
                f"a key has 1 to {MAX_KEY_OCTETS} octets of UTF-8; put yours into a file of its own, and name that file"
            )
        if not self._may_write:
            return "the key is not printed; with -o FILE it goes into a file of its own. Or put it into one yourself"
        return None

    def _own_file(self, role: str, octets: bytes) -> str:
        """The file of a key; equal keys share a file."""
        if octets not in self._by_key:
            self._by_key[octets] = self._new_file(role, octets)
        return self._by_key[octets]

    def _new_file(self, role: str, octets: bytes | None) -> str:
        path = f"{self._stem}-{role}-{len(self.files) + 1}.key"
        self.files.append(KeyFile(path, octets))
        return path


def algorithm_of(key_type: int | None) -> str:
    """Our name of a key-type. HMAC-SHA-1 for an unknown type, because old servers support it."""
    return ALGORITHMS.get(key_type or 1, ALGORITHMS[1])


def write_secret(path: Path, octets: bytes, *, may_replace: bool) -> None:
    """Write a file that only this user, and the group of the packaged service, can read. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_TRUNC if may_replace else os.O_EXCL)
    descriptor = os.open(path, flags, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        with contextlib.suppress(KeyError, PermissionError):
            os.fchown(descriptor, -1, grp.getgrnam(SERVICE_GROUP).gr_gid)
            os.fchmod(descriptor, 0o640)
        file.write(octets)
