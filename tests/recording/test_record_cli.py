"""lispctl record and replay."""

from __future__ import annotations

import gzip
import json
from itertools import count
from pathlib import Path

import pytest

from lispmob.control.node_config import NodeConfig
from lispmob.lispctl.main import main
from lispmob.lispctl.upkeep.replay import LONGEST_PAUSE_S, Pace
from lispmob.recording.recorder import RecordedNode, Tape
from lispmob.wire.address import EidPrefix
from tests.api.fake_backend import served
from tests.internet.world import locator


def tape_of(*moments: float) -> Tape:
    """A node that gets its uplink, and a timer at each of these moments."""
    tape, config = Tape(), NodeConfig((EidPrefix.parse("10.0.0.1/32"),))
    node = RecordedNode(
        config, new_nonce=lambda: 1, jitter=lambda: 0.5, next_nonce=count(1).__next__, tape=tape, version="0.1.0"
    )
    node.on_locators((locator("198.51.100.1"),), 10.0)
    for moment in moments:
        node.on_timer(moment)
    return tape


def recording(tmp_path: Path, *moments: float) -> Path:
    path = tmp_path / "a.recording"
    path.write_bytes(tape_of(*moments).content())
    return path


def test_a_recording_comes_over_the_socket_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, tape = tmp_path / "a.recording", tape_of(*range(11, 3000))
    with served(tmp_path / "lispd.sock") as daemon:
        daemon.backend.parts.tape = tape
        base = ["--socket", str(daemon.path), "record", "-o", str(path)]
        assert main([*base, "--json"]) == 0
        assert main(base) == 1
        daemon.backend.parts.tape = None
        assert main(base) == 1

    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"path": str(path), "inputs": 2990, "is_full": False}
    assert path.read_bytes() == tape.content()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "File exists" in printed.err
    assert "log: {record: yes}" in printed.err


def test_replay_needs_no_lispd_and_tells_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, 11.0)

    assert main(["replay", str(path), "--socket", "/nowhere"]) == 0
    for_people = capsys.readouterr().out.splitlines()
    assert main(["replay", str(path), "--json"]) == 0
    for_programs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert for_people[0].split()[:3] == ["10.000", "on_locators", "moved"]
    assert for_people[-1] == "2 inputs of lispd 0.1.0: the core did the same as then"
    assert for_programs[0]["events"][0]["fields"]["rlocs"] == ["198.51.100.1"]
    assert for_programs[-1]["replayed"]["differs_at"] is None


def test_a_core_that_does_something_else_is_exit_code_7(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, 11.0)
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    lines[2]["did"] = 7
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))

    assert main(["replay", str(path)]) == 7
    assert "from line 3 on" in capsys.readouterr().out


def test_a_recording_may_be_replayed_in_its_own_time(tmp_path: Path) -> None:
    pace, at_once = Pace(10.0), Pace(None)

    assert [pace.wait_s(at, gone_s) for at, gone_s in ((5.0, 0.0), (7.0, 0.0), (7.0, 0.15), (7.0, 9.0))] == [
        0.0,
        0.2,
        pytest.approx(0.05),
        0.0,
    ]
    assert [pace.wait_s(None, 0.0), pace.wait_s(1e9, 0.0), at_once.wait_s(7.0, 0.0)] == [0.0, LONGEST_PAUSE_S, 0.0]
    assert main(["replay", str(recording(tmp_path, 11.0, 12.0)), "--speed", "100000", "--all"]) == 0


@pytest.mark.parametrize(
    ("words", "code"), [(["none"], 1), ([], 2), (["x", "--speed", "0"], 2), (["x", "--speed", "fast"], 2)]
)
def test_what_cannot_be_replayed_is_a_sentence(
    words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["replay", *words]) == code
    assert "lispctl" in capsys.readouterr().err
