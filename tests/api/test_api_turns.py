"""The daemon's loop keeps turning under many requests: long answers in pieces, one client in each turn."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from lispmob.api.client import Client
from lispmob.api.schema import Event, MapCacheEntry, Uplink
from lispmob.api.server import MAX_OF_ONE_USER, SERVED_S, ControlServer
from lispmob.api.turns import Pages
from tests.api.fake_backend import FakeBackend, Served, served

AT = "2026-01-31T12:00:00Z"
PAGE_S = 0.002


class Busy(FakeBackend):
    """A daemon with a large map-cache, and with a status that takes time to make."""

    def __init__(self, pages: int = 60) -> None:
        super().__init__()
        self.count = pages
        self.made = 0

    def map_cache(self) -> Pages:
        return Pages(self._pages(), {"limit": 10})

    def _pages(self) -> Iterator[Sequence[msgspec.Struct]]:
        for page in range(self.count):
            time.sleep(PAGE_S)  # stands for the work of making a page
            self.made += 1
            yield [MapCacheEntry(prefix=f"10.{page}.{n}.0/24", source="reply", action="ask") for n in range(50)]

    def uplinks(self) -> Sequence[Uplink]:
        time.sleep(PAGE_S)
        return []


class Ticker:
    """Counts the turns of the server's loop."""

    def __init__(self, daemon: Served) -> None:
        self.turns = 0
        self._loop = daemon._loop
        daemon.run(lambda: self._loop.call_soon(self._tick))

    def _tick(self) -> None:
        self.turns += 1
        self._loop.call_later(0.0005, self._tick)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[tuple[Served, Busy]]:
    with served(tmp_path / "lispd.sock") as one:
        backend = Busy()
        one.backend = backend
        one.server._backend = backend
        yield one, backend


def connect(daemon: Served) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(10)
    one.connect(str(daemon.path))
    return one


def test_a_large_answer_comes_in_pieces_between_which_the_loop_turns(busy: tuple[Served, Busy]) -> None:
    daemon, backend = busy
    ticker = Ticker(daemon)

    with Client(str(daemon.path)) as client:
        answer = client.call("map-cache")

    assert (len(answer["entries"]), answer["limit"]) == (backend.count * 50, 10)
    assert ticker.turns >= backend.count // 2


def test_many_readers_at_once_make_no_more_than_one_piece_a_turn(busy: tuple[Served, Busy]) -> None:
    daemon, backend = busy
    clients = [connect(daemon) for _ in range(8)]
    ticker = Ticker(daemon)
    for client in clients:
        client.sendall(b'{"v":1,"id":1,"method":"map-cache"}\n')

    for client in clients:
        with client, client.makefile("rb") as reader:
            assert len(json.loads(reader.readline())["result"]["entries"]) == backend.count * 50

    assert ticker.turns >= backend.made // 2


def test_a_heap_of_requests_is_worked_off_in_pieces_and_others_get_their_turn(busy: tuple[Served, Busy]) -> None:
    daemon, _ = busy
    ticker = Ticker(daemon)
    heap = 200

    with connect(daemon) as one, one.makefile("rb") as reader:
        one.sendall(b'{"v":1,"id":1,"method":"uplinks"}\n' * heap)
        reader.readline()
        with Client(str(daemon.path)) as other:
            assert other.call("version")["api"] == 1
        for _ in range(heap - 1):
            assert b"result" in reader.readline()

    assert ticker.turns >= heap * PAGE_S / SERVED_S / 3


def test_events_that_happen_during_a_long_answer_come_after_it(busy: tuple[Served, Busy]) -> None:
    daemon, backend = busy
    with connect(daemon) as one, one.makefile("rb") as reader:
        one.sendall(b'{"v":1,"id":1,"method":"events","params":{"follow":true}}\n')
        reader.readline()
        one.sendall(b'{"v":1,"id":2,"method":"map-cache"}\n')
        while backend.made < 3:
            time.sleep(0.001)
        daemon.publish(Event(kind="moved", at=AT))

        lines = [json.loads(reader.readline()) for _ in range(2)]

    assert [line.get("id", line.get("event", {}).get("kind")) for line in lines] == [2, "moved"]


def test_a_reader_that_leaves_in_the_middle_or_reads_nothing_costs_only_itself(busy: tuple[Served, Busy]) -> None:
    daemon, backend = busy
    backend.count = 2000
    with connect(daemon) as one:
        one.sendall(b'{"v":1,"id":1,"method":"map-cache"}\n')
        one.recv(1000)
        with Client(str(daemon.path)) as other:
            assert other.call("version")["api"] == 1
            assert backend.made < backend.count, "what nobody takes is not made"
    with Client(str(daemon.path)) as other:
        assert other.call("version")["api"] == 1
        made = backend.made
        for _ in range(20):
            other.call("version")
        assert backend.made <= made + 1, "nobody is there to read it"


def test_one_user_without_privileges_leaves_room_for_the_others(busy: tuple[Served, Busy]) -> None:
    daemon, _ = busy

    class Peer:
        def __init__(self, uid: int) -> None:
            self.uid = uid
            self.pid = 1

        def may_change(self, _: int | None) -> bool:
            return False

    class Seat:
        is_admitted = False
        may_change = False
        uid = -1

    server: ControlServer = daemon.server
    seats = [Seat() for _ in range(MAX_OF_ONE_USER)]
    try:
        assert [server.admit(seat, Peer(1000)) for seat in seats] == [None] * MAX_OF_ONE_USER  # type: ignore[arg-type]
        assert "this user has 16 connections" in (server.admit(Seat(), Peer(1000)) or "")  # type: ignore[arg-type]
        assert server.admit(Seat(), Peer(1001)) is None  # type: ignore[arg-type]
    finally:
        server._clients.clear()
