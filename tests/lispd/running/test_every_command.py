"""Every command of lispctl with a running daemon, as text and as JSON. A new command needs a line here."""

from __future__ import annotations

import argparse
import json
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from lispmob.lab.ping import ping
from lispmob.lispctl.main import build_parser
from tests.lispd.running.world import A, B, Node, World, city, world_of

ROOT: Final = Path(__file__).resolve().parents[3]


class Use(NamedTuple):
    """A command as it is typed, and what it prints then. `ends`: its exit codes; none: it runs until it is ended.

    @B@ is b's EID, @DIR@ a directory, @CONF@ the file of a.
    """

    words: str
    shows: str
    ends: tuple[int, ...] = (0,)


USES: Final[dict[str, Use]] = {
    "status": Use("status", "registered at", (0, 4)),
    "uplinks": Use("uplinks", "wlan0"),
    "peers": Use("peers", "10.1.0.2"),
    "ping": Use("ping 10.1.0.2 --count 1", "inside 1 packet, 0 lost"),
    "trace": Use("trace 10.1.0.2", "@B@"),
    "names": Use("names", "domain: lisp.home.arpa"),
    "name": Use("name 10.1.0.2", "b"),
    "paths": Use("paths", "-> @B@"),
    "why": Use("why tcp 10.1.0.2:22", "leaves by wlan0"),
    "rehearse": Use("rehearse --lose wlan0", "lte0"),
    "netcheck": Use("netcheck", "way        open"),
    "handovers": Use("handovers", "no move since lispd started"),
    "key": Use("key", "nothing is sealed"),
    "believed": Use("believed", "right: "),
    "map-cache list": Use("map-cache list", "10.1.0.2/32"),
    "map-cache add": Use("map-cache add 10.1.0.77/32 --locator @B@", "added 1 mapping"),
    "map-cache del": Use("map-cache del 10.1.0.77/32", "forgot 1 mapping"),
    "map add": Use("map -n add -inet 10.1.0.78/32 -inet @B@ 1 100 1", "add 10.1.0.78/32: @B@ 1 100 1"),
    "map get": Use("map -n get 10.1.0.78", "@B@ 1 100 1"),
    "map change": Use("map -n change 10.1.0.78/32 @B@,2,50", "change 10.1.0.78/32: @B@ 2 50 1"),
    "map delete": Use("map -n delete 10.1.0.78/32", "delete 10.1.0.78/32"),
    "mapstat": Use("mapstat -n -X", "10.1.0.2/32"),
    "database": Use("database", "10.1.0.1/32"),
    "lookup": Use("lookup 10.1.0.2", "packets to 10.1.0.2 go to @B@"),
    "events": Use("events --kinds registered", "eid=10.1.0.1/32"),
    "counters": Use("counters", "tx_map_register"),
    "energy": Use("energy", "registers and keepalives"),
    "stat": Use("stat", "datagrams output"),
    "metrics": Use("metrics", "lispd_verdict"),
    "watch": Use("watch --count 2 --interval 0.2", "wlan0"),
    "wait": Use("wait working --timeout 20", "working"),
    "bugreport": Use("bugreport -o @DIR@/report.tgz", "@DIR@/report.tgz"),
    "record": Use("record -o @DIR@/a.recording", "@DIR@/a.recording"),
    "replay": Use("replay @DIR@/a.recording", "inputs"),
    "log-level": Use("log-level info", "info"),
    "nudge": Use("nudge", "looked at the network"),
    "reload": Use("reload", "nothing changed"),
    "config check": Use("config check @CONF@", "good"),
    "config show": Use("config show @CONF@", "10.1.0.1/32"),
    "config convert": Use(f"config convert {ROOT}/tests/convert/old/04-mobile-node.conf", "192.0.2.84/32", (4,)),
    "words": Use("words uplinks", "wlan0"),
    "version": Use("version", "control socket version 1"),
    "help": Use("help why", "usage: lispctl why"),
    "map flush": Use("map flush", "flush: "),
    "map-cache flush": Use("map-cache flush", "forgot "),
}
"""In an order in which each finds what it needs."""
ELSEWHERE: Final = {
    "map monitor": "test_map_monitor_shows_what_happens_meanwhile, below",
    "run": "tests/mh/town/test_run_town.py: it needs a control group of its own",
    "join": "tests/joining/test_joining_netns.py: it needs a hub that has invited",
    "up": "tests/desktop/test_up_down.py: it needs a system bus",
    "down": "tests/desktop/test_up_down.py: the same",
    "refresh": "tests/joining/test_joining_netns.py: the same",
}
LINES: Final = ("events", "watch", "replay")
"""Commands that print one JSON value a line."""
TEXT_ALONE: Final = ("help",)
"""Commands without JSON output."""


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command, and every action of those with actions; other names of an action count as the same one."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield " ".join(words)
        return
    known = {id(sub): name for name, sub in reversed(nested[0].choices.items())}
    for name, sub in nested[0].choices.items():
        if known[id(sub)] == name:
            yield from leaves(sub, (*words, name))


