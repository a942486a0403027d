"""Control groups of the unified hierarchy: lists them and their processes, and makes one for a process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from lispmob.errors import KernelRefused
from lispmob.mh.app_unit import is_app

ROOTS: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_APP_SLICES: Final = ("user.slice", "system.slice")  # where systemd puts what users and the system run
APPS_MAX: Final = 64  # ours: control groups of one program at a time; each needs a kernel rule
_GROUPS_SEEN: Final = 4096  # ours: the listing is bounded, and stops after this many
OURS: Final = "lispmob-run"  # parent of the control groups that lispd makes for `lispctl run`


def root() -> Path | None:
    """Where the unified hierarchy is mounted; None: it is not."""
    return next((root for root in ROOTS if (root / "cgroup.procs").exists()), None)


def identity(path: str) -> int | None:
    """A number that differs between control groups of the same path; None: there is no such group."""
    base = root()
    try:
        return None if base is None else os.stat(base / path.strip("/") / "cgroup.procs").st_ino
    except OSError:
        return None


def of_app(pattern: str) -> tuple[str, ...]:
    """The present control groups of a program (app_unit.py), without those below them; in a stable order."""
    base = root()
    if base is None:
        return ()
    found: list[str] = []
    waiting = [base / name for name in _APP_SLICES]
    for _ in range(_GROUPS_SEEN):
        if not waiting or len(found) == APPS_MAX:
            break
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # it ended meanwhile
            continue
        for name in below:
            if is_app(name, pattern):
                found.append(str((place / name).relative_to(base)))
            else:
                waiting.append(place / name)
    return tuple(sorted(found)[:APPS_MAX])


def is_populated(path: str) -> bool:
    """True while a process is in the group or below it."""
    base = root()
    if base is None:
        return False
    try:
        lines = (base / path.strip("/") / "cgroup.events").read_text().splitlines()
    except OSError:
        return False
    return "populated 1" in lines


def make_for(pid: int) -> str:
    """A new control group with this process in it; its path. Raises KernelRefused."""
    base = root()
    if base is None:
        raise KernelRefused("the unified control group hierarchy (cgroup2) is not mounted")
    path = f"{OURS}/{pid}"
    try:
        (base / path).mkdir(parents=True, exist_ok=True)
        (base / path / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        remove(path)
        hint = (
            "lispd is not root, and systemd is not there to do it"
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
            else "see dmesg"
        )
        raise KernelRefused(f"control group {path}: {error.strerror}: {hint}") from error
    return path


def remove(path: str) -> bool:
    """Remove an empty group that lispd has made; False if that is not (yet) possible."""
    base = root()
    if base is None or not path.startswith(f"{OURS}/"):
        return True
    try:
        (base / path).rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_leftovers() -> None:
    """Remove empty groups that runs before a crash have left behind."""
    base = root()
    if base is None or not (base / OURS).is_dir():
        return
    for child in (base / OURS).iterdir():
        if child.is_dir():
            remove(f"{OURS}/{child.name}")
    try:
        (base / OURS).rmdir()
    except OSError:  # one of them still has processes
        return
