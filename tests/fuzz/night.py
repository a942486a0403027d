"""The long run: `make fuzz-night`, 100 million inputs to the C side and 10 million to the decoders, side by side.

    python -m tests.fuzz.night DIRECTORY [--minutes 0] [--share 1.0]

Each target has a log in DIRECTORY, and what it found beside it in found/. Whoever wants the machine comes first. SIGINT
and SIGTERM end it early, and it says how far it came.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from tests.fuzz import build, corpus

INPUTS: Final = {"fuzz_packets": 60_000_000, "fuzz_inbound": 40_000_000, "wire": 10_000_000}
C_SIDE: Final = ("fuzz_packets", "fuzz_inbound")
CORPORA: Final = {"fuzz_packets": "data", "fuzz_inbound": "data", "wire": "control"}
NICE: Final = ("nice", "-n", "19")
EVERY_S: Final = 60.0
_UNITS: Final = re.compile(rb"stat::number_of_executed_units: (\d+)")
_PROGRESS: Final = re.compile(rb"^#(\d+)\t", re.MULTILINE)


class Target(msgspec.Struct):
    """One program and its log."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]

    def inputs(self) -> int:
        """How many it has tried, by its log: exact at its end, the last line about progress before."""
        text = self.log.read_bytes()
        found = _UNITS.findall(text) or _PROGRESS.findall(text)
        return int(found[-1]) if found else 0


def start(name: str, program: list[str], directory: Path, inputs: int, minutes: int) -> Target:
    """A target with a corpus of its own, which it adds to."""
    found = directory / "found" / name
    grown = directory / "corpus" / name
    for place in (found, grown):
        place.mkdir(parents=True, exist_ok=True)
    options = [f"-runs={inputs}", "-max_len=1600", f"-artifact_prefix={found}/", "-print_final_stats=1"]
    seconds = [f"-max_total_time={minutes * 60}"] if minutes else []
    log = directory / f"{name}.log"
    command = [*NICE, *program, str(grown), str(directory / CORPORA[name]), *options, *seconds]
    with log.open("wb") as output:
        return Target(name, log, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))


def end(targets: list[Target]) -> None:
    """Have them stop, and say what they did: libFuzzer does so on SIGUSR1."""
    for target in targets:
        if target.process.poll() is None:
            target.process.send_signal(signal.SIGUSR1)


def totals(targets: list[Target], began: float) -> str:
    """One line: how many inputs each side has had."""
    inputs = {target.name: target.inputs() for target in targets}
    c_side = sum(inputs[name] for name in C_SIDE if name in inputs)
    each = ", ".join(f"{name} {count:,}" for name, count in inputs.items())
    return f"{(time.monotonic() - began) / 60:.0f} min: C side {c_side:,}, decoders {inputs.get('wire', 0):,} ({each})"


def main() -> int:
    """Start all, say once a minute how far they are, and what came of it. 1 when an input broke a promise."""
    parser = argparse.ArgumentParser(description="The long run of all fuzz targets.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=int, default=0, help="end then at the latest; 0: when all is tried")
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs")
    chosen = parser.parse_args()
    directory: Path = chosen.directory
    corpus.write(directory)
    began = time.monotonic()
    programs = {name: [str(build.build(name, directory))] for name in C_SIDE}
    programs["wire"] = [sys.executable, "-m", "tests.fuzz.wire"]
    targets = [
        start(name, programs[name], directory, int(count * chosen.share), chosen.minutes)
        for name, count in INPUTS.items()
    ]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: end(targets))
    said = began
    while any(target.process.poll() is None for target in targets):
        time.sleep(1)
        if time.monotonic() >= said + EVERY_S:
            said = time.monotonic()
            sys.stdout.write(f"{totals(targets, began)}\n")
            sys.stdout.flush()
    failed = [target.name for target in targets if target.process.returncode]
    kept = sorted((directory / "found").rglob("*-*"))
    crashes = [str(path) for path in kept if not path.name.startswith("slow-unit")]
    sys.stdout.write(
        f"{totals(targets, began)}\nfailed: {', '.join(failed) or 'none'}; found: {crashes or 'nothing'}\n"
    )
    return 1 if failed or crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
