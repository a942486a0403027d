"""lispctl with a running daemon: what each command answers, as text and as JSON."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lispmob.lab.ping import ping
from tests.lispd.running.world import SECRET, A, B, Node, World, city, world_of
from tests.shown_commands import shown_commands

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One network for all of these tests: they only read, or put back what they change."""
    with world_of(city(), tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="module")
def pair(world: World) -> tuple[Node, Node]:
    """Both nodes, after a first exchange; a is recorded."""
    world.start_hub()
    texts = [world.text(who) for who in (A, B)]
    texts[0].keys["log"] = "{record: yes}"
    a, b = (world.start_node(text, is_awaited=False) for text in texts)
    for node in (a, b):
        node.wait_until_registered()
    assert ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=3.0).lost == 0
    return a, b


def test_every_view_shows_what_is_so(world: World, pair: tuple[Node, Node]) -> None:
    a, _ = pair
    hub, rloc, theirs = world.address("hub"), world.address("a", "wlan0"), world.address("b", "wlan0")

    status, cache, database = a.ctl("status"), a.ctl("map-cache"), a.ctl("database")
    spent = [(cost["uplink"], cost["purpose"]) for cost in a.ctl("energy")["costs"]]
    counters, uplinks, version = a.ctl("counters"), a.ctl("uplinks"), a.ctl("version")
    known, own, unknown = (a.ctl("lookup", eid) for eid in ("10.1.0.2", "10.1.0.1", "10.1.0.77"))

    assert status["state"] == "registered"
    assert {("wlan0", "register"), ("wlan0", "lookup")} <= set(spent)
    assert status["pid"] == a.daemon.pid
    assert [eid["prefix"] for eid in status["eids"]] == list(A.prefixes)
    for eid in status["eids"]:
        (registration,) = eid["registrations"]
        assert (registration["map_server"], registration["state"], registration["problem"]) == (hub, "registered", None)
        assert registration["rtt_ms"] > 0
        assert 0 < registration["next_in_s"] <= 66
    assert status["locators"][0] == {
        "address": rloc,
        "interface": "wlan0",
        "priority": 1,
        "weight": 100,
        "rtr": None,
        "nat64": None,
    }
    assert (status["routing"]["mode"], status["routing"]["tun"]) == ("split", "lmn0")
    assert status["datapath"]["packets_out"] >= 2
    assert (status["map_cache_size"], status["last_handover"]) == (1, None)
    (entry,) = cache["entries"]
    assert (entry["prefix"], entry["source"], entry["action"]) == ("10.1.0.2/32", "reply", "encapsulate")
    assert entry["locators"][0]["address"] == theirs
    assert 0 < entry["expires_in_s"] <= 600
    assert [one["prefix"] for one in database] == list(A.prefixes)
    assert {locator["interface"] for locator in database[0]["locators"]} == {"wlan0", "lte0"}
    assert set(counters) == {"control", "control-socket", "datapath"}
    assert counters["control"]["tx_map_register"] >= 2
    assert [(uplink["name"], uplink["is_used"]) for uplink in uplinks] == [("wlan0", True), ("lte0", True)]
    assert version["api"] == 1
    assert (known["verdict"], known["locator"]) == ("encapsulate", theirs)
    assert (own["verdict"], unknown["verdict"]) == ("own", "ask")
    assert a.ctl("handovers") == []


def test_people_read_the_same_in_words(world: World, pair: tuple[Node, Node]) -> None:
    a, _ = pair

    said = {words: a.say(*words.split()) for words in ("status", "map-cache", "database", "counters", "handovers")}

    assert "registered, up" in said["status"]
    assert f"registered at {world.address('hub')} since" in said["status"]
    assert world.address("b", "wlan0") in said["map-cache"]
    assert "10.1.0.1/32" in said["database"]
    assert "out_packets" in said["counters"]
    assert said["handovers"].strip() == "no move since lispd started"
    assert "packets to 10.1.0.2 go to" in a.say("lookup", "10.1.0.2")
    assert a.say("events", "--kinds", "registered").count("registered") == 2


