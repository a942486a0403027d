"""A hub whose servers are away serves from memory, and brings home what it took in (docs/glossary.md: island)."""

from __future__ import annotations

import asyncio

import pytest

from lispmob.hub.map_server.commit import Prepared
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer
from tests.hub.exchange import eid
from tests.hub.registry.rig import (
    LAPTOP,
    SILENCE_S,
    ValkeyGround,
    laptop,
    pair_of,
    primary_of,
    run,
    shared,
    until,
    until_put_again,
)


def test_an_island_takes_registers_in_and_brings_them_home(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        ground = ValkeyGround(own_server)
        hub = await ground.hub()
        await hub.register(laptop().register(LAPTOP))
        own_server.kill()
        await hub.register(laptop("203.0.113.6").register(LAPTOP), SILENCE_S)
        await asyncio.sleep(0.5)

        taken = await hub.register(laptop("203.0.113.7").register(LAPTOP))
        newcomer = await hub.register(laptop(name=b"n" * 16).register("10.1.1.1/32"))
        answered = await hub.places(LAPTOP)
        unknown = await hub.places("10.1.200.200/32", SILENCE_S)
        own_server.start().wait()
        await until(lambda: shared(hub).counters["registry_island"] == 0)
        await until(lambda: shared(hub).is_ready)
        other = await ground.hub()

        assert taken is not None
        assert newcomer is not None
        assert answered == ["203.0.113.7"]
        assert unknown is None, "another hub may know it"
        assert await other.places(LAPTOP) == ["203.0.113.7"]
        assert await other.places("10.1.1.1/32") == ["203.0.113.5"]
        await hub.stop()
        await other.stop()

    run(scene())


def test_what_an_island_took_in_gives_way_to_newer_registers(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        ground = ValkeyGround(own_server)
        hub = await ground.hub()
        node = laptop()
        await hub.register(node.register(LAPTOP))
        own_server.freeze()
        await hub.register(node.register(LAPTOP), 1.5)
        await asyncio.sleep(0.5)
        island = laptop("203.0.113.6").register(LAPTOP)
        newer = laptop("203.0.113.9").register(LAPTOP)
        assert await hub.register(island) is not None
        own_server.thaw()
        other = await ground.hub()
        assert await other.register(newer) is not None

        await until(lambda: shared(hub).counters["registry_island"] == 0)
        await until(lambda: shared(hub).is_ready)

        assert await hub.places(LAPTOP) == ["203.0.113.9"]
        assert await other.places(LAPTOP) == ["203.0.113.9"]
        await hub.stop()
        await other.stop()

    run(scene())


def test_an_island_refuses_what_it_knows_to_be_old(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        hub = await ValkeyGround(own_server).hub()
        node = laptop()
        recorded = node.register(LAPTOP, rlocs=["192.0.2.66"])
        await hub.register(recorded)
        await hub.register(node.register(LAPTOP))
        own_server.kill()
        await hub.register(recorded, SILENCE_S)
        await asyncio.sleep(0.5)

        refused = await hub.register(recorded, SILENCE_S)

        assert refused is None
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_a_hub_that_may_be_no_island_stays_silent(own_server: ValkeyServer) -> None:
    async def scene() -> None:
        own_server.start().wait()
        hub = await ValkeyGround(own_server).hub(is_island_allowed=False)
        await hub.register(laptop().register(LAPTOP))
        own_server.kill()
        await hub.register(laptop().register(LAPTOP), SILENCE_S)
        await asyncio.sleep(0.6)

        refused = await hub.register(laptop("203.0.113.6").register(LAPTOP), SILENCE_S)

        assert refused is None
        assert await hub.places(LAPTOP) == ["203.0.113.5"], "what it knows it answers until that runs out"
        assert shared(hub).counters["registry_silent"] == 2
        await hub.stop()

    run(scene())


def test_what_an_island_brought_home_is_put_again_when_that_home_dies(breakable: ValkeyCluster) -> None:
    async def scene() -> None:
        ground = ValkeyGround(breakable)
        hub, other = await ground.hub(), await ground.hub()
        primary, replica = pair_of(breakable)
        wanted = hub.plane.prepare(laptop("203.0.113.6").register(LAPTOP), asyncio.get_running_loop().time())
        assert isinstance(wanted, Prepared)
        (taken,) = wanted.puts
        shared(hub)._island[taken.prefix, taken.part.xtr] = taken
        replica.freeze()
        await until(lambda: not shared(hub).counters["registry_island"])
        primary.kill()
        replica.thaw()

        await until_put_again(hub, other)

        assert primary_of(breakable) is replica
        assert await other.places(LAPTOP) == ["203.0.113.6"]

    run(scene())


class SkewedLoop(asyncio.SelectorEventLoop):
    """The event loop of a machine whose clock differs."""

    def __init__(self, ahead_s: float) -> None:
        super().__init__()
        self._ahead_s = ahead_s

    def time(self) -> float:
        return super().time() + self._ahead_s


@pytest.mark.parametrize("ahead_s", [-30_000.0, 365 * 86_400.0])
def test_a_hub_with_a_clock_of_its_own_sees_how_long_what_another_took_in_is_good_for(
    server: ValkeyServer, ahead_s: float
) -> None:
    async def take_in() -> None:
        hub = await ValkeyGround(server).hub()
        assert await hub.register(laptop().register(LAPTOP)) is not None

    async def look() -> None:
        hub = await ValkeyGround(server).hub()
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        registration = hub.plane.map_server.registrations.get(eid(LAPTOP))
        assert registration is not None
        (part,) = registration
        assert 100 < part.expires_at - asyncio.get_running_loop().time() <= 180
        assert await hub.register(laptop("203.0.113.6").register("10.1.7.7/32")) is not None
        await hub.stop()

    run(take_in())
    with asyncio.Runner(loop_factory=lambda: SkewedLoop(ahead_s)) as runner:
        runner.run(look())

    async def look_again() -> None:
        hub = await ValkeyGround(server).hub()
        assert await hub.places("10.1.7.7/32") == ["203.0.113.6"]

    run(look_again())
