"""Processes in namespaces: daemons with a log, and tools that speak JSON lines on their standard streams."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lispmob.errors import LispError
from lispmob.lab.namespace import Namespace

_LOG_TAIL_LINES: Final = 30
_GRACE_S: Final = 5.0  # ours: a daemon withdraws its registrations before it ends


class ProcessFailed(LispError):
    """A process of the laboratory did not start, did not answer or ended; the text contains its last output."""


def module(name: str, *arguments: str) -> list[str]:
    """The command line of a module of this project, run by the same interpreter."""
    return [sys.executable, "-m", name, *arguments]


class Daemon:
    """A process that runs until it is stopped, with its output in a log file."""

    def __init__(self, name: str, namespace: Namespace, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self.started_at = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                namespace.argv(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def check(self) -> None:
        """Raise ProcessFailed with the end of the log when the process has ended."""
        if (code := self._process.poll()) is not None:
            raise ProcessFailed(f"{self.name} ended with code {code}\n{self.log_tail()}")

    def log_tail(self) -> str:
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            return "".join(f"  {self.name}| {line}" for line in deque(lines, _LOG_TAIL_LINES)).rstrip()

    def log_text(self) -> str:
        """The whole log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """Kill it without a shutdown, as a power cut does."""
        self._process.kill()
        self._process.wait(_GRACE_S)

    def resident_bytes(self) -> int:
        """Its resident memory (VmRSS)."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessFailed(f"{self.name} (pid {self.pid}) is gone\n{self.log_tail()}")

    def stop(self, grace_s: float = _GRACE_S) -> int:
        """Terminate it, and kill it after `grace_s`; returns its exit code. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            return self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(grace_s)


class Tool:
    """A process of ours that prints "ready", then answers JSON lines. It ends with its standard input."""

    def __init__(self, namespace: Namespace, name: str, plan: object, *, timeout_s: float = 10.0) -> None:
        """Start module `name` with `plan` as its argument and wait until it is ready. Raises ProcessFailed."""
        self._name = name
        self._timeout_s = timeout_s
        self._pending = b""
        self._process = subprocess.Popen(
            namespace.argv(*module(name, json.dumps(plan))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            if (word := self._line()) != b"ready":
                raise ProcessFailed(f"{name} said {word!r} instead of ready")
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: object = None) -> Any:
        """Send a request and wait for its answer. Raises ProcessFailed."""
        self.tell(request)
        return self.answer()

    def answer(self) -> Any:
        """Wait for the next answer. Raises ProcessFailed."""
        return json.loads(self._line())

    def tell(self, request: object = None) -> None:
        """Send a request, without waiting for an answer. Raises ProcessFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure("went away") from None

    def end_input(self) -> None:
        """Close its input so that it ends, without waiting. Idempotent."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdin = None

    def finish(self) -> Any:
        """End it; returns its last line, decoded from JSON. Raises ProcessFailed."""
        self.end_input()
        try:
            output, _ = self._process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not end within {self._timeout_s} s") from None
        last = (self._pending + output).strip()
        if self._process.returncode or not last:
            raise ProcessFailed(f"{self._name} ended with code {self._process.returncode} and said {last[-200:]!r}")
        return json.loads(last)

    def kill(self) -> None:
        """Kill it. Idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        fd, deadline = self._process.stdout.fileno(), time.monotonic() + self._timeout_s
        while b"\n" not in self._pending:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._failure(f"did not answer within {self._timeout_s} s")
            if not (data := os.read(fd, 65_536)):
                raise self._failure("went away")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _failure(self, what: str) -> ProcessFailed:
        self._process.kill()
        _, words = self._process.communicate(timeout=self._timeout_s)
        return ProcessFailed(f"{self._name} {what}: {words.decode(errors='replace').strip()[-2000:]}")
