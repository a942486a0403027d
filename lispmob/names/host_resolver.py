"""Configures this host's resolver to ask lispd for the overlay's names, where it is not systemd-resolved (adapter).

lispd configures systemd-resolved itself (`resolved.py`). The other resolvers need a file that only root can write:
`lispctl join`, `lispctl refresh` and `lispctl names --tell` write it. The first step is to find out which program
resolves names:

1. systemd-resolved: /etc/resolv.conf is a link into its directory, or names its stub. Nothing is written.
2. dnsmasq, run by NetworkManager or by the host: a file in its directory, and a restart.
3. None: /etc/resolv.conf is a plain file without a program's mark, and has room for one more server. Our server is
   put first, between two marks, and lispd answers at port 53 of a loopback address.
4. Another program (resolvconf, NetworkManager without dnsmasq, a VPN): nothing is written, and the user is advised.

In all cases questions for other names never reach lispd or are refused at once. When lispd has ended, the kernel
refuses them, and resolvers go on to their next server. `untell` removes what `tell` wrote, and nothing else.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lispmob.errors import LispError

SERVER: Final = "127.0.99.53"
RESOLV_CONF: Final = "etc/resolv.conf"
RESOLVED_STUBS: Final = ("127.0.0.53", "127.0.0.54")  # systemd-resolved(8)
RESOLVED_DIRECTORY: Final = "run/systemd/resolve"  # there while it runs
FILE: Final = "lispmob.conf"
SERVERS_MAX: Final = 3  # resolv.h: MAXNS; the resolver ignores further servers
PATIENCE_S: Final = 20.0
BEGIN: Final = "# lispmob: from here"
END: Final = "# lispmob: to here; `lispctl names --untell` takes it away"
MARK: Final = "# Written by lispctl;"
_BLOCK: Final = re.compile(rf"^{re.escape(BEGIN)}\n.*?^{re.escape(END)}\n", re.MULTILINE | re.DOTALL)
_OWNER: Final = re.compile(
    r"^[#;].*\b(generated|managed|written|created|maintained|auto-?generated)\b", re.MULTILINE | re.IGNORECASE
)
_WORDS: Final = re.compile(r"^[ \t]*(nameserver|search|domain)[ \t]+(.*?)[ \t]*$", re.MULTILINE)


class Keeper(enum.Enum):
    """The program that resolves names on this host."""

    RESOLVED = "systemd-resolved"
    NETWORK_MANAGER = "NetworkManager's dnsmasq"
    DNSMASQ = "dnsmasq"
    NOBODY = "/etc/resolv.conf"
    SOMEBODY = "somebody else"


class Wanted(msgspec.Struct, frozen=True):
    """What lispd answers: its domain, its reverse zones, and the port at SERVER besides 53."""

    domain: str
    reverse: tuple[str, ...]
    port: int


class Told(msgspec.Struct, frozen=True):
    """The result. `is_told`: programs find our names from now on. `text`: for the user; "" when nothing changed."""

    keeper: Keeper
    is_told: bool
    text: str = ""


class NotTold(LispError):
    """A file could not be written, or a resolver rejected it; the text says which."""


Run = Callable[[Sequence[str]], bool]


class HostResolver:
    """The resolver configuration of this host. `root`: where its files are; `run`: runs a command, True on success."""

    def __init__(self, root: Path = Path("/"), run: Run | None = None) -> None:
        self._root = root
        self._run = run or _run

    def keeper(self) -> Keeper:
        """The program that resolves names here."""
        path = self._root / RESOLV_CONF
        target = os.path.realpath(path) if path.is_symlink() else ""
        if "/systemd/resolve/" in target:
            return Keeper.RESOLVED
        text = self._text(path)
        servers = [value for word, value in _WORDS.findall(_BLOCK.sub("", text)) if word == "nameserver"]
        if servers[:1] in ([stub] for stub in RESOLVED_STUBS) and (self._root / RESOLVED_DIRECTORY).is_dir():
            return Keeper.RESOLVED  # a copy of its file, or one that the user wrote for it
        is_local = bool(servers) and servers[0].startswith(("127.", "::1"))
        if is_local and self._is_running("run/NetworkManager/dnsmasq.pid"):
            return Keeper.NETWORK_MANAGER
        if is_local and any(map(self._is_running, ("run/dnsmasq/dnsmasq.pid", "run/dnsmasq.pid"))):
            return Keeper.DNSMASQ
        is_plain = path.is_file() and not path.is_symlink() and _OWNER.search(_BLOCK.sub("", text)) is None
        return Keeper.NOBODY if is_plain and servers else Keeper.SOMEBODY

    def tell(self, wanted: Wanted) -> Told:
        """Configure the resolver to ask lispd, and remove what another resolver was given. Raises NotTold."""
        keeper = self.keeper()
        for other in (Keeper.NETWORK_MANAGER, Keeper.DNSMASQ):
            if other is not keeper:
                self._remove(other)
        if keeper is not Keeper.NOBODY:
            self._write_resolv_conf(None)
        match keeper:
            case Keeper.RESOLVED:
                return Told(keeper, is_told=True)
            case Keeper.NETWORK_MANAGER | Keeper.DNSMASQ:
                return self._tell_dnsmasq(keeper, wanted)
            case Keeper.NOBODY:
                return self._tell_resolv_conf(wanted)
            case Keeper.SOMEBODY:
                return Told(keeper, is_told=False, text=advice(wanted))

    def untell(self) -> list[str]:
        """Remove what `tell` wrote; returns the files that changed. Raises NotTold."""
        changed = [str(path) for keeper in _DIRECTORIES if (path := self._remove(keeper)) is not None]
        if self._write_resolv_conf(None):
            changed.append(f"/{RESOLV_CONF}")
        return changed

    def asked_by(self) -> Keeper | None:
        """The resolver whose file names lispd; None: none does."""
        for keeper, directory in _DIRECTORIES.items():
            if self._text(self._root / directory / FILE).startswith(MARK):
                return keeper
        return Keeper.NOBODY if _BLOCK.search(self._text(self._root / RESOLV_CONF)) is not None else None

    # --- dnsmasq

    def _tell_dnsmasq(self, keeper: Keeper, wanted: Wanted) -> Told:
        path = self._root / _DIRECTORIES[keeper] / FILE
        zones = (wanted.domain, *wanted.reverse)
        text = f"{MARK} `lispctl names --untell` takes it away.\n" + "".join(
            f"server=/{zone}/{SERVER}#{wanted.port}\n" for zone in zones
        )
        # the overlay's addresses are usually private, which dnsmasq would take for a rebind attack
        text += f"rebind-domain-ok=/{wanted.domain}/\n"
        before = self._text(path)
        if before == text:
            return Told(keeper, is_told=True)
        if os.path.lexists(path) and not before.startswith(MARK):
            said = f"{path} is somebody's own, so it is left alone. Without it {keeper.value} can be told"
            return Told(keeper, is_told=False, text=said)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "ascii")
            path.chmod(0o644)
        except OSError as error:
            raise NotTold(why_not_written(path, error)) from None
        self._restart(keeper)
        return Told(keeper, is_told=True, text=f"{keeper.value} asks lispd for {wanted.domain}: {path}")

    def _remove(self, keeper: Keeper) -> Path | None:
        path = self._root / _DIRECTORIES[keeper] / FILE
        if not self._text(path).startswith(MARK):
            return None
        try:
            path.unlink()
        except OSError as error:
            raise NotTold(why_not_written(path, error)) from None
        with contextlib.suppress(NotTold):  # it may be gone
            self._restart(keeper)
        return path

    def _restart(self, keeper: Keeper) -> None:
        """Restart it: a dnsmasq reads its files only when it starts."""
        command = (
            ("nmcli", "general", "reload", "dns-full")
            if keeper is Keeper.NETWORK_MANAGER
            else ("systemctl", "--no-ask-password", "try-restart", "dnsmasq.service")
        )
        if not self._run(command):
            raise NotTold(f"{keeper.value} was not started again: {' '.join(command)}")

    # --- /etc/resolv.conf

    def _tell_resolv_conf(self, wanted: Wanted) -> Told:
        text = _BLOCK.sub("", self._text(self._root / RESOLV_CONF))
        found = _WORDS.findall(text)
        if sum(word == "nameserver" for word, _ in found) >= SERVERS_MAX:
            self._write_resolv_conf(None)
            return Told(
                Keeper.NOBODY, is_told=False, text=f"/etc/resolv.conf has {SERVERS_MAX} servers, and no room for lispd"
            )
        changed = self._write_resolv_conf(wanted.domain)
        said = f"/etc/resolv.conf names lispd first: it answers for {wanted.domain}, and refuses everything else"
        return Told(Keeper.NOBODY, is_told=True, text=said if changed else "")

    def _write_resolv_conf(self, domain: str | None) -> bool:
        """Write the file with our lines, or without them; True when it changed.

        It is written in place because it may be a mount point, and in one write, so that no reader sees half of it.
        """
        path = self._root / RESOLV_CONF
        before = self._text(path)
        text = _BLOCK.sub("", before)
        if domain is not None:
            text = _with_server(text, domain)
        if text == before or path.is_symlink():
            return False
        octets = text.encode("utf-8", "surrogateescape")
        try:
            with open(path, "r+b", buffering=0) as file:
                length = os.fstat(file.fileno()).st_size
                file.write(octets.ljust(length, b"\n"))
                file.truncate(len(octets))
        except OSError as error:
            raise NotTold(why_not_written(path, error)) from None
        return True

    def _text(self, path: Path) -> str:
        """The text of a file; "" where there is none. Pipes and devices count as none: reading one might never end."""
        try:
            return path.read_text("utf-8", errors="surrogateescape") if path.is_file() else ""
        except OSError:
            return ""

    def _is_running(self, pid_file: str) -> bool:
        try:
            number = int((self._root / pid_file).read_text("ascii"))
            return (self._root / "proc" / str(number) / "comm").read_text().strip() == "dnsmasq"
        except (OSError, ValueError):
            return False


def why_not_written(path: Path, error: OSError) -> str:
    """Why a file of the resolver could not be written, and what to do."""
    remedies = {
        errno.EACCES: "only root may write it: take sudo",
        errno.EPERM: f"it was made immutable; if it shall change: chattr -i {path}",
        errno.EROFS: "its file system is read-only; names are found once it can be written",
        errno.EBUSY: "another program holds it",
        errno.ENOSPC: "make room on the disk",
    }
    remedy = remedies.get(error.errno or 0)
    return f"{path}: {error.strerror}" + (f": {remedy}. Then: lispctl names --tell" if remedy is not None else "")


def advice(wanted: Wanted) -> str:
    """What a user can do where another program writes /etc/resolv.conf."""
    return (
        "somebody else writes /etc/resolv.conf, so it is left alone. For our names install systemd-resolved. "
        f"Or have a dnsmasq with `server=/{wanted.domain}/{SERVER}#{wanted.port}`: NetworkManager runs one with "
        "`dns=dnsmasq` in [main], and `lispctl names --tell` tells it"
    )


def _with_server(text: str, domain: str) -> str:
    """Put our server before the others, and our domain behind those that are searched already.

    Without a search list the C library searches the domain of the host's name, so that domain is listed too.
    """
    listed = [value for word, value in _WORDS.findall(text) if word in ("search", "domain")]
    searched = listed[-1].split() if listed else [part for part in (socket.gethostname().partition(".")[2],) if part]
    block = f"{BEGIN}\nnameserver {SERVER}\n{END}\n"
    # the last list counts (resolv.conf(5)), so ours stands at the end
    last = f"{BEGIN}\nsearch {' '.join(dict.fromkeys((*searched, domain)))}\n{END}\n"
    between = text if text.endswith("\n") or not text else f"{text}\n"
    return block + between + last


def _run(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


_DIRECTORIES: Final = {
    Keeper.NETWORK_MANAGER: "etc/NetworkManager/dnsmasq.d",
    Keeper.DNSMASQ: "etc/dnsmasq.d",
}
