"""Host names in a small network: the C library's resolver, ping and raw questions, through moves and failures."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lispmob.lab.real.world import HUB_V4, A, B, World
from tests.names.dns_programs import ASK, RESOLVER

pytestmark = pytest.mark.netns

DOMAIN = "lisp.home.arpa"
NAMES = f"names: {{domain: {DOMAIN}, port: 53}}\n"


class NameTown:
    """Nodes a and b; in a, resolv.conf names lispd, and after it a resolver for everything else."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.resolv_conf = world.directory / "resolv.conf"
        self.resolv_conf.write_text(
            f"search {DOMAIN}\nnameserver 127.0.99.53\nnameserver 127.0.0.1\noptions timeout:5\n"
        )

    def program(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a, with that resolv.conf."""
        script = f'mount --bind {self.resolv_conf} /etc/resolv.conf && exec "$@"'
        argv = self.world["a"].argv("unshare", "-m", "sh", "-c", script, "sh", *command)
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)

    def getent(self, database: str, name: str) -> list[str]:
        """The first two words of each line."""
        lines = self.program("getent", database, name).stdout.splitlines()
        return [" ".join(line.split()[:2]) for line in lines]

    def ask(self, name: str, kind: str = "A") -> str:
        argv = self.world["a"].argv(sys.executable, "-c", ASK, "10.1.0.1", name, kind)
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout.strip()

    def lispctl(self, *words: str) -> Any:
        """A command in a, with its answer from JSON."""
        socket = str(self.world.directory / "a" / "lispd.sock")
        command = (sys.executable, "-m", "lispmob.lispctl.main", "--socket", socket, "--json", *words)
        done = subprocess.run(self.world["a"].argv(*command), capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start_again(self) -> None:
        """Start lispd in a, and wait until it answers."""
        said = "names: DNS for"
        before = self.world.nodes["a"].daemon.log_text().count(said)
        node = self.world.start_node(A, (HUB_V4,), extra=NAMES)
        self.world.wait(lambda: node.daemon.log_text().count(said) > before, "lispd answers DNS", 10)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NameTown]:
    with World(tmp_path_factory.mktemp("names"), tier="tun", label="n") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        world["a"].run("ip", "link", "set", "lo", "up")
        world.start_hub()
        world.start_node(A, (HUB_V4,), extra=NAMES)
        world.start_node(B, (HUB_V4,))
        elsewhere = subprocess.Popen(
            world["a"].argv(sys.executable, "-c", RESOLVER, "127.0.0.1"), stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        assert elsewhere.stdout is not None
        assert elsewhere.stdout.readline() == "ready\n"
        try:
            world.wait_registered()
            yield NameTown(world)
        finally:
            elsewhere.kill()
            elsewhere.wait(10)
            elsewhere.stdout.close()


@pytest.mark.parametrize("name", ["b", "B", f"b.{DOMAIN}"])
def test_the_c_library_finds_a_site_by_its_name_in_either_family(town: NameTown, name: str) -> None:
    assert town.getent("ahostsv4", name)[:1] == ["10.1.0.2 STREAM"]
    assert town.getent("ahostsv6", name)[:1] == ["2001:db8:e::2 STREAM"]


def test_the_c_library_finds_the_name_of_an_eid(town: NameTown) -> None:
    assert town.getent("hosts", "10.1.0.2") == [f"10.1.0.2 b.{DOMAIN}"]
    assert town.getent("hosts", "2001:db8:e::2") == [f"2001:db8:e::2 b.{DOMAIN}"]


def test_ping_reaches_a_site_by_its_name(town: NameTown) -> None:
    done = town.program("ping", "-c", "1", "-W", "5", "b")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"b.{DOMAIN} (10.1.0.2)" in done.stdout or f"b.{DOMAIN} (2001:db8:e::2)" in done.stdout


def test_other_names_are_found_where_they_always_were(town: NameTown) -> None:
    assert town.getent("ahostsv4", "www.example.org")[:1] == ["192.0.2.77 STREAM"]
    assert town.ask("www.example.org") == "REFUSED"


def test_an_unregistered_name_is_not_there(town: NameTown) -> None:
    assert town.ask(f"printer.{DOMAIN}") == "NXDOMAIN"
    assert town.ask("77.0.1.10.in-addr.arpa", "PTR") == "NXDOMAIN"


def test_peers_are_shown_by_name_with_their_way_and_packets(town: NameTown) -> None:
    town.program("ping", "-4", "-c", "1", "-W", "5", "b")

    def reached() -> bool:
        (peer,) = [entry for entry in town.lispctl("peers")["entries"] if entry["eid"] == "10.1.0.2/32"]
        return peer["name"] == "b" and peer["rtt_ms"] is not None

    town.world.wait(reached, "the peer has a name and a round trip", 10)
    (peer,) = [entry for entry in town.lispctl("peers")["entries"] if entry["eid"] == "10.1.0.2/32"]
    assert (peer["way"], peer["uplink"], peer["remote"], peer["rtr"]) == ("direct", "eth0", "192.0.2.130", None)
    assert peer["packets_out"] >= 1
    assert peer["is_reachable"]


def test_ping_shows_both_sides_of_the_tunnel_and_trace_the_way_outside(town: NameTown) -> None:
    found = town.lispctl("ping", "-c", "2", "-i", "0.2", f"b.{DOMAIN}")
    assert all(one["inside_ms"] and one["outside_ms"] and one["way"] == "direct" for one in found["rounds"])

    way = town.lispctl("trace", "10.1.0.2")
    assert [hop["address"] for hop in way["hops"]] == ["198.51.100.1", "192.0.2.130"]
    assert way["inside_ms"] is not None
    assert way["peer"]["mtu_bytes"] == 1500


def test_names_and_where_they_lead_are_shown(town: NameTown) -> None:
    assert town.lispctl("name", "b")["eids"] == ["10.1.0.2", "2001:db8:e::2"]
    assert town.lispctl("name", "10.1.0.2")["names"] == ["b"]
    names = town.lispctl("names")
    assert (names["domain"], names["port"], names["resolver"]) == (DOMAIN, 53, None)
    assert "b" in [name["name"] for name in names["entries"]]


@contextlib.contextmanager
def silent_hub(town: NameTown) -> Iterator[None]:
    """The hub's machine answers nothing during the block."""
    hub = town.world.hub
    assert hub is not None
    os.kill(hub.daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(hub.daemon.pid, signal.SIGCONT)


def test_the_hub_may_be_away_and_what_was_known_is_known_over_a_restart_of_lispd(town: NameTown) -> None:
    assert town.ask(f"b.{DOMAIN}") == "NOERROR 10.1.0.2"
    with silent_hub(town):
        assert town.ask(f"b.{DOMAIN}") == "NOERROR 10.1.0.2"
        assert town.ask(f"scanner.{DOMAIN}") == "SERVFAIL"

        town.world.nodes["a"].daemon.stop()
        town.start_again()
        assert town.ask(f"b.{DOMAIN}") == "NOERROR 10.1.0.2"


def test_other_names_are_found_when_lispd_has_crashed_and_ours_again_when_it_is_back(town: NameTown) -> None:
    town.world.nodes["a"].daemon.kill()
    assert town.getent("ahostsv4", "www.example.org")[:1] == ["192.0.2.77 STREAM"]
    assert town.getent("ahostsv4", f"b.{DOMAIN}")[:1] == ["192.0.2.77 STREAM"]  # the next server was asked

    town.start_again()
    town.world.wait_registered("a")

    assert town.ask(f"b.{DOMAIN}") == "NOERROR 10.1.0.2"
