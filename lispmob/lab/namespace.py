"""Network namespaces that are always removed again: made, entered, filled with processes, deleted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lispmob.closing import Closing
from lispmob.errors import KernelRefused

PREFIX: Final = "lmlab"
"""The name of a namespace is PREFIX, the pid of its maker, a dash and a word, so that leftovers show their maker."""

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_NETNS_DIR: Final = Path("/run/netns")
_LEFTOVER: Final = re.compile(rf"{PREFIX}(\d+)-")
_KILL_ROUNDS: Final = 20  # ours: a second for processes to end before their namespace is deleted


def why_unavailable() -> str | None:
    """Why no namespace can be made here, as a sentence; None when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root: run it with sudo"
    if shutil.which("ip") is None:
        return "the tool `ip` is missing: install the package iproute2"
    return None


def require() -> None:
    """Raise KernelRefused with the remedy when namespaces cannot be made."""
    if reason := why_unavailable():
        raise KernelRefused(reason)


def ours() -> list[str]:
    """The existing namespaces that this process has made, by name."""
    return [name for name in _listed() if name.startswith(f"{PREFIX}{os.getpid()}-")]


def sweep() -> list[str]:
    """Delete what ended laboratories have left behind, including processes; returns the deleted names."""
    swept = []
    for name in _listed():
        owner = _LEFTOVER.match(name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            _delete(name)
            swept.append(name)
    return swept


class Namespace:
    """A network namespace, by its name in /run/netns."""

    def __init__(self, word: str, label: str = "") -> None:
        """Make it, with `lo` up. Raises KernelRefused."""
        self.word = word
        self.name = f"{PREFIX}{os.getpid()}-{label}{word}"
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")

    def argv(self, *command: str) -> list[str]:
        """The command line that runs `command` in this namespace; `ip` execs it, so that it keeps the pid."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, timeout_s: float = 10.0) -> str:
        """Run a command to its end; returns its standard output. Raises KernelRefused with its error output."""
        done = subprocess.run(
            self.argv(*command),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise KernelRefused(f"{self.word}: `{' '.join(command)}` failed: {done.stderr.strip()}")
        return done.stdout

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in this namespace inside the block; sockets made there stay in the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(_NETNS_DIR / self.name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, which a process of any namespace may use."""
        with self.entered():
            return socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)

    def sysctl(self, key: str, value: str) -> None:
        """Set net.KEY (with slashes, because the name of an interface may contain dots)."""
        with self.entered():
            Path("/proc/sys/net", key).write_text(value, encoding="ascii")

    def pids(self) -> list[int]:
        return _pids(self.name)

    def delete(self) -> None:
        """Kill the namespace's processes and delete it. Idempotent."""
        _delete(self.name)


class NamespaceSet(Closing):
    """Namespaces with a common lifetime: leaving the `with` block deletes them all."""

    def __init__(self, label: str = "") -> None:
        """`label` distinguishes two laboratories of one process."""
        self._label = label
        require()
        self._made: dict[str, Namespace] = {}

    def __getitem__(self, word: str) -> Namespace:
        return self._made[word]

    def make(self, word: str) -> Namespace:
        made = self._made[word] = Namespace(word, self._label)
        return made

    def close(self) -> None:
        while self._made:
            _, namespace = self._made.popitem()
            namespace.delete()


def _listed() -> list[str]:
    return sorted(path.name for path in _NETNS_DIR.iterdir()) if _NETNS_DIR.is_dir() else []


def _pids(name: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, timeout=10, check=False)
    return [int(word) for word in done.stdout.split()]


def _delete(name: str) -> None:
    for _ in range(_KILL_ROUNDS):
        left = [pid for pid in _pids(name) if pid != os.getpid()]
        if not left:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=10, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise KernelRefused(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")


def _setns(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise KernelRefused(f"setns refused ({os.strerror(number)}): needs CAP_SYS_ADMIN")
