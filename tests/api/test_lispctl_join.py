"""lispctl join without a hub: it starts the service and waits for it; each failure has a message and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from lispmob.api.schema import Problem
from lispmob.joining import units
from lispmob.joining.exchange import Joined, Settings
from lispmob.joining.invitation import Invitation
from lispmob.lispctl.main import main
from lispmob.lispctl.upkeep import join
from lispmob.problems.problem import EXIT_CODES
from tests.api.fake_backend import FakeBackend, served
from tests.joining.test_redeeming import INVITATION

NO_ANSWER = Problem(
    key="no-answer",
    severity="broken",
    subject="",
    what="the Map-Server answers nothing",
    cause="",
    remedy="look",
    since_s=3.0,
)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FakeBackend]:
    with served(tmp_path / "lispd.sock") as one:
        yield one.backend


def test_a_node_that_works_ends_with_0_and_says_so(
    backend: FakeBackend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.told_state = "registered"

    assert join.wait_until_working(str(tmp_path / "lispd.sock"), 5.0) == 0
    assert "working" in capsys.readouterr().out


@pytest.mark.parametrize("verdict", ["degraded", "not-working"])
def test_a_node_that_does_not_work_in_time_ends_as_its_status_does_with_the_reason(
    backend: FakeBackend,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verdict: Literal["degraded", "not-working"],
) -> None:
    backend.told_state, backend.verdict, backend.problems = "registered", verdict, [NO_ANSWER]

    assert join.wait_until_working(str(tmp_path / "lispd.sock"), 0.0) == EXIT_CODES[verdict] == join.EXIT_CODES[verdict]
    out = " ".join(capsys.readouterr().out.split())
    assert "! the Map-Server answers nothing" in out
    assert "do: look" in out
    assert "not working after 0 s (1 problem)" in out


def test_a_service_that_does_not_run_ends_with_3(tmp_path: Path) -> None:
    with pytest.raises(join.NotJoined, match="journalctl -u lispd") as failed:
        join.wait_until_working(str(tmp_path / "nobody"), 0.0)

    assert failed.value.exit_code == 3


def test_joining_writes_the_file_starts_the_service_and_waits(
    backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.told_state = "registered"
    started: list[str] = []
    settings = Settings(name="laptop", eids=("10.99.0.1/32",), overlay_prefixes=("10.99.0.0/24",))
    monkeypatch.setattr(units, "runs_systemd", lambda: True)
    monkeypatch.setattr(units, "start", lambda *names: started.extend(names))
    monkeypatch.setattr(join, "_redeem", lambda _: Joined(settings, b"k" * 16))
    socket, config = tmp_path / "lispd.sock", tmp_path / "lispd.conf"

    code = main(["join", INVITATION.line(), "--socket", str(socket), "--config", str(config), "--timeout", "5"])

    assert (code, started) == (0, ["lispd.service", "lispmob-refresh.timer", "lispmob-refresh.path"])
    assert "laptop: 10.99.0.1/32, written to" in " ".join(capsys.readouterr().out.split())
    assert 'key: "kkkkkkkkkkkkkkkk"' in config.read_text()


def test_a_hub_that_says_nonsense_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(name="laptop", eids=("the whole world",))
    monkeypatch.setattr(join, "_redeem", lambda _: Joined(settings, b"k" * 16))

    assert main(["join", INVITATION.line(), "--config", str(tmp_path / "lispd.conf"), "--no-service"]) == 78
    assert "what the hub says makes no configuration" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_systemd_enables_and_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = tmp_path / "systemctl"
    said.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n')
    said.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    units.start("lispd.service")
    units.start("one.timer", "one.path")

    assert (tmp_path / "calls").read_text().splitlines() == [
        "--no-ask-password enable lispd.service",
        "--no-ask-password restart lispd.service",
        "--no-ask-password enable one.timer one.path",
        "--no-ask-password restart one.timer one.path",
    ]


def test_the_line_may_come_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    line = Invitation(INVITATION.addresses, b"i" * 8, 1, b"s" * 16).line()

    assert main(["join", line[:30], line[30:-2], "--config", "/nowhere/lispd.conf"]) == join.EXIT_NO_INVITATION
    assert "incomplete" in capsys.readouterr().err
