"""The C under the sanitizers: awkward packets, and an engine under load while everything in it changes."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from lispmob.datapath import sealing
from lispmob.datapath.build_ffi import C_DIRECTORY, C_FLAGS, CRYPTO_FLAGS, CRYPTO_LINKS, DIRECTORY, sources
from tests.datapath import corpus
from tests.datapath.flows import stream
from tests.datapath.packets import awkward, datagram

ROOT = Path(__file__).parents[3]
HEADERS = (f"-I{ROOT / C_DIRECTORY}", f"-I{ROOT / DIRECTORY}")

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


def build(tmp_path: Path, driver: str, *options: str, more: tuple[str, ...] = ()) -> Path:
    """Compile the engine with a driver of this folder, and `more` files beside it."""
    program = tmp_path / driver
    files = [str(ROOT / source) for source in sources()]
    has_cipher = sealing.can_seal()
    flags = [
        *C_FLAGS,
        *(CRYPTO_FLAGS if has_cipher else ()),
        "-g",
        "-O1",
        "-fno-omit-frame-pointer",
        *options,
        *HEADERS,
        "-pthread",
    ]
    command = [
        "gcc",
        *flags,
        *(str(Path(__file__).parent / f"{name}.c") for name in (driver, *more)),
        *files,
        "-o",
        str(program),
        *(CRYPTO_LINKS if has_cipher else ()),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find" in built.stderr and "san" in built.stderr:
        pytest.skip("this gcc has no sanitizer library")
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="module", params=["thread", "address,undefined"])
def stressed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine under load, with one sanitizer and then the other."""
    return build(tmp_path_factory.mktemp("stress"), "stress_engine", f"-fsanitize={request.param}")


def test_no_packet_makes_the_parsers_misbehave(tmp_path: Path) -> None:
    program = build(tmp_path, "sanitize_packets", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    chance = random.Random(1)
    records = [datagram(chance.randrange(1 << 40)) for _ in range(1500)]
    records += [awkward(chance.randrange(1 << 40)) for _ in range(1500)]
    records += [packet for seed in range(200) for packet in stream(seed)[:8]]
    records += [packet for version in (4, 6) for _, packet in corpus.packets(version, 1464)]
    written = b"".join(struct.pack("!I", len(record)) + record for record in records)

    done = subprocess.run([program, "40"], input=written, capture_output=True, check=False, timeout=100)

    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) == len(records) * 40


@pytest.mark.netns  # loopback as uplink (SO_BINDTODEVICE) needs root, and a namespace of its own
@pytest.mark.parametrize("mode", ["", "super-packets", "super-packets rtr"])
def test_everything_may_change_while_packets_move(stressed: Path, mode: str) -> None:
    # The thread sanitizer needs its shadow memory where address randomisation may put something else.
    command = ["unshare", "--net", "sh", "-c", f"ip link set lo up; exec setarch -R {stressed} 2000 {mode}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    counts = dict(line.split("=") for line in done.stdout.splitlines() if "=" in line)
    assert int(counts["out_packets"]) > 100
    assert int(counts["data_packets"]) > 100
    # The engine is its own peer: a counter that two threads had taken would come back as a replay.
    assert (counts["data_replay"], counts["data_tag"]) == ("0", "0")
    assert int(counts["data_keepalive"]) > 0 or not sealing.can_seal()
