"""What `lispflow` does with its standard input and output; the test is its lispd, on a local socket."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lispmob.flow import packets

PATIENCE_S = 20.0
FIELDS = {"name": "clock", "peer": "127.0.0.1"}


class Lispd:
    """Accepts one program, and passes flows to it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "flow.sock"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.listener.settimeout(PATIENCE_S)
        self.opened: list[socket.socket] = [self.listener]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `lispflow` and accept it; its first request is not answered yet."""
        command = (sys.executable, "-m", "lispmob.flow.cli", "--socket", str(self.path), *arguments)
        pipe = subprocess.PIPE
        started = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.program, _ = self.listener.accept()
        self.program.settimeout(PATIENCE_S)
        self.opened.append(self.program)
        return started

    def asked(self) -> dict[str, Any]:
        octets, _ = packets.receive(self.program)
        return packets.unpack(octets)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two sockets of one flow: the program's, and that of its peer."""
        pair = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for one in pair:
            one.bind(("127.0.0.1", 0))
        for one, other in (pair, pair[::-1]):
            one.connect(other.getsockname())
        self.opened += pair
        return pair

    def say(self, packet: dict[str, Any], *descriptors: int) -> None:
        packets.send(self.program, packet, descriptors)

    def end(self, flow: int) -> None:
        self.say({"event": {"kind": "closed", "fields": {"flow": flow, "reason": "program-ended"}}})


@pytest.fixture
def lispd(tmp_path: Path) -> Iterator[Lispd]:
    made = Lispd(tmp_path)
    yield made
    for sock in made.opened:
        sock.close()


def test_a_call_prints_all_that_came_before_the_peer_ended_the_flow(lispd: Lispd) -> None:
    called = lispd.start("call", "clock")
    own, peer = lispd.pair()
    number = lispd.asked()["id"]
    for word in (b"one ", b"two ", b"three"):
        peer.send(word)
    lispd.end(1)
    lispd.say({"id": number, "result": {"flow": 1, **FIELDS}}, own.fileno())

    said, told = called.communicate(timeout=PATIENCE_S)

    assert said == "one two three", told
    assert called.returncode == 0


def test_a_call_with_its_input_still_open_ends_with_its_peer(lispd: Lispd) -> None:
    called = lispd.start("call", "clock")
    own, _ = lispd.pair()
    lispd.say({"id": lispd.asked()["id"], "result": {"flow": 1, **FIELDS}}, own.fileno())
    assert called.stderr is not None
    assert called.stderr.readline() == "lispflow: open clock 127.0.0.1\n"

    lispd.end(1)

    assert called.wait(timeout=PATIENCE_S) == 0
    called.communicate()


@pytest.mark.parametrize("linger", ["0.05", "0.2"])
def test_a_call_ends_when_its_peer_was_silent_for_the_time_that_was_asked_for(lispd: Lispd, linger: str) -> None:
    called = lispd.start("call", "--linger", linger, "clock")
    own, peer = lispd.pair()
    lispd.say({"id": lispd.asked()["id"], "result": {"flow": 1, **FIELDS}}, own.fileno())

    said, told = called.communicate("question", timeout=PATIENCE_S)

    assert (said, called.returncode) == ("", 0), told
    assert peer.recv(100) == b"question"


def test_a_name_held_without_a_command_takes_the_next_call_when_a_flow_has_ended(lispd: Lispd) -> None:
    holder = lispd.start("listen", "clock")
    lispd.say({"id": lispd.asked()["id"], "result": {}})
    heard = []
    for number, word in ((1, b"first\n"), (2, b"second\n")):
        own, peer = lispd.pair()
        lispd.say({"event": {"kind": "flow", "fields": {"flow": number, **FIELDS}}}, own.fileno())
        peer.send(word)
        assert holder.stdout is not None
        heard.append(holder.stdout.readline())
        lispd.end(number)

    holder.terminate()
    holder.communicate(timeout=PATIENCE_S)
    assert heard == ["first\n", "second\n"]
