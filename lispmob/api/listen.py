"""The file of the control socket, and its clients' credentials."""

from __future__ import annotations

import errno
import grp
import logging
import os
import pwd
import socket
import stat
import struct
from pathlib import Path
from typing import Final

import msgspec

from lispmob.errors import LispError

SO_PEERGROUPS: Final = 59  # Linux 4.13; Python has no name for it
_UCRED: Final = struct.Struct("=iII")

log = logging.getLogger(__name__)


class SocketRefusedError(LispError):
    """The control socket cannot be made; the text names the path, why, and the remedy."""


class Peer(msgspec.Struct, frozen=True):
    """Credentials of a client, from the kernel."""

    pid: int
    uid: int
    groups: frozenset[int]
    gid: int = 0

    def may_change(self, group_id: int | None) -> bool:
        """Root, the daemon's own user, and members of the group."""
        return self.uid in (0, os.geteuid()) or (group_id is not None and group_id in self.groups)


def open_socket(path: Path, group: str) -> tuple[socket.socket, int | None]:
    """A listening control socket and the id of `group` (None: there is no such group). Raises SocketRefusedError."""
    group_id = group_id_of(group)
    # All may read; what changes things asks for the peer's credentials.
    listener = listen_at(path, mode=0o666)
    if group_id is not None and os.geteuid() == 0:
        try:
            os.chown(path, -1, group_id)
        except OSError as error:
            listener.close()
            raise SocketRefusedError(f"{path}: {error.strerror}") from None
    return listener, group_id


def listen_at(
    path: Path, *, mode: int, kind: int = socket.SOCK_STREAM, program: str = "lispd", setting: str = "control.socket"
) -> socket.socket:
    """A listening socket at `path`. `program` and `setting` are for error texts.

    A socket file without a listener is replaced. Raises SocketRefusedError if another daemon listens, if the path is
    something else, or if the directory refuses.
    """
    if len(os.fsencode(path)) > 107:
        raise SocketRefusedError(f"{path}: the path of a socket has at most 107 octets")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(path, kind, program, setting)
    except OSError as error:
        raise SocketRefusedError(f"{path}: {error.strerror}") from None
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(path))
        os.chmod(path, mode)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise SocketRefusedError(f"{path}: {error.strerror}") from None
    return listener


def remove_socket(path: Path, identity: tuple[int, int]) -> None:
    """Remove the file at `path` if it still is the one with this (device, inode)."""
    try:
        if file_identity(path) == identity:
            path.unlink()
    except OSError as error:
        if error.errno != errno.ENOENT:
            log.warning("control socket not removed path=%s why=%s", path, error.strerror)


def file_identity(path: Path) -> tuple[int, int]:
    """(device, inode) of the file at `path`."""
    found = path.lstat()
    return found.st_dev, found.st_ino


def peer_of(connection: socket.socket) -> Peer:
    """The client's credentials. Raises OSError if the kernel does not give them."""
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(pid, uid, frozenset({gid, *_groups_of(connection, uid, gid)}), gid)


def _groups_of(connection: socket.socket, uid: int, gid: int) -> list[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 1024)  # Python's limit: 256 groups
        return [number for (number,) in struct.iter_unpack("=I", raw)]
    except OSError:  # an older kernel, or more groups than fit
        try:
            return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
        except (KeyError, OSError):
            return []


def group_id_of(group: str) -> int | None:
    """The id of a group; None, with a log line, if there is none."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        log.info("there is no group %s: only root may change things through the control socket", group)
        return None


def _remove_stale(path: Path, kind: int, program: str, setting: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketRefusedError(f"{path}: something that is no socket stands here; remove it, or set {setting}")
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as probe:
        code = probe.connect_ex(str(path))
    if code in (0, errno.EAGAIN, errno.EPROTOTYPE):  # its queue is full, or it is of another kind: there is a listener
        raise SocketRefusedError(f"{path}: another {program} listens here; stop it first, or set {setting}")
    if code not in (errno.ECONNREFUSED, errno.ENOENT):
        raise SocketRefusedError(f"{path}: {os.strerror(code)}")
    path.unlink(missing_ok=True)
