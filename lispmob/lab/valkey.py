"""Valkey or Redis servers for tests and demonstrations: a single server, or a small cluster.

They run on loopback or in a namespace. Debian's package redis-tools contains the server's program under another name,
and starts no service.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from lispmob.errors import LispError
from lispmob.lab.namespace import Namespace

SLOTS: Final = 16384
_PATIENCE_S: Final = 20.0
_ANSWER_S: Final = 5.0
NODE_TIMEOUT_MS: Final = 1000  # after so long without a sign of life the others replace a primary


def program() -> tuple[str, str] | None:
    """The file of a server, and the name to call it by; None if none is installed."""
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) is not None:
            return found, name
    checker = shutil.which("redis-check-rdb")  # the same program, which checks by which name it was called
    return (checker, "redis-server") if checker is not None else None


class ServerFailed(LispError):
    """A server did not start, or its answer was wrong."""


class ValkeyServer:
    """A server. `settings` are those of its command line, without dashes."""

    def __init__(
        self, directory: Path, address: str, port: int, settings: Sequence[str] = (), space: Namespace | None = None
    ) -> None:
        self.directory, self.address, self.port = directory, address, port
        self._settings, self._space = tuple(settings), space
        self._process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def pid(self) -> int:
        """The pid of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True until it has ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it. Raises ServerFailed."""
        found = program()
        if found is None:
            raise ServerFailed("no Valkey or Redis server is installed: apt-get install redis-tools")
        executable, name = found
        self.directory.mkdir(parents=True, exist_ok=True)
        arguments = [name, "--port", str(self.port), "--bind", self.address, "--save", "", "--appendonly", "no"]
        arguments += ["--dir", str(self.directory), "--logfile", "server.log", "--daemonize", "no", *self._settings]
        with contextlib.nullcontext() if self._space is None else self._space.entered():
            self._process = subprocess.Popen(arguments, executable=executable, stdout=subprocess.DEVNULL)
        return self

    def wait(self) -> Self:
        """Wait until it answers. Raises ServerFailed."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and self.is_running:
            with contextlib.suppress(OSError):
                with self.talk() as ask:
                    ask("PING")
                return self
            time.sleep(0.02)
        log = self.directory / "server.log"
        told = log.read_text(errors="replace")[-500:] if log.exists() else ""
        raise ServerFailed(f"the server at {self} does not answer: {told}")

    def kill(self) -> None:
        """Kill it, as a loss of power does."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop the process, with all its connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the process."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def talk(self) -> Iterator[Any]:
        """A function that sends a command and returns the answer, lists as lists. Errors are strings with a "-"."""
        with contextlib.nullcontext() if self._space is None else self._space.entered():
            one = socket.create_connection((self.address, self.port), timeout=_ANSWER_S)
        with one, one.makefile("rb") as answers:

            def ask(*words: str | bytes | int) -> Any:
                made = [word if isinstance(word, bytes) else str(word).encode() for word in words]
                one.sendall(b"*%d\r\n" % len(made) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in made))
                return _read(answers)

            yield ask

    def ask(self, *words: str | bytes | int) -> Any:
        """Send one command."""
        with self.talk() as ask:
            return ask(*words)


def _read(answers: Any) -> Any:
    line = answers.readline()
    if not line:
        raise OSError("the server closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if rest == b"-1" else answers.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [_read(answers) for _ in range(int(rest))]
    if kind == b":":
        return int(rest)
    return rest if kind == b"+" else f"-{rest.decode()}"


class ValkeyCluster:
    """Three primaries, each with a replica. `servers` has the primaries first."""

    def __init__(
        self,
        directory: Path,
        places: Sequence[tuple[str, int]],
        settings: Sequence[str] = (),
        space: Namespace | None = None,
        primaries: int = 3,
        node_timeout_ms: int = NODE_TIMEOUT_MS,
    ) -> None:
        cluster = [
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-node-timeout", str(node_timeout_ms), "--cluster-require-full-coverage", "no"),
            *("--repl-diskless-sync-delay", "0", "--protected-mode", "no"),
        ]
        self.primaries = primaries
        self.servers = [
            ValkeyServer(
                directory / f"{address}-{port}",
                address,
                port,
                [*cluster, *(("--bind-source-addr", address) if address != "127.0.0.1" else ()), *settings],
                space,
            )
            for address, port in places
        ]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all servers and join them to a cluster. Raises ServerFailed."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait()
        first, primaries = self.servers[0], self.servers[: self.primaries]
        share = SLOTS // self.primaries
        for number, server in enumerate(self.servers):
            with server.talk() as ask:
                ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if server in primaries:
                    last = SLOTS if number == self.primaries - 1 else (number + 1) * share
                    ask("CLUSTER", "ADDSLOTSRANGE", number * share, last - 1)
                if server is not first:
                    ask("CLUSTER", "MEET", first.address, first.port)
        names = {server: server.ask("CLUSTER", "MYID").decode() for server in primaries}
        self._wait(lambda: all(len(self._lines(server)) == len(self.servers) for server in self.servers))
        for number, server in enumerate(self.servers[self.primaries :]):
            primary = primaries[number % self.primaries]
            self._wait(lambda: server.ask("CLUSTER", "REPLICATE", names[primary]) == b"OK")  # noqa: B023 - at once
        self._wait(lambda: all(b"cluster_state:ok" in server.ask("CLUSTER", "INFO") for server in self.servers))
        for server in self.servers[self.primaries :]:
            self._wait(lambda: b"master_link_status:up" in server.ask("INFO", "replication"))  # noqa: B023 - at once

    def stop(self) -> None:
        """Kill all servers."""
        for server in self.servers:
            server.kill()

    def owner_of(self, key: str) -> ValkeyServer:
        """The server that has the slot of a key, by the answers of the running servers."""
        slot = crc_hqx(key.encode(), 0) % SLOTS
        for server in self.servers:
            if server.is_running:
                for first, last, (host, port, *_), *_replicas in server.ask("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        place = host.decode(), port
                        return next(one for one in self.servers if (one.address, one.port) == place)
        raise ServerFailed(f"no server has slot {slot}")

    def replica_of(self, primary: ValkeyServer) -> ValkeyServer:
        """The replica of a primary."""
        name = primary.ask("CLUSTER", "MYID").decode()
        line = next(line for line in self._lines(primary) if line.split()[3] == name)
        host, _, port = line.split()[1].partition("@")[0].rpartition(":")
        return next(one for one in self.servers if (one.address, one.port) == (host, int(port)))

    def _lines(self, server: ValkeyServer) -> list[str]:
        text = server.ask("CLUSTER", "NODES").decode()
        return [line for line in text.splitlines() if "handshake" not in line]

    def _wait(self, condition: Any) -> None:
        until = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > until:
                raise ServerFailed("the servers do not become a cluster")
            time.sleep(0.02)


def free_ports(count: int, above: int = 0) -> list[int]:
    """Free ports on loopback; `above`: the ports higher by this number are free, too (a cluster's bus)."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if above and port + above > 65535:
                continue
            if above:
                bus = stack.enter_context(socket.socket())
                try:
                    bus.bind(("127.0.0.1", port + above))
                except OSError:
                    continue
            found.append(port)
    return found
