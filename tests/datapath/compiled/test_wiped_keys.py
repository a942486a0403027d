"""The keys of a session are overwritten before its memory is given back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lispmob.datapath import sealing
from tests.datapath.compiled.test_sanitizers import build

pytestmark = [
    pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]


def test_no_memory_that_is_given_back_holds_a_key_however_its_session_ends(tmp_path: Path) -> None:
    program = build(tmp_path, "wiped_keys", "-Wl,--wrap=free")

    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    counts = {name: int(value) for name, _, value in (line.partition("=") for line in done.stdout.splitlines())}
    assert counts["proof"] == 1, "the search finds a key that was not overwritten"
    assert counts["freed"] > 100
    assert counts["left"] == 0
