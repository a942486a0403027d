"""A cluster that loses servers or moves slots: the rest serves, and no registration is lost."""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Iterator

import pytest

from lispmob.hub.valkey import keys
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer
from tests.hub.exchange import eid
from tests.hub.registry.rig import (
    LAPTOP,
    SILENCE_S,
    ValkeyGround,
    laptop,
    pair_of,
    primary_of,
    problem,
    run,
    shared,
    until,
    until_put_again,
)


@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.1, 0.3])
def test_a_hub_that_has_just_begun_can_end(cluster: ValkeyCluster, pause_s: float) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(cluster).hub(is_ready=False)
        await asyncio.sleep(pause_s)

        async with asyncio.timeout(10.0):
            await hub.stop()

        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []

    run(scene())


def test_half_a_cluster_serves_its_half_and_the_other_is_named(breakable: ValkeyCluster) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(breakable).hub(is_island_allowed=False)
        primary, replica = pair_of(breakable)
        mates = [f"10.1.1.{number}/32" for number in range(40)]
        theirs = [mate for mate in mates if primary_of(breakable, mate) is not primary]
        replica.kill()
        primary.kill()

        refused = await hub.register(laptop().register(LAPTOP), SILENCE_S)
        taken = await hub.register(laptop(name=b"t" * 16).register(theirs[0]))
        await until(lambda: " of 1024 parts" in problem(hub))

        assert refused is None
        assert taken is not None
        assert str(primary) in problem(hub)
        assert await hub.places(theirs[0]) == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_writes_that_a_dead_primary_kept_to_itself_are_put_again(breakable: ValkeyCluster) -> None:
    async def scene() -> None:
        ground = ValkeyGround(breakable)
        hub, other = await ground.hub(), await ground.hub()
        await hub.register(laptop().register(LAPTOP))
        primary, replica = pair_of(breakable)
        replica.freeze()
        assert await hub.register(laptop("203.0.113.6").register(LAPTOP)) is not None
        primary.kill()
        replica.thaw()

        await until_put_again(hub, other)

        assert primary_of(breakable) is replica
        assert await other.places(LAPTOP) == ["203.0.113.6"]
        assert await hub.places(LAPTOP) == ["203.0.113.6"]
        await hub.stop()
        await other.stop()

    run(scene())


def test_a_slot_that_moves_loses_nothing_and_refuses_no_register(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        ground = ValkeyGround(cluster)
        hub, other = await ground.hub(), await ground.hub()
        bucket = keys.bucket_of(eid(LAPTOP))
        await hub.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        source = primary_of(cluster)
        target = next(
            server
            for server in cluster.servers
            if server is not source and b"role:master" in server.ask("INFO", "replication")
        )

        answers = [
            await hub.register(laptop(f"203.0.113.{number}").register(LAPTOP))
            for number in moving(bucket, source, target)
        ]
        await until(lambda: shared(hub).is_ready and shared(other).is_ready)
        await hub.register(laptop("203.0.113.99").register(LAPTOP))
        await until(lambda: other.changes[-1].record is not None)

        assert all(answer is not None for answer in answers)
        assert primary_of(cluster) is target
        assert await other.places(LAPTOP) == ["203.0.113.99"]
        await hub.stop()
        await other.stop()

    run(scene())


def moving(bucket: int, source: ValkeyServer, target: ValkeyServer) -> Iterator[int]:
    """The steps by which redis-cli moves a slot; nodes register between them."""
    slot = crc_hqx(str(bucket).encode(), 0) % 16384
    names = {server: server.ask("CLUSTER", "MYID") for server in (source, target)}
    yield 20
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    yield 21
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    yield 22
    found = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000)
    source.ask("MIGRATE", target.address, target.port, "", 0, 5000, "KEYS", *found)
    yield 23
    for server in (target, source):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", names[target])
    yield 24
