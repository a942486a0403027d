"""Flows between two nodes of a small network: real sockets, real daemons, real programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.lab.real.world import HUB_V4, A, B, World
from tests.flow.flow_town import FLOWS, FlowTown
from tests.open_directories import let_everybody_in

pytestmark = pytest.mark.netns

STEERED = 'steering: {rules: [{name: calls, flow: "echo*", class: [voice], via: [eth1]}]}\n'


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlowTown]:
    directory = tmp_path_factory.mktemp("flows")
    names = f"""
  names:
    - {{name: held, user: [root]}}
    - {{name: ours, key: friends}}
    - {{name: started, socket: {directory / "started.flow"}}}
    - {{name: absent, socket: {directory / "absent.flow"}}}
  keys:
    - {{name: friends, with: [10.1.0.2/32], key: sixteen letters or more}}
"""
    with World(directory, tier="tun", label="f") as world:
        world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
        world.attach("a", "eth1", ["203.0.113.2/24"], metric=200)
        world.start_hub()
        world.start_node(A, extra=FLOWS % ("a", "") + STEERED)
        world.start_node(B, (HUB_V4,), extra=FLOWS % ("b", names))
        world.wait_registered()
        for name in ("a", "b"):
            world.wait((world.directory / name / "flow.sock").exists, "flows are served", 5)
        yield FlowTown(world)


@pytest.fixture
def echo(town: FlowTown) -> Iterator[subprocess.Popen[str]]:
    started = town.start("b", "listen", "echo", "--", "cat")
    yield started
    town.end(started)


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize("protocol", ["0", "1"])
@pytest.mark.parametrize("name", ["echo@10.1.0.2", "echo.b@2001:db8:e::2"])
def test_a_shell_program_is_a_named_service_for_either_version_and_family(
    town: FlowTown, protocol: str, name: str
) -> None:
    done = town.run("a", "call", "--protocol", protocol, name, given="hello flow\n")

    assert (done.stdout, done.returncode) == ("hello flow\n", 0), done.stderr


@pytest.mark.usefixtures("echo")
def test_a_host_reaches_the_names_that_it_holds_itself(town: FlowTown) -> None:
    done = town.run("b", "call", "echo", given="to myself\n")

    assert done.stdout == "to myself\n", done.stderr


def test_a_name_without_a_holder_is_told_as_such(town: FlowTown) -> None:
    done = town.run("a", "call", "printer@10.1.0.2", given="x")

    assert done.returncode == 1
    assert "no such name" in done.stderr


def test_a_place_outside_the_overlay_is_not_called(town: FlowTown) -> None:
    done = town.run("a", "call", "echo@192.0.2.130", given="x")

    assert done.returncode == 1
    assert "not in the overlay" in done.stderr


@pytest.mark.usefixtures("echo")
def test_a_host_is_found_by_its_name_in_the_mapping_system_and_the_steps_are_shown(town: FlowTown) -> None:
    done = town.run("a", "ping", "-c", "1", "echo.B")
    shown = town.run("a", "resolve", "echo.b")

    assert done.returncode == 0, done.stdout
    lines = shown.stdout.splitlines()
    assert lines[0] == "this host: does not hold it"
    assert lines[1].startswith("mapping system, echo.b: no site has registered it")
    assert lines[2:] == ["mapping system, b: 10.1.0.2, 2001:db8:e::2", "= echo.b at 10.1.0.2, 2001:db8:e::2"]


def test_a_name_is_found_by_the_address_of_its_host(town: FlowTown, echo: subprocess.Popen[str]) -> None:
    netns = Path("/etc/netns") / town.world["a"].name
    netns.mkdir(parents=True)
    try:
        (netns / "hosts").write_text("127.0.0.1 localhost\n10.1.0.2 b.lisp.test\n")
        (netns / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        # lispd resolves, and was started before the file existed: a process of its own sees the file.
        program = "import asyncio\nfrom ipaddress import ip_network\nfrom lispmob.flow.resolve import Resolver\n"
        program += "async def none(name): return None\n"
        program += (
            "r = Resolver(is_eid=lambda a: a in ip_network('10.1.0.0/24'), is_held=lambda n: False, own=lambda: (), "
        )
        program += "find_service=none)\n"
        program += "print(asyncio.run(r.resolve('echo.b.lisp.test')).eids)\n"
        found = town.python("a", program)
        output, _ = found.communicate(timeout=20)
    finally:
        for file in netns.iterdir():
            file.unlink()
        netns.rmdir()

    assert "10.1.0.2" in output


def test_a_flow_of_a_program_with_a_key_is_open_and_without_it_is_refused(town: FlowTown) -> None:
    listening = town.start("b", "listen", "ours", "--", "cat")
    try:
        refused = town.run("a", "call", "ours@10.1.0.2", given="x")
        taken = town.run("b", "call", "ours@10.1.0.2", given="x")
    finally:
        town.end(listening)

    assert refused.returncode == 1
    assert "key" in refused.stderr
    assert taken.stdout == "x", taken.stderr


def test_who_may_hold_a_name_is_decided_by_the_configuration(town: FlowTown) -> None:
    socket = town.world.directory / "b" / "flow.sock"
    let_everybody_in(socket.parent)
    program = f"""
