"""lispctl why, rehearse and run against the real server on a real socket."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.api.steering.schema import FlowParams, RunParams
from lispmob.lispctl.flows.run import scope_command
from lispmob.lispctl.flows.why import NoFlow, read_end, read_words
from lispmob.lispctl.main import main
from tests.api.fake_backend import Served, served

WHY = """\
tcp 192.0.2.7 -> 192.0.2.65:443
  route    the kernel routes it into lmn0, from 192.0.2.7
  rule     rule 'calls' does not match: the flow is protocol 6
           no rule matches: priority and weight decide
  uplink   the best priority have wlan0 weight 75, wwan0 weight 25
  =        leaves by wlan0 75 % or wwan0 25 %
"""
REHEARSAL = """\
3 flows from connection tracking: 1 moves, 1 breaks, 0 recover, 1 stays
FLOW        CHANGE  NOW    THEN   WHY
tcp a -> b  moves   wlan0  wwan0  by priority
udp a -> c  breaks  wlan0  -      the rule says drop
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "socket") as one:
        yield one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.2", ("10.0.0.2", None)),
        ("10.0.0.2:443", ("10.0.0.2", 443)),
        ("2001:db8::2", ("2001:db8::2", None)),
        ("[2001:db8::2]", ("2001:db8::2", None)),
        ("[2001:db8::2]:53", ("2001:db8::2", 53)),
        (":40000", ("", 40000)),
    ],
)
def test_an_end_of_a_flow_is_an_address_a_port_or_both(text: str, expected: tuple[str, int | None]) -> None:
    assert read_end(text, "end") == expected


@pytest.mark.parametrize("text", ["10.0.0.2:x", "10.0.0.2:65536", "[2001:db8::2]:-1", "10.0.0.2:1.5"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(NoFlow, match="is no port"):
        read_end(text, "end")


def test_a_flow_is_a_destination_and_perhaps_a_protocol() -> None:
    assert read_words(["TCP", "10.0.0.2:443"]) == ("tcp", "10.0.0.2", 443)
    assert read_words(["ping", "2001:db8::2"]) == ("icmp", "2001:db8::2", None)
    assert read_words(["10.0.0.2"]) == (None, "10.0.0.2", None)
    for wrong in (["a", "b", "c"], ["tcp", ":443"]):
        with pytest.raises(NoFlow):
            read_words(wrong)


def test_why_prints_every_step_for_people_and_the_whole_answer_for_programs(
    daemon: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["why", "tcp", "192.0.2.65:443", "--user", "alice", "--dscp", "ef", "--socket", str(daemon.path)]

    assert main(words) == 0
    said = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)

    assert said == WHY
    assert (answer["outcome"], len(answer["steps"]), answer["choices"][1]["rtr"]) == ("overlay", 4, "203.0.113.9")
    assert daemon.backend.steering.asked == FlowParams(
        destination="192.0.2.65", port=443, protocol="tcp", user="alice", dscp="ef"
    )


def test_why_asks_about_this_host_unless_another_source_is_named(daemon: Served) -> None:
    assert main(["why", "192.0.2.65", "--socket", str(daemon.path)]) == 0
    mine = daemon.backend.steering.asked
    assert main(["why", "192.0.2.65", "--in", "br-lan", "--socket", str(daemon.path)]) == 0
    forwarded = daemon.backend.steering.asked

    assert mine is not None
    assert mine.user is not None
    assert forwarded == FlowParams(destination="192.0.2.65", from_interface="br-lan")


def test_a_rehearsal_is_counted_and_shows_what_changes(daemon: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rehearse", "--lose", "wlan0", "--socket", str(daemon.path)]) == 0
    changes = capsys.readouterr().out
    assert main(["rehearse", "--lose", "wlan0", "--all", "--socket", str(daemon.path)]) == 0
    everything = capsys.readouterr().out

    assert changes == REHEARSAL
    assert "stays" in everything.splitlines()[3]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--lose", "eth9"], "eth9 is no uplink now"),
        ([], "name an interface that is lost or gained"),
        (["--lose", "wlan0", "--gain", "wlan0"], "cannot be lost and gained at once"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_with_a_sentence(
    daemon: Served, words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rehearse", *words, "--socket", str(daemon.path)]) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd would make the control group here")
def test_run_becomes_the_command_and_tells_the_daemon_its_name(daemon: Served) -> None:
    line = [sys.executable, "-m", "lispmob.lispctl.main", "--socket", str(daemon.path), "run"]
    words = ["--via", "wlan0", "--via", "lte*", "--or-drop", "--", "echo", "--via", "x"]

    done = subprocess.run([*line, *words], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stdout) == (0, "--via x\n"), done.stderr
    assert daemon.backend.steering.ran == RunParams(via=["wlan0", "lte*"], name="echo", otherwise="drop")


def test_where_systemd_runs_it_makes_the_scope_the_users_own_or_roots() -> None:
    argv = ["/usr/bin/lispctl", "run", "--via", "wlan0", "--", "true"]

    assert scope_command(argv, 1000)[:5] == ["systemd-run", "--user", "--scope", "--collect", "--quiet"]
    assert scope_command(argv, 0)[:4] == ["systemd-run", "--scope", "--collect", "--quiet"]
    assert scope_command(argv, 0)[-6:] == argv
