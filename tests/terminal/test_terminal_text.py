"""How lines and tables fit a terminal: narrow ones, long words without a place to break, and complaints."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from lispmob.hub.cli import screens
from lispmob.lispctl.mappings.site_names import names_lines
from lispmob.terminal import text
from lispmob.terminal.text import PAGE, cells, columns_of, table

LONG = "nas-with-a-long-name-of-forty-seven-letters-all"
LONG_ADDRESS = "2001:db8:1111:2222:3333:4444:5555:6666"
SITE = {"registered": [], "eids": ["10.99.0.2/32"], "origin": "invited", "joined_at": None, "invited_at": 1.0}


def on_terminal(columns: int, *command: str) -> list[str]:
    """The lines that a program writes to a terminal of this width, on standard output or standard error."""
    main, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb"}
    with subprocess.Popen([sys.executable, *command], stdin=its, stdout=its, stderr=its, env=environment):
        os.close(its)
        said = b""
        while True:
            try:
                said += os.read(main, 4096)
            except OSError:  # the program has ended
                break
    os.close(main)
    return said.decode().splitlines()


@pytest.mark.parametrize(("columns", "most"), [(60, 60), (40, 40), (10, 40), (80, 80), (200, 80), (0, 80)])
def test_what_is_folded_fits_a_narrow_terminal_and_is_no_wider_than_a_page(columns: int, most: int) -> None:
    program = "from lispmob.terminal.text import fold; print('\\n'.join(fold('four ' * 60)))"

    lines = on_terminal(columns, "-c", program)

    assert most - 5 <= max(map(len, lines)) <= most


@pytest.mark.parametrize(
    "command", [("lispmob.lispctl.main", "join", "x"), ("lispmob.hub.cli.main", "-c", "/nowhere", "status")]
)
def test_a_complaint_is_broken_between_words(command: tuple[str, ...]) -> None:
    lines = on_terminal(50, "-m", *command)

    assert len(lines) > 1
    assert max(map(len, lines)) <= 50


def test_a_pipe_has_the_width_of_a_page(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert columns_of(file) == PAGE


def test_a_table_with_a_word_that_nothing_breaks_becomes_paragraphs_with_whole_values() -> None:
    lines = table(["A", "B"], [["x" * 50, ["10.99.0.1", LONG]]], folded="B")

    assert lines == ["x" * 50, f"  b 10.99.0.1, {LONG}"]
    assert table(["A", "B"], [["x", "four " * 20]], folded="B", width=30)[0].split() == ["A", "B"]


def test_names_that_are_long_fit_the_screen_of_names() -> None:
    entry = {"is_answered": True, "ttl_s": 597.0}
    entries = [
        {"name": "1.0.99.10.in-addr.arpa", "eids": [], "names": [LONG], **entry},
        {"name": LONG, "eids": ["10.99.0.1", "fd00:99::1"], "names": [], **entry},
    ]
    shown = {"domain": None, "addresses": [], "problem": None, "advice": None, "entries": entries}

    lines = names_lines(shown)

    assert max(map(cells, lines)) <= PAGE
    assert any(LONG in line and "10.99.0.1" not in line for line in lines)


def test_who_was_invited_is_shown_with_the_end_of_it_as_a_state() -> None:
    waiting = {**SITE, "name": "nas", "state": "invited", "expires_at": 90_000.0}
    shown = "\n".join(screens.site_lines({"sites": [waiting], "displaced": []}))

    assert "invited until 1970-01-02" in shown
    assert "since until" not in shown


def test_text_from_the_network_cannot_steer_the_terminal() -> None:
    assert text.clean("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\nc\\u202ed"


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert text.paint("x", "good") == "\x1b[32mx\x1b[0m"

    monkeypatch.setenv("NO_COLOR", "1")
    assert text.paint("x", "good") == "x"


def test_durations_and_octets_are_short() -> None:
    assert [text.duration(s) for s in (None, 0, 9.94, 10, 59.4, 60, 61, 3600, 7320, 90000)] == [
        *("-", "0.0s", "9.9s", "10s", "59s", "1m", "1m 1s", "1h", "2h 2m", "1d 1h")
    ]
    assert [text.octets(n) for n in (0, 999, 1000, 999_949, 999_951, 10**13)] == [
        *("0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "10.0 TB")
    ]


def test_a_wide_sign_takes_two_columns_and_an_accent_that_combines_none() -> None:
    assert [text.cells(sign) for sign in ("a", "光", "é", "e\u0301", "光纤0")] == [1, 2, 1, 1, 5]

    lines = text.table(("NAME", "MTU"), [("光纤0", 1500), ("wlan0", 1500), ("e\u0301th", 9000)])

    assert [text.cells(line) for line in lines[1:]] == [11, 11, 11]


def test_a_text_is_folded_by_columns_of_the_terminal_between_words() -> None:
    assert text.fold("one two three", 8, first="- ") == ["- one", "  two", "  three"]
    assert text.fold("光光 光光", 7) == ["光光", "光光"]
    assert text.fold("2001:db8:1111:2222:3333:4444:5555:6666", 10) == ["2001:db8:1111:2222:3333:4444:5555:6666"]


def test_a_table_that_is_too_wide_is_folded_where_it_can_be_and_else_becomes_paragraphs() -> None:
    why = "the rule says drop because none of its uplinks is there and nothing else is allowed to carry it"

    folded = text.table(("FLOW", "WHY"), [("tcp a -> b", why)], folded="WHY")
    paragraphs = text.table(
        ("PREFIX", "SOURCE", "LOCATORS"), [(f"{LONG_ADDRESS}/128", "reply", [f"{LONG_ADDRESS} (1/100)"])]
    )

    assert max(map(text.cells, folded)) <= text.WIDTH
    assert len(folded) == 3
    assert paragraphs[0] == f"{LONG_ADDRESS}/128"
    assert max(map(text.cells, paragraphs)) <= text.WIDTH