from pathlib import Path
from lispmob import flow
path = Path({str(socket)!r})
for name in ("held", "free", "nobody-notes"):
    try:
        flow.register(name, path=path).close()
        print("taken")
    except flow.NotAllowed as error:
        print("refused:", error)
"""
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = subprocess.run(
        town.world["b"].argv(*user, sys.executable, "-c", program),
        capture_output=True, text=True, timeout=20, check=False, cwd=os.getcwd(),
    )  # fmt: skip

    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["refused", "refused", "taken"], done.stderr
    assert "flows.names" in lines[0]


def test_two_programs_cannot_hold_one_name(town: FlowTown, echo: subprocess.Popen[str]) -> None:
    second = town.run("b", "listen", "ECHO")

    assert second.returncode == 1
    assert "is held by root" in second.stderr


def test_both_ends_hear_when_the_other_one_goes(town: FlowTown) -> None:
    holder = town.python(
        "b",
        """
from lispmob import flow
with flow.register("once", path=path) as name:
    print("ready")
    one = name.accept(10)
    print(one.recv(timeout=10).decode())
    try:
        one.recv(timeout=10)
    except flow.PeerGone as gone:
        print("gone", gone.reason)
    other = name.accept(10)
    other.recv(timeout=10)
    other.close()
""",
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    caller = town.python(
        "a",
        """
from lispmob import flow
with flow.allocate("once@10.1.0.2", path=path) as one:
    one.send(b"hello")
with flow.allocate("once@10.1.0.2", path=path) as one:
    one.send(b"again")
    try:
        one.recv(timeout=10)
    except flow.PeerGone as gone:
        print("gone", gone.reason)
""",
    )
    heard, _ = caller.communicate(timeout=30)
    told, _ = holder.communicate(timeout=30)

    assert heard == "gone done\n", told
    assert told == "hello\ngone program-ended\n"


def test_programs_with_asyncio_have_the_same(town: FlowTown) -> None:
    holder = town.python(
        "b",
        """
import asyncio
from lispmob.flow import PeerGone, aio
async def main():
    async with await aio.register("async", path=path) as name:
        print("ready")
        async for one in name:
            await one.send(await one.recv() + b"!")
            try:
                await one.recv()
            except PeerGone as gone:
                print(type(gone).__name__, gone.reason)
            return
asyncio.run(main())
""",
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    caller = town.python(
        "a",
        """
import asyncio
from lispmob import flow
from lispmob.flow import aio
async def main():
    async with await aio.allocate("async@10.1.0.2", qos=flow.VOICE, path=path) as one:
        await one.send(b"hello")
        print((await one.recv()).decode(), one.peer, one.max_datagram > 1300)
    try:
        await aio.allocate("nobody@10.1.0.2", path=path)
    except flow.NameNotFound as error:
        print(error)
