"""The inputs of a node as a file, and a node that gets them again."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.node_config import NodeConfig
from lispmob.control.probing.path import ProbeConfig
from lispmob.hub.map_server.site import Site
from lispmob.node.node import Node
from lispmob.protocol.servers import MapServerPeer, ResolverSecret
from lispmob.recording import BadRecording, Player, play
from lispmob.recording.neutral import without_keys
from lispmob.recording.recorder import INPUTS, TRAVERSAL_INPUTS, RecordedNode, Tape
from lispmob.recording.values import NotAValue, from_json, to_json
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key
from lispmob.wire.record import Action, Locator
from tests.internet.world import HUB, HubHost, Lab, NodeHost, Weather, World, ip, locator

SECRET = b"nobody must ever read this"
FOUL = Weather(loss=0.1, duplication=0.1, delay_s=(0.005, 0.1))


class RecordedHost(NodeHost):
    """A host whose node is recorded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        random, numbers = self.world.random, count(1)
        self.tape = Tape()
        self.node = RecordedNode(
            self.config,
            new_nonce=lambda: random.getrandbits(64),
            jitter=random.random,
            next_nonce=numbers.__next__,
            tape=self.tape,
            version="0.1.0",
        )


def town(hub_key: Key | None = None) -> tuple[Lab, RecordedHost]:
    """A recorded node, another one, and their hub."""
    world, key = World(7), Key(SECRET)
    eids = [EidPrefix.parse(f"10.1.0.{number}/32") for number in (1, 2)]
    hub = HubHost(world, HUB, [Site(str(eid), (eid,), (hub_key or key,), strict_nonces=True) for eid in eids])
    kinds: list[Callable[[World, NodeConfig], NodeHost]] = [RecordedHost, NodeHost]
    nodes = []
    for number, (eid, kind) in enumerate(zip(eids, kinds, strict=True), start=1):
        config = NodeConfig((eid,), (MapServerPeer(hub.address, key),), (hub.address,), probing=ProbeConfig())
        nodes.append(kind(world, config))
        nodes[-1].attach(locator(f"198.51.100.{number}"))
    world.run(1.0)
    recorded = nodes[0]
    assert isinstance(recorded, RecordedHost)
    return Lab(world, (hub,), tuple(nodes)), recorded


def eventful() -> RecordedHost:
    """A node with every kind of event: moves, loss, a dead peer, suspend, a reload, mappings by hand."""
    lab, mover = town()
    lab.chat(3.0)
    lab.world.internet.weather = FOUL
    mover.attach(locator("203.0.113.7", ifindex=3), locator("2001:db8::7", ifindex=3))
    lab.chat(10.0)
    mover.perform(
        mover.node.on_mapping_added(EidPrefix.parse("10.9.0.0/16"), (Locator(ip("192.0.2.9")),), 0, lab.world.now)
    )
    lab.world.internet.dead.add(ip("198.51.100.2"))
    mover.perform(mover.node.on_unanswered(ip("198.51.100.2"), True, lab.world.now))
    lab.chat(10.0)
    mover.perform(mover.node.on_config(mover.config, lab.world.now))
    mover.perform(mover.node.on_slept(lab.world.now))
    lab.world.run(30.0)
    mover.perform(mover.node.on_shutdown(lab.world.now))
    return mover


@pytest.fixture(scope="module")
def mover() -> RecordedHost:
    return eventful()


@pytest.fixture
def file(mover: RecordedHost, tmp_path: Path) -> Path:
    path = tmp_path / "recording.jsonl.gz"
    path.write_bytes(mover.tape.content())
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return path


def test_the_core_does_the_same_again_step_by_step(mover: RecordedHost, file: Path) -> None:
    player = Player(file)
    steps = list(player.steps())

    assert len(steps) > 100
    assert [step.line for step in steps if not step.is_same] == []
    assert {"on_locators", "on_datagram", "on_timer", "on_miss", "on_config", "on_slept"} <= {
        step.name for step in steps
    }
    assert player.node.counters == mover.node.counters
    assert {entry.prefix for entry in player.node.map_cache} == {entry.prefix for entry in mover.node.map_cache}
    assert [event.kind for step in steps for event in step.events] == mover.kinds()
    assert (player.version, steps[-1].name) == ("0.1.0", "on_shutdown")


def test_another_process_with_other_hashes_does_the_same(file: Path) -> None:
    code = "import sys; from pathlib import Path; from lispmob.recording import play\n"
    code += "print(sum(not step.is_same for step in play(Path(sys.argv[1]))))"

    said = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert said.stdout == "0\n"


def test_a_recording_has_no_key_and_what_a_wrong_key_did_is_the_same_again(tmp_path: Path) -> None:
    lab, node = town(hub_key=Key(b"another one"))
    lab.chat(2.0)
    path = tmp_path / "recording"
    path.write_bytes(node.tape.content())

    text = gzip.decompress(path.read_bytes())

    assert SECRET not in text
    assert SECRET.hex().encode() not in text
    assert b"bm9ib2R5IG11c3Q" not in text, "nor in base 64"
    assert all(step.is_same for step in play(path))


