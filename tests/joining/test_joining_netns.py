"""From nothing to two nodes that ping each other: set up, invite, join, as a household does it; and the errors."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lispmob.hub.cli.main import main as lisphub
from lispmob.joining.invitation import Invitation
from lispmob.lab.process import Daemon, module
from lispmob.lab.real.world import HUB_V4, HUB_V6, World
from lispmob.lispctl.main import main as lispctl
from tests.lab.capture import Capture

pytestmark = pytest.mark.netns
LISPHUB, LISPCTL = "lispmob.hub.cli.main", "lispmob.lispctl.main"


class Done(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str


def called(main: Callable[[Sequence[str]], int], *words: str) -> Done:
    """Run a command of ours in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return Done(code, out.getvalue(), err.getvalue())


class Household:
    """A hub that was set up by its own command, and hosts `a` and `b` without any configuration."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = world.directory
        self.hub_conf = self.directory / "hub" / "hub.conf"

    def command(self, at: str, *words: str) -> Done:
        """Run a command in a namespace."""
        argv = self.world[at].argv(*module(*words))
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def lisphub(self, *words: str) -> Done:
        """Run lisphub in this process: it asks the hub by its socket, which needs no namespace."""
        return called(lisphub, "-c", str(self.hub_conf), *words)

    def asked(self, *words: str) -> dict[str, Any]:
        done = self.lisphub(*words, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def lispctl(self, at: str, *words: str) -> Done:
        return called(lispctl, "--socket", str(self.directory / at / "lispd.sock"), *words)

    def join(self, at: str, line: str, *words: str) -> Done:
        here = self.directory / at
        named = ("--socket", str(here / "lispd.sock"), "--config", str(here / "lispd.conf"))
        return self.command(at, LISPCTL, "join", line, *named, "--no-service", *words)

    def line(self, name: str) -> str:
        return str(self.asked("invite", name)["line"])

    def wait(self, is_true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 20
        while not is_true():
            assert time.monotonic() < deadline, what
            time.sleep(0.1)


def start_hub(household: Household) -> Daemon:
    """Set it up as its operator does, and start it as systemd would; the paths of the test are added."""
    done = household.command(
        "hub", LISPHUB, "setup", "-c", str(household.hub_conf), "--no-service", "--yes", "--domain", "home.example",
        "--address", str(HUB_V4), "--address", str(HUB_V6), "--pool", "10.99.0.0/30", "--pool", "fd00:99::/64",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "UDP 4341 and 4342" in done.stdout
    assert household.hub_conf.stat().st_mode & 0o777 == 0o640
    directory = household.hub_conf.parent
    with household.hub_conf.open("a") as file:
        file.write(f"state-file: {directory}/hub.sqlite\n")
        file.write(f"control-socket: {directory}/hub.sock\n")
    command = module(LISPHUB, "-c", str(household.hub_conf))
    daemon = Daemon("lisphub", household.world["hub"], command, directory / "lisphub.log")
    household.wait(lambda: household.lisphub("counters").returncode == 0, "the hub answers")
    return daemon


def start_node(household: Household, at: str) -> Daemon:
    """Start lispd with the file that `join` wrote; settings that would collide with other hosts here are added."""
    directory = household.directory / at
    with (directory / "lispd.conf").open("a") as file:
        file.write(f"state-dir: {directory}/state\ndbus: no\ndatapath: {{tier: tun}}\n")
    command = module("lispmob", "-c", str(directory / "lispd.conf"))
    return Daemon(f"lispd {at}", household.world[at], command, directory / "lispd.log")


@pytest.fixture(scope="module")
def household(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    with World(tmp_path_factory.mktemp("join"), tier="tun", label="j") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        made = Household(world)
        daemons = [start_hub(made)]
        try:
            lines = {name: made.line(name) for name in ("a", "b")}
            for name, line in lines.items():
                done = made.join(name, line)
                assert done.returncode == 0, done.stderr
                daemons.append(start_node(made, name))
            for name in lines:
                waited = made.lispctl(name, "wait", "working", "--timeout", "20")
                assert waited.returncode == 0, waited.stderr
            made.used = lines["a"]  # type: ignore[attr-defined]
            yield made
        finally:
            for daemon in daemons:
                daemon.stop()


def test_two_nodes_that_joined_with_one_line_each_ping_each_other(household: Household) -> None:
    assert "10.99.0.1" in household.world["a"].run("ip", "-o", "addr")
    household.world["a"].run("ping", "-c", "1", "-W", "5", "10.99.0.2")
    household.world["b"].run("ping", "-c", "1", "-W", "5", "fd00:99::1")


def test_what_joining_writes_is_for_root_and_the_service_and_is_not_replaced(household: Household) -> None:
    path = household.directory / "a" / "lispd.conf"

    again = household.join("a", "LISP-1-AAAA", "--force")
    other = household.join("a", Invitation((HUB_V4,), b"i" * 8, 9_000_000, b"s" * 16).line())

    assert path.stat().st_mode & 0o777 == 0o640
    assert again.returncode == 65
    assert (other.returncode, "exists already" in other.stderr) == (1, True)


@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        ("used", 9, "the invitation was used already"),
        ("altered", 65, "a letter in it was changed"),
        ("of another hub", 9, "the hub does not know this invitation"),
    ],
)
def test_an_invitation_that_does_not_count_says_why_and_writes_nothing(
    household: Household, tmp_path: Path, line: str, code: int, why: str
) -> None:
    used = str(household.used)  # type: ignore[attr-defined]
    lines = {
        "used": used,
        "altered": used[:30] + ("A" if used[30] != "A" else "B") + used[31:],
        "of another hub": Invitation((HUB_V4,), b"elsewher", 30_000_000, b"s" * 16).line(),
    }

    done = household.command(
        "b", LISPCTL, "join", lines[line], "--config", str(tmp_path / "lispd.conf"), "--no-service"
    )

    assert (done.returncode, why in done.stderr) == (code, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_hub_refuses_a_name_twice_and_a_pool_that_is_used_up(household: Household) -> None:
    taken, full, odd = (household.lisphub("invite", name) for name in ("a", "one-more", "no host"))

    assert (taken.returncode, "a has joined already" in taken.stderr) == (1, True)
    assert (full.returncode, "10.99.0.0/30 is used up" in full.stderr) == (1, True)
    assert (odd.returncode, "is no name of a host" in odd.stderr) == (1, True)


def test_the_hub_shows_who_is_where_and_every_screen_fits_eighty_columns(household: Household) -> None:
    status, nodes, sites = (household.asked(what) for what in ("status", "nodes", "sites"))

    assert (status["v"], status["sites_registered"], status["problems"]) == (1, 2, [])
    assert {node["eid"]: [rloc["address"] for rloc in node["rlocs"]] for node in nodes["nodes"]}["10.99.0.1/32"] == [
        "198.51.100.2"
    ]
    assert {site["name"]: site["state"] for site in sites["sites"]} == {"a": "joined", "b": "joined"}
    for command in ("status", "nodes", "sites", "events", "counters"):
        done = household.lisphub(command)
        assert done.returncode == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80, done.stdout
    assert "lisphub_sites_registered 2.0\n" in household.lisphub("metrics").stdout
    assert 'lispd_verdict{verdict="working"} 1.0\n' in household.lispctl("a", "metrics").stdout


def test_a_file_that_is_put_into_sites_d_counts_without_a_word_to_the_hub(household: Household) -> None:
    path = household.hub_conf.parent / "sites.d" / "nas.conf"
    path.write_text("sites:\n- {name: nas, eids: [10.1.0.9/32], key: secret of the nas}\n")
    path.chmod(0o640)

    household.wait(lambda: "nas" in [site["name"] for site in household.asked("sites")["sites"]], "nas is a site")


def test_what_the_hub_changes_later_a_node_takes_over_without_joining_again(household: Household) -> None:
    text = household.hub_conf.read_text()
    household.hub_conf.write_text(
        text.replace("pools:", 'overlay-prefixes: ["10.99.0.0/30", "10.77.0.0/16"]\n  pools:')
    )
    assert household.lisphub("--reload").returncode == 0
    config = str(household.directory / "a" / "lispd.conf")
    words = (LISPCTL, "refresh", "--config", config, "--socket", str(household.directory / "a" / "lispd.sock"))

    first, second = (household.command("a", *words) for _ in range(2))

    assert (first.returncode, "and lispd has read it" in first.stdout) == (0, True), first.stderr
    assert (second.returncode, second.stdout) == (0, "the hub has no changes for this node\n")
    status = json.loads(household.lispctl("a", "status", "--json").stdout)
    assert "10.77.0.0/16" in status["routing"]["overlay_prefixes"]


def letter_of(packet: bytes) -> str:
    """The kind of a packet on a's link, as a letter: data to b, an SMR of the hub, a's question, the hub's answer."""
    if packet[0] >> 4 != 4 or packet[9] != 17:
        return ""
    source, target, payload = packet[12:16], packet[16:20], packet[28:]
    port = int.from_bytes(packet[22:24])
    if port == 4341:
        return "d" if target == bytes((192, 0, 2, 130)) else ""
    if source == HUB_V4.packed and payload[0] & 0xF1 == 0x11:
        return "s"
    if source == HUB_V4.packed and payload[0] >> 4 == 2:
        return "r"
    return "q" if target == HUB_V4.packed and payload[0] >> 4 in (1, 8) else ""