def test_mappings_are_added_deleted_and_flushed_and_packets_obey_at_once(world: World, pair: tuple[Node, Node]) -> None:
    a, _ = pair
    theirs = world.address("b", "wlan0")

    a.ctl("map-cache", "add", "10.1.0.2/32")
    assert ping(world["a"], B.eid4, A.eid4, count=1, timeout_s=0.3).lost == 1
    a.ctl("map-cache", "add", "10.1.0.2/32", "--locator", f"{theirs},1,100")
    assert ping(world["a"], B.eid4, A.eid4, count=1).lost == 0
    (entry,) = a.ctl("map-cache")["entries"]
    assert (entry["source"], entry["expires_in_s"]) == ("static", None)
    assert a.ctl("map-cache", "flush") == {"count": 0}, "a static mapping stays"
    assert a.ctl("map-cache", "del", "10.1.0.2/32") == {"count": 1}
    assert a.ctl("map-cache")["entries"] == []
    assert ping(world["a"], B.eid4, A.eid4, count=1, timeout_s=3.0).lost == 0
    assert a.ctl("map-cache")["entries"][0]["source"] == "reply"
    assert a.ctl("map-cache", "flush") == {"count": 1}
    assert a.ctl("map-cache")["entries"] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("map-cache", "add", "10.1.0.1/32"), "is an EID of our own"),
        (("map-cache", "del", "10.9.0.0/16"), "10.9.0.0/16"),
        (("lookup", "nonsense"), "nonsense"),
    ],
)
def test_what_cannot_be_done_is_exit_code_1_and_a_sentence(
    pair: tuple[Node, Node], words: tuple[str, ...], complaint: str
) -> None:
    a, _ = pair

    done = subprocess.run(a.command(*words), capture_output=True, text=True, timeout=10, check=False)

    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.ordinary_user
def test_an_ordinary_user_may_look_and_may_not_change(pair: tuple[Node, Node]) -> None:
    a, _ = pair
    for directory in (a.directory, *a.directory.parents):
        if not directory.stat().st_mode & 0o001:  # pytest's own directories, of which there may be several
            directory.chmod(directory.stat().st_mode | 0o011)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    look, change = (
        subprocess.run([*nobody, *a.command(*words)[4:]], capture_output=True, text=True, timeout=10, check=False)
        for words in (("status",), ("reload",))
    )

    assert look.returncode == 0, look.stderr
    assert change.returncode == 1
    assert "root" in change.stderr


def test_lookup_and_why_agree_with_the_kernel_about_what_is_outside_the_overlay(pair: tuple[Node, Node]) -> None:
    a, _ = pair

    outside, inside = (a.ctl("lookup", eid) for eid in ("8.8.8.8", "10.1.0.77"))

    assert (outside["verdict"], inside["verdict"]) == ("native", "ask")
    assert outside["why"] == "the kernel routes it by wlan0, past the overlay"
    assert a.ctl("why", "8.8.8.8")["outcome"] == "native"
    assert "leave without LISP: the kernel routes it by wlan0" in a.say("lookup", "8.8.8.8")
    strange = a.ctl("lookup", "10.1.0.77", "--instance-id", "7")
    assert strange["why"] == "this node has no EID of IPv4 in Instance-ID 7, so nothing is sent there through LISP"


@pytest.mark.parametrize("route", ["10.1.0.2/32", "10.1.0.0/27", "2001:db8:e1d::2/128", "2001:db8:e1d::/64"])
def test_a_nearer_route_that_leads_to_a_peer_past_the_overlay_is_a_problem_until_it_is_gone(
    world: World, pair: tuple[Node, Node], route: str
) -> None:
    a, _ = pair
    own, peer = (A.eid6, B.eid6) if ":" in route else (A.eid4, B.eid4)
    assert ping(world["a"], peer, own, count=2, timeout_s=3.0).lost < 2
    family = f"-{peer.version}"

    world["a"].run("ip", family, "route", "add", route, "dev", "wlan0")
    a.wait_until(lambda status: nearer(status) == [f"{peer}/{peer.max_prefixlen}"], "a nearer route", 5.0)
    assert (
        a.ctl("status")["headline"]
        == f"degraded: packets to {peer}/{peer.max_prefixlen} leave by wlan0, past the overlay"
    )
    world["a"].run("ip", family, "route", "del", route, "dev", "wlan0")

    a.wait_until(lambda status: nearer(status) == [], "no nearer route", 5.0)


