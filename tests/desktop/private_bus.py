"""A system bus of our own, and the processes on it: every one is ended by its pid in all cases."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"""

SYSTEM_PYTHON = "/usr/bin/python3"


def why_no_bus() -> str | None:
    """What is missing for a private bus, with the remedy; None: nothing."""
    for tool, package in (("dbus-daemon", "dbus"), ("gdbus", "libglib2.0-bin")):
        if shutil.which(tool) is None:
            return f"{tool} is missing: install the Debian package {package}"
    return None


def why_no_mock() -> str | None:
    """What is missing for python-dbusmock, which runs under the system's Python; None: nothing."""
    if reason := why_no_bus():
        return reason
    if (
        not Path(SYSTEM_PYTHON).exists()
        or subprocess.run([SYSTEM_PYTHON, "-c", "import dbusmock"], capture_output=True, check=False).returncode
    ):
        return "python-dbusmock is missing: install the Debian package python3-dbusmock"
    return None


class PrivateBus:
    """A dbus-daemon that can be stopped and started again at the same address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "bus"
        self.address = f"unix:path={self.socket}"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._services: list[subprocess.Popen[bytes]] = []
        (directory / "bus.conf").write_text(_CONFIG.format(path=self.socket), encoding="ascii")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of processes for which this is the system bus."""
        return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": self.address}

    def start(self) -> None:
        """Start the daemon, and wait until it accepts connections."""
        self.socket.unlink(missing_ok=True)
        self._daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self.directory / 'bus.conf'}", "--nofork", "--nopidfile"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it may not raise its limit of descriptors, and complains
        )
        wait_for(self._is_listening, "the private bus listens")

    def _is_listening(self) -> bool:
        """False while its socket exists and does not accept connections yet."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trying:
            return trying.connect_ex(str(self.socket)) == 0

    def stop(self) -> None:
        """End the daemon."""
        if self._daemon is not None:
            end(self._daemon)
            self._daemon = None

    def run(self, command: Sequence[str], *, log: str) -> subprocess.Popen[bytes]:
        """Start a service on this bus; it ends with the bus at the latest."""
        with (self.directory / log).open("ab") as output:
            service = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._services.append(service)
        return service

    def mock(self, template: str) -> subprocess.Popen[bytes]:
        """Start one of python-dbusmock's templates, such as "networkmanager"."""
        command = [SYSTEM_PYTHON, "-m", "dbusmock", "--system", "--template", template]
        return self.run(command, log=f"{template}.log")

    def gdbus(self, *arguments: str) -> str:
        """The standard output of the command `gdbus`."""
        done = subprocess.run(
            ["gdbus", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End all processes."""
        for service in reversed(self._services):
            end(service)
        self.stop()


@contextlib.contextmanager
def private_bus(directory: Path) -> Iterator[PrivateBus]:
    """A running bus."""
    bus = PrivateBus(directory)
    bus.start()
    try:
        yield bus
    finally:
        bus.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and kill it if it does not. Idempotent."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def wait_for(is_so: Callable[[], bool], what: str, timeout_s: float = 15.0) -> None:
    """Return once `is_so` is true. Fails with `what` when that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
