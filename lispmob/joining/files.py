"""Writes a configuration that holds a key: completely or not at all, readable by root and the service (adapter)."""

from __future__ import annotations

import contextlib
import grp
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from lispmob.errors import LispError

SERVICE_GROUP: Final = "lispmob"  # the packaged services run in this group
FILE_MODE: Final = 0o640
DIRECTORY_MODE: Final = 0o750


class FileRefused(LispError):
    """The file cannot be written; the text says why and what to do."""


class MayNotWrite(FileRefused):
    """Only another user may write in the directory."""

    exit_code = 77  # sysexits.h: EX_NOPERM


class PrivateFile:
    """A file created beside `path` that `put` moves into its place; leaving the `with` block removes it if it is left.

    It is created before anything else, so that an invitation is not used up when the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._group = _service_group()
        try:
            if not path.parent.is_dir():
                path.parent.mkdir(mode=DIRECTORY_MODE, parents=True)
                _own(path.parent, self._group, DIRECTORY_MODE)
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        except PermissionError as error:
            raise MayNotWrite(f"{path}: {error.strerror}: try it as root, with sudo") from None
        except OSError as error:
            raise FileRefused(f"{path}: {error.strerror}") from None
        self._descriptor = descriptor
        self._fresh = Path(name)

    def __enter__(self) -> PrivateFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        self._fresh.unlink(missing_ok=True)

    def put(self, text: str, check: Callable[[Path], object], keep_as: str) -> Path | None:
        """Write the text, have it checked, and move it into place; returns where the previous file is now.

        `keep_as`: the suffix of the previous file. `check` raises for a text that must not be used.
        """
        kept: Path | None = None
        try:
            with os.fdopen(self._descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            _own(self._fresh, self._group, FILE_MODE)
            check(self._fresh)
            if self._path.exists():
                kept = self._path.with_name(f"{self._path.name}{keep_as}")
                os.replace(self._path, kept)
            os.replace(self._fresh, self._path)
        except OSError as error:
            raise FileRefused(f"{self._path}: {error.strerror}") from None
        return kept


def private_directory(path: Path) -> None:
    """Create a directory for root and the service. Raises FileRefused."""
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        _own(path, _service_group(), DIRECTORY_MODE)
    except OSError as error:
        raise FileRefused(f"{path}: {error.strerror}") from None


def _own(path: Path, group: int | None, mode: int) -> None:
    if group is not None and os.geteuid() == 0:
        os.chown(path, -1, group)
    os.chmod(path, mode)


def _service_group() -> int | None:
    try:
        return grp.getgrnam(SERVICE_GROUP).gr_gid
    except KeyError:
        return None