def nearer(status: dict[str, Any] | None) -> list[str]:
    """The peers that packets do not reach by the overlay, for a nearer route of the host."""
    return [problem["subject"] for problem in (status or {}).get("problems", ()) if problem["key"] == "nearer-route"]


def test_why_explains_ones_own_eid_and_refuses_names_of_nothing(pair: tuple[Node, Node]) -> None:
    a, _ = pair

    own = a.ctl("why", str(A.eid4))

    assert own["outcome"] == "own"
    assert a.say("why", str(A.eid4)).splitlines()[-1] == "  =        stays on this host"
    for words, complaint in (
        (("--came-in-by", "typo"), "typo is no uplink now; there are: wlan0"),
        (("--in", "typo"), "there is no interface typo"),
    ):
        done = subprocess.run(
            a.command("why", "10.1.0.2", *words), capture_output=True, text=True, timeout=10, check=False
        )
        assert done.returncode == 1
        assert complaint in done.stderr


def test_what_the_hub_believes_about_us_is_what_is_so(world: World, pair: tuple[Node, Node]) -> None:
    a, b = pair
    ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=1.0)

    believed = b.ctl("believed")
    asked = {(one["eid"], one["map_resolver"]): one for one in believed["mapping_system"]}

    assert set(asked) == {(prefix, world.address("hub")) for prefix in B.prefixes}
    assert {one["answer"] for one in asked.values()} == {"record"}
    assert all(one["says"] == one["truth"] != [] and not one["differences"] for one in asked.values())
    assert "right: " in b.say("believed")
    assert a.daemon.is_running


ELSEWHERE = {
    "lispctl join": "changes the service: tests/joining/test_joining_netns.py",
    "lispctl up": "asks systemd: tests/desktop/test_up_down.py",
    "lispctl down": "asks systemd: tests/desktop/test_up_down.py",
    "lispctl key --": "changes keys: tests/lispd/running/test_sealed_netns.py",
    "lispctl names --": "changes the host's resolver: tests/names/test_dnsmasq_netns.py",
    "lispctl refresh": "asks a hub that invited: tests/joining/test_joining_netns.py",
    "lispctl metrics --listen": "serves until it is ended: tests/metrics/",
    "lispctl ping": "needs a peer with a name: tests/names/test_names_netns.py",
    "lispctl trace": "needs a peer with a name: tests/names/test_names_netns.py",
    "lispctl peers nas": "needs a peer with a name: tests/names/test_names_netns.py",
    "lispctl name nas": "needs a peer with a name: tests/names/test_names_netns.py",
    "lispctl words": "for completion: tests/api/test_lispctl_peers.py",
    "lispctl config": "needs no lispd: tests/convert/test_lispctl_config.py",
    "lispctl replay": "the test above replays a recording",
    "lispctl record": "the test above makes a recording",
    "lispctl why udp 10.1.0.2 --flow": "takes flows: tests/flow/test_flows_netns.py",
    "lispctl nudge": "moves the others: tests/desktop/test_desktop_service.py",
    "lispctl map": "a word of the page; its actions are run",
    "lispctl why": "a word of the page; whole ones are run",
    "lispctl run": "a word of the page",
    "lispctl run --via": "needs control groups: tests/mh/town/test_policy_page.py runs it as it is shown",
    "lig -m": "tests/tools/test_tools_netns.py, with the addresses of its servers",
    "lig -i 7": "no node here has this Instance-ID: tests/tools/test_tools_netns.py",
    "lig -n": "no node here has a name: tests/flow/test_flows_netns.py",
    "lig [7]": "no node here has this Instance-ID: tests/tools/test_tools_netns.py",
    "lisp-echo": "two ends at once: tests/tools/test_tools_netns.py",
    "lispflow": "takes flows: tests/flow/test_flows_netns.py",
    "lispd": "starts or checks the service: tests/lispd/test_assembly.py and test_host_restored.py",
    "lisphub": "starts or shows the hub: tests/hub/test_service.py",
}
"""Commands that the documentation shows and that do not run here, by their beginnings, and why."""
ENDLESS = ("events --follow", "map monitor", "watch")
REPLACED = {"alice": "root"}
"""Replaced because the name stands for a user on the machine of the reader."""
CODES = {"status": {0, 4}, "believed": {0, 8}, "map add -local -inet 1.1.0.0/16 -inet 2.2.2.2 1 100 1": {1}}
"""Exit codes other than 0 that are an answer. 2.2.2.2 is one of the reader's addresses."""


