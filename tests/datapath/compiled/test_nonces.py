"""No key seals two packets with one IV, whichever ways the packets take and however often they are tried."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lispmob.datapath import sealing
from tests.datapath.compiled.test_sanitizers import build

pytestmark = [
    pytest.mark.netns,  # loopback as uplink (SO_BINDTODEVICE) needs root, and a namespace of its own
    pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

WAYS = ("runs", "out_copies", "out_repeated", "out_held", "out_fragmented", "out_failover", "out_obfuscated")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine whose packets are noted as they are sealed, and refused now and then."""
    watch = ("lm_session_seal", "lm_dialect_seal", "sendmsg", "syscall")
    wraps = "-Wl," + ",".join(f"--wrap={name}" for name in watch)
    return build(tmp_path_factory.mktemp("nonces"), "nonce_engine", wraps, more=("nonce_watch",))


@pytest.mark.parametrize("cipher", ["aes", "chacha"])
def test_no_key_seals_twice_with_one_iv_whatever_is_copied_repeated_refused_or_cut(program: Path, cipher: str) -> None:
    command = ["unshare", "--net", "sh", "-c", f"ip link set lo up; exec {program} {cipher}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr
    counts = {name: int(value) for name, _, value in (line.partition("=") for line in done.stdout.splitlines())}
    assert [way for way in WAYS if not counts[way]] == []
    assert counts["sealed"] >= 20_000
    # The engine is its own peer: a second packet with the counter of another one would be dropped as replayed.
    assert 0 < counts["data_replay"] <= counts["out_copies"]
    assert counts["data_tag"] == 0