asyncio.run(main())
""",
    )
    heard, _ = caller.communicate(timeout=30)
    told, _ = holder.communicate(timeout=30)

    assert heard == "hello! 10.1.0.2 True\nno such name\n"
    assert told == "PeerGone program-ended\n"


def test_the_uplink_is_that_of_a_rule_about_the_flow_or_the_one_that_its_program_names(
    town: FlowTown, echo: subprocess.Popen[str]
) -> None:
    done = {}
    for word, options in (("voice", ["--qos", "voice"]), ("bulk", ["--qos", "bulk"]), ("via", ["--via", "eth1"])):
        before = town.sent("eth1")
        result = town.run("a", "call", *options, "echo@10.1.0.2", given="x" * 700)
        assert result.stdout == "x" * 700, result.stderr
        done[word] = town.sent("eth1") - before

    assert done["via"] >= 700
    assert done["voice"] >= 700
    assert done["bulk"] < 700


def test_a_flow_lives_through_the_loss_of_its_uplink(town: FlowTown, echo: subprocess.Popen[str]) -> None:
    program = """
import time
from lispmob import flow
with flow.allocate("echo@10.1.0.2", path=path) as one:
    print("open")
    sent = heard = 0
    end = time.monotonic() + 4
    while time.monotonic() < end:
        one.send(b"%d" % sent)
        sent += 1
        try:
            one.recv(timeout=0.05)
            heard += 1
        except flow.TimedOut:
            pass
        time.sleep(0.01)
    print(sent - heard)
"""
    moving = town.python("a", program)
    assert moving.stdout is not None
    assert moving.stdout.readline() == "open\n"
    time.sleep(1)
    town.world.ip("a", "addr del 198.51.100.2/24 dev eth0")
    try:
        output, _ = moving.communicate(timeout=30)
    finally:
        town.world.ip("a", "addr add 198.51.100.2/24 dev eth0", "route replace default via 198.51.100.1 metric 100")

    assert int(output) <= 3


def test_a_flow_is_not_ended_by_an_ordinary_packet_from_outside_the_overlay(town: FlowTown) -> None:
    program = f"""
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.sendto(b"echo", ("{B.eid4}", 3359))
one.settimeout(1)
try:
    print(one.recv(100))
except OSError:
    print("silence")
"""
    asked = subprocess.run(
        town.world["inet"].argv(sys.executable, "-c", program), capture_output=True, text=True, timeout=10, check=False
    )

    assert asked.stdout in ("silence\n", "")


def test_version_1_passes_a_firewall_at_either_end(town: FlowTown, echo: subprocess.Popen[str]) -> None:
    rules = "table ip fw { chain in { type filter hook input priority 0; iifname != lmn0 accept; ct state established accept; %s }; }"  # noqa: E501
    town.world.nft("a", rules % "drop;")
    town.world.nft("b", rules % "udp dport 3359 accept; drop;")
    try:
        opened = town.run("a", "call", "echo@10.1.0.2", given="through\n")
        legacy = town.run("a", "call", "--protocol", "0", "--timeout", "2", "echo@10.1.0.2", given="x")
    finally:
        town.world.nft("a", "delete table ip fw")
        town.world.nft("b", "delete table ip fw")

    assert opened.stdout == "through\n", opened.stderr
    assert legacy.returncode == 1


def test_the_flows_and_names_of_a_host_are_listed(town: FlowTown, echo: subprocess.Popen[str]) -> None:
    listed = town.run("b", "--json", "list")

    assert "echo" in [held["name"] for held in json.loads(listed.stdout)["names"]]


def test_a_ping_says_how_long_an_allocation_takes(town: FlowTown, echo: subprocess.Popen[str]) -> None:
    done = town.run("a", "--json", "ping", "-c", "2", "echo@10.1.0.2")

    times = [json.loads(line)["ms"] for line in done.stdout.splitlines()]
    assert len(times) == 2
    assert done.returncode == 0


def test_a_program_started_by_its_first_flow_gets_it_and_ends_it(town: FlowTown) -> None:
    """lispd connects to a socket on which another process listens: systemd, or here the program itself."""
    listener = town.python(
        "b",
        f"""
import socket
from lispmob import flow
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.bind({str(town.world.directory / "started.flow")!r})
one.listen()
print("ready")
connection, _ = one.accept()
with flow.inherited(connection.detach()) as call:
    print(call.name, call.peer, call.recv(timeout=5).decode())
    call.send(b"done")
