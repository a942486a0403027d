"""Runs the tests: `python -m tests.suite [options of pytest]`. A few that fail beside others run once more, alone.

Most tests move real packets while two or three others do the same, and some wait for an event that a busy machine may
delay too long. The names of a few failed tests are printed, and these tests run again with the machine to themselves;
then they have to pass. A fault of the product fails twice, and the machine does not explain more than a few failures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

CHANCE: Final = 3  # at most this many failures may be due to the machine
SOME_FAILED: Final = 1  # one of pytest's exit codes
LAST_FAILED: Final = Path(__file__).resolve().parents[1] / ".pytest_cache" / "v" / "cache" / "lastfailed"


def failed() -> list[str]:
    """The tests that failed in the last run."""
    return sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []


def main(options: list[str]) -> int:
    """Run the tests; returns the exit code of pytest."""
    pytest = [sys.executable, "-m", "pytest", "-q"]
    code = subprocess.run([*pytest, "--cache-clear", *options], check=False).returncode
    names = failed()
    if code != SOME_FAILED or not 0 < len(names) <= CHANCE:
        return code
    sys.stderr.write("\nThese failed beside other tests, and are tried once more by themselves:\n")
    sys.stderr.writelines(f"  {name}\n" for name in names)
    return subprocess.run([*pytest, "--last-failed", "--last-failed-no-failures=none"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
