"""The programs on a small system without their optional parts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lispmob.lab.namespace import why_unavailable
from lispmob.lab.process import module
from tests.desktop.desktop_world import EIDS, desktop_world
from tests.desktop.private_bus import private_bus, why_no_bus

PROGRAM = "tests.desktop.lispd_without_options"
ROOT = Path(__file__).resolve().parents[2]
WHY_NOT = why_unavailable() or why_no_bus()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("lispmob.__main__", "--check", "-c", "conf/lispd.conf"), "good"),
        (("lispmob.hub.daemon", "--check", "-c", "conf/hub.conf"), ""),
        (("lispmob.lispctl.main", "version", "--help"), "lispctl"),
    ],
)
def test_a_program_starts_without_them(arguments: tuple[str, ...], shown: str) -> None:
    command = module(PROGRAM, *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 0, done.stderr
    assert shown in done.stdout


@pytest.mark.netns
@pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")
def test_lispd_without_a_dbus_library_registers_beside_a_bus_and_forwards(tmp_path: Path) -> None:
    with private_bus(tmp_path) as bus, desktop_world(tmp_path) as world:
        world.attach(0)
        desk, _ = world.start(bus, program=PROGRAM)
        desk.until_on("w0")

        assert "bytes from" in world.desk.run("sh", "-c", f"ping -c 3 -i 0.2 -W 2 {EIDS['peer']} || true")
        assert "no D-Bus library is installed" in desk.log()