def test_every_command_of_the_parser_is_used_here_or_in_a_file_that_is_named() -> None:
    assert sorted([*USES, *ELSEWHERE]) == sorted(leaves(build_parser()))


def test_where_a_command_is_used_elsewhere_it_is_used() -> None:
    for command, place in ELSEWHERE.items():
        path = ROOT / place.partition(":")[0] if place.startswith("tests/") else Path(__file__)
        assert f'"{command.split()[-1]}"' in path.read_text(encoding="utf-8"), (command, place)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(city(), tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def node(world: World) -> Node:
    """a, which is recorded and has exchanged packets with b."""
    world.start_hub()
    text = world.text(A)
    text.keys["log"] = "{record: yes}"
    a, b = (world.start_node(each, is_awaited=False) for each in (text, world.text(B)))
    for started in (a, b):
        started.wait_until_registered()
    assert ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=3.0).lost == 0
    return a


def put_in(text: str, world: World, node: Node, directory: Path = ROOT) -> str:
    """The words with @B@, @DIR@ and @CONF@ replaced."""
    meant = {"B": world.address("b", "wlan0"), "DIR": str(directory), "CONF": str(node.directory / "lispd.conf")}
    for name, value in meant.items():
        text = text.replace(f"@{name}@", value)
    return text


@pytest.mark.netns
@pytest.mark.parametrize("is_for_programs", [False, True], ids=["people", "programs"])
def test_every_command_answers(world: World, node: Node, is_for_programs: bool, tmp_path: Path) -> None:
    ping(world["a"], B.eid4, A.eid4, count=1, timeout_s=3.0)
    unexpected: dict[str, object] = {}
    for name, use in USES.items():
        if is_for_programs and name in TEXT_ALONE:
            continue
        words = [*put_in(use.words, world, node, tmp_path).split(), *(["--json"] if is_for_programs else [])]
        done = subprocess.run(node.command(*words), capture_output=True, text=True, timeout=60, check=False)
        is_right = (
            _is_json(name, done.stdout) if is_for_programs else put_in(use.shows, world, node, tmp_path) in done.stdout
        )
        codes = (0,) if is_for_programs and name == "status" else use.ends
        if not is_right or done.returncode not in codes:
            unexpected[name] = (done.returncode, done.stdout[-400:], done.stderr[-400:])

    assert unexpected == {}


def _is_json(name: str, printed: str) -> bool:
    values = printed.splitlines() if name in LINES else [printed]
    try:
        return bool([json.loads(value) for value in values])
    except ValueError:
        return False


@pytest.mark.netns
def test_map_monitor_shows_what_happens_meanwhile(world: World, node: Node) -> None:
    added = put_in("map -n add 10.1.0.79/32 @B@", world, node).split()
    deleted = ["map", "-n", "delete", "10.1.0.79/32"]
    with subprocess.Popen(node.command("map", "-n", "monitor"), stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout is not None
        for _ in range(40):  # until it follows
            for action in (added, deleted):
                subprocess.run(node.command(*action), capture_output=True, timeout=20, check=True)
            if select.select([monitor.stdout], [], [], 0.2)[0]:
                break
        monitor.terminate()
        shown = monitor.stdout.read().splitlines()

    told = [line.split() for line in shown if not line.startswith(" ")]
    assert {words[2] for words in told} <= {"ADD", "DELETE"}
    assert all("10.1.0.79/32" in words for words in told)
    assert len(told) >= 1
