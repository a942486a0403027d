"""lispctl watch: snapshots in, screens out; and the program around it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from lispmob.lispctl import watching
from lispmob.lispctl.board import KEPT, Board, rate, sparkline
from lispmob.lispctl.main import main
from tests.api.fake_backend import FakeBackend, served


def snapshot(**more: Any) -> dict[str, Any]:
    import msgspec

    made: dict[str, Any] = msgspec.to_builtins(FakeBackend().status())
    made["datapath"] |= more
    return made


def path(rtt_ms: float | None, remote: str = "203.0.113.5", state: str = "up") -> dict[str, Any]:
    ends = {"local": "198.51.100.23", "interface": "wlan0", "remote": remote}
    return {**ends, "state": state, "rtt_ms": rtt_ms, "loss": 0.0}


def text(board: Board) -> str:
    return "\n".join(board.lines())


def test_rates_are_what_came_between_two_snapshots() -> None:
    board = Board()
    board.on_status(snapshot(packets_out=100, octets_out=1000, packets_in=0, octets_in=0), 10.0)
    assert "Out  -" in text(board)

    board.on_status(snapshot(packets_out=200, octets_out=126_000, packets_in=4, octets_in=0), 10.5)

    assert "Out  2.0 Mbit/s, 200 packets/s" in text(board)
    assert "In   0 bit/s, 8 packets/s" in text(board)


def test_a_lispd_that_was_started_again_has_no_rate_yet() -> None:
    board = Board()
    board.on_status(snapshot(packets_out=100), 10.0)
    again = snapshot(packets_out=3)
    again["pid"] += 1

    board.on_status(again, 10.5)

    assert "Out  -" in text(board)


def test_each_new_round_trip_is_a_bar_and_only_the_latest_are_kept() -> None:
    board = Board()
    board.on_status(snapshot(), 0.0)
    for rtt_ms in (10.0, 10.0, 20.0, 30.0, None, 10.0):
        board.on_paths([path(rtt_ms)])

    assert "▁▅█▁" in text(board)
    for number in range(100):
        board.on_paths([path(float(number))])
    assert len(board.view()["paths"][0]["rtts_ms"]) == KEPT


def test_a_path_that_is_gone_is_forgotten() -> None:
    board = Board()
    board.on_status(snapshot(), 0.0)
    board.on_paths([path(10.0)])
    board.on_paths([])
    board.on_paths([path(20.0)])

    assert board.view()["paths"][0]["rtts_ms"] == [20.0]


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([5.0], "▄"), ([5.0, 5.01], "▄▄"), ([0.0, 0.0], "▄▄"), ([1.0, 8.0], "▁█")]
)
def test_a_sparkline_shows_differences_and_no_noise(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


@pytest.mark.parametrize(
    ("per_s", "shown"),
    [(0.0, "0 bit/s"), (9.4, "9 bit/s"), (999.4, "999 bit/s"), (1500.0, "1.5 kbit/s"), (2.5e12, "2500 Gbit/s")],
)
def test_a_rate_has_few_digits(per_s: float, shown: str) -> None:
    assert rate(per_s, "bit") == shown


def test_a_screen_is_no_higher_than_the_terminal_and_no_wider_than_80() -> None:
    board = Board()
    board.on_status(snapshot(), 0.0)
    board.on_paths([path(10.0, f"203.0.113.{number}") for number in range(40)])

    assert len(board.lines(10)) == 10
    assert max(map(len, board.lines())) <= 80
    assert "and 28 more" in text(board)


def test_a_daemon_that_goes_and_comes_back_is_shown_so(tmp_path: Path) -> None:
    from lispmob.api.client import Client

    socket = tmp_path / "lispd.sock"
    with served(socket) as one:
        look = watching.Look(Client(str(one.path)), str(socket))
        look.frame(0.0)
        assert "lispd 0.1.0" in text(look.board)
    look.frame(1.0)
    look.frame(1.5)
    assert "lispd is not running" in text(look.board)
    assert look.board.view()["gone"] is not None
    with served(socket):
        look.frame(2.0)
        assert look.board.view()["gone"] is None
        look.close()


def test_programs_get_a_line_for_each_frame_and_pipes_plain_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path / "lispd.sock") as one:
        base = ["--socket", str(one.path), "watch", "--interval", "0.1"]
        assert main([*base, "--count", "2", "--json"]) == 0
        frames = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert main([*base, "--count", "1"]) == 0
        plain = capsys.readouterr().out

    assert [frame["state"] for frame in frames] == ["partly-registered"] * 2
    assert frames[0]["peers"][0]["prefix"] == "192.0.2.64/28"
    assert "gap out 1.2 ms, in 31.0 ms" in " ".join(plain.split())
    assert "\x1b" not in plain


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_terminal_gets_a_screen_of_its_own_and_is_as_before_afterwards(tmp_path: Path, has_rich: bool) -> None:
    block = "" if has_rich else "sys.modules['rich'] = None; "
    code = f"import sys; {block}from lispmob.lispctl.main import main; sys.exit(main(sys.argv[1:]))"
    with served(tmp_path / "lispd.sock") as one:
        words = ["--socket", str(one.path), "watch", "--count", "2", "--interval", "0.1"]
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        with subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
        ) as program:
            os.close(theirs)
            shown = all_of(ours)
            status = program.wait(30)

    assert status == 0, shown
    assert shown.index(b"\x1b[?1049h") < shown.index(b"partly-registered") < shown.rindex(b"\x1b[?1049l")
    assert b"\x1b[?25h" in shown, "the cursor is back"


def all_of(terminal: int) -> bytes:
    """What is written to a terminal until its other end is closed."""
    shown = bytearray()
    while True:
        try:
            some = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            some = b""
        if not some:
            os.close(terminal)
            return bytes(shown)
        shown += some
