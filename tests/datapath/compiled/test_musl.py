"""The C on phones: with musl instead of glibc, as on Alpine and postmarketOS, and for their processors."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from lispmob.datapath.build_ffi import C_DIRECTORY, C_FLAGS, DIRECTORY, sources
from tests.datapath.packets import awkward, datagram

DRIVERS = Path(__file__).parent
ROOT = DRIVERS.parents[2]
HEADERS = (f"-I{ROOT / C_DIRECTORY}", f"-I{ROOT / DIRECTORY}")

needs_musl = pytest.mark.skipif(
    shutil.which("musl-gcc") is None, reason="musl-gcc is missing: install the Debian package musl-tools"
)


def build(tmp_path: Path, driver: str) -> Path:
    """Build a program that links with musl alone: so every function that we call is in it."""
    headers = tmp_path / "kernel"  # Debian has them among glibc's, where musl-gcc must not look
    headers.mkdir()
    told = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True, check=True).stdout.strip()
    for name, place in (("linux", "linux"), ("asm-generic", "asm-generic"), ("asm", f"{told}/asm")):
        (headers / name).symlink_to(Path("/usr/include") / place)
    program = tmp_path / driver
    files = [str(ROOT / source) for source in sources()]
    flags = [*C_FLAGS, "-static", "-isystem", str(headers), *HEADERS, "-pthread"]
    command = ["musl-gcc", *flags, str(DRIVERS / f"{driver}.c"), *files, "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    return program


@needs_musl
def test_the_parsers_run_on_musl(tmp_path: Path) -> None:
    program = build(tmp_path, "sanitize_packets")
    chance = random.Random(2)
    records = [shape(chance.randrange(1 << 40)) for shape in (datagram, awkward) for _ in range(500)]
    corpus = b"".join(struct.pack("!I", len(record)) + record for record in records)

    done = subprocess.run([program, "4"], input=corpus, capture_output=True, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (0, b"")
    assert int(done.stdout) == len(records) * 4


@needs_musl
@pytest.mark.netns  # loopback as uplink (SO_BINDTODEVICE) needs root, and a namespace of its own
@pytest.mark.parametrize("mode", ["", "super-packets"])
def test_packets_move_and_updates_get_through_on_musl(tmp_path: Path, mode: str) -> None:
    program = build(tmp_path, "stress_engine")

    command = ["unshare", "--net", "sh", "-c", f"ip link set lo up; exec {program} 1000 {mode}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(line.split("=") for line in done.stdout.splitlines() if "=" in line)
    assert int(counts["out_packets"]) > 100
    assert int(counts["data_packets"]) > 100


@pytest.mark.parametrize("target", ["aarch64-linux-gnu", "arm-linux-gnueabihf"])
def test_the_compiler_for_a_phone_finds_nothing_to_warn_of(tmp_path: Path, target: str) -> None:
    if shutil.which(f"{target}-gcc") is None:
        pytest.skip(f"{target}-gcc is missing: install the Debian package gcc-{target}")
    files = [str(ROOT / source) for source in sources()]
    command = [
        f"{target}-gcc",
        *C_FLAGS,
        "-fPIC",
        "-shared",
        *HEADERS,
        *files,
        "-o",
        str(tmp_path / "engine.so"),
        "-pthread",
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (built.returncode, built.stderr) == (0, "")
