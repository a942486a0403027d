"""The subcommands of lisphub with a hub whose answers the test sets: their output and their exit codes."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lispmob.hub.cli.main import main
from tests.hub.cli.test_screens import status

INVITED = {
    "v": 1,
    "name": "laptop",
    "eids": ["10.99.0.1/32"],
    "hub": ["198.51.100.1"],
    "expires_at": 1000.0,
    "line": "LISP-1-" + "A" * 90,
}
PROBLEM = {"key": "not-saved", "subject": "", "text": "the disk is full", "remedy": "", "since": None, "count": 1}


class FakeHub:
    """Answers each question with the entry of `answers`, and records the questions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, connection.makefile("rb") as reader:
                if not (line := reader.readline()):
                    return
                self.asked.append(json.loads(line))
                connection.sendall(json.dumps(self.answers[self.asked[-1]["ask"]]).encode() + b"\n")

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._listener.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    made = FakeHub(tmp_path / "hub.sock")
    yield made
    made.close()


def test_the_status_ends_with_4_when_something_is_wrong_and_programs_read_it(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    for problems, code in (([], 0), ([PROBLEM], 4)):
        hub.answers["status"] = {"v": 1, **status(problems=problems)}
        assert main(["status", "--socket", str(hub.path)]) == code
        capsys.readouterr()
        assert main(["status", "--socket", str(hub.path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["problems"] == problems


@pytest.mark.parametrize(("words", "shown"), [((), "usage: lisphub [-h]"), (("invite",), "usage: lisphub invite [-h]")])
def test_help_is_shown_for_all_and_for_one(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], shown: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["help", *words])

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(shown)


def test_what_the_hub_says_no_to_ends_with_1_and_its_words(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.answers["revoke"] = {"v": 1, "error": "no node was invited as x"}

    assert main(["revoke", "x", "--socket", str(hub.path)]) == 1
    assert capsys.readouterr().err == "lisphub: no node was invited as x\n"


def test_a_hub_that_is_not_there_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nodes", "--socket", str(tmp_path / "nobody")]) == 3
    assert "lisphub is not running" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may ask everywhere")
def test_who_may_not_ask_ends_with_77(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.path.chmod(0)

    assert main(["nodes", "--socket", str(hub.path)]) == 77
    assert "try sudo" in capsys.readouterr().err


def test_an_invitation_is_printed_for_people_and_for_programs(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.answers["invite"] = INVITED

    assert main(["invite", "laptop", "--valid", "30m", "--again", "--socket", str(hub.path)]) == 0
    assert f"\n  sudo lispctl join {INVITED['line']}\n" in capsys.readouterr().out
    assert main(["invite", "laptop", "--json", "--socket", str(hub.path)]) == 0
    assert json.loads(capsys.readouterr().out) == INVITED
    assert hub.asked == [
        {"ask": "invite", "name": "laptop", "is_again": True, "valid_s": 1800.0},
        {"ask": "invite", "name": "laptop", "is_again": False},
    ]


def test_on_a_terminal_the_line_is_a_qr_code_too(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.answers["invite"] = INVITED
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    assert main(["invite", "laptop", "--socket", str(hub.path)]) == 0
    with_code = capsys.readouterr().out
    assert main(["invite", "laptop", "--no-qr", "--socket", str(hub.path)]) == 0
    without = capsys.readouterr().out

    squares = [line for line in with_code.splitlines() if "▀" in line or "▄" in line or "\x1b[7m" in line]
    assert len(squares) > 15
    assert "▀" not in without


@pytest.mark.parametrize("text", ["1", "x", "1w", "-1h", "", "59s", "0m", "367d", "999999d", "9" * 30 + "s"])
def test_a_time_that_is_none_is_wrong_usage(hub: FakeHub, text: str) -> None:
    assert main(["invite", "laptop", f"--valid={text}", "--socket", str(hub.path)]) == 2
    assert hub.asked == []


def test_the_names_of_invited_sites_are_there_for_the_completion_of_shells(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = [{"name": "laptop", "origin": "invited"}, {"name": "Anna's $(nas)", "origin": "configured"}]
    hub.answers["sites"] = {"v": 1, "sites": sites, "displaced": []}

    assert main(["words", "--socket", str(hub.path)]) == 0
    assert capsys.readouterr().out == "laptop\n"


def test_following_prints_what_is_new_and_ends_with_130(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.answers["events"] = {"v": 1, "events": [{"number": 7, "at": 0.0, "type": "joined", "site": "laptop"}]}

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", stop)

    assert main(["events", "-f", "-n", "5", "--socket", str(hub.path)]) == 130
    assert "joined        site laptop" in capsys.readouterr().out
    assert hub.asked == [{"ask": "events", "count": 5, "after": 0}]
