"""Map-Servers that are silent, foreign or gone: the status names the problem, and the rest works."""

from __future__ import annotations

import contextlib
import dataclasses
import socket

import pytest

from lispmob.lab.ping import ping
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.header import MessageType
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from tests.lispd.running.world import PATIENCE_S, A, B, Node, World, wait_for

pytestmark = pytest.mark.netns


def registration(node: Node, server: str) -> dict[str, object]:
    """The node's IPv4 registration at one Map-Server."""
    status = node.status()
    assert status is not None
    return next(one for one in status["eids"][0]["registrations"] if one["map_server"] == server)


def test_a_silent_map_server_is_tried_ever_more_slowly_the_status_says_why_and_its_return_ends_that(
    world: World,
) -> None:
    server = world.address("hub")
    with world["hub"].socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((server, 4342))
        node = world.start_node(dataclasses.replace(world.text(A), eids=("10.1.0.1/32",)), is_awaited=False)

        status = node.wait_until(lambda status: "no-answer" in keys(status), "a problem")
        shown = node.say("status")
        silent.setblocking(False)
        arrived = [
            MapRegister.decode(datagram) for datagram in waiting(silent) if datagram[0] >> 4 == MessageType.MAP_REGISTER
        ]

    found = status["eids"][0]["registrations"][0]
    assert found["state"] == "registering"
    assert str(found["problem"]).startswith(f"no answer from Map-Server {server}: it answers neither Map-Registers nor")
    assert isinstance(found["next_in_s"], float)
    assert found["next_in_s"] > 2  # 4 s follow after 1 s and 2 s, whatever the question about a NAT has shown
    assert arrived[1].nonce > arrived[0].nonce
    assert status["headline"] == f"not working: no answer from Map-Server {server}"
    (warning,) = warnings(node)
    assert f"no answer from Map-Server {server}: it answers neither Map-Registers nor Map-Requests" in warning
    assert warning.endswith("and that firewalls on the path pass UDP port 4342")
    assert shown.startswith(f"not working: no answer from Map-Server {server}\n")

    world.start_hub()
    status = node.wait_until_registered()
    assert status["eids"][0]["registrations"][0]["problem"] is None
    assert keys(status) == []
    wait_for(lambda: f"no longer: no answer from Map-Server {server}" in node.log(), "the end in the log")


def keys(status: dict[str, object]) -> list[str]:
    """The problems of a status that take something away."""
    problems = status["problems"]
    assert isinstance(problems, list)
    return [problem["key"] for problem in problems if problem["severity"] != "notice" and problem["key"] != "starting"]


def warnings(node: Node) -> list[str]:
    return [line for line in node.log().splitlines() if "WARNING" in line]


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"secret": "another"}, "wrong-key"),
        ({"eids": ("10.1.77.1/32",)}, "no-such-site"),
        ({"eids": (B.prefixes[0],), "secret": "another"}, "wrong-key"),
    ],
)
def test_what_a_hub_does_not_take_is_told_apart_by_a_question_without_a_key(
    world: World, wrong: dict[str, object], key: str
) -> None:
    world.start_hub()
    text = dataclasses.replace(world.text(A), **{"eids": ("10.1.0.1/32",), **wrong})  # type: ignore[arg-type]
    node = world.start_node(text, is_awaited=False)

    status = node.wait_until(lambda status: bool(keys(status)), "a problem")

    assert keys(status) == [key]
    assert status["verdict"] == "not-working"
    wait_for(lambda: len(warnings(node)) == 1, "one warning")


def test_a_host_without_a_map_server_and_an_address_without_a_host_are_told_apart(world: World) -> None:
    host, nobody = world.address("hub"), world.address("hub").rpartition(".")[0] + ".77"
    text = dataclasses.replace(world.text(A), servers=[host, nobody], eids=("10.1.0.1/32",))
    node = world.start_node(text, is_awaited=False)

    status = node.wait_until(lambda status: sorted(keys(status)) == ["nobody-listens", "unreachable"], "both found out")

    assert {problem["subject"] for problem in status["problems"] if problem["severity"] != "notice"} == {host, nobody}


def test_a_firewall_of_ones_own_is_named_tried_often_and_its_end_is_noticed(world: World) -> None:
    rule = ("OUTPUT", "-p", "udp", "--dport", "4342", "-j", "DROP")
    world.start_hub()
    world["a"].run("iptables", "-A", *rule)
    node = world.start_node(dataclasses.replace(world.text(A), eids=("10.1.0.1/32",)), is_awaited=False)

    status = node.wait_until(lambda status: bool(keys(status)), "a problem")

    assert keys(status) == ["sending-refused"]
    assert status["eids"][0]["registrations"][0]["next_in_s"] <= 2.0  # without the firewall it would be four

    world["a"].run("iptables", "-D", *rule)
    assert keys(node.wait_until_registered()) == []


