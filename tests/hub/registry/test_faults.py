"""Faults of a registry's servers: the log names each in a sentence, and nodes notice as little as possible."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from lispmob.hub.valkey import keys
from lispmob.lab.valkey import ValkeyServer
from tests.hub.exchange import eid
from tests.hub.registry.rig import LAPTOP, SILENCE_S, ValkeyGround, laptop, problem, run, shared, until


def test_servers_that_are_away_at_the_start_are_found_later(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(own_server).hub(is_ready=False, is_island_allowed=False)
        told = problem(hub)
        refused = await hub.register(laptop().register(LAPTOP), SILENCE_S)
        asked = await hub.places(LAPTOP, SILENCE_S)

        own_server.start().wait()
        await until(lambda: shared(hub).is_ready)

        assert f"{own_server} cannot be reached" in told
        assert (refused, asked) == (None, None), "it says nothing that it does not know"
        assert await hub.register(laptop().register(LAPTOP)) is not None
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        assert problem(hub) == ""
        await hub.stop()

    run(scene())


def test_a_server_that_stands_still_delays_no_node_for_long(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        hub = await ValkeyGround(own_server).hub(is_island_allowed=False)
        own_server.freeze()
        try:
            assert await hub.register(laptop().register(LAPTOP), SILENCE_S) is None
            await until(lambda: "answered nothing" in problem(hub) or "does not answer" in problem(hub))
            await until(lambda: not shared(hub)._tasks or shared(hub).counters.get("registry_silent"))
        finally:
            own_server.thaw()
        await until(lambda: shared(hub).is_ready)
        assert await hub.register(laptop().register(LAPTOP)) is not None
        await hub.stop()

    run(scene())


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk that is full is made by mounting one: needs root")
def test_a_full_disk_is_said_and_nodes_go_on(own_server: ValkeyServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "lispmob-full", str(disk)], check=True)
    try:
        small = ValkeyServer(
            disk, own_server.address, own_server.port, ["--appendonly", "yes", "--appendfsync", "everysec"]
        )
        small.start().wait()
        try:
            run(_fill(small))
        finally:
            small.kill()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


async def _fill(small: ValkeyServer) -> None:
    hub = await ValkeyGround(small).hub()
    assert await hub.register(laptop().register(LAPTOP)) is not None
    for number in range(200):
        if str(small.ask("SET", f"waste{number}", b"w" * 4096)).startswith("-MISCONF"):
            break

    await hub.register(laptop("203.0.113.6").register(LAPTOP), SILENCE_S)
    await asyncio.sleep(0.6)
    taken = await hub.register(laptop("203.0.113.7").register(LAPTOP))

    assert "disk" in problem(hub)
    assert taken is not None, "an island"
    assert await hub.places(LAPTOP) == ["203.0.113.7"]
    await hub.stop()


def test_a_registry_of_a_newer_version_is_left_alone(server: ValkeyServer) -> None:
    async def scene() -> None:
        server.ask("SET", keys.VERSION_KEY + b"{0}", "2")
        hub = await ValkeyGround(server).hub(is_ready=False)
        before = server.ask("DBSIZE")

        await hub.register(laptop().register(LAPTOP), SILENCE_S)
        await asyncio.sleep(0.6)
        taken = await hub.register(laptop("203.0.113.7").register(LAPTOP))

        assert "version 2" in problem(hub)
        assert "upgrade" in problem(hub)
        assert taken is not None
        assert server.ask("DBSIZE") == before
        await hub.stop()
        server.ask("DEL", keys.VERSION_KEY + b"{0}")

    run(scene())


def test_values_that_are_damaged_are_counted_and_replaced(server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(server).hub()
        await hub.register(laptop().register(LAPTOP))
        bucket = keys.bucket_of(eid(LAPTOP))
        (name,) = server.ask("ZRANGE", keys.key(b"x", bucket), 0, -1)
        for damaged in (b"\xff\xff", b"\x00\x01x"):
            server.ask("SET", keys.key(b"r", bucket, name), damaged)
            other = await ValkeyGround(server).hub()
            assert await other.places(LAPTOP) == []
            await other.stop()

        acknowledged = await hub.register(laptop("203.0.113.8").register(LAPTOP))

        assert acknowledged is not None
        await hub.stop()

    run(scene())


def test_octets_that_are_no_message_are_counted(server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(server).hub()
        for octets in (b"", b"x", b"\x00" * 27, b"\xff" * 40):
            server.ask("SPUBLISH", keys.channel_of(7), octets)

        await until(lambda: shared(hub).counters.get("registry_unread") == 4)

        assert await hub.register(laptop().register(LAPTOP)) is not None
        await hub.stop()

    run(scene())
