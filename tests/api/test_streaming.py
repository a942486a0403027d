"""lispctl shows long answers while they arrive, however they are cut into pieces."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.api.client import Client, Entries, ReplyError
from lispmob.lispctl import streamed
from tests.api.fake_backend import served

ENTRY = {
    "prefix": "192.0.2.64/28",
    "source": "Grüße",
    "action": "drop",
    "locators": [],
    "age_s": 1.0,
    "expires_in_s": None,
    "unused_s": None,
}
REPLY = json.dumps({"v": 1, "id": 1, "result": {"entries": [ENTRY, ENTRY], "limit": [1, 2]}}, ensure_ascii=False)


class Piecemeal:
    """Answers one request in pieces of so many octets, and then closes the connection."""

    def __init__(self, path: Path, answer: str, octets: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer, self._octets = answer.encode(), octets
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def end(self) -> None:
        self._thread.join(10)
        self._listener.close()

    def _serve(self) -> None:
        one, _ = self._listener.accept()
        with one:
            one.recv(1 << 16)
            head = self._answer.find(b"[") + 1  # lispd writes this much at once
            one.sendall(self._answer[:head])
            for at in range(head, len(self._answer), self._octets):
                one.sendall(self._answer[at : at + self._octets])


@pytest.mark.parametrize("octets", [1, 7, 1000])
def test_entries_come_one_by_one_whatever_the_pieces_are(tmp_path: Path, octets: int) -> None:
    daemon = Piecemeal(tmp_path / "sock", REPLY.replace(" ", "") + "\n", octets)
    with Client(str(tmp_path / "sock")) as client:
        found = client.stream("map-cache")
        entries = list(found.entries)
    daemon.end()

    assert entries == [{**ENTRY, "source": "Grüße"}] * 2
    assert found.rest == {"limit": [1, 2]}


@pytest.mark.parametrize("end", [40, -10, -1])
def test_an_answer_that_breaks_off_is_an_error_and_what_came_was_shown(tmp_path: Path, end: int) -> None:
    daemon = Piecemeal(tmp_path / "sock", REPLY.replace(" ", "")[:end], 7)
    with Client(str(tmp_path / "sock")) as client, pytest.raises(ReplyError, match="closed the connection"):
        list(client.stream("map-cache").entries)
    daemon.end()


def test_an_answer_that_is_written_otherwise_is_read_all_the_same(tmp_path: Path) -> None:
    daemon = Piecemeal(tmp_path / "sock", REPLY + "\n", 1000)
    with Client(str(tmp_path / "sock")) as client:
        found = client.stream("map-cache")
        assert (len(list(found.entries)), found.rest) == (2, {"limit": [1, 2]})
    daemon.end()


def test_a_refusal_is_the_one_of_an_ordinary_call(tmp_path: Path) -> None:
    with (
        served(tmp_path / "lispd.sock") as one,
        Client(str(one.path)) as client,
        pytest.raises(ReplyError, match="no method 'nothing'"),
    ):
        client.stream("nothing")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_printed_for_programs_is_one_json_value(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    streamed.print_json(Entries(iter([ENTRY] * count), {"limit": 10}))

    assert json.loads(capsys.readouterr().out) == {"entries": [ENTRY] * count, "limit": 10}


def test_the_first_entries_are_printed_before_the_last_have_come(capsys: pytest.CaptureFixture[str]) -> None:
    printed: list[str] = []

    def entries() -> Iterator[dict[str, object]]:
        for number in range(streamed.FIRST_ENTRIES + 2):
            if number == streamed.FIRST_ENTRIES:
                printed.append(capsys.readouterr().out)
            yield {**ENTRY, "prefix": f"10.0.{number}.0/24"}

    streamed.print_table(["PREFIX", "ACTION"], entries(), lambda entry: (entry["prefix"], entry["action"]))
    rest = capsys.readouterr().out.splitlines()

    assert printed[0].count("\n") == streamed.FIRST_ENTRIES + 1
    assert [line.split()[0] for line in rest] == ["10.0.50.0/24", "10.0.51.0/24"]
    assert len({line.index("drop") for line in [*printed[0].splitlines()[1:], *rest]}) == 1