def test_every_command_that_the_documentation_shows_is_answered(world: World, pair: tuple[Node, Node]) -> None:
    a, _ = pair
    asked = {" ".join(shown.words): shown.words for shown in shown_commands()}
    by_hand = [words for line, words in asked.items() if not any(_begins(line, start) for start in ELSEWHERE)]
    unexpected = {}
    for program, *words in by_hand:
        line = " ".join(words)
        given = [REPLACED.get(word, word) for word in words]
        if line.startswith("map add") and "192.0.2.64/28" in words:  # another page has added it, too
            subprocess.run(a.command("map", "delete", "192.0.2.64/28"), capture_output=True, timeout=20, check=False)
        command = a.command(*given) if program == "lispctl" else _lig(world, a, given)
        code, said = _answer(command, ends=line not in ENDLESS, directory=a.directory)
        if code not in CODES.get(line, {0}):
            unexpected[line] = (code, said)

    assert not unexpected, "\n".join(map(str, unexpected.items()))
    assert len(by_hand) > 30
    assert [start for start in ELSEWHERE if not any(_begins(line, start) for line in asked)] == []


def _begins(line: str, start: str) -> bool:
    """True if the line begins like this; some beginnings, such as `lispctl map`, must be the whole line."""
    is_whole = start in ("lispctl map", "lispctl why", "lispctl run", "lispctl up")
    return line == start if is_whole else line.startswith(start)


def _lig(world: World, node: Node, words: list[str]) -> list[str]:
    directory = node.directory
    own = ("--socket", str(directory / "lispd.sock"), "--config", str(directory / "lispd.conf"))
    return world["a"].argv(sys.executable, "-m", "lispmob.tools.lig", *words, *own)


def _answer(command: list[str], *, ends: bool, directory: Path) -> tuple[int, str]:
    """The exit code and the output. A command that runs for ever is ended after a second, and then counts as 0."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=directory, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=60 if ends else 1)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return (0 if not ends else -1), said[-300:]
    return process.returncode, said[-300:]


def test_a_recording_replays_to_the_same_without_the_key_that_it_was_made_with(
    world: World, pair: tuple[Node, Node], tmp_path: Path
) -> None:
    a, b = pair
    path = tmp_path / "a.recording"
    ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=1.0)

    written = a.ctl("record", "-o", str(path))
    replayed = a.ctl_lines("replay", str(path))[-1]["replayed"]
    refused = subprocess.run(b.command("record"), capture_output=True, text=True, timeout=10, check=False)

    assert replayed["inputs"] == written["inputs"] > 10
    assert replayed["differs_at"] is None
    assert replayed["counters"]["tx_map_register"] >= 2
    assert SECRET.encode() not in gzip.decompress(path.read_bytes())
    assert refused.returncode == 1
    assert "log: {record: yes}" in refused.stderr


def test_a_peer_that_is_off_is_a_problem_and_why_and_lookup_say_that_it_does_not_answer(
    world: World, pair: tuple[Node, Node]
) -> None:
    a, b = pair  # the last of these tests: b stays away
    assert ping(world["a"], B.eid4, A.eid4, count=1, timeout_s=4.0).lost == 0

    world["b"].run("ip", "link", "set", "wlan0", "down")
    ping(world["a"], B.eid4, A.eid4, count=3, timeout_s=1.0)
    status = a.wait_until(lambda status: status["verdict"] == "degraded", "degraded", 15.0)

    assert status["headline"].endswith("10.1.0.2/32 does not answer")
    assert "leaves by wlan0, and" in a.say("why", str(B.eid4)).splitlines()[-1]
    assert "not answer" in a.say("why", str(B.eid4)).splitlines()[-1]
    assert "not answer" in a.ctl("lookup", str(B.eid4))["why"]
    assert b.daemon.is_running