def test_whom_the_hub_shuts_out_is_reached_no_more_and_peers_know_at_once(household: Household) -> None:
    here = household.world["a"]
    here.run("ping", "-c", "1", "-W", "5", "10.99.0.2")

    with Capture(here, "eth0") as capture:
        pinging = subprocess.Popen(
            here.argv("ping", "-q", "-i", "0.05", "-c", "40", "10.99.0.2"), stdout=subprocess.DEVNULL
        )
        time.sleep(0.5)
        done = household.lisphub("revoke", "b")
        pinging.wait(20)

    seen = "".join(letter for packet in capture.packets if (letter := letter_of(packet)))
    order = re.fullmatch("[^s]*(s).*?(q).*?(r)(.*)", seen)
    assert order is not None, seen
    told, asked, answered, after = order.groups()
    assert "d" in seen[:10], "data went to b before"
    assert after.count("d") <= 1, f"one round trip after it was told, a sends b nothing more: {seen}"
    assert told + asked + answered == "sqr"
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "b is shut out")
    household.wait(
        lambda: "192.0.2.130" not in household.lispctl("a", "map-cache").stdout, "a has no locator of b any more"
    )
    assert household.lisphub("revoke", "b").returncode == 1
    assert "b" not in [site["name"] for site in household.asked("sites")["sites"]]
    kinds = [event["type"] for event in household.asked("events")["events"]]
    assert {"invited", "joined", "registered", "revoked", "withdrawn"} <= set(kinds)
