"""Commands go to the server that has their slot; a server that fails or moves its slots delays no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import pytest

from lispmob.hub.valkey.connection import Credentials, Server, ServerAway, ServerRefused, Words
from lispmob.hub.valkey.servers import Script, Servers
from tests.hub.registry.rig import until

A, B, C = (Server(f"192.0.2.{number}", 6379) for number in (1, 2, 3))
BUCKET: Final = 7
BUCKET_KEY: Final = "{7}"
SCRIPT: Final = Script("look", 2)


class FakeCluster:
    """A has all buckets, C the one that moves once B has it; each command gets the next of `refusals`."""

    replaces = True

    def __init__(self) -> None:
        self.servers = [A, B, C]
        self.owners = {BUCKET_KEY: B}
        self.refusals: dict[Server, list[ServerRefused]] = {}
        self.away: set[Server] = set()
        self.hanging: set[Server] = set()
        self.late: dict[Server, asyncio.Event] = {}
        self.sent: list[tuple[Server, Words]] = []
        self.pipelines: list[int] = []
        self.suspects: list[Server | None] = []
        self.moved: list[tuple[int, Server]] = []

    def owner(self, bucket_key: str) -> Server | None:
        return self.owners.get(bucket_key, A)

    async def find(self, suspect: Server | None) -> None:
        self.suspects.append(suspect)

    async def send(self, server: Server, commands: Sequence[Words]) -> list[Any]:
        if server in self.hanging:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if server in self.late:
            await self.late[server].wait()
        if server in self.away:
            raise ServerAway(f"the registry's server {server} does not answer")
        self.pipelines.append(len(commands))
        answers: list[Any] = []
        for words in commands:
            self.sent.append((server, words))
            waiting = self.refusals.get(server, [])
            answers.append(waiting.pop(0) if waiting and words[0] not in ("PING", "ASKING") else (server, words[0]))
        return answers

    async def on_moved(self, slot: int, server: Server) -> None:
        self.moved.append((slot, server))
        self.owners[BUCKET_KEY] = server

    async def close(self) -> None:
        self.servers = []


def run(scene: Callable[[FakeCluster, Servers], Awaitable[None]]) -> list[list[int]]:
    """Run the scene; returns the moved buckets, for each time that some moved."""
    moved: list[list[int]] = []

    async def all_of_it() -> None:
        fake = FakeCluster()

        async def connect(_: tuple[Server, ...], __: Credentials) -> FakeCluster:
            return fake

        servers = Servers((A, B), Credentials(patience_s=0.3), moved.append, connect)
        await servers.start()
        try:
            await until(lambda: not servers.unserved)
            await scene(fake, servers)
        finally:
            await servers.stop()

    asyncio.run(all_of_it())
    return moved


def test_what_one_turn_of_the_loop_asks_for_leaves_in_one_pipeline_for_each_server() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.pipelines.clear()

        answers = await asyncio.gather(*(servers.command(bucket, "GET", b"%d" % bucket) for bucket in range(20)))

        assert sorted(fake.pipelines) == [1, 19]
        assert answers[BUCKET] == (B, "GET")

    run(scene)


def test_a_slot_that_has_moved_is_followed_and_its_new_server_remembered() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.refusals[B] = [ServerRefused("1 192.0.2.3:6379", "MOVED", ("192.0.2.3", 6379))]

        assert await servers.command(BUCKET, "GET", b"x") == (C, "GET")
        await until(lambda: servers.owner(BUCKET) == C)
        assert await servers.command(BUCKET, "GET", b"x") == (C, "GET")

    assert run(scene)[1:] == [[BUCKET]], "whoever has accepted something for it has to say so again"


def test_a_slot_on_its_way_is_asked_for_in_the_same_pipeline_that_says_so() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.refusals[B] = [ServerRefused("1 192.0.2.3:6379", "ASK", ("192.0.2.3", 6379))]

        assert await servers.command(BUCKET, "GET", b"x") == (C, "GET")

        words = [words[0] for server, words in fake.sent if server == C]
        assert words[-2:] == ["ASKING", "GET"]
        assert servers.owner(BUCKET) == B

    run(scene)


@pytest.mark.parametrize("word", ["TRYAGAIN", "BUSY"])
def test_a_server_that_will_serve_soon_is_waited_for(word: str) -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.refusals[B] = [ServerRefused("half of them have moved, or a script runs", word)] * 3

        assert await servers.run(BUCKET, SCRIPT, [b"k", b"q"]) == (B, "EVALSHA")

    run(scene)


def test_a_server_that_has_forgotten_a_script_is_given_it_again() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.refusals[B] = [ServerRefused("no such script", "NOSCRIPT")]

        assert await servers.run(BUCKET, SCRIPT, [b"k", b"q"]) == (B, "EVAL")

    run(scene)


@pytest.mark.parametrize("word", ["CLUSTERDOWN", "READONLY", "MASTERDOWN"])
def test_a_server_that_cannot_serve_is_asked_last_who_can(word: str) -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.refusals[B] = [ServerRefused("not now", word)]

        with pytest.raises(ServerAway, match=r"192\.0\.2\.2"):
            await servers.command(BUCKET, "GET", b"x")

        await until(lambda: B in fake.suspects)

    run(scene)


def test_servers_that_send_us_in_a_circle_end_in_a_sentence() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.refusals[B] = [ServerRefused("1 192.0.2.3:6379", "MOVED", ("192.0.2.3", 6379))] * 9
        fake.refusals[C] = [ServerRefused("1 192.0.2.2:6379", "MOVED", ("192.0.2.2", 6379))] * 9

        with pytest.raises(ServerAway, match="from one to the other"):
            await servers.command(BUCKET, "GET", b"x")

    run(scene)


def test_what_is_asked_of_a_server_that_is_away_fails_at_once_and_others_answer() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.away.add(B)

        with pytest.raises(ServerAway, match=r"192\.0\.2\.2.*does not answer"):
            await servers.command(BUCKET, "GET", b"x")
        fake.hanging.add(B)
        with pytest.raises(ServerAway):
            await servers.command(BUCKET, "GET", b"x")

        assert await servers.command(BUCKET + 1, "GET", b"x") == (A, "GET")
        assert not servers.is_served(BUCKET)
        assert servers.away_since(BUCKET) is not None
        assert "1 of 1024 parts" in (servers.problem or "")

    run(scene)


def test_a_server_that_answers_again_is_served_again() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.away.add(B)
        with pytest.raises(ServerAway):
            await servers.command(BUCKET, "GET", b"x")

        fake.away.clear()
        await until(lambda: servers.is_served(BUCKET))

        assert await servers.command(BUCKET, "GET", b"x") == (B, "GET")
        assert servers.problem is None

    run(scene)


def test_a_server_that_hangs_holds_up_nothing_that_another_one_has() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.hanging.add(B)
        stuck = [asyncio.create_task(servers.command(BUCKET, "GET", b"x")) for _ in range(300)]
        await asyncio.sleep(0)

        assert await servers.command(BUCKET + 1, "GET", b"x") == (A, "GET")

        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)

    run(scene)


def test_a_server_that_hangs_is_given_up_and_what_waited_for_it_fails() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.hanging.add(B)

        with pytest.raises(ServerAway, match="does not answer"):
            await servers.command(BUCKET, "GET", b"x")

        assert not servers.is_served(BUCKET)

    run(scene)


def test_an_answer_that_came_while_the_hub_itself_was_busy_counts() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        asked = asyncio.create_task(servers.command(BUCKET, "GET", b"x"))
        fake.late[B] = answer = asyncio.Event()
        await asyncio.sleep(0.01)

        asyncio.get_running_loop().call_soon(time.sleep, 0.35)  # longer than the hub's timeout
        asyncio.get_running_loop().call_soon(answer.set)

        assert await asked == (B, "GET")

    run(scene)


def test_who_waits_for_the_successor_of_a_server_hears_as_soon_as_it_is_there() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.away.add(B)
        with pytest.raises(ServerAway):
            await servers.command(BUCKET, "GET", b"x")
        waiting = asyncio.create_task(servers.until_replaced(BUCKET, 10.0))
        await asyncio.sleep(0.05)
        assert not waiting.done()

        fake.owners[BUCKET_KEY] = C

        assert await waiting
        assert await servers.command(BUCKET, "GET", b"x") == (C, "GET")

    run(scene)


def test_no_command_waits_for_the_successor_of_a_server_that_has_been_away_for_long() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.away.add(B)
        with pytest.raises(ServerAway):
            await servers.command(BUCKET, "GET", b"x")
        await asyncio.sleep(0.1)

        async with asyncio.timeout(5.0):
            assert not await servers.until_replaced(BUCKET, 0.05)

    run(scene)


def test_no_command_waits_for_the_successor_of_a_server_that_stands_alone() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.replaces = False
        fake.away.add(B)
        with pytest.raises(ServerAway):
            await servers.command(BUCKET, "GET", b"x")

        assert not await servers.until_replaced(BUCKET, 60.0)

    run(scene)


def test_an_end_leaves_no_command_waiting() -> None:
    async def scene(fake: FakeCluster, servers: Servers) -> None:
        fake.hanging.add(B)
        waiting = [asyncio.create_task(servers.command(BUCKET, "GET", b"x")) for _ in range(700)]
        await asyncio.sleep(0)

        await servers.stop()

        async with asyncio.timeout(5.0):
            for one in waiting:
                with pytest.raises((ServerAway, asyncio.CancelledError)):
                    await one

    run(scene)
