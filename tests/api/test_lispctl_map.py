"""lispctl map against the real server and the real core: its output and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lispmob.api.client import Client
from lispmob.lispctl.mappings.mappings import event_lines
from tests.api.conftest import Ctl
from tests.api.fake_backend import Served

LOCAL = "map add -local -inet 1.1.0.0/16 -inet 198.51.100.10 1 100 1 -inet6 2001::1 2 100 1"
CACHE = "map -n add -inet 10.2.0.0/16 -inet 192.0.2.9 1 100 1 -inet 192.0.2.10"


def test_what_is_added_is_printed_as_it_was_typed(ctl: Ctl) -> None:
    assert ctl(CACHE) == "add 10.2.0.0/16: 192.0.2.9 1 100 1, 192.0.2.10 255 100 0\n"
    assert ctl("map -n get 10.2.9.9") == ("10.2.0.0/16  cache, static\n  192.0.2.9 1 100 1\n  192.0.2.10 255 100 0\n")


def test_a_local_mapping_says_which_rlocs_it_leaves_out(ctl: Ctl) -> None:
    assert ctl(f"{LOCAL} -n").splitlines() == [
        "add 1.1.0.0/16 (local): 198.51.100.10 1 100 1, 2001::1 2 100 1",
        "  2001::1 is not one of our addresses: it is left out",
    ]
    assert "198.51.100.10 1 100 1 (ours)" in ctl("map -n get -inet 1.1.1.1")


@pytest.mark.parametrize(
    ("before", "line", "complaint"),
    [
        (CACHE, CACHE, "lispctl: map: add 10.2.0.0/16: EEXIST: there is a mapping for 10.2.0.0/16 already (static)"),
        (
            None,
            "map add -inet 10.2.0.0/16 -inet 1.2.3.4 -inet 1.2.3.4",
            "EINVAL: locators[1].address: 1.2.3.4",
        ),
        (None, "map add -local -inet 1.1.0.0/16 -inet 2.2.2.2 1 100 1", "EINVAL: none of the RLOCs is an address of"),
        (None, "map change 10.2.0.0/16 192.0.2.9", "ESRCH: there is no mapping for 10.2.0.0/16 to change"),
        (None, "map delete 10.2.0.0/16", "ESRCH"),
        (None, "map get 10.2.0.0/16", "ESRCH: there is no mapping for 10.2.0.0/16"),
        (None, "map delete -local 10.0.0.1/32", "is in lispd.conf"),
    ],
)
def test_an_error_has_its_errno_and_exit_code_1(ctl: Ctl, before: str | None, line: str, complaint: str) -> None:
    if before is not None:
        ctl(before)

    assert complaint in ctl(line, 1)


def test_when_the_table_is_full_it_is_enobufs(ctl: Ctl, daemon: Served) -> None:
    daemon.run(lambda: daemon.backend.parts.node.map_cache.set_limit(1))
    ctl("map -q add 10.2.0.0/16 192.0.2.9")

    assert "ENOBUFS" in ctl("map add 10.3.0.0/16 192.0.2.9", 1)


def test_words_that_cannot_be_meant_are_exit_code_2(ctl: Ctl) -> None:
    assert "an EID is missing" in ctl("map add", 2)


def test_options_stand_before_the_action_or_behind_it_and_together(ctl: Ctl) -> None:
    assert ctl("map -qn add 10.2.0.0/16 192.0.2.9") == ""
    assert ctl("map delete -qv 10.2.0.0/16") == ""
    assert ctl("map add -dn 10.2.0.0/16 192.0.2.9") == "add 10.2.0.0/16: 192.0.2.9 1 100 1 (not done: -d)\n"
    assert "ESRCH" in ctl("map get 10.2.0.0/16", 1)
    assert ctl("map -nv add 10.2.0.0/16 192.0.2.9").splitlines()[1:] == [
        "  10.2.0.0/16  cache, static",
        "    192.0.2.9 1 100 1",
    ]


def test_a_negative_mapping_has_its_packets_leave_without_lisp(ctl: Ctl) -> None:
    ctl("map add -negative -inet 10.9.0.0/16")

    assert ctl("map -n get 10.9.0.1") == "10.9.0.0/16  cache, static: native\n"


def test_a_program_gets_json(ctl: Ctl) -> None:
    done = json.loads(ctl("map add 10.2.0.0/16 192.0.2.9,3,4 --json"))

    assert (done["count"], done["mapping"]["source"]) == (1, "static")
    assert done["mapping"]["locators"] == [
        {"address": "192.0.2.9", "priority": 3, "weight": 4, "is_reachable": True, "is_local": False}
    ]
    assert json.loads(ctl("map get --json 10.2.0.1"))["prefix"] == "10.2.0.0/16"


def test_flush_leaves_static_mappings_unless_all_are_meant(ctl: Ctl) -> None:
    ctl("map add 10.2.0.0/16 192.0.2.9")
    ctl("map add -nostatic 10.3.0.0/16 192.0.2.9")

    assert [ctl("map flush -d"), ctl("map flush"), ctl("map flush -all")] == [
        "flush: nothing done (-d)\n",
        "flush: 1 done\n",
        "flush: 1 done\n",
    ]


def test_each_event_is_a_line_that_says_what_it_is_about() -> None:
    at = "2026-01-31T12:00:00.123Z"
    mapping = {"table": "cache", "prefix": "10.2.0.0/16", "source": "reply", "action": "drop", "locators": []}

    def line(**fields: object) -> str:
        return " ".join(" ".join(event_lines({"at": at, **fields}, str)).split()[2:])

    assert line(type="miss", eid="10.2.0.7", source_eid="10.0.0.1", why="miss", tries=2) == (
        "MISS 10.2.0.7 from 10.0.0.1 miss, 2"
    )
    assert line(type="badreach", rloc="192.0.2.9") == "BADREACH 192.0.2.9"
    assert line(type="lost", count=7) == "LOST 7 events that were not read in time"
    assert line(type="delete", mapping=mapping, why="expired", pid=7) == (
        "DELETE 10.2.0.0/16 cache, reply: drop expired by pid 7"
    )


def test_monitor_tells_each_event_as_it_happens_until_it_is_interrupted(daemon: Served) -> None:
    lispctl = [sys.executable, "-m", "lispmob.lispctl.main", "--socket", str(daemon.path)]
    command = [*lispctl, "map", "-n", "monitor", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program, Client(str(daemon.path)) as client:
        assert program.stdout is not None
        seen: list[bool] = []
        deadline = time.monotonic() + 20.0
        while not any(seen) and time.monotonic() < deadline:
            daemon.run(lambda: seen.append(daemon.server.has_mapping_readers))
            time.sleep(0.01)
        client.call("mapping-add", prefix="10.2.0.0/16", locators=[{"address": "192.0.2.9"}])
        event = json.loads(program.stdout.readline())
        program.send_signal(signal.SIGINT)
        code = program.wait(10)

    assert (event["type"], event["mapping"]["prefix"], event["pid"]) == ("add", "10.2.0.0/16", os.getpid())
    assert code == 130


@pytest.mark.parametrize(
    ("typed", "meant", "is_said"),
    [
        ("-inet 10.99.1.1/24", "10.99.1.0/24", True),
        ("[7]10.99.1.1/24", "[7]10.99.1.0/24", True),
        ("2001:db8:9::1/48", "2001:db8:9::/48", True),
        ("10.99.1.0/24", "10.99.1.0/24", False),
        ("10.99.1.1", "10.99.1.1/32", False),
        ("10.99/16", "10.99.0.0/16", False),
    ],
)
def test_bits_beyond_the_prefix_length_are_not_cut_in_silence(ctl: Ctl, typed: str, meant: str, is_said: bool) -> None:
    told = ctl(f"map -n add {typed} 192.0.2.9")

    assert told.startswith(f"add {meant}: 192.0.2.9")
    assert ("has bits beyond the prefix length" in told) == is_said
    assert (
        told.splitlines()[1:]
        == [f"  {typed.split()[-1]} has bits beyond the prefix length: {meant} is meant"] * is_said
    )
