"""How many files `lispctl why` passes: what a newcomer has to open to follow it from the terminal and back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from lispmob.lab.ping import ping
from lispmob.lab.process import module
from tests.lispd.running.world import A, B, Node, World, city, world_of

pytestmark = pytest.mark.netns

MOST: Final = 25
MOST_BEFORE_THE_EXPLANATION: Final = 5
WORDS: Final = ("wire", "protocol", "netlink", "terminal", ".")  # "." stands for options.py and closing.py
TRACED: Final = "tests.lispd.running.traced"
EXPLANATION: Final = "lispd/explain/why.py"


class TracedNode(Node):
    """lispd that records the functions that it enters for a client."""

    def start_command(self) -> list[str]:
        return module(TRACED, "--answers", str(self.directory / "answering"), "lispmob", "-c", str(self.path))


class Way:
    """Files below the package, each once, in the order in which they are entered first."""

    def __init__(self, asking: Path, answering: Path, said: str) -> None:
        self.asking, self.answering = (files_in(path) for path in (asking, answering))
        self.said = said


def files_in(path: Path) -> list[str]:
    return list(dict.fromkeys(line.split()[0] for line in path.read_text().splitlines()))


def without_words(files: list[str]) -> list[str]:
    return [file for file in files if file.rpartition("/")[0] not in WORDS and "/" in file]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    """`lispctl why` about a peer to which packets go."""
    with world_of(city(), tmp_path_factory.mktemp("world")) as world:
        return traced_why(world)


def traced_why(world: World) -> Way:
    world.start_hub()
    a = world.start_node(world.text(A), kind=TracedNode)
    world.start_node(world.text(B))
    assert ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=5.0).lost == 0
    asking, answering = a.directory / "asking", a.directory / "answering"
    socket = str(a.directory / "lispd.sock")
    command = module(TRACED, str(asking), "lispmob.lispctl.main", "--socket", socket, "why", str(B.eid4))
    answering.write_text("")  # what was asked while it started does not count
    done = subprocess.run(a.namespace.argv(*command), capture_output=True, text=True, timeout=20, check=True)
    return Way(asking, answering, done.stdout)


def test_why_passes_few_files(way: Way) -> None:
    """Distinct files of the product in which a function is entered between the command and its answer.

    Both halves count: all of the process `lispctl why DESTINATION`, and what lispd enters for this client, in threads
    as well. Not counted are the bodies of modules and classes, what an import calls, and the folders that all others
    use, which a reader does not open to follow a question (addresses and records, tables, netlink messages, how
    commands print).
    """
    stations = without_words([*way.asking, *way.answering])

    assert len(stations) <= MOST, stations


def test_little_lies_between_the_socket_and_the_explanation(way: Way) -> None:
    before = without_words(way.answering[: way.answering.index(EXPLANATION)])

    assert len(before) <= MOST_BEFORE_THE_EXPLANATION, before


def test_the_way_was_traced_from_the_command_to_the_datapath_and_back(way: Way) -> None:
    received, decided = ("api/server.py", "api/methods.py"), ("mh/kernel/route_query.py", "mh/policy.py")
    story = (*received, EXPLANATION, *decided, "datapath/ask.py")

    assert "leaves by wlan0" in way.said
    assert {"lispctl/main.py", "lispctl/flows/why.py", "api/client.py"} <= set(way.asking)
    assert [file for file in way.answering if file in story] == list(story)