""",
    )
    assert listener.stdout is not None
    assert listener.stdout.readline() == "ready\n"

    done = town.run("a", "call", "started@10.1.0.2", given="begin")
    output, _ = listener.communicate(timeout=20)

    assert output == "started 10.1.0.1 begin\n"
    assert done.stdout == "done", done.stderr


def test_a_name_whose_program_cannot_be_started_says_so_to_the_caller(town: FlowTown) -> None:
    done = town.python(
        "a",
        """
from lispmob import flow
with flow.allocate("absent@10.1.0.2", path=path) as one:
    try:
        one.send(b"anybody?")
        one.recv(timeout=10)
    except flow.PeerGone as gone:
        print(gone.reason)
""",
    )
    output, _ = done.communicate(timeout=20)

    assert output == "no-answer\n"


def test_the_file_copy_of_the_examples_lives_through_a_move(town: FlowTown, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    original = os.urandom(3_000_000)
    (tmp_path / "photo.jpg").write_bytes(original)
    taking = town.example("b", "flow_copy.py", "--receive", "--once", "files", str(tmp_path / "in"))
    assert taking.stdout is not None
    assert taking.stdout.readline() == "waiting as files\n"

    sending = town.example("a", "flow_copy.py", str(tmp_path / "photo.jpg"), "files@10.1.0.2")
    time.sleep(0.3)
    town.world.ip("a", "addr del 198.51.100.2/24 dev eth0")
    try:
        told, _ = sending.communicate(timeout=60)
        taking.communicate(timeout=30)
    finally:
        town.world.ip("a", "addr add 198.51.100.2/24 dev eth0", "route replace default via 198.51.100.1 metric 100")

    assert told == "sent\n"
    assert (tmp_path / "in" / "photo.jpg").read_bytes() == original


def test_the_chat_of_the_examples_carries_lines_both_ways_and_ends_for_both(town: FlowTown) -> None:
    waiting = town.example("b", "flow_chat.py", "--wait", "chat")
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting as chat\n"
    calling = town.example("a", "flow_chat.py", "chat@10.1.0.2")
    assert calling.stdout is not None
    assert calling.stdout.readline() == "talking to 10.1.0.2\n"
    assert calling.stdin is not None
    calling.stdin.write("hello\n")
    calling.stdin.flush()
    assert waiting.stdout.readline() == "talking to 10.1.0.1\n"
    assert waiting.stdout.readline() == "> hello\n"

    answer, _ = waiting.communicate("and goodbye\n", timeout=20)
    heard, _ = calling.communicate(timeout=20)

    assert "> and goodbye\n" in heard
    assert "the other side has gone" in heard
    assert answer == ""


def test_a_flow_goes_on_when_lispd_was_killed_and_is_back(town: FlowTown, echo: subprocess.Popen[str]) -> None:
    program = """
import time
from lispmob import flow
with flow.allocate("echo@10.1.0.2", path=path) as one:
    first = one.connection
    for turn in ("before", "after"):
        print("open", turn)
        for number in range(300):
            one.send(turn.encode())
            try:
                if one.recv(timeout=0.1) == turn.encode():
                    break
            except flow.TimedOut:
                pass
        while turn == "after" and one.connection is first:
            try:
                one.recv(timeout=0.1)
            except flow.TimedOut:
                pass
        print("heard", turn)
        if turn == "before":
            input()
"""
    talking = town.python("a", program)
    assert talking.stdout is not None
    assert talking.stdin is not None
    assert [talking.stdout.readline() for _ in range(2)] == ["open before\n", "heard before\n"]

    town.world.nodes["a"].daemon.kill()
    (town.world.directory / "a" / "flow.sock").unlink(missing_ok=True)
    town.world.start_node(A, extra=FLOWS % ("a", "") + STEERED)
    talking.stdin.write("\n")
    told, _ = talking.communicate(timeout=30)
    town.world.wait_registered()

    assert told == "open after\nheard after\n"
    town.world.wait(lambda: json.loads(town.run("b", "--json", "list").stdout)["flows"] == [], "the end is told", 10)
