"""A running lispd as tests meet it, whichever namespaces it is in: lispctl, its control socket, its log.

The namespaces and their processes are the laboratory's (`lispmob/lab/`). What a test bed adds is which hosts there are:
`tests/lispd/running/world.py` (one hub or two, two nodes), `tests/mh/town/town.py` (two uplinks each), `tests/desktop/`
(with NetworkManager), `tests/datapath/netlab.py` (engines without a control plane).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lispmob.api.client import Client
from lispmob.errors import NotRunning
from lispmob.lab.namespace import Namespace
from lispmob.lab.process import Daemon, module
from lispmob.problems.problem import EXIT_CODES

PATIENCE_S: Final = 15.0  # how long a test waits for what takes a fraction of a second on an idle machine


class AskedNode:
    """lispd in a namespace, with its files in a directory; `ctl` runs lispctl."""

    daemon: Daemon
    pause_s = 0.02  # between two questions: each one is work for the daemon

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self.namespace = namespace
        self.directory = directory

    def command(self, *words: str) -> list[str]:
        """The command line of lispctl for this node."""
        return self.namespace.argv(
            *module("lispmob.lispctl.main", "--socket", str(self.directory / "lispd.sock"), *words)
        )

    def ctl(self, *words: str) -> Any:
        """The answer of lispctl to these words, from JSON. AssertionError with its complaint when it fails."""
        done = subprocess.run(self.command(*words, "--json"), capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, done.stderr + self.daemon.log_tail()
        return json.loads(done.stdout) if done.stdout else None

    def complaint(self, *words: str, code: int = 1) -> str:
        """What lispctl complains about when it ends with this code."""
        done = subprocess.run(self.command(*words, "--json"), capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == code, done.stderr + done.stdout
        return done.stderr

    def ctl_lines(self, *words: str) -> list[Any]:
        """The answer of lispctl, one JSON value a line."""
        return [json.loads(line) for line in self.say(*words, "--json").splitlines()]

    def say(self, *words: str) -> str:
        """The answer of lispctl as text; the exit code of the status may be any verdict."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=10, check=False)
        fine = EXIT_CODES.values() if words[:1] == ("status",) else (0,)
        assert done.returncode in fine, done.stderr + self.daemon.log_tail()
        return done.stdout

    def ask(self, method: str) -> Any:
        """The answer of the control socket, asked without a process; None while no daemon listens."""
        try:
            with Client(str(self.directory / "lispd.sock")) as client:
                return client.call(method)
        except NotRunning:
            return None

    def status(self) -> dict[str, Any] | None:
        """The status, asked without a process; None while no daemon listens."""
        status: dict[str, Any] | None = self.ask("status")
        return status

    def counters(self, part: str = "datapath") -> dict[str, int]:
        counters: dict[str, int] = self.ctl("counters")[part]
        return counters

    def wait_until(self, is_so: Callable[[dict[str, Any]], bool], what: str, patience_s: float = PATIENCE_S) -> Any:
        """Ask until `is_so` is true of a status, and return it. AssertionError with `what` if that takes too long."""
        deadline = time.monotonic() + patience_s
        status: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            self.daemon.check()
            status = self.status()
            if status is not None and is_so(status):
                return status
            time.sleep(self.pause_s)
        raise AssertionError(f"{self.daemon.name}: not {what} after {patience_s} s: {status}\n{self.log()}")

    def wait_until_registered(self) -> Any:
        return self.wait_until(lambda status: status["state"] == "registered", "registered")

    def log(self) -> str:
        return self.daemon.log.read_text(errors="replace")


def wait_for(is_so: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return once `is_so` is true. AssertionError with `what` if that takes too long."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not within {patience_s} s"
        time.sleep(0.02)
