"""`lispctl why` against what packets really do: their uplink is read from the counters of the interfaces."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.mh.town.town import EQUAL, A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

RULES = """\
steering:
  rules:
    - {name: calls, protocol: [udp], ports: [5000-5010], via: [lte0, wlan0]}
    - {name: never, protocol: [udp], ports: [5020], via: [eth7], otherwise: drop}
    - {name: shared, protocol: [udp], ports: [6000], via: [{name: wlan0, weight: 2}, {name: lte0, weight: 1}]}
"""
PACKETS = 30
MOST = 60  # flows after which the test no longer waits for one that comes in by either uplink


@pytest.fixture(scope="module")
def here() -> Iterator[Town]:
    """Both uplinks of one priority, 3:1, and rules; they are in the kernel."""
    with town(EQUAL + RULES) as made:
        wait_for(lambda: "calls" in made.a.run("iptables-save", "-t", "mangle"), 10)
        yield made


def why(here: Town, *words: object) -> Any:
    return here.ctl("why", *map(str, words))


def uplinks_of(answer: Any) -> dict[str, float]:
    """The uplinks in its answer, with the share of each."""
    shares: dict[str, float] = {}
    for choice in answer["choices"]:
        shares[choice["uplink"]] = shares.get(choice["uplink"], 0) + choice["share"]
    return shares


@contextlib.contextmanager
def flow(here: Town, port: int, *, mark: int = 0) -> Iterator[tuple[socket.socket, int]]:
    """A UDP socket of a's, and its port."""
    with here.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((str(A.eid4), 0))
        if mark:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sender.connect((str(B.eid4), port))
        yield sender, sender.getsockname()[1]


def carried(here: Town, sender: socket.socket, destination: tuple[str, int] | None = None) -> str | None:
    """The uplink that carries packets of this socket; None: neither."""
    before = {name: here.sent(name) for name in ("wlan0", "lte0")}
    for _ in range(PACKETS):
        with contextlib.suppress(OSError):
            sender.send(b"x" * 64) if destination is None else sender.sendto(b"x" * 64, destination)
    return here.carrier(before, PACKETS)


def test_a_flow_of_a_rule_takes_the_uplink_that_why_names(here: Town) -> None:
    with flow(here, 5003) as (sender, port):
        told = why(here, "udp", f"{B.eid4}:5003", "--from", f":{port}")

        assert carried(here, sender) == "lte0"
        assert (uplinks_of(told), told["rule"], told["outcome"]) == ({"lte0": 1.0}, "calls", "overlay")
        assert told["mark"] == here.ifindex("lte0")


def test_a_flow_that_a_rule_drops_is_said_to_be_dropped(here: Town) -> None:
    with flow(here, 5020) as (sender, port):
        told = why(here, "udp", f"{B.eid4}:5020", "--from", f":{port}")

        assert carried(here, sender) is None
        assert (told["outcome"], told["rule"], told["choices"]) == ("dropped", "never", [])


@pytest.mark.parametrize("uplink", ["wlan0", "lte0"])
def test_a_mark_that_the_application_has_set_takes_it_where_why_says(here: Town, uplink: str) -> None:
    mark = here.ifindex(uplink)
    with flow(here, 5003, mark=mark) as (sender, port):
        told = why(here, "udp", f"{B.eid4}:5003", "--from", f":{port}", "--mark", hex(mark))
        seen = why(here, "udp", f"{B.eid4}:5003", "--from", f":{port}")  # the mark is read from the socket

        assert carried(here, sender) == uplink
        assert uplinks_of(told) == uplinks_of(seen) == {uplink: 1.0}


def test_a_rule_of_the_users_own_is_seen_and_quoted(here: Town) -> None:
    mark = here.ifindex("wlan0")
    rule = ["OUTPUT", "-d", f"{B.eid4}/32", "-p", "udp", "-j", "MARK", "--set-mark", str(mark)]
    here.a.run("iptables", "-t", "mangle", "-I", *rule)
    try:
        with flow(here, 5003) as (sender, port):
            told = why(here, "udp", f"{B.eid4}:5003", "--from", f":{port}")
            real = carried(here, sender)
    finally:
        here.a.run("iptables", "-t", "mangle", "-D", *rule)

    assert (real, uplinks_of(told)) == ("wlan0", {"wlan0": 1.0})
    assert any(f"-A OUTPUT -d {B.eid4}/32 -p udp -j MARK" in step["text"] for step in told["steps"])