def test_a_core_that_does_something_else_is_found_out_at_the_first_such_step(file: Path, tmp_path: Path) -> None:
    lines = lines_of(file)
    place = next(number for number, line in enumerate(lines) if number > 20 and line.get("drew"))
    lines[place]["drew"][0][1] += 1

    steps = play(written(tmp_path / "other", lines))

    assert next(step.line for step in steps if not step.is_same) == place + 1


def test_the_input_that_the_core_fell_over_is_recorded_and_an_error_is_a_step(tmp_path: Path) -> None:
    lab, node = town()
    tape = node.tape
    with pytest.raises(AttributeError):
        node.node.on_used([None], lab.world.now)  # type: ignore[list-item]
    path = tmp_path / "recording"
    path.write_bytes(tape.content())

    *before, last = play(path)

    assert all(step.is_same for step in before)
    assert (last.name, last.is_same, type(last.error)) == ("on_used", True, AttributeError)


def test_a_full_tape_keeps_its_beginning(tmp_path: Path) -> None:
    lab, node = town()
    node.tape._limit = 1
    lab.chat(2.0)
    path = tmp_path / "recording"
    path.write_bytes(node.tape.content())

    assert node.tape.is_full
    assert len(play(path)) == node.tape.lines - 1
    assert all(step.is_same for step in play(path))


def test_every_input_of_a_node_is_recorded() -> None:
    assert {name for name in dir(Node) if name.startswith("on_")} == set(INPUTS)
    config = NodeConfig((EidPrefix.parse("10.0.0.1/32"),))
    node = RecordedNode(config, new_nonce=lambda: 1, jitter=lambda: 0.5, next_nonce=count(1).__next__, tape=Tape())
    assert {name for name in TRAVERSAL_INPUTS if not hasattr(node.traversal, name)} == set()


def test_no_secret_of_a_map_resolver_is_in_a_recorded_configuration() -> None:
    secrets = ((ip("198.51.100.1"), ResolverSecret(b"shared with it", 1)),)
    config = NodeConfig((EidPrefix.parse("10.0.0.1/32"),), lisp_sec="prefer", resolver_secrets=secrets)

    assert (without_keys(config).lisp_sec, without_keys(config).resolver_secrets) == ("off", ())


HEADER = {"lispmob-recording": 1, "version": "0", "config": to_json(NodeConfig((EidPrefix.parse("10.0.0.1/32"),)))}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "is no recording"),
        ([{}], "is no recording"),
        ([{**HEADER, "lispmob-recording": 2}], "another version"),
        ([{**HEADER, "config": 7}], "its configuration is none"),
        ([{**HEADER, "config": {"of": "os:system", "fields": {}}}], "no class of the core"),
        ([{**HEADER, "config": {"of": "lispmob.wire.auth:sign", "fields": {}}}], "no class of the core"),
        ([{**HEADER, "config": {"of": "lispmob.node.node:Node", "fields": {}}}], "is no value"),
        ([{**HEADER, "drew": 7}], "what was drawn"),
        ([HEADER, {"do": "__class__", "with": []}], "no input '__class__'"),
        ([HEADER, {"do": "on_timer", "with": 7}], "is no list"),
        ([HEADER, {"do": "on_timer", "with": [{"ip": "x"}]}], ":2: no value"),
    ],
)
def test_what_is_no_recording_is_an_error_that_names_the_line(
    tmp_path: Path, lines: list[dict[str, Any]], complaint: str
) -> None:
    with pytest.raises(BadRecording, match=complaint):
        play(written(tmp_path / "bad", lines))


@pytest.mark.parametrize("octets", [b"", b"hello", gzip.compress(b"\xff\n", mtime=0), gzip.compress(b"[" * 100_000)])
def test_octets_that_are_no_recording_are_an_error(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(octets)

    with pytest.raises(BadRecording):
        play(path)


def test_a_file_that_was_cut_off_or_is_not_there_is_an_error(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(file.read_bytes()[:-30])

    with pytest.raises(BadRecording, match="its end is missing"):
        play(cut)
    with pytest.raises(BadRecording, match="No such file"):
        play(tmp_path / "none")


def test_an_input_that_cannot_be_fed_is_a_step_with_an_error(tmp_path: Path) -> None:
    lines = [HEADER, {"do": "on_used", "with": [7, 1.0], "did": 0}, {"do": "on_timer", "with": [1.0], "did": 0}]

    steps = play(written(tmp_path / "odd", lines))

    assert type(steps[0].error) is TypeError
    assert [step.is_same for step in steps] == [False, False]


WORDS = st.sampled_from(["of", "fields", "ip", "enum", "set", "map", "octets", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)


@given(JSON)
def test_whatever_json_says_it_is_a_value_or_no_value(raw: Any) -> None:
    with contextlib.suppress(NotAValue):
        from_json(raw)


@given(st.integers(0, 255), st.binary(max_size=40), st.sampled_from(list(Action)), st.floats(allow_nan=False))
def test_values_come_back_as_they_were(number: int, octets: bytes, action: Action, moment: float) -> None:
    value = (
        Locator(ip("2001:db8::1"), number, is_local=True),
        EidPrefix.parse(f"[{number}]10.0.0.0/8"),
        octets,
        action,
        moment,
        frozenset({ip("192.0.2.1"), ip("192.0.2.2")}),
        {"key": (1, "x", None)},
    )

    assert from_json(json.loads(json.dumps(to_json(value)))) == value
