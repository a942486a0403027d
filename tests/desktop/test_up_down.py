"""lispctl up and down: they ask systemd over D-Bus, and show the user its answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.bus.connection import BusError
from tests.desktop.panel import Systemd
from tests.desktop.private_bus import PrivateBus, private_bus, why_no_bus

pytestmark = pytest.mark.skipif(why_no_bus() is not None, reason=why_no_bus() or "")


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with tempfile.TemporaryDirectory(prefix="lispmob-bus-") as directory, private_bus(Path(directory)) as one:
        yield one


def lispctl(word: str, address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lispmob.lispctl.main", word],
        env={**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def run(
    bus: PrivateBus, word: str, refusal: BusError | None = None, *, stays: str | None = None
) -> tuple[subprocess.CompletedProcess[str], list[tuple[str, str]]]:
    """What the command does while this systemd is on the bus, and what it asked systemd for."""
    asked: list[tuple[str, str]] = []

    def on_switch(member: str, unit: str) -> None:
        asked.append((member, unit))
        if refusal is not None:
            raise refusal

    async def main() -> subprocess.CompletedProcess[str]:
        systemd = Systemd(on_switch)
        systemd.stays = stays
        await systemd.open(bus.address)
        try:
            return await asyncio.to_thread(lispctl, word, bus.address)
        finally:
            await systemd.close()

    return asyncio.run(main()), asked


@pytest.mark.parametrize(
    ("word", "member", "said"),
    [("down", "StopUnit", "left the overlay; to come back: lispctl up"), ("up", "StartUnit", "back in the overlay")],
)
def test_systemd_is_asked_and_it_is_waited_for(bus: PrivateBus, word: str, member: str, said: str) -> None:
    done, asked = run(bus, word)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(said)
    assert asked == [(member, "lispd.service")]


@pytest.mark.parametrize("name", ["AccessDenied", "InteractiveAuthorizationRequired"])
def test_who_may_not_is_told_who_may_and_how(bus: PrivateBus, name: str) -> None:
    done, _ = run(bus, "down", BusError(f"org.freedesktop.DBus.Error.{name}", "no"))

    assert done.returncode == 77
    assert "you may not stop lispd.service" in done.stderr
    assert "sudo systemctl stop lispd.service" in done.stderr


def test_a_service_that_does_not_come_up_is_an_error_that_names_its_journal(bus: PrivateBus) -> None:
    done, _ = run(bus, "up", stays="failed")

    assert done.returncode == 1
    assert "lispd.service is failed; why: sudo journalctl -u lispd.service" in done.stderr


def test_without_systemd_or_a_bus_it_says_what_is_missing(bus: PrivateBus, tmp_path: Path) -> None:
    no_systemd, no_bus = lispctl("down", bus.address), lispctl("up", f"unix:path={tmp_path}/none")

    assert (no_systemd.returncode, "systemd does not answer here" in no_systemd.stderr) == (1, True)
    assert (no_bus.returncode, "there is no system bus" in no_bus.stderr) == (1, True)
