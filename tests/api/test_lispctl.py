"""What lispctl prints, against the real server on a real socket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lispmob.api.client import Client
from lispmob.api.schema import Event, Problem
from lispmob.control.diagnosis import Finding
from lispmob.lispctl.main import main
from lispmob.lispctl.mappings import database
from lispmob.lispctl.show import netcheck, paths, status, uplinks
from lispmob.problems import registering
from lispmob.problems.evidence import Evidence, RegistrationEvidence
from lispmob.problems.problem import EXIT_CODES, Verdict
from lispmob.terminal import text
from tests.api import fake_backend
from tests.api.fake_backend import Served, served

STATUS = """\
working
lispd 0.1.0: partly-registered, up 2h 2m

EID 192.0.2.7/32
  registered at 198.51.100.1 since 10:00:01
    last Map-Notify 12:01:59, answered in 12.3 ms, next in 59s
  failed at 198.51.100.2
    authentication failed

Uplinks
  NAME   TYPE  ADDRESSES       PRIO  WEIGHT   MTU  NOTE
  wlan0  wifi  198.51.100.23      1     100  1500  used
  wwan0  -     203.0.113.80       -       -  1420  not used: rule 'wwan*'
               2001:db8:4::80

Locators   198.51.100.23 (wlan0); version 9
Routing    split: 192.0.2.0/24 through lmn0 (MTU 1444), what has no mapping
           leaves without LISP
Datapath   tun: bpf(2) refused (EPERM)
Marks      a device per uplink (bpf(2) refused (EPERM))
Sent       1 packet, 999 B
Received   20 packets, 123.5 kB
Dropped    3 packets; see lispctl counters
Map-cache  2 of at most 10000 entries
Last move  2026-01-31 12:00:00.123, wlan0: address 198.51.100.23 appeared;
           wwan0: carrier lost
           gap out 1.2 ms, in 31.0 ms
"""
TROUBLE = """\
not working: Map-Server 198.51.100.1 has another key for 192.0.2.7/32
lispd 0.1.0: partly-registered, up 2h 2m

Problems
  ! Map-Server 198.51.100.1 has another key for 192.0.2.7/32 (for 1m 5s)
    why: it answers Map-Requests and has a site for this EID, but confirms no
         Map-Register
    do:  compare key, key-id and algorithm in map-servers, and the EID, with
         your site there; a machine that has joined needs another invitation,
         and `lispctl join --force`
  - only replies go into the overlay (for 2h)

EID 192.0.2.7/32
"""
UPLINKS = """\
NAME   TYPE  ADDRESSES       PRIO  WEIGHT   MTU  NOTE
wlan0  wifi  198.51.100.23      1     100  1500  used
wwan0  -     203.0.113.80       -       -  1420  not used: rule 'wwan*'
             2001:db8:4::80
"""
HANDOVERS = """\
#4  2026-01-31 12:00:00.123  wlan0: address 198.51.100.23 appeared; wwan0: carrier lost
        +0.0 ms  uplink           wlan0 198.51.100.23
        +0.8 ms  register         198.51.100.1
        +0.9 ms  smr              203.0.113.5
       +23.4 ms  notify           198.51.100.1
       +31.1 ms  first-packet-in
  forwarding moved after 0.4 ms; gap out 1.2 ms, in 31.0 ms
"""
MAP_CACHE = """\
PREFIX         SOURCE  LOCATORS (PRIO/WEIGHT)         AGE  EXPIRES  UNUSED
192.0.2.64/28  reply   203.0.113.5 (1/100) 12.3 ms  1m 1s   8m 59s    0.2s
                       2001:db8:5::5 (2/50) down
[7]10.0.0.0/8  static  drop                         1d 1h    never       -
"""
PATHS = """\
wlan0 198.51.100.23 -> 203.0.113.5
  up: answered, 1m 15s ago; round trip 12.3 ms, jitter 0.8 ms; 1.6% of 64 probes
  lost; data heard 0.5s ago
wwan0 203.0.113.80 -> 203.0.113.5
  down: no answer, 3.0s ago
"""
NETCHECK = """\
wlan0 192.168.1.2
  way        NAT
  seen as    203.0.113.200 port 4342
  mapping    endpoint-independent
  filtering  address-and-port-dependent
  NAT keeps  30 s to 60 s
  kept by    a packet each 22 s
  RTR        198.51.100.77, 23 ms away
  checksum   packets without a UDP checksum get through
  dialect    e19
wwan0 198.51.100.23
  way        not known
