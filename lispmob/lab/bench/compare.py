"""Compares two revisions on one machine: each is checked out, built, and measured by its own benchmark, in turn.

So other load of the machine affects both alike. The ratio of the medians is printed with the smallest and the largest
ratio of the rounds. If these are on both sides of 1, the ratio has no meaning.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from lispmob.lab.demo.screen import Table
from lispmob.lab.process import ProcessFailed

CASES: Final = ("tcp1", "udp64")
PATHS: Final = ("vxlan", "tun", "ebpf", "tun-rtr", "ebpf-rtr")  # older revisions have these, too
_ROOT: Final = Path(__file__).parents[3]
_BUILD_S: Final = 300.0
_ROUND_S: Final = 600.0

Round: TypeAlias = dict[tuple[str, str], float]
"""The medians of a round, by case and path."""


@contextlib.contextmanager
def checked_out(revision: str, directory: Path) -> Iterator[Path]:
    """A built checkout of a revision of this repository. Raises ProcessFailed."""
    _run(["git", "-C", str(_ROOT), "worktree", "add", "--detach", str(directory), revision], 60.0)
    try:
        _run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], _BUILD_S, directory)
        yield directory
    finally:
        _run(["git", "-C", str(_ROOT), "worktree", "remove", "--force", str(directory)], 60.0)


def measure(tree: Path, output: Path, cases: Sequence[str], paths: Sequence[str], seconds: float) -> Round:
    """One round by a checkout's own benchmark. Raises ProcessFailed."""
    words = [word for case in cases for word in ("--case", case)] + [
        word for path in paths for word in ("--path", path)
    ]
    line = [
        sys.executable,
        "-m",
        "lispmob.lab.bench",
        "--rounds",
        "1",
        "--seconds",
        str(math.ceil(seconds)),
    ]  # older ones know whole seconds
    _run([*line, *words, "--output", str(output)], _ROUND_S, tree)
    told = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return {(result["case"], result["path"]): result["median"] for result in told["results"]}


def table(name: str, before: Sequence[Round], now: Sequence[Round]) -> Table:
    """The ratios "now" to "before" by case and path: of the medians, and the extremes of the rounds."""
    rows = []
    for key in dict.fromkeys(key for medians in (*before, *now) for key in medians):
        pairs = [(b[key], n[key]) for b, n in zip(before, now, strict=True) if b.get(key) and key in n]
        if not pairs:
            continue
        ratios = sorted(n / b for b, n in pairs)
        ratio = statistics.median(n for _, n in pairs) / statistics.median(b for b, _ in pairs)
        rows.append((*key, f"{ratio:.2f}", f"{ratios[0]:.2f}", f"{ratios[-1]:.2f}", str(len(pairs))))
    return Table(f"This tree / {name}", ("case", "path", "ratio", "smallest", "largest", "rounds"), tuple(rows))


def _run(line: Sequence[str], timeout_s: float, directory: Path | None = None) -> None:
    environment = None if directory is None else {**os.environ, "PYTHONPATH": str(directory)}
    try:
        done = subprocess.run(
            line, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"{' '.join(line[:5])}: does not end") from None
    if done.returncode:
        raise ProcessFailed(f"{' '.join(line[:5])}: {(done.stderr or done.stdout).strip()[-800:]}")
