"""No counter of a session is taken twice, however many threads take some at the same time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lispmob.datapath import sealing
from lispmob.datapath.build_ffi import C_DIRECTORY, C_FLAGS, CRYPTO_FLAGS, CRYPTO_LINKS
from tests.datapath.compiled.test_sanitizers import HEADERS, ROOT

pytestmark = [
    pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

PARTS = ("seal/session.c", "seal/replay.c", "seal/aead.c", "seal/aead_libcrypto.c", "seal/aead_ipsec_mb.c", "base/*.c")


def test_threads_that_take_counters_at_once_never_take_the_same(tmp_path: Path) -> None:
    """In C: in Python threads would have to wait for each other."""
    program = tmp_path / "taken_counters"
    parts = [str(path) for part in PARTS for path in sorted((ROOT / C_DIRECTORY).glob(part))]
    driver = str(Path(__file__).parent / "taken_counters.c")
    flags = (*C_FLAGS, *CRYPTO_FLAGS, *HEADERS, "-pthread")
    subprocess.run(["gcc", *flags, driver, *parts, "-o", str(program), *CRYPTO_LINKS], check=True, capture_output=True)

    done = subprocess.run([str(program)], capture_output=True, text=True, check=True, timeout=60)

    counts = {name: int(value) for name, _, value in (line.partition("=") for line in done.stdout.splitlines())}
    assert counts["twice"] == 0
    assert counts["taken"] == counts["next"] > 1_000_000
