"""Two nodes with flows, and programs in both, on real packets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from lispmob.lab.real.world import World

ROOT = Path(__file__).resolve().parents[2]
FLOWS = "flows:\n  enabled: yes\n  host: %s\n%s"


class FlowTown:
    """A node a in the open, the peer b, and programs that use flows in both."""

    def __init__(self, world: World) -> None:
        self.world = world

    def command(self, name: str, *arguments: str) -> list[str]:
        socket = self.world.directory / name / "flow.sock"
        return self.world[name].argv(sys.executable, "-m", "lispmob.flow.cli", "--socket", str(socket), *arguments)

    def run(
        self, name: str, *arguments: str, given: str = "", timeout_s: float = 20
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *arguments), input=given, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a command, and wait for its first line on standard error."""
        started = subprocess.Popen(
            self.command(name, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        assert started.stderr is not None
        assert started.stderr.readline()
        return started

    def end(self, started: subprocess.Popen[str]) -> None:
        """End a command, and the processes that it has started for flows."""
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate(timeout=10)

    def python(self, name: str, text: str) -> subprocess.Popen[str]:
        """Start a Python program in the namespace; its output is read by lines."""
        head = f"from pathlib import Path\npath = Path({str(self.world.directory / name / 'flow.sock')!r})\n"
        return subprocess.Popen(
            self.world[name].argv(sys.executable, "-u", "-c", head + text),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def example(self, name: str, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Start one of the programs in examples/."""
        socket = self.world.directory / name / "flow.sock"
        command = self.world[name].argv(sys.executable, "-u", str(ROOT / "examples" / program), "--socket", str(socket))
        return subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def sent(self, interface: str) -> int:
        """Octets that have left a by an interface so far."""
        statistics = json.loads(self.world["a"].run("ip", "-s", "-j", "link", "show", "dev", interface))
        return int(statistics[0]["stats64"]["tx"]["bytes"])
