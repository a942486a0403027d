"""The second run of a test: for a few failures, once, and only where the first run ended normally."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests import suite


@pytest.mark.parametrize(
    ("codes", "names", "ends_with", "runs"),
    [
        ([0], 0, 0, 1),
        ([1, 0], 1, 0, 2),
        ([1, 0], suite.CHANCE, 0, 2),
        ([1, 1], 2, 1, 2),
        ([1], suite.CHANCE + 1, 1, 1),
        ([1], 0, 1, 1),
        ([2], 1, 2, 1),
        ([3], 1, 3, 1),
        ([5], 0, 5, 1),
        ([1, 5], 1, 5, 2),
    ],
)
def test_a_few_tests_that_failed_must_pass_by_themselves_and_nothing_else_is_forgiven(
    codes: list[int], names: int, ends_with: int, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[bytes]:
        assert not check
        commands.append(command)
        (tmp_path / "lastfailed").write_text(json.dumps({f"tests/test_{number}.py": True for number in range(names)}))
        return subprocess.CompletedProcess(command, codes[len(commands) - 1])

    monkeypatch.setattr(suite, "LAST_FAILED", tmp_path / "lastfailed")
    monkeypatch.setattr(subprocess, "run", run)

    assert suite.main(["-n", "3"]) == ends_with
    assert len(commands) == runs
    assert commands[0][-3:] == ["--cache-clear", "-n", "3"]
    assert all("-n" not in command for command in commands[1:])
