"""Uplinks and segments of the largest size that IP allows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.datapath.compiled.test_sanitizers import build

pytestmark = [pytest.mark.netns, pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")]

HEADERS = 28  # of an inner UDP packet; each segment repeats them


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("jumbo"), "jumbo_engine", "-fsanitize=address,undefined")


@pytest.mark.parametrize(
    ("length", "size"),
    [(65499, 65463), (65499, 65400), (65499, 65365), (65499, 65364), (65499, 65363), (65499, 32000), (60000, 1000)],
)
def test_segments_of_any_size_leave_and_nothing_stands_still(program: Path, length: int, size: int) -> None:
    command = ["unshare", "--net", "sh", "-c", f"ip link set lo up; exec {program} {length} {size}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 0, done.stderr
    counts = {name: int(value) for name, value in (line.split("=") for line in done.stdout.splitlines())}
    segments = -(-(length - HEADERS) // size)
    assert counts["out_packets"] == segments
    assert counts["out_octets"] == length + (segments - 1) * HEADERS
