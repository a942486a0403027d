"""The control socket's server, on a real Unix socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lispmob.api import client as api_client
from lispmob.api.client import Client, ReplyError
from lispmob.api.listen import Peer, peer_of
from lispmob.api.methods import METHODS, call
from lispmob.api.schema import API_VERSION, Event, Request
from lispmob.api.server import MAX_CLIENTS, MAX_UNREAD_OCTETS
from tests.api.fake_backend import FakeBackend, Served

AT = "2026-01-31T12:00:00Z"


def connect(daemon: Served) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(5)
    one.connect(str(daemon.path))
    return one


def send(daemon: Served, raw: bytes, count: int = 1) -> list[dict[str, Any]]:
    """Send these octets, and return the first `count` lines of the answer."""
    with connect(daemon) as one, one.makefile("rb") as reader:
        one.sendall(raw)
        return [json.loads(reader.readline()) for _ in range(count)]


def failure(daemon: Served, raw: bytes) -> tuple[str, str]:
    reply = send(daemon, raw)[0]
    return reply["error"]["code"], reply["error"]["message"]


def test_the_client_knows_the_version_of_the_schema() -> None:
    assert api_client.API_VERSION == API_VERSION


def test_a_reply_carries_version_and_id_of_its_request(daemon: Served) -> None:
    assert send(daemon, b'{"v":1,"id":7,"method":"version","params":{}}\n') == [
        {"v": 1, "id": 7, "result": {"version": "0.1.0", "api": 1}}
    ]


def test_params_may_be_left_out(daemon: Served) -> None:
    assert "result" in send(daemon, b'{"v":1,"id":7,"method":"version"}\n')[0]


def test_requests_of_one_client_are_answered_in_order(daemon: Served) -> None:
    raw = b"".join(b'{"v":1,"id":%d,"method":"%s"}\n' % (i, b"reload" if i % 2 else b"uplinks") for i in range(20))

    assert [reply["id"] for reply in send(daemon, raw, 20)] == list(range(20))


def test_a_client_that_ends_its_half_still_gets_its_answers(daemon: Served) -> None:
    with connect(daemon) as one, one.makefile("rb") as reader:
        one.sendall(b'{"v":1,"id":1,"method":"reload"}\n{"v":1,"id":2,"method":"version"}\n')
        one.shutdown(socket.SHUT_WR)

        assert [json.loads(line)["id"] for line in reader] == [1, 2]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"hello\n", "malformed"),
        (b"[]\n", "malformed"),
        (b"\xff\n", "malformed"),
        (b'{"v":1,"id":-1,"method":"status"}\n', "malformed"),
        (b'{"v":1,"id":1e400,"method":"status"}\n', "malformed"),
        (b'{"v":1,"id":99999999999999999999,"method":"status"}\n', "malformed"),
        (b"[" * 60000 + b"\n", "malformed"),
        (b'{"v":2,"id":1,"method":"status"}\n', "version"),
        (b'{"v":1,"id":1,"method":"reboot"}\n', "method"),
        (b'{"v":1,"id":1,"method":"lookup"}\n', "params"),
        (b'{"v":1,"id":1,"method":"lookup","params":{"eid":"x"}}\n', "params"),
        (b'{"v":1,"id":1,"method":"lookup","params":{"eid":"10.0.0.1","instance_id":-1}}\n', "params"),
        (b'{"v":1,"id":1,"method":"lookup","params":{"eid":"fe80::1%eth0"}}\n', "params"),
        (b'{"v":1,"id":1,"method":"status","params":{"x":1}}\n', "params"),
        (b'{"v":1,"id":1,"method":"status","params":null}\n', "params"),
        (b'{"v":1,"id":1,"method":"map-cache-add","params":{"prefix":"10.0.0.0/40"}}\n', "params"),
        (b'{"v":1,"id":1,"method":"map-cache-add","params":{"prefix":"[99999999]10.0.0.0/8"}}\n', "params"),
        (b'{"v":1,"id":1,"method":"map-cache-delete","params":{"prefix":"10.0.0.0/8"}}\n', "not-found"),
        (b'{"v":1,"id":1,"method":"map-cache-add","params":{"prefix":"192.0.2.7/32"}}\n', "refused"),
    ],
)
def test_what_cannot_be_done_is_answered_with_a_code(daemon: Served, raw: bytes, code: str) -> None:
    assert failure(daemon, raw)[0] == code


@pytest.mark.parametrize(
    "locator", [{"address": "x"}, {"address": "::"}, {"address": "224.0.0.1"}, {"address": "10.0.0.1", "priority": 256}]
)
def test_a_locator_that_makes_no_sense_is_refused(daemon: Served, locator: dict[str, object]) -> None:
    params = {"prefix": "10.0.0.0/8", "locators": [locator]}
    raw = json.dumps({"v": 1, "id": 1, "method": "map-cache-add", "params": params}).encode() + b"\n"

    assert failure(daemon, raw)[1].startswith("locators[0].")


def test_a_line_that_is_too_long_is_refused_and_the_client_sent_away(daemon: Served) -> None:
    with connect(daemon) as one, one.makefile("rb") as reader:
        one.sendall(b"x" * 65537)

        assert json.loads(reader.readline())["error"]["code"] == "too-long"
        assert reader.read() == b""


def test_a_bug_costs_one_reply_and_not_the_daemon(daemon: Served, caplog: pytest.LogCaptureFixture) -> None:
    daemon.backend.is_broken = True

    with Client(str(daemon.path)) as client:
        with pytest.raises(ReplyError, match="its log says why"):
            client.call("status")
        assert client.call("version")["api"] == 1
    assert "a bug" in caplog.text


def test_an_invalid_configuration_is_an_answer(daemon: Served) -> None:
    daemon.backend.reload_problem = "lispd.conf:1:1: no"

    assert failure(daemon, b'{"v":1,"id":1,"method":"reload"}\n') == ("refused", "lispd.conf:1:1: no")


def test_a_reload_is_finished_when_its_client_does_not_wait(daemon: Served) -> None:
    daemon.backend.reload_s = 0.1
    with connect(daemon) as one:
        one.sendall(b'{"v":1,"id":1,"method":"reload"}\n')
    with Client(str(daemon.path)) as client:
        client.call("version")  # the loop has started the reload, whose client is gone

    daemon.stop()

    assert daemon.backend.calls == [("reload",)]


# --- events -----------------------------------------------------------------------------------------------------------


def test_past_events_are_kept_up_to_a_bound(daemon: Served) -> None:
    daemon.publish(*(Event(kind="miss", at=AT, fields={"n": n}) for n in range(300)))

    with Client(str(daemon.path)) as client:
        events = client.call("events")["events"]
        assert [event["fields"]["n"] for event in events] == list(range(44, 300))
        assert [e["fields"]["n"] for e in client.call("events", recent=2)["events"]] == [298, 299]
        assert client.call("events", kinds=["moved"])["events"] == []
        assert client.call("events", recent=-1)["events"] == []


def test_a_follower_gets_the_kinds_it_asked_for(daemon: Served) -> None:
    with Client(str(daemon.path)) as client:
        stream = client.follow("moved", recent=10)
        daemon.publish(Event(kind="moved", at=AT, fields={"n": 0}))
        first = next(stream)
        daemon.publish(Event(kind="miss", at=AT), Event(kind="moved", at=AT, fields={"n": 1}))

        assert [first["fields"]["n"], next(stream)["fields"]["n"]] == [0, 1]


def test_a_follower_that_does_not_read_is_told_so_and_sent_away(daemon: Served) -> None:
    event = Event(kind="miss", at=AT, fields={"text": "x" * 10_000})
    with connect(daemon) as one, one.makefile("rb") as reader:
        one.sendall(b'{"v":1,"id":1,"method":"events","params":{"follow":true}}\n')
        reader.readline()

        daemon.publish(*([event] * (4 * MAX_UNREAD_OCTETS // 10_000)))

        lines = [json.loads(line) for line in reader]
    assert lines[-1]["event"]["kind"] == "dropped"
    assert len(lines) < 4 * MAX_UNREAD_OCTETS // 10_000


def test_a_client_that_does_not_read_its_replies_is_not_read_from(daemon: Served) -> None:
    request = b'{"v":1,"id":1,"method":"status"}\n'
    with connect(daemon) as one:
        one.setblocking(False)
        sent, is_full = 0, False
        while not is_full and sent < 50_000_000:
            try:
                sent += one.send(request * 1000)
            except BlockingIOError:
                before = sent
                daemon.run(lambda: None)  # one turn of the loop may free a place
                daemon.run(lambda: None)
                with contextlib.suppress(BlockingIOError):
                    sent += one.send(request)
                is_full = sent == before

    assert is_full
    assert sent < 5_000_000


# --- who may, and how many --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.is_change])
def test_a_change_needs_root_or_the_group(method: str) -> None:
    with pytest.raises(Exception, match="only root and the members") as caught:
        call(FakeBackend(), Request(v=1, id=1, method=method), may_change=False)

    assert getattr(caught.value, "code", None) == "denied"


def test_root_the_daemons_user_and_the_group_may_change_things() -> None:
    assert Peer(1, 0, frozenset()).may_change(None)
    assert Peer(1, os.geteuid(), frozenset()).may_change(None)
    assert Peer(1, 65000, frozenset({5})).may_change(5)
    assert not Peer(1, 65000, frozenset({5})).may_change(6)
    assert not Peer(1, 65000, frozenset({5})).may_change(None)


def test_the_kernel_tells_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)

    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups >= {os.getegid(), *os.getgroups()}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_may_read_and_not_change(daemon: Served) -> None:
    daemon.path.parent.chmod(0o755)
    program = (
        "import os, sys\n"
        "from lispmob.api.client import Client, ReplyError\n"
        "os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "with Client('lispd.sock') as client:\n"
        "    print(client.call('version')['api'])\n"
        "    try: client.call('map-cache-flush')\n"
        "    except ReplyError as error: print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(daemon.path.parent)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert done.stdout.split() == ["1", "denied"]
    assert daemon.backend.calls == []


def test_the_number_of_clients_is_bounded(daemon: Served) -> None:
    many = [connect(daemon) for _ in range(MAX_CLIENTS)]
    try:
        many[-1].sendall(b'{"v":1,"id":1,"method":"version"}\n')
        assert b"result" in many[-1].recv(1000)
        with pytest.raises(ReplyError, match="64 clients are connected already"), Client(str(daemon.path)) as one_more:
            one_more.call("version")
    finally:
        for sock in many:
            sock.close()


# --- properties -------------------------------------------------------------------------------------------------------

request_like = st.fixed_dictionaries(
    {},
    optional={
        "v": st.integers() | st.just(1),
        "id": st.integers() | st.none() | st.just(1),
        "method": st.sampled_from([*METHODS, "events"]) | st.text(max_size=5),
        "params": st.dictionaries(
            st.sampled_from(["eid", "prefix", "locators", "kinds", "follow", "recent", "instance_id"]),
            st.none() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=4), max_size=3) | st.booleans(),
        ),
    },
).map(lambda value: json.dumps(value).encode())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=100) | request_like, max_size=6))
def test_no_octets_on_the_socket_harm_the_server(daemon: Served, lines: list[bytes]) -> None:
    with connect(daemon) as one:
        one.sendall(b"\n".join(lines) + b"\n")
        one.shutdown(socket.SHUT_WR)

    with Client(str(daemon.path)) as client:
        assert client.call("version")["api"] == 1