"""
DATABASE = """\
EID-PREFIX    LOCATORS (PRIO/WEIGHT)  TTL  VERSION
192.0.2.7/32  198.51.100.23 (1/100)   10m        9
"""


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    with served(tmp_path / "lispd.sock") as one:
        yield one
    monkeypatch.undo()
    time.tzset()


Ctl = Callable[..., str]


@pytest.fixture
def ctl(daemon: Served, capsys: pytest.CaptureFixture[str]) -> Ctl:
    """Run lispctl, expect the exit code, and return its output."""

    def run(*arguments: str, code: int = 0) -> str:
        found = main(["--socket", str(daemon.path), *arguments])
        printed = capsys.readouterr()
        assert found == code, printed
        return printed.out if code == 0 else printed.err

    return run


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("status", STATUS),
        ("uplinks", UPLINKS),
        ("handovers", HANDOVERS),
        ("paths", PATHS),
        ("netcheck", NETCHECK),
        ("database", DATABASE),
        ("version", "lispd 0.1.0, control socket version 1\n"),
        ("counters", "control\n  rx_auth  12\n"),
        ("counters --all", "control\n  rx_auth   12\n  rx_short   0\ndatapath\n  data_ttl  0\n"),
        ("reload", "reloaded: uplinks, control.socket\ntakes effect after a restart of lispd: control.socket\n"),
        ("lookup 10.0.0.1", "nothing is known about 10.0.0.1: the first packet asks the Map-Resolver\n"),
        ("map-cache flush", "forgot 1 mapping\n"),
        ("map-cache del 192.0.2.64/28", "forgot 1 mapping\n"),
        ("map-cache add 10.0.0.0/8 --locator 203.0.113.5", "added 1 mapping\n"),
        ("handovers --last 0", "no move since lispd started\n"),
        ("events", ""),
    ],
)
def test_a_command_prints_for_people(ctl: Ctl, command: str, expected: str) -> None:
    assert ctl(*command.split()) == expected


def test_lispctl_and_the_daemon_agree_on_the_exit_codes() -> None:
    assert status.EXIT_CODES == EXIT_CODES


@pytest.mark.parametrize(("verdict", "code"), EXIT_CODES.items())
def test_the_exit_code_says_the_verdict_and_programs_that_read_json_find_it_there(
    daemon: Served, ctl: Ctl, verdict: Verdict, code: int
) -> None:
    daemon.backend.verdict = verdict

    assert json.loads(ctl("status", "--json"))["verdict"] == verdict
    assert main(["--socket", str(daemon.path), "status"]) == code


def test_problems_stand_first_each_with_its_cause_and_its_remedy(
    daemon: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    key = registering.problems(
        Evidence(
            families=frozenset({4}),
            registrations=(RegistrationEvidence("192.0.2.7/32", "198.51.100.1", tries=5, finding=Finding.KNOWS_EID),),
        )
    )
    daemon.backend.verdict, daemon.backend.headline = (
        "not-working",
        "not working: " + TROUBLE.split(": ")[1].split("\n")[0],
    )
    daemon.backend.problems = [
        *(
            Problem(
                key=problem.key,
                severity="broken",
                what=problem.what,
                cause=problem.cause,
                remedy=problem.remedy,
                since_s=65.0,
            )
            for problem in key
        ),
        Problem(key="no-overlay-prefixes", severity="notice", what="only replies go into the overlay", since_s=7200),
    ]

    assert main(["--socket", str(daemon.path), "status"]) == 5
    printed = capsys.readouterr().out
    assert printed.startswith(TROUBLE)


def test_a_locator_behind_a_nat_names_its_rtr(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    relayed = msgspec.structs.replace(fake_backend.MINE[0], rtr="203.0.113.9")
    monkeypatch.setattr(fake_backend, "MINE", [relayed])

    assert "Locators   198.51.100.23 (wlan0, through RTR 203.0.113.9); version 9\n" in ctl("status")


@pytest.mark.parametrize("command", ["map-cache", "map-cache list"])
def test_the_map_cache_is_a_table(ctl: Ctl, command: str) -> None:
    assert ctl(*command.split()) == MAP_CACHE


def test_lookup_shows_the_mapping_behind_its_verdict(ctl: Ctl) -> None:
    first, _, entry, _ = ctl("lookup", "192.0.2.70").splitlines()

    assert first == "packets to 192.0.2.70 go to 203.0.113.5"
    assert entry.startswith("192.0.2.64/28  reply")


@pytest.mark.parametrize("command", ["status", "uplinks", "handovers", "map-cache", "database", "counters", "reload"])
def test_json_is_the_result_as_the_daemon_sent_it(ctl: Ctl, command: str) -> None:
    assert json.loads(ctl(command, "--json"))
    assert json.loads(ctl("--json", command))


def test_a_mapping_is_added_with_its_locators(daemon: Served, ctl: Ctl) -> None:
    ctl("map-cache", "add", "[7]10.0.0.0/8", "--locator", "203.0.113.5", "--locator", "2001:db8::1,2,50")
    ctl("map-cache", "add", "10.0.0.0/8", "--without", "native")

    assert daemon.backend.calls == [
        ("add", "[7]10.0.0.0/8", [("203.0.113.5", 1, 100), ("2001:db8::1", 2, 50)], "drop"),
        ("add", "10.0.0.0/8", [], "native"),
    ]


def test_events_are_one_a_line(daemon: Served, ctl: Ctl) -> None:
    fields = {"why": "new address", "rlocs": ["198.51.100.23"], "old": None, "is_up": True}
    daemon.publish(
        Event(kind="moved", at="2026-01-31T12:00:00.5Z", fields=fields), Event(kind="miss", at="2026-01-31T12:00:01Z")
    )

    assert ctl("events") == (
        '2026-01-31 12:00:00.500  moved  why="new address" rlocs=198.51.100.23 old=- is_up=True\n'
        "2026-01-31 12:00:01.000  miss\n"
    )
    assert [json.loads(line)["kind"] for line in ctl("events", "--json", "--kinds", "miss").splitlines()] == ["miss"]


LONG_ADDRESS = "2001:db8:1111:2222:3333:4444:5555:6666"


def long_named(value: Any) -> Any:
    """The same answer with the longest addresses and names that a kernel gives."""
    if isinstance(value, dict):
        return {key: long_named(each) for key, each in value.items()}
    if isinstance(value, list):
        return [long_named(each) for each in value]
    if isinstance(value, str) and value.count(".") == 3 and value.replace(".", "").isdigit():
        return LONG_ADDRESS
    return "enp0s31f6u1u4i1" if value in ("wlan0", "wwan0") else value


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("status", status.status_lines),
        ("uplinks", uplinks.uplink_lines),
        ("paths", paths.path_lines),
        ("netcheck", netcheck.netcheck_lines),
        ("database", database.database_lines),
    ],
)
def test_every_screen_fits_80_columns_with_the_longest_addresses_and_names(
    daemon: Served, method: str, lines: Callable[[Any], list[str]]
) -> None:
    with Client(str(daemon.path)) as client:
        answer = long_named(client.call(method))

    too_long = [line for line in lines(answer) if text.cells(line) > text.WIDTH and len(line.split()) > 3]

    assert too_long == []


def test_problems_with_one_cause_say_it_and_its_remedy_once() -> None:
    one = {
        "severity": "broken",
        "what": "S has another key for A",
        "cause": "it says so",
        "remedy": "look",
        "since_s": 3.0,
    }
    others = [{**one, "what": "S has another key for B"}, {**one, "cause": "", "what": "T is silent"}]

    assert status.problems_lines([one, *others]) == [
        "  ! S has another key for A (for 3.0s)",
        "  ! S has another key for B (for 3.0s)",
        "    why: it says so",
        "    do:  look",
        "  ! T is silent (for 3.0s)",
        "    do:  look",
    ]


@pytest.mark.parametrize(
    ("server", "address", "is_said"),
    [
        ("2001:db8::1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::9", False),
        ("198.51.100.1", "2001:db8::9", False),
        ("198.51.100.1:4342", "192.0.2.1", False),
    ],
)
def test_a_map_server_that_no_uplink_can_reach_says_so(
    daemon: Served, server: str, address: str, is_said: bool
) -> None:
    with Client(str(daemon.path)) as client:
        shown = client.call("status")
    shown["eids"][0]["registrations"] = [
        {**shown["eids"][0]["registrations"][0], "map_server": server, "state": "idle"}
    ]
    shown["locators"] = [{**shown["locators"][0], "address": address}]

    assert any("no uplink has IPv6" in line for line in status.status_lines(shown)) == is_said


@pytest.mark.parametrize("mode", ["split", "full"])
@pytest.mark.parametrize("fallback", ["auto", "native", "proxy", "drop"])
def test_status_says_in_a_sentence_where_packets_without_a_mapping_go(mode: str, fallback: str, daemon: Served) -> None:
    with Client(str(daemon.path)) as client:
        shown = client.call("status")
    shown["routing"] |= {"mode": mode, "fallback": fallback}

    (line,) = [line for line in status.status_lines(shown) if line.startswith("Routing")]
    told = " ".join(status.status_lines(shown)[status.status_lines(shown).index(line) :]).split("Datapath")[0]

    assert "what has no mapping " in " ".join(told.split())
    assert ("elsewhere" in told) == (mode == "full" and fallback == "auto")
