"""lisp-echo's tally, messages, bounds and output: pure, with clocks of their own; and both ends over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.tools import echo_cli
from lispmob.tools.echo_client import Course, EchoClient, NoPeer, TcpLine, UdpLine
from lispmob.tools.echo_message import SHORTEST, Echo, Kind, NoEcho, answer_to, question, read_datagram
from lispmob.tools.echo_server import Answering, EchoServer, ServerLimits
from lispmob.tools.echo_tally import BUCKETS_MS, LostRun, Result, Tally
from lispmob.tools.echo_text import Session, as_json, lines, uplink_shares
from lispmob.tools.echo_uplink import IN_A_CHANGE, NOT_KNOWN, Sample, Timeline, uplink_of
from lispmob.wire.address import IpAddress

LO = ip_address("127.0.0.1")


def tally_of(*answers: tuple[int, float], sent: int = 5, lost_there: int = 0) -> Tally:
    """Packets each 100 ms from 0 on; `answers`: (number, when), counted by the server in that order."""
    tally = Tally()
    for number in range(sent):
        tally.on_sent(number * 0.1)
    for place, (number, when) in enumerate(answers, 1):
        arrivals = max(place, number + 1 - lost_there)
        tally.on_answer(number, arrivals, int((number * 0.1 + 0.005) * 1e9), when)
    return tally


# --- the book ---------------------------------------------------------------------------------------------------------


def test_what_is_answered_once_and_in_order_is_all_that_was_sent() -> None:
    result = tally_of(*((number, number * 0.1 + 0.01) for number in range(5))).result()

    assert (result.sent, result.answered, result.lost, result.duplicates, result.out_of_order) == (5, 5, 0, 0, 0)
    assert result.round_trips is not None
    assert round(result.round_trips.most_s, 6) == 0.01
    assert (result.runs, round(result.gaps_back.longest_s, 6)) == ((), 0.1)


def test_losses_in_a_row_are_one_gap_with_its_length() -> None:
    result = tally_of((0, 0.01), (4, 0.41)).result()

    assert result.lost == 3
    assert result.runs == (LostRun(1, 3, 0.4),)
    assert (round(result.gaps_back.longest_s, 6), result.gaps_back.longest_after) == (0.4, 0)
    assert round(result.gaps_there.longest_s, 6) == 0.4


def test_the_server_counts_so_the_way_of_a_loss_is_known() -> None:
    there = tally_of((0, 0.01), (4, 0.41), lost_there=3).result()
    back = tally_of((0, 0.01), (4, 0.41), lost_there=0).result()
    unknown = tally_of((0, 0.01)).result()

    assert (there.lost_there, there.lost_back) == (3, 0)
    assert (back.lost_there, back.lost_back) == (0, 3)
    assert (unknown.lost, unknown.lost_there, unknown.lost_back) == (4, 0, 0)


def test_copies_late_ones_and_strangers_are_counted_apart() -> None:
    tally = tally_of((1, 0.11), (0, 0.12), (2, 0.21), (2, 0.22), (3, 0.31), (4, 0.41))
    tally.on_answer(99, 1, 1, 0.5)

    result = tally.result()

    assert (result.lost, result.out_of_order, result.duplicates, result.strangers) == (0, 1, 1, 1)


def test_the_histogram_counts_every_gap_once_and_has_room_for_the_longest() -> None:
    tally = tally_of((0, 0.0), (1, 0.01), (2, 0.03), (3, 1.5), (4, 99.0))

    histogram = tally.result().gaps_back.histogram

    assert len(histogram) == len(BUCKETS_MS) + 1
    assert [bound for bound, count in zip([*BUCKETS_MS, None], histogram, strict=True) if count] == [10, 20, 2000, None]


@given(st.lists(st.tuples(st.integers(-2, 12), st.integers(0, 20), st.floats(0, 100)), max_size=60))
def test_whatever_comes_the_book_adds_up(answers: list[tuple[int, int, float]]) -> None:
    tally = tally_of(sent=10)
    for number, arrivals, when in answers:
        tally.on_answer(number, arrivals, arrivals, when)

    result = tally.result()

    assert result.answered + result.lost == result.sent == 10
    assert result.answered + result.duplicates + result.strangers == len(answers)
    assert 0 <= result.lost_there + result.lost_back <= result.lost
    assert sum(run.count for run in result.runs) == result.lost
    assert sum(result.gaps_back.histogram) == max(0, result.answered - 1)


# --- messages and bounds ----------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(SHORTEST, 2000))
def test_an_answer_is_exactly_as_long_as_its_question(session: int, sequence: int, length: int) -> None:
    asked = question(session, sequence, length)

    answer = answer_to(asked, 7, 8)

    assert len(answer) == len(asked) == length
    assert read_datagram(answer) == Echo(Kind.ANSWER, length, session, sequence, 7, 8)


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_no_echo(octets: bytes) -> None:
    try:
        assert read_datagram(octets).length == len(octets)
    except NoEcho:
        assert Answering(ServerLimits()).on_datagram(octets, "192.0.2.1", 0.0, 0) is None


def test_two_servers_cannot_keep_each_other_busy() -> None:
    answering = Answering(ServerLimits())
    answer = answering.on_datagram(question(1, 2, 100), "192.0.2.1", 0.0, 0)
    assert answer is not None

    assert answering.on_datagram(answer, "192.0.2.2", 0.0, 0) is None
    assert answering.counters["not_a_question"] == 1


def test_what_lies_about_its_length_gets_no_answer() -> None:
    asked = question(1, 2, 100)

    assert Answering(ServerLimits()).on_datagram(asked[:60], "192.0.2.1", 0.0, 0) is None
    assert Answering(ServerLimits()).on_datagram(asked + b"x", "192.0.2.1", 0.0, 0) is None


def test_a_flood_is_answered_up_to_the_limit_and_time_opens_it_again() -> None:
    answering = Answering(ServerLimits(udp_answers_s=10, udp_burst=5))

    answers = [answering.on_datagram(question(1, n, 50), "192.0.2.1", 0.0, 0) for n in range(20)]
    later = answering.on_datagram(question(1, 20, 50), "192.0.2.1", 1.0, 0)

    assert sum(answer is not None for answer in answers) == 5
    assert answering.counters["over_the_limit"] == 15
    assert later is not None


def test_only_so_many_sessions_are_counted_and_the_latest_keeps_its_count() -> None:
    answering = Answering(ServerLimits(sessions=2))
    counts = []
    for session in (1, 1, 2, 3, 3, 1):
        answer = answering.on_datagram(question(session, 0, 50), "192.0.2.1", 0.0, 0)
        assert answer is not None
        counts.append(read_datagram(answer).arrivals)

    assert counts == [1, 2, 1, 1, 2, 1]


def answered(answering: Answering, source: str, count: int, session: int = 1) -> int:
    asked = (answering.on_datagram(question(session, n, 50), source, 0.0, 0) for n in range(count))
    return sum(one is not None for one in asked)


def test_a_flood_leaves_answers_for_the_others() -> None:
    answering = Answering(ServerLimits(udp_answers_s=10, udp_burst=40, udp_answers_each_s=5, udp_burst_each=10))

    assert answered(answering, "192.0.2.66", 1000) == 10
    assert answered(answering, "192.0.2.1", 10) == 10


def test_sessions_of_a_stranger_push_out_none_of_another_address() -> None:
    answering = Answering(ServerLimits(sessions=8, sessions_each=4))
    answered(answering, "192.0.2.1", 3)

    for session in range(100):
        answered(answering, "192.0.2.66", 1, session)
    answer = answering.on_datagram(question(1, 3, 50), "192.0.2.1", 0.0, 0)

    assert answer is not None
    assert read_datagram(answer).arrivals == 4


# --- uplinks ----------------------------------------------------------------------------------------------------------


def test_a_packet_left_by_the_uplink_that_lispd_names_before_and_after_it() -> None:
    timeline = Timeline()
    for at, uplink in ((0.0, "wlan0"), (1.0, "wlan0"), (2.0, "lte0"), (3.0, "lte0")):
        timeline.add(Sample(at, at + 0.1, uplink))

    named = [timeline.uplink_at(moment) for moment in (-1.0, 0.05, 0.5, 1.5, 2.5, 3.5)]

    assert named == [NOT_KNOWN, NOT_KNOWN, "wlan0", IN_A_CHANGE, "lte0", NOT_KNOWN]


@pytest.mark.parametrize(
    ("why", "word"),
    [
        ({"outcome": "overlay", "choices": [{"uplink": "wlan0"}]}, "wlan0"),
        ({"outcome": "overlay", "choices": [{"uplink": "wlan0"}, {"uplink": "wlan0"}]}, "wlan0"),
        ({"outcome": "overlay", "choices": [{"uplink": "wlan0"}, {"uplink": "lte0"}]}, NOT_KNOWN),
        ({"outcome": "overlay", "choices": [{"uplink": "wlan0"}], "is_certain": False}, NOT_KNOWN),
        ({"outcome": "native"}, "without LISP"),
        ({"outcome": "own"}, "on this host"),
        ({"outcome": "dropped"}, "dropped"),
        ({}, NOT_KNOWN),
    ],
)
def test_what_lispd_explains_becomes_a_name_or_the_word_that_it_is_not_known(why: dict[str, Any], word: str) -> None:
    assert uplink_of(why) == word


def test_losses_belong_to_the_uplink_that_the_packet_left_by() -> None:
    timeline = Timeline()
    for at, uplink in ((-0.1, "wlan0"), (0.16, "wlan0"), (0.22, "lte0"), (0.9, "lte0")):
        timeline.add(Sample(at, at + 0.01, uplink))

    shares, changes = uplink_shares(tally_of((0, 0.01), (3, 0.31), (4, 0.41)), timeline)

    assert [(share.uplink, share.sent, share.lost) for share in shares] == [
        ("wlan0", 2, 1),
        (IN_A_CHANGE, 1, 1),
        ("lte0", 2, 0),
    ]
    assert changes == ((0, "wlan0"), (2, IN_A_CHANGE), (3, "lte0"))


# --- what is printed --------------------------------------------------------------------------------------------------


def session_of(result: Result, **more: Any) -> Session:
    settings: dict[str, Any] = {"uplinks": (), "changes": (), "uplinks_unknown": "lispd is not running", "problems": ()}
    return Session("10.1.0.2", 61007, "UDP", "10.1.0.1", result, **{**settings, **more})


def test_people_read_what_was_lost_where_and_that_the_uplink_is_not_known() -> None:
    text = "\n".join(lines(session_of(tally_of((0, 0.01), (4, 0.41), lost_there=2).result())))

    assert "5 sent, 2 answered, 3 lost (2 on the way there, 1 on the way back)" in text
    assert "lost        #1 to #3, within 400.0 ms" in text
    assert "  up to 500 ms      1      1  ########" in text
    assert "uplink      not known: lispd is not running" in text


def test_programs_read_the_same_and_nothing_is_left_out() -> None:
    shown = as_json(session_of(tally_of((0, 0.01), (4, 0.41), lost_there=2).result(), problems=("x",)))

    assert json.loads(json.dumps(shown)) == shown
    assert (shown["lost"], shown["lost_there"], shown["lost_back"]) == (3, 2, 1)
    assert shown["lost_runs"] == [{"first": 1, "count": 3, "ms": 400.0}]
    assert (shown["uplinks"], shown["uplinks_unknown"], shown["problems"]) == (None, "lispd is not running", ["x"])


@pytest.mark.parametrize(
    "words",
    [[], ["client"], ["client", "x"], ["client", "10.1.0.2", "-s", "10"], ["client", "10.1.0.2", "-i", "0"],
     ["server", "--udp", "--tcp"], ["server", "-p", "0"], ["client", "10.1.0.2", "-c", "-1"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        echo_cli.main(words)

    assert ended.value.code == 2


def test_a_server_that_knows_no_eid_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert echo_cli.main(["server", "--socket", "/nowhere/lispd.sock", "--config", "/nowhere/lispd.conf"]) == 1
    assert "name an address with --bind" in capsys.readouterr().err


# --- over loopback ----------------------------------------------------------------------------------------------------

Play = Callable[[EchoServer, int], Coroutine[Any, Any, Any]]


def with_server(play: Play, *, limits: ServerLimits | None = None, address: str = "127.0.0.1") -> Any:
    async def run() -> Any:
        server = EchoServer(limits)
        port = await server.start([ip_address(address)], 0)
        try:
            return await play(server, port)
        finally:
            await server.stop()

    return asyncio.run(run())


COURSE = Course(count=20, interval_s=0.001, length=300, wait_s=5.0)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_everything_comes_back_over_either_transport(transport: str) -> None:
    async def play(server: EchoServer, port: int) -> Result:
        client = EchoClient(COURSE)
        line = UdpLine(client, LO, port, None) if transport == "udp" else await TcpLine.open(client, LO, port, None)
        await client.run(line)
        assert server.answering.counters[f"{transport}_answers"] == 20
        return client.tally.result()

    result = with_server(play)

    assert (result.sent, result.answered, result.lost, result.duplicates, result.strangers) == (20, 20, 0, 0, 0)
    assert sum(result.gaps_there.histogram) == 19


def test_a_free_port_is_free_for_tcp_as_well() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = [other.getsockname()[1]] * 2

        class Unlucky(EchoServer):
            def _listen_udp(self, address: IpAddress, port: int) -> int:
                return super()._listen_udp(address, taken.pop() if taken else port)

        async def run() -> int:
            server = Unlucky()
            try:
                return await server.start([LO], 0)
            finally:
                await server.stop()

        assert asyncio.run(run()) != other.getsockname()[1]
    assert not taken


def test_a_server_that_cannot_listen_on_all_addresses_leaves_no_socket_open() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                await EchoServer().start([ip_address("127.0.0.2"), LO], port)
        with socket.create_server(("127.0.0.2", port)):
            pass

    asyncio.run(run())


def test_a_server_on_all_addresses_answers_from_the_one_that_was_asked() -> None:
    async def play(_: EchoServer, port: int) -> str:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.bind(("127.0.0.1", 0))
            one.sendto(question(1, 2, 100), ("127.0.0.9", port))
            async with asyncio.timeout(10):
                found = await loop.sock_recvfrom(one, 2000)
            return str(found[1][0])

    assert with_server(play, address="0.0.0.0") == "127.0.0.9"


def test_a_port_without_a_listener_is_told_and_costs_no_traceback() -> None:
    async def run() -> tuple[Result, list[str]]:
        client = EchoClient(Course(count=3, interval_s=0.01, length=50, wait_s=0.05))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        await client.run(UdpLine(client, LO, port, None))
        with pytest.raises(NoPeer, match="Connection refused"):
            await TcpLine.open(client, LO, port, None)
        return client.tally.result(), client.problems

    result, problems = asyncio.run(run())

    assert (result.sent, result.answered) == (3, 0)
    assert problems == ["ICMP reports that the port is closed: is a lisp-echo server running, on this port?"]


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n" + bytes(60), question(1, 2, 300)[:40] + b"", bytes(40)])
def test_a_connection_that_asks_nothing_is_closed(octets: bytes) -> None:
    async def play(server: EchoServer, port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.transport.abort()

    assert with_server(play, limits=ServerLimits(idle_s=0.2)) == b""


def test_one_address_gets_only_so_many_connections_and_the_others_go_on() -> None:
    async def play(server: EchoServer, port: int) -> int:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        answered = 0
        for reader, writer in opened:
            writer.write(question(1, 2, SHORTEST))
            try:
                answered += len(await asyncio.wait_for(reader.read(SHORTEST), 10)) == SHORTEST
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
        assert server.answering.counters["connections_refused"] == 1
        return answered

    assert with_server(play, limits=ServerLimits(connections_each=2)) == 2


def test_a_connection_that_ends_early_is_told_with_what_was_lost() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(300)
        writer.close()

    async def run() -> tuple[Result, list[str]]:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        client = EchoClient(COURSE)
        line = await TcpLine.open(client, LO, server.sockets[0].getsockname()[1], None)
        await client.run(line)
        server.close()
        return client.tally.result(), client.problems

    result, problems = asyncio.run(run())

    assert result.answered == 0
    assert len(problems) == 1
    assert "the other end closed the connection" in problems[0] or "the connection broke" in problems[0]


def port_without_a_server() -> int:
    """A port of 127.0.0.1 that neither UDP nor TCP uses."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            port: int = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no port of 127.0.0.1 is free for UDP and TCP")


def test_the_program_serves_measures_and_ends_when_told() -> None:
    port = str(port_without_a_server())
    command = [sys.executable, "-m", "lispmob.tools.echo_cli"]
    with subprocess.Popen(
        [*command, "server", "-b", "127.0.0.1", "-p", port], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert f"answering on 127.0.0.1 port {port}" in server.stdout.readline()
        client = [*command, "client", "127.0.0.1", "-p", port, "-c", "5", "-i", "0.01", "--json", "--socket", "/none"]
        done = subprocess.run(client, capture_output=True, text=True, timeout=30, check=False)
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as idle:
            idle.sendall(question(1, 2, SHORTEST))
            assert len(idle.recv(SHORTEST)) == SHORTEST
            server.terminate()
            said, complaints = server.communicate(timeout=10)
        code = server.returncode

    shown = json.loads(done.stdout)
    assert (done.returncode, shown["answered"], shown["uplinks"]) == (0, 5, None)
    assert "lispd is not running" in shown["uplinks_unknown"]
    assert (code, said, complaints) == (0, "lisp-echo: connections 1, tcp_answers 1, udp_answers 5\n", "")
