"""How the program lispctl starts and ends: exit codes, complaints, signals, and what it imports."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lispmob.api.schema import Event
from lispmob.lispctl.commands import PLACES
from lispmob.lispctl.main import build_parser, command_in, load, main
from tests.api.conftest import Ctl
from tests.api.fake_backend import Served

NEEDED = {
    "lookup": ["192.0.2.1"],
    "name": ["nas"],
    "ping": ["nas"],
    "trace": ["nas"],
    "map": ["get", "192.0.2.1"],
    "why": ["192.0.2.1"],
    "run": ["--via", "wlan0", "--", "true"],
    "words": ["peers"],
    "wait": ["working", "--timeout", "0"],
}


@pytest.mark.parametrize("command", [name for name in PLACES if load(name).alone is None])
def test_without_a_daemon_every_command_says_so_in_one_sentence(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none"

    assert main([command, "--socket", str(path), *NEEDED.get(command, [])]) == 3
    assert capsys.readouterr().err == (
        f"lispctl: lispd is not running (no process listens on {path}); start it with: systemctl start lispd\n"
    )


@pytest.mark.parametrize(
    "command",
    [
        "",
        "statu",
        "status now",
        "lookup",
        "map-cache add",
        "map-cache add 10.0.0.0/8 --locator a,b",
        "lookup x --instance-id y",
    ],
)
def test_wrong_usage_ends_with_2(ctl: Ctl, command: str) -> None:
    assert "usage: lispctl" in ctl(command, code=2)


def test_help_ends_with_0_and_names_every_command(ctl: Ctl) -> None:
    printed = ctl("--help")

    assert all(name in printed for name in PLACES)


def test_a_refusal_ends_with_1_and_the_daemons_words(ctl: Ctl) -> None:
    assert ctl("lookup nowhere", code=1) == "lispctl: eid: 'nowhere' is not an IPv4 or IPv6 address\n"
    assert ctl("map-cache del 10.0.0.0/8", code=1) == "lispctl: the map-cache has no entry 10.0.0.0/8\n"


def lispctl(daemon: Served, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lispmob.lispctl.main", "--socket", str(daemon.path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_reader_that_has_seen_enough_is_no_error(daemon: Served) -> None:
    daemon.backend.entries = daemon.backend.entries * 5000
    with lispctl(daemon, "map-cache") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert process.stderr.read() == ""
        assert process.wait(10) == 0


def test_following_ends_with_control_c_and_no_traceback(daemon: Served) -> None:
    daemon.publish(Event(kind="moved", at="2026-01-31T12:00:00Z"))
    with lispctl(daemon, "events", "--follow") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "moved" in process.stdout.readline()
        process.send_signal(2)

        assert process.stderr.read() == ""
        assert process.wait(10) == 130


def test_following_ends_when_the_daemon_does(daemon: Served) -> None:
    daemon.publish(Event(kind="moved", at="2026-01-31T12:00:00Z"))
    with lispctl(daemon, "events", "--follow") as process:
        assert process.stdout is not None
        process.stdout.readline()
        daemon.stop()

        assert process.wait(10) == 0


def test_the_command_line_imports_nothing_heavy(daemon: Served) -> None:
    program = (
        "import sys; before = set(sys.modules); from lispmob.lispctl.main import main; main(sys.argv[1:]);"
        "print(*set(sys.modules) - before)"  # an editable installation loads modules of its own
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--socket", str(daemon.path), "--json", "status"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    loaded = set(done.stdout.splitlines()[-1].split())

    assert loaded.isdisjoint({"msgspec", "asyncio", "yaml", "rich", "dataclasses", "logging", "ipaddress", "shutil"})
    others = {f"lispmob.lispctl.{file}" for file, _ in PLACES.values()} - {"lispmob.lispctl.show.status"}
    assert loaded & others == {"lispmob.lispctl.show.uplinks"}, "status shows the uplinks as `uplinks` does"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (["status"], "status"),
        (["--json", "map-cache", "add"], "map-cache"),
        (["--socket", "status", "peers"], "peers"),  # a socket may have any name
        (["--socket=peers", "--json", "why", "status"], "why"),
        (["--version"], None),
        (["--help", "status"], None),
        (["help", "status"], None),
        (["stauts"], None),
        (["--socket"], None),
        ([], None),
    ],
)
def test_the_command_is_found_in_the_line_before_any_command_is_imported(line: list[str], command: str | None) -> None:
    assert command_in(line) == command


def test_each_command_is_found_under_its_own_name() -> None:
    assert [load(name).name for name in PLACES] == list(PLACES)


@pytest.mark.parametrize("name", PLACES)
def test_a_command_has_the_same_help_whether_or_not_the_others_are_there(name: str) -> None:
    alone, among_all = (
        next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices[name]
        for parser in (build_parser(name), build_parser())
    )

    assert alone.format_help() == among_all.format_help()


def test_status_is_printed_within_60_milliseconds_of_processor_time(daemon: Served) -> None:
    def cost() -> float:
        before = os.times()
        with lispctl(daemon, "status") as process:
            process.communicate(timeout=30)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    best = min(cost() for _ in range(12))
    sys.stdout.write(f"lispctl status: {best * 1000:.0f} ms of processor time\n")  # pytest -s shows it

    assert best < 0.06
