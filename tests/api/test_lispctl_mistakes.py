"""Typing mistakes: lispctl names the reason and the likely word, and has an exit code for them."""

from __future__ import annotations

import argparse
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lispmob.api.client import DEFAULT_SOCKET
from lispmob.api.methods import call
from lispmob.api.schema import Request
from lispmob.hub.daemon import main as lisphub
from lispmob.lispctl.flows import run
from lispmob.lispctl.main import main, why_not_started
from lispmob.lispd.options import build_parser as lispd_options
from tests.api.fake_backend import FakeBackend, Served


def said(daemon: Served, line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["--socket", str(daemon.path), *line.split()])
    printed = capsys.readouterr()
    return code, printed.err or printed.out


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("stauts", 2, "did you mean 'status'"),
        ("uplink", 2, "did you mean 'uplinks'?"),
        ("show", 2, "did you mean 'status'"),
        ("mapcache", 2, "did you mean 'map-cache'?"),
        ("map-cache ad 10.0.0.0/8", 2, "did you mean 'add'?"),
        ("map-cache add 10.0.0.0/8 --without nativ", 2, "did you mean 'native'?"),
        ("map-cache add 10.99.1.1/24 --without drop", 1, "write 10.99.1.0/24, or 10.99.1.1 for that host"),
        ("map-cache add [7]10.99.1.1/24 --without drop", 1, "write [7]10.99.1.0/24, or [7]10.99.1.1 for that host"),
        ("map-cache add 2001:db8::1/64 --without drop", 1, "write 2001:db8::/64, or 2001:db8::1 for that host"),
        ("map-cache del 10.99.1.1/24", 1, "bits beyond the prefix length"),
        ("events --kinds movd", 1, "there is no event 'movd'; did you mean 'moved'?"),
        ("events --kinds moved,xyzzy", 1, "there is no event 'xyzzy'; there are: "),
        ("handovers -n -3", 2, "'-3' is not a number of moves"),
        ("handovers -n x", 2, "'x' is not a number of moves"),
        ("run --via wlan0", 2, "which command?"),
        ("run --via wlan0 -- no-such-program-here", 127, "no-such-program-here: no such command"),
        ("run --via wlan0 -- /etc/passwd", 126, "/etc/passwd: not executable"),
        ("stats", 2, "did you mean 'status' or 'stat'?"),
        ("xyzzy", 2, "there is no command 'xyzzy'; all of them: lispctl --help"),
        ("wait later", 2, "there is no state 'later'; it is one of registered, working"),
        ("status --jsn", 2, "lispctl status: error: unrecognized arguments: --jsn; did you mean '--json'?"),
        ("help map ad", 2, "did you mean 'add'?"),
        ("help stauts", 2, "did you mean 'status'"),
    ],
)
def test_a_mistake_is_named_with_what_was_meant(
    daemon: Served, line: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, printed = said(daemon, line, capsys)

    assert words in printed
    assert found == code
    assert daemon.backend.calls == []


@pytest.mark.parametrize(
    "words", ["map-cache delete 192.0.2.64/28", "map-cache remove 192.0.2.64/28", "map-cache show"]
)
def test_the_words_of_other_programs_are_understood(
    daemon: Served, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(daemon, words, capsys)[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "it has no locator: packets to 10.99.1.0/24 are dropped; to send them somewhere:\n--locator ADDRESS\n"),
        ("--without drop", "it has no locator: packets to 10.99.1.0/24 are dropped\n"),
        ("--without native", "it has no locator: packets to 10.99.1.0/24 leave without LISP\n"),
        ("--locator 192.0.2.9", ""),
    ],
)
def test_a_mapping_that_leads_nowhere_says_so(
    daemon: Served, words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(daemon, f"map-cache add 10.99.1.0/24 {words}", capsys) == (0, f"added 1 mapping\n{told}")


@pytest.mark.parametrize("line", [["help"], ["--help"], ["help", "status"], ["help", "map", "add"]])
def test_help_needs_no_daemon(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--socket", "/nowhere/at/all", *line]) == 0
    assert "usage: lispctl" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "words"), [("map", ["get", "10.0.0.1"]), ("mapstat", ["-n"])])
def test_a_link_with_the_name_of_openlisps_command_is_that_command(
    daemon: Served, name: str, words: list[str], tmp_path: Path
) -> None:
    link = tmp_path / name
    link.symlink_to(Path(sys.executable).parent / "lispctl")

    linked = subprocess.run([link, "--socket", daemon.path, *words], capture_output=True, text=True, timeout=30)
    usual = subprocess.run(
        [link.resolve(), "--socket", daemon.path, name, *words], capture_output=True, text=True, timeout=30
    )

    assert (linked.returncode, linked.stdout) == (0, usual.stdout)
    assert "10.0.0.1" in linked.stdout


def test_without_a_command_all_of_them_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "show registration, uplinks" in capsys.readouterr().err


def test_every_program_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    for program in (lambda: lispd_options().parse_args(["--version"]), lambda: lisphub(["--version"])):
        with pytest.raises(SystemExit) as ended:
            program()
        assert ended.value.code == 0

    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["lispctl", "lispd", "lisphub"]
    assert len({line.split()[1] for line in printed}) == 1


def test_what_is_no_socket_is_not_taken_for_a_daemon_that_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--socket", "/etc/passwd", "status"]) == 1
    assert capsys.readouterr().err == f"lispctl: /etc/passwd is no socket; lispd's is {DEFAULT_SOCKET}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "first write"),
        ("map-servers:\n  - address: 198.51.100.1\n    key: CHANGE-ME\n", "the key is still CHANGE-ME"),
        ("map-servers:\n  - {address: 198.51.100.1}\n  - key: CHANGE-ME   # yours\n", "the key is still CHANGE-ME"),
        ("    # key: CHANGE-ME\n    key: mine\n", "journalctl -u lispd"),
    ],
)
def test_a_first_start_that_cannot_work_is_said_where_people_look_first(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "lispd.conf"
    if text is not None:
        path.write_text(text)

    assert words in why_not_started(argparse.Namespace(), str(path))
    assert why_not_started(argparse.Namespace(socket="/tmp/other.sock"), str(path)) == ""  # noqa: S108 - not opened


@pytest.mark.parametrize(("group", "words"), [("lispmob", "sudo usermod -aG lispmob $USER"), (None, "only root may")])
def test_who_may_not_is_told_who_may_and_how_to_become_one(group: str | None, words: str) -> None:
    with pytest.raises(Exception, match="map-cache-flush: only root") as caught:
        call(FakeBackend(), Request(v=1, id=1, method="map-cache-flush"), may_change=False, group=group)

    assert words in str(caught.value)


def test_a_user_has_a_session_when_systemd_made_one(tmp_path: Path) -> None:
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}

    assert not run.has_session_bus(runtime, 1000)
    (tmp_path / "bus").touch()
    assert run.has_session_bus(runtime, 1000)
    assert run.has_session_bus({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}, 1000)


def test_a_program_that_may_not_be_executed_is_told_from_one_that_is_not_there(
    daemon: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    os.chmod(script, stat.S_IRUSR)

    assert said(daemon, f"run --via wlan0 -- {script}", capsys)[0] == 126
    assert said(daemon, f"run --via wlan0 -- {tmp_path}/none", capsys)[0] == 127
