"""Configures this host's resolver to ask lispd for the overlay's names, where it is not systemd-resolved (adapter).

lispd configures systemd-resolved itself (`resolved.py`). The other resolvers need a file that only root can write:
`lispctl join`, `lispctl refresh` and `lispctl names --configure` write it. The first step is to find out which program
resolves names:

1. systemd-resolved: /etc/resolv.conf is a link into its directory, or names its stub. Nothing is written.
2. dnsmasq, run by NetworkManager or by the host: a file in its directory, and a restart.
3. None: /etc/resolv.conf is a plain file without a program's mark, and has room for one more server. Our server is
   put first, between two marks, and lispd answers at port 53 of a loopback address.
4. Another program (resolvconf, NetworkManager without dnsmasq, a VPN): nothing is written, and the user is advised.

In all cases questions for other names never reach lispd or are refused at once. When lispd has ended, the kernel
refuses them, and resolvers go on to their next server. `revert` removes what `configure` wrote, and nothing else.
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
END: Final = "# lispmob: to here; `lispctl names --revert` removes it"
MARK: Final = "# Written by lispctl;"
# The rest of the last line is a hint for readers, and other versions have another one.
_BLOCK: Final = re.compile(
    rf"^{re.escape(BEGIN)}\n.*?^{re.escape(END.partition(';')[0])}[^\n]*\n", re.MULTILINE | re.DOTALL
)
_OWNER: Final = re.compile(
    r"^[#;].*(?<![a-z])((auto-?)?generated|managed|(over)?written|created|maintained|(do not|don't) edit)(?![a-z])",
    re.MULTILINE | re.IGNORECASE,
)
_WORDS: Final = re.compile(r"^[ \t]*(nameserver|search|domain)[ \t]+(.*?)[ \t]*$", re.MULTILINE)


class ResolverKind(enum.Enum):
    """The program that resolves names on this host."""

    RESOLVED = "systemd-resolved"
    NETWORK_MANAGER = "NetworkManager's dnsmasq"
    DNSMASQ = "dnsmasq"
    RESOLV_CONF = "/etc/resolv.conf"
    OTHER = "another program"


class Wanted(msgspec.Struct, frozen=True):
    """What lispd answers: its domain, its reverse zones, and the port at SERVER besides 53."""

    domain: str
    reverse: tuple[str, ...]
    port: int


class Configured(msgspec.Struct, frozen=True):
    """The result. `is_configured`: programs find our names now. `text`: for the user; "" when nothing changed."""

    kind: ResolverKind
    is_configured: bool
    text: str = ""


class NotConfigured(LispError):
    """A file could not be written, or a resolver rejected it; the text says which."""


Run = Callable[[Sequence[str]], bool]


class HostResolver:
    """The resolver configuration of this host. `root`: where its files are; `run`: runs a command, True on success."""

    def __init__(self, root: Path = Path("/"), run: Run | None = None) -> None:
        self._root = root
        self._run = run or _run

    def kind(self) -> ResolverKind:
        """The program that resolves names here."""
        path = self._root / RESOLV_CONF
        target = os.path.realpath(path) if path.is_symlink() else ""
        if "/systemd/resolve/" in target:
            return ResolverKind.RESOLVED
        text = self._text(path)
        servers = [value for word, value in _WORDS.findall(_BLOCK.sub("", text)) if word == "nameserver"]
        if servers[:1] in ([stub] for stub in RESOLVED_STUBS) and (self._root / RESOLVED_DIRECTORY).is_dir():
            return ResolverKind.RESOLVED  # a copy of its file, or one that the user wrote for it
        is_local = bool(servers) and servers[0].startswith(("127.", "::1"))
        if is_local and self._is_running("run/NetworkManager/dnsmasq.pid"):
            return ResolverKind.NETWORK_MANAGER
        if is_local and any(map(self._is_running, ("run/dnsmasq/dnsmasq.pid", "run/dnsmasq.pid"))):
            return ResolverKind.DNSMASQ
        is_plain = path.is_file() and not path.is_symlink() and _OWNER.search(_BLOCK.sub("", text)) is None
        return ResolverKind.RESOLV_CONF if is_plain and servers else ResolverKind.OTHER

    def configure(self, wanted: Wanted) -> Configured:
        """Configure the resolver to ask lispd, and remove what another resolver was given. Raises NotConfigured."""
        kind = self.kind()
        for other in (ResolverKind.NETWORK_MANAGER, ResolverKind.DNSMASQ):
            if other is not kind:
                self._remove(other)
        if kind is not ResolverKind.RESOLV_CONF:
            self._write_resolv_conf(None)
        match kind:
            case ResolverKind.RESOLVED:
                return Configured(kind, is_configured=True)
            case ResolverKind.NETWORK_MANAGER | ResolverKind.DNSMASQ:
                return self._configure_dnsmasq(kind, wanted)
            case ResolverKind.RESOLV_CONF:
                return self._configure_resolv_conf(wanted)
            case ResolverKind.OTHER:
                return Configured(kind, is_configured=False, text=advice(wanted))

    def revert(self) -> list[str]:
        """Remove what `configure` wrote; returns the files that changed. Raises NotConfigured."""
        changed = [str(path) for kind in _DIRECTORIES if (path := self._remove(kind)) is not None]
        if self._write_resolv_conf(None):
            changed.append(f"/{RESOLV_CONF}")
        return changed

    def configured(self) -> ResolverKind | None:
        """The resolver whose file names lispd; None: none does."""
        for kind, directory in _DIRECTORIES.items():
            if self._text(self._root / directory / FILE).startswith(MARK):
                return kind
        return ResolverKind.RESOLV_CONF if _BLOCK.search(self._text(self._root / RESOLV_CONF)) is not None else None

    # --- dnsmasq

    def _configure_dnsmasq(self, kind: ResolverKind, wanted: Wanted) -> Configured:
        path = self._root / _DIRECTORIES[kind] / FILE
        zones = (wanted.domain, *wanted.reverse)
        text = f"{MARK} `lispctl names --revert` removes it.\n" + "".join(
            f"server=/{zone}/{SERVER}#{wanted.port}\n" for zone in zones
        )
        # the overlay's addresses are usually private, which dnsmasq would take for a rebind attack
        text += f"rebind-domain-ok=/{wanted.domain}/\n"
        before = self._text(path)
        if before == text:
            return Configured(kind, is_configured=True)
        if os.path.lexists(path) and not before.startswith(MARK):
            said = f"{path} was written by another program or user, and is kept; {kind.value} is not configured"
            return Configured(kind, is_configured=False, text=said)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "ascii")
            path.chmod(0o644)
        except OSError as error:
            raise NotConfigured(why_not_written(path, error)) from None
        self._restart(kind)
        return Configured(kind, is_configured=True, text=f"{kind.value} asks lispd for {wanted.domain}: {path}")

    def _remove(self, kind: ResolverKind) -> Path | None:
        path = self._root / _DIRECTORIES[kind] / FILE
        if not self._text(path).startswith(MARK):
            return None
        try:
            path.unlink()
        except OSError as error:
            raise NotConfigured(why_not_written(path, error)) from None
        with contextlib.suppress(NotConfigured):  # it may be gone
            self._restart(kind)
        return path

    def _restart(self, kind: ResolverKind) -> None:
        """Restart it: a dnsmasq reads its files only when it starts."""
        command = (
            ("nmcli", "general", "reload", "dns-full")
            if kind is ResolverKind.NETWORK_MANAGER
            else ("systemctl", "--no-ask-password", "try-restart", "dnsmasq.service")
        )
        if not self._run(command):
            raise NotConfigured(f"{kind.value} was not started again: {' '.join(command)}")

    # --- /etc/resolv.conf

    def _configure_resolv_conf(self, wanted: Wanted) -> Configured:
        text = _BLOCK.sub("", self._text(self._root / RESOLV_CONF))
        found = _WORDS.findall(text)
        if sum(word == "nameserver" for word, _ in found) >= SERVERS_MAX:
            self._write_resolv_conf(None)
            return Configured(
                ResolverKind.RESOLV_CONF,
                is_configured=False,
                text=f"/etc/resolv.conf has {SERVERS_MAX} servers, and no room for lispd",
            )
        changed = self._write_resolv_conf(wanted.domain)
        said = f"/etc/resolv.conf names lispd first: it answers for {wanted.domain}, and refuses everything else"
        return Configured(ResolverKind.RESOLV_CONF, is_configured=True, text=said if changed else "")

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
            raise NotConfigured(why_not_written(path, error)) from None
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
    return f"{path}: {error.strerror}" + (f": {remedy}. Then: lispctl names --configure" if remedy is not None else "")


def advice(wanted: Wanted) -> str:
    """What a user can do where another program writes /etc/resolv.conf."""
    return (
        "another program writes /etc/resolv.conf, so it is left alone. For our names install systemd-resolved. "
        f"Or have a dnsmasq with `server=/{wanted.domain}/{SERVER}#{wanted.port}`: NetworkManager runs one with "
        "`dns=dnsmasq` in [main], and `lispctl names --configure` configures it"
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
    ResolverKind.NETWORK_MANAGER: "etc/NetworkManager/dnsmasq.d",
    ResolverKind.DNSMASQ: "etc/dnsmasq.d",
}