def test_by_weight_each_flow_takes_the_uplink_that_why_names_for_it(here: Town) -> None:
    told: list[str] = []
    real: list[str | None] = []
    for _ in range(16):
        with flow(here, 7000) as (sender, port):
            (uplink,) = uplinks_of(why(here, "udp", f"{B.eid4}:7000", "--from", f":{port}"))
            told.append(uplink)
            real.append(carried(here, sender))
    expected = uplinks_of(why(here, "udp", f"{B.eid4}:7000"))

    assert told == real
    assert set(told) == {"wlan0", "lte0"}
    assert 0.65 < expected["wlan0"] < 0.85


def test_a_flow_with_a_random_uplink_is_distinguished_from_one_that_has_not_begun(here: Town) -> None:
    real: dict[str | None, int] = {}
    new = uplinks_of(why(here, "udp", f"{B.eid4}:6000"))
    for _ in range(8):
        with flow(here, 6000) as (sender, port):
            uplink = carried(here, sender)
            real[uplink] = real.get(uplink, 0) + 1
            told = why(here, "udp", f"{B.eid4}:6000", "--from", f":{port}")
            assert (uplinks_of(told), told["rule"]) == ({uplink: 1.0}, "shared")

    assert set(new) == {"wlan0", "lte0"}
    assert new["wlan0"] == pytest.approx(2 / 3, abs=0.01)


def test_a_reply_takes_the_uplink_that_the_question_came_in_by_as_why_says(here: Town) -> None:
    told: list[dict[str, float]] = []
    real: list[str | None] = []
    came_in: set[str] = set()
    with here.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((str(A.eid4), 5003))  # a rule of ours names that port, but of the destination
        server.settimeout(2)
        while len(real) < 8 or (len(came_in) < 2 and len(real) < MOST):  # the peer chooses at random
            with here.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind((str(B.eid4), 0))
                received = {name: here.received(name) for name in ("wlan0", "lte0")}
                for _ in range(PACKETS):
                    client.sendto(b"x" * 64, (str(A.eid4), 5003))
                peer = server.recvfrom(200)[1]
                for _ in range(PACKETS - 1):
                    server.recvfrom(200)
                came_in |= {name for name, was in received.items() if here.received(name) - was >= PACKETS}
                answer = why(here, "udp", f"{B.eid4}:{peer[1]}", "--from", ":5003")
                told.append(uplinks_of(answer))
                real.append(carried(here, server, peer))

    assert told == [{uplink: 1.0} for uplink in real]
    assert came_in == {"wlan0", "lte0"}


def test_what_does_not_enter_the_overlay_and_what_is_unknown_is_said_to_be_so(here: Town) -> None:
    hub = here.lab.topology.address("hub", "eth0")

    native, unknown = why(here, "tcp", f"{hub}:80"), why(here, "10.1.9.9")

    assert native["outcome"] == "native"
    assert "the kernel routes it by wlan0" in native["steps"][0]["text"]
    assert unknown["outcome"] == "waits"


def test_people_read_the_steps_and_the_result(here: Town) -> None:
    said = here.say("why", "udp", f"{B.eid4}:5003", "--user", "root")

    assert said[0] == f"udp {A.eid4} -> {B.eid4}:5003"
    assert "  rule     rule 'calls' matches" in said
    assert said[-1] == "  =        leaves by lte0"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["tcp", "10.1.0.2:x"], "is no port"),
        (["tcp", "nonsense:5"], "is not an IPv4 or IPv6 address"),
        (["gre", "10.1.0.2:5"], "has no ports"),
        (["tcp", "10.1.0.2:5", "--user", "nobody-of-that-name"], "is not a user of this host"),
        (["tcp", "10.1.0.2:5", "--dscp", "ef9"], "is not a number from 0 to 63"),
        (["tcp", "10.1.0.2:5", "--from", "2001:db8::1"], "different families"),
        (["a", "b", "c"], "a flow is"),
    ],
)
def test_what_is_no_flow_is_refused_with_a_sentence(here: Town, words: list[str], complaint: str) -> None:
    assert complaint in here.ctl("why", *words, code=1)