def waiting(receiver: socket.socket) -> list[bytes]:
    """All datagrams that have arrived; a node also asks about NATs, between its registers."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(receiver.recv(2000))
    return found


def test_a_key_that_the_map_server_does_not_know_is_told_there_and_is_no_registration(world: World) -> None:
    hub = world.start_hub()
    node = world.start_node(
        dataclasses.replace(world.text(A), secret="another", eids=("10.1.0.1/32",)), is_awaited=False
    )

    wait_for(lambda: "auth-failed" in hub.daemon.log.read_text(), "a word from the hub")

    told = next(line for line in hub.daemon.log.read_text().splitlines() if "auth-failed" in line)
    assert world.address("a", "wlan0") in told
    assert registration(node, world.address("hub"))["state"] == "registering"
    assert "another" not in node.log()
    assert hub.daemon.is_running


def test_a_map_notify_with_another_key_is_an_event_a_warning_and_a_counter(world: World) -> None:
    server = world.address("hub")
    with world["hub"].socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((server, 4342))
        other.settimeout(PATIENCE_S)
        node = world.start_node(dataclasses.replace(world.text(A), eids=("10.1.0.1/32",)), is_awaited=False)
        other.settimeout(0.05)

        def is_reported(status: dict[str, object]) -> bool:
            """Confirm every Map-Register that has come with another key; True when the status reports it."""
            with contextlib.suppress(TimeoutError):
                raw, sender = other.recvfrom(2000)
                if raw[0] >> 4 == MessageType.MAP_REGISTER:
                    other.sendto(forged(MapRegister.decode(raw)), sender)
            return "wrong-key" in keys(status)

        node.wait_until(is_reported, "the key found wrong")

    assert "its Map-Notify is not authenticated with our key" in str(registration(node, server)["problem"])
    assert registration(node, server)["state"] == "registering"
    assert [event["kind"] for event in node.ctl_lines("events", "--kinds", "auth-failed")] == ["auth-failed"]
    assert node.counters("control")["rx_auth"] >= 1
    assert "compare key, key-id and algorithm in map-servers" in node.log()


def forged(register: MapRegister) -> bytes:
    """A confirmation by a sender that does not have the key."""
    notify = MapNotify(
        nonce=register.nonce,
        records=register.records,
        key_id=0,
        algorithm_id=0,
        authentication=b"",
        xtr_id=register.xtr_id,
        site_id=register.site_id,
    )
    return sign(notify, Key(b"not-the-secret", 0, Algorithm.HMAC_SHA_256_128))


def test_one_of_two_map_servers_is_enough_and_the_status_tells_them_apart(wide_world: World) -> None:
    world = wide_world
    servers = world.address("hub"), world.address("hub2")
    first = world.start_hub("hub")
    world.start_hub("hub2")
    a, b = (world.start_node(world.text(who, *servers)) for who in (A, B))
    assert [one["state"] for one in a.ctl("status")["eids"][0]["registrations"]] == ["registered", "registered"]

    first.daemon.stop()
    assert ping(world["a"], B.eid4, A.eid4, count=2, timeout_s=4.0).lost == 0
    world["a"].run("ip", "link", "set", "wlan0", "down")  # a move: the state at the dead server is no longer known
    a.wait_until(lambda status: status["state"] == "partly-registered", "partly registered")
    a.wait_until(lambda status: status["eids"][0]["registrations"][1]["state"] == "registered", "the living one")

    assert registration(a, servers[0])["state"] == "registering"
    assert registration(a, servers[1])["state"] == "registered"
    assert registration(a, servers[1])["problem"] is None
    assert b.daemon.is_running


def test_a_lookup_goes_to_the_next_map_resolver_when_the_first_is_dead(wide_world: World) -> None:
    world = wide_world
    servers = world.address("hub"), world.address("hub2")
    world.start_hub("hub2")
    a = world.start_node(dataclasses.replace(world.text(A), servers=[servers[1]], keys=resolvers(*servers)))
    world.start_node(dataclasses.replace(world.text(B), servers=[servers[1]]))

    seen = ping(world["a"], B.eid4, A.eid4, count=1, timeout_s=4.0)

    assert seen.lost == 0
    assert seen.rtts_s[0] > 0.5, "the first Map-Resolver was not asked first: this test shows nothing"
    assert a.counters("control")["tx_map_request"] == 2


def resolvers(*addresses: str) -> dict[str, str]:
    return {"map-resolvers": f"[{', '.join(addresses)}]"}
