"""Builds a fuzz target of the C side: `python -m tests.fuzz.build fuzz_inbound DIRECTORY`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from lispmob.datapath import sealing
from lispmob.datapath.build_ffi import C_DIRECTORY, CRYPTO_FLAGS, CRYPTO_LINKS, DIRECTORY, sources

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = "-fsanitize=fuzzer,address,undefined"
INCLUDED = {"fuzz_inbound": "engine/inbound.c"}  # the file that a target includes, for its static functions
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-g", "-O2", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")

TARGETS = ("fuzz_packets", "fuzz_inbound")


class NoFuzzer(Exception):
    """There is no clang, or it has no libFuzzer."""


def build(name: str, directory: Path) -> Path:
    """Build the program. Raises NoFuzzer where there is no compiler for it, and CalledProcessError where that fails."""
    if shutil.which("clang") is None:
        raise NoFuzzer("no clang")
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / name
    parts = [str(ROOT / one) for one in sources() if not one.endswith(INCLUDED.get(name, "-"))]
    headers = [f"-I{ROOT / C_DIRECTORY}", f"-I{ROOT / DIRECTORY}"]
    source = str(Path(__file__).parent / f"{name}.c")
    flags, links = (CRYPTO_FLAGS, CRYPTO_LINKS) if sealing.can_seal() else ((), ())
    command = ["clang", SANITIZERS, *FLAGS, *flags, *headers, source, *parts, "-pthread", *links, "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "libclang_rt" in done.stderr:
        raise NoFuzzer("install the Debian package libclang-rt-14-dev (or that of your clang's version)")
    if done.returncode:
        raise RuntimeError(done.stderr)
    return program


if __name__ == "__main__":
    for wanted in TARGETS:
        sys.stdout.write(f"{build(wanted, Path(sys.argv[1]))}\n")
