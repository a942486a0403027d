"""A node without a Map-Server: a program with a text file is its whole mapping system."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.lab.link import IpAddress
from lispmob.lab.ping import ping
from lispmob.lab.process import Daemon
from tests.lispd.running.world import A, B, Node, NodeText, World, city, end, wait_for, world_of

pytestmark = pytest.mark.netns

PROGRAM = Path(__file__).resolve().parents[3] / "examples" / "flat_file_mapping.py"


class Town:
    """Two nodes that know no mapping system, a program beside each, and the file that both read."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.file = directory / "mappings"
        self.write()
        keys = {"map-cache": "{program: yes}"}
        self.a, self.b = (
            world.start_node(NodeText(who, world.directory / who.name, [], keys=dict(keys))) for who in (A, B)
        )
        self.programs = [self.start_program(node) for node in (self.a, self.b)]

    def write(self, of_b: str = "", *more: str) -> None:
        """Write the file: the locators of a, and for b the same or `of_b`."""
        rlocs = {who.name: self.world.address(who.name, "wlan0") for who in (A, B)}
        lines = [f"{prefix} {rlocs['a']}" for prefix in A.prefixes]
        lines += [f"{prefix} {of_b or rlocs['b']}" for prefix in B.prefixes]
        self.file.write_text("\n".join([*lines, *more]) + "\n")

    def start_program(self, node: Node) -> Daemon:
        socket = str(node.directory / "lispd.sock")
        command = [sys.executable, "-u", str(PROGRAM), str(self.file), "--socket", socket]
        return Daemon("flat_file_mapping", node.namespace, command, node.directory / "program.log")

    def is_heard(self, eid: IpAddress = B.eid4) -> bool:
        return ping(self.world["a"], eid, A.eid4, count=1, timeout_s=0.5).lost == 0


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    directory = tmp_path_factory.mktemp("town")
    with world_of(city(), directory) as world:
        made = Town(world, directory)
        yield made
        for program in made.programs:
            end(program)


def test_a_flat_file_is_all_the_mapping_system_that_two_nodes_need(town: Town) -> None:
    lost = [
        ping(town.world["a"], to, by, count=2, timeout_s=3.0).lost for to, by in ((B.eid4, A.eid4), (B.eid6, A.eid6))
    ]

    assert lost == [0, 0], "not even the first packet"
    entries = {entry["prefix"]: entry["source"] for entry in town.a.ctl("map-cache")["entries"]}
    assert entries == dict.fromkeys(B.prefixes, "program")
    assert "map-servers" not in town.a.path.read_text()
    status = town.a.status()
    assert status is not None
    assert (status["verdict"], status["problems"]) == ("working", [])


def test_what_the_file_does_not_have_is_refused_and_said(town: Town) -> None:
    ping(town.world["a"], ip_address("10.1.0.77"), A.eid4, count=1, timeout_s=0.3)

    found = town.a.ctl("map", "get", "10.1.0.77")

    assert (found["prefix"], found["action"], found["source"]) == ("10.1.0.77/32", "drop", "program")
    assert 0 < found["expires_in_s"] <= 30
    assert "10.1.0.77: the file does not have it" in town.programs[0].log_text()


def test_a_file_that_changes_is_obeyed_within_a_moment(town: Town) -> None:
    assert town.is_heard()

    town.write("drop")
    wait_for(lambda: not town.is_heard(), "b is dropped")
    town.write()

    wait_for(town.is_heard, "b is found again")


def test_a_local_mapping_is_an_eid_of_this_host_until_it_is_deleted(town: Town) -> None:
    rloc, added = town.world.address("b", "wlan0"), "10.1.5.1/32"

    town.b.ctl("map", "add", "-local", "-inet", added, "-inet", rloc, "1", "100", "1")
    town.write("", f"{added} {rloc}")
    wait_for(lambda: town.is_heard(ip_address("10.1.5.1")), "the added EID answers")
    town.b.ctl("reload")
    kept = [one["prefix"] for one in town.b.ctl("database")]
    town.b.ctl("map", "delete", "-local", added)

    assert added in kept
    assert added not in [one["prefix"] for one in town.b.ctl("database")]
    wait_for(
        lambda: "10.1.5.1" not in town.world["b"].run("ip", "-4", "address", "show", "lmn0"), "its address is gone"
    )


@pytest.mark.ordinary_user
def test_an_ordinary_user_may_follow_and_may_not_change(town: Town) -> None:
    socket = f"{town.a.directory}/lispd.sock"
    for directory in (town.a.directory, *town.a.directory.parents):
        if not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
    text = (
        "import sys; from lispmob import mapping\n"
        f"with mapping.connect({socket!r}) as one:\n"
        "    print(len(one.follow(dump=True)) > 0)\n"
        "    try: one.add('10.1.9.0/24')\n"
        "    except mapping.MappingError as error: print(error.code)\n"
    )
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    said = town.world["a"].run(*nobody, sys.executable, "-c", text)

    assert re.split(r"\s+", said.strip()) == ["True", "denied"]
