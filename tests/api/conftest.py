"""Fixtures: a fake daemon on a real socket, and lispctl as a function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from lispmob.lispctl.main import main
from tests.api.fake_backend import Served, served


class Ctl(Protocol):
    """Run lispctl, expect the exit code, and return its output: standard error where the code is not 0."""

    def __call__(self, line: str, code: int = 0) -> str: ...


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "lispd.sock") as made:
        yield made


@pytest.fixture
def ctl(daemon: Served, capsys: pytest.CaptureFixture[str]) -> Ctl:
    def run(line: str, code: int = 0) -> str:
        found = main(["--socket", str(daemon.path), *line.split()])
        printed = capsys.readouterr()
        assert found == code, printed
        return printed.out if code == 0 else printed.err

    return run
