"""Hubs that share a registry give the same answers."""

from __future__ import annotations

import asyncio
import struct
import time

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.store import stored_rows
from lispmob.hub.store.embedded import EmbeddedRegistry
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.registry import SharedRegistry
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer
from lispmob.protocol.effect import SendControl
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from tests.hub.exchange import eid, rlocs_of, site
from tests.hub.map_server.test_names import ask as ask_for_name
from tests.hub.map_server.test_names import register as name_register
from tests.hub.registry.rig import LAPTOP, SILENCE_S, TestHub, ValkeyGround, laptop, run, until


async def hubs(cluster: ValkeyCluster, count: int = 2) -> list[TestHub]:
    ground = ValkeyGround(cluster)
    return [await ground.hub(name=f"hub {number}") for number in range(count)]


def counter(hub: TestHub, name: str) -> int:
    assert hub.registry is not None
    return hub.registry.counters.get(name, 0)


def shared_lengths(hub: TestHub) -> list[int]:
    """The lengths of the prefixes that a hub looks up for an answer about a host."""
    assert isinstance(hub.registry, SharedRegistry)
    found = hub.registry.looked_up_for(eid("10.1.0.1/32"))
    return [prefix.mask_len for prefix in found if prefix.mask_len > 16]


async def stop(*some: TestHub) -> None:
    for hub in some:
        await hub.stop()


def spoil(cluster: ValkeyCluster, prefix: str, ago_s: float = 1.0) -> None:
    """Let a registration expire so long ago, as if its node had been silent."""
    bucket, name = keys.bucket_of(eid(prefix)), stored_rows.key_of(eid(prefix))
    server = cluster.owner_of(str(bucket))
    key, at = keys.key(b"r", bucket, name), time.time() - ago_s
    value = server.ask("GET", key)
    server.ask("SET", key, value[:2] + struct.pack(">d", at) + value[10:], "PX", 30_000)
    server.ask("ZADD", keys.key(b"x", bucket), repr(at), name)


def test_a_move_at_one_hub_is_in_the_answers_of_the_others(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other, third = await hubs(cluster, 3)
        await one.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        looked_up = other.registry.counters["registry_looked_up"] if other.registry is not None else 0

        await third.register(laptop("203.0.113.6").register(LAPTOP))
        await until(lambda: other.changes[-1].record and rlocs_of(other.changes[-1].record) == ["203.0.113.6"])

        assert await other.places(LAPTOP) == ["203.0.113.6"]
        assert await one.places(LAPTOP) == ["203.0.113.6"]
        assert other.registry is not None
        assert other.registry.counters["registry_looked_up"] == looked_up, "it was told"
        await stop(one, other, third)

    run(scene())


def test_a_replay_at_another_hub_is_refused(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        node = laptop()
        recorded = node.register(LAPTOP, rlocs=["192.0.2.66"])
        await one.register(recorded)
        await one.register(node.register(LAPTOP))

        refused = await other.register(recorded, SILENCE_S)

        assert refused is None
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        assert await one.places(LAPTOP) == ["203.0.113.5"]
        await stop(one, other)

    run(scene())


def test_of_one_nonce_at_two_hubs_at_once_one_counts(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        here = laptop().register(LAPTOP, nonce=1000)
        there = laptop("203.0.113.66").register(LAPTOP, nonce=1000)

        answers = await asyncio.gather(one.register(here, 1.0), other.register(there, 1.0))

        assert sum(answer is not None for answer in answers) == 1
        assert await one.places(LAPTOP) == await other.places(LAPTOP)
        await stop(one, other)

    run(scene())


def test_an_answer_that_there_is_nothing_is_corrected_at_once(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop(name=b"o" * 16).register("10.1.1.1/32"))
        assert await other.places(LAPTOP) == []

        await one.register(laptop().register(LAPTOP))
        await until(lambda: other.changes)

        assert await other.places(LAPTOP) == ["203.0.113.5"]
        await stop(one, other)

    run(scene())


def test_a_node_that_asked_another_hub_is_told_of_a_new_registration(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop(name=b"o" * 16).register("10.1.1.1/32"))
        assert await other.places(LAPTOP) == []
        first = len(other.sent)

        await one.register(laptop().register(LAPTOP))
        await until(lambda: any(_is_smr(message) for message in other.sent[first:]))

        await stop(one, other)

    run(scene())


def _is_smr(message: SendControl) -> bool:
    return message.payload[0] >> 4 == 1 and MapRequest.decode(message.payload).is_smr


def test_the_first_prefix_of_a_new_length_is_found_by_all(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        assert await other.places("10.1.9.8/32") == []

        for length in (30, 24, 20):
            await one.register(laptop("203.0.113.7", bytes((length,)) * 16).register(f"10.1.0.0/{length}"))

        await until(lambda: len(shared_lengths(other)) == 4)
        assert await other.places("10.1.0.1/32") == ["203.0.113.7"]
        assert await other.places("10.1.0.77/32") == ["203.0.113.7"]
        assert await other.places("10.1.9.9/32") == ["203.0.113.5"]
        await stop(one, other)

    run(scene())


def test_a_withdrawal_at_one_hub_counts_at_the_other(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]

        assert await one.register(laptop().withdraw(LAPTOP)) is not None
        await until(lambda: other.changes[-1].record is None)

        assert await other.places(LAPTOP) == []
        await stop(one, other)

    run(scene())


def test_two_nodes_with_one_eid_at_two_hubs_are_told_apart(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))

        denied = await other.register(laptop("203.0.113.66", b"t" * 16).register(LAPTOP))

        assert denied is not None
        assert "203.0.113.5" in rlocs_of(denied.records[0])
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        await stop(one, other)

    run(scene())


def test_xtrs_at_different_hubs_are_merged(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)

        async def register(hub: TestHub, number: int) -> None:
            node = laptop(f"203.0.113.{number}", bytes((number,)) * 16)
            assert await hub.register(node.register(LAPTOP, wants_merge=True)) is not None

        await asyncio.gather(*(register(hub, number) for number in range(1, 5) for hub in [(one, other)[number % 2]]))

        wanted = [f"203.0.113.{number}" for number in range(1, 5)]
        await until(lambda: len(one.changes) + len(other.changes) >= 4)
        assert sorted(await one.places(LAPTOP) or ()) == wanted
        assert sorted(await other.places(LAPTOP) or ()) == wanted
        await stop(one, other)

    run(scene())


def test_what_ran_out_is_ended_by_one_hub_and_heard_by_all(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]

        spoil(cluster, LAPTOP)
        await until(lambda: other.changes[-1].record is None)

        assert await other.places(LAPTOP) == []
        assert await one.places(LAPTOP) == []
        await until(lambda: sum(counter(hub, "registry_ended") for hub in (one, other)))
        assert sum(counter(hub, "registry_ended") for hub in (one, other)) == 1
        await stop(one, other)

    run(scene())


def test_when_the_keeper_of_a_bucket_dies_another_hub_takes_its_lease(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        await one.stop()

        spoil(cluster, LAPTOP)
        await until(lambda: other.changes[-1].record is None)

        assert await other.places(LAPTOP) == []
        await other.stop()

    run(scene())


def test_a_refresh_at_another_hub_keeps_a_registration_alive(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        bucket, name = keys.bucket_of(eid(LAPTOP)), stored_rows.key_of(eid(LAPTOP))
        server = cluster.owner_of(str(bucket))

        await other.register(laptop().register(LAPTOP))
        server.ask("ZADD", keys.key(b"x", bucket), repr(time.time() - 1), name)  # so that it is checked next
        await until(lambda: float(server.ask("ZSCORE", keys.key(b"x", bucket), name)) > time.time() + 100)

        assert await one.places(LAPTOP) == ["203.0.113.5"]
        await stop(one, other)

    run(scene())


def test_a_hub_that_missed_messages_catches_up(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        bucket = keys.bucket_of(eid(LAPTOP))
        server = cluster.owner_of(str(bucket))

        # A change that was written and not received: the next one's number is too large by one.
        server.ask("INCR", keys.key(b"q", bucket))
        await one.register(laptop("203.0.113.7").register(LAPTOP))
        assert other.registry is not None
        await until(lambda: other.registry is not None and other.registry.counters.get("registry_gaps"))

        assert await other.places(LAPTOP) == ["203.0.113.7"]
        await stop(one, other)

    run(scene())


def test_a_hub_whose_connections_break_hears_what_it_missed(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]

        for server in cluster.servers[:3]:
            server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await one.register(laptop("203.0.113.8").register(LAPTOP))
        await until(lambda: getattr(other.registry, "is_ready", False))

        assert await other.places(LAPTOP) == ["203.0.113.8"]
        await stop(one, other)

    run(scene())


def test_a_hub_that_forwards_data_knows_all_and_follows_it(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        (one,) = await hubs(cluster, 1)
        for number in range(20):
            await one.register(laptop(name=bytes((number,)) * 16).register(f"10.1.2.{number}/32"))
        rtr = await ValkeyGround(cluster).hub(is_rtr=True)
        await until(lambda: len(rtr.plane.map_server.registrations) == 20)

        await one.register(laptop("203.0.113.9", bytes((3,)) * 16).register("10.1.2.3/32"))
        await one.register(laptop(name=bytes((4,)) * 16).withdraw("10.1.2.4/32"))
        await until(lambda: len(rtr.plane.map_server.registrations) == 19)

        moved = [change for change in rtr.changes if str(change.prefix) == "10.1.2.3/32"]
        assert moved[-1].record is not None
        assert rlocs_of(moved[-1].record) == ["203.0.113.9"]
        await stop(one, rtr)

    run(scene())


def test_memory_is_bounded_and_what_was_forgotten_is_read_again(server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(server).hub(cache_limit=1000)

        for number in range(1100):
            hub.receive(laptop(name=number.to_bytes(16)).register(f"10.1.{number // 256}.{number % 256}/32"))
        await until(lambda: len(hub.sent) == 1100)

        assert len(hub.plane.map_server.registrations) == 1000
        assert await hub.places("10.1.0.0/32") == ["203.0.113.5"]
        assert len(hub.plane.map_server.registrations) == 1000
        await hub.stop()

    run(scene())


def test_a_flood_of_questions_asks_the_servers_no_more_than_its_share(server: ValkeyServer) -> None:
    async def scene() -> None:
        hub = await ValkeyGround(server).hub()
        await hub.register(laptop().register(LAPTOP))

        from tests.hub.exchange import ask

        for number in range(2000):
            hub.receive(ask(f"10.1.{number // 256}.{number % 256}/32", nonce=number + 1))
        await asyncio.sleep(SILENCE_S)

        assert hub.registry is not None
        assert hub.registry.counters["registry_looked_up"] <= 130
        await hub.stop()

    run(scene())


def test_hubs_with_different_sites_say_so(server: ValkeyServer) -> None:
    async def scene() -> None:
        ground = ValkeyGround(server)
        one = await ground.hub(name="north")
        other = await ground.hub([site("10.1.0.0/16", name="other")], name="south")

        await until(lambda: getattr(one.registry, "differing", None) == frozenset({"south"}))

        await stop(other, one)

    run(scene())


def test_what_the_servers_hold_does_not_depend_on_a_hubs_calendar(server: ValkeyServer) -> None:
    async def scene() -> None:
        ground = ValkeyGround(server)
        one, other = await ground.hub(), await ground.hub()
        loop = asyncio.get_running_loop()
        await one.register(laptop().register(LAPTOP))

        assert await other.places(LAPTOP) == ["203.0.113.5"]
        registered = other.plane.map_server.registrations.get(eid(LAPTOP))
        assert registered is not None
        assert 170 < registered.expires_at - loop.time() <= 180
        await stop(one, other)

    run(scene())


def test_a_register_that_a_relay_of_ours_brings_is_committed_too(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        rtr = await ValkeyGround(cluster).hub(is_rtr=True)
        (other,) = await hubs(cluster, 1)
        inner = laptop("192.168.1.2").register(LAPTOP, rlocs=["198.51.100.1"])
        from ipaddress import IPv4Address

        from lispmob.wire.ecm import EncapsulatedControl

        ecm = EncapsulatedControl(IPv4Address("192.168.1.2"), 4342, inner.destination, 4342, inner.payload, to_rtr=True)
        rtr.receive(Arrival(ecm.encode(), IPv4Address("203.0.113.99"), 30000, inner.destination))
        await until(lambda: len(rtr.plane.map_server.registrations) == 1)

        assert await other.places(LAPTOP) != []
        await stop(rtr, other)

    run(scene())


def eids_of(hub: TestHub, name: bytes) -> list[str]:
    """The EIDs of a name, which every hub has in memory."""
    hub.receive(ask_for_name(name))
    return rlocs_of(MapReply.decode(hub.sent[-1].payload).records[0])


def test_a_name_that_one_hub_is_told_of_is_known_to_all(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        sites = [site("10.99.0.0/24", "2001:db8:1::/48", names=("nas", "store"))]
        ground = ValkeyGround(cluster)
        one, other = await ground.hub(sites), await ground.hub(sites)
        recorded = name_register("nas", eids=("10.99.0.66",))
        one.receive(recorded)
        one.receive(name_register("nas", eids=("10.99.0.2",)))
        one.receive(name_register("store", eids=("10.99.0.3",)))

        await until(lambda: counter(other, "registry_names_heard") == 3)
        other.receive(recorded)
        late = await ground.hub(sites)
        await until(lambda: counter(late, "registry_names_heard") == 2)

        for hub in (one, other, late):
            assert eids_of(hub, b"nas") == ["10.99.0.2"]
            assert eids_of(hub, b"store") == ["10.99.0.3"]
        assert other.plane.counters["rx_replay"] == 1, "at every hub"
        await stop(one, other, late)

    run(scene())


def test_a_node_that_asked_is_told_of_a_node_that_this_hub_no_longer_has_in_memory(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        one, other = await hubs(cluster)
        await one.register(laptop().register(LAPTOP))
        assert await other.places(LAPTOP) == ["203.0.113.5"]
        assert isinstance(other.registry, SharedRegistry)
        other.registry.forget(eid(LAPTOP))
        first = len(other.sent)

        await one.register(laptop().withdraw(LAPTOP))
        await one.register(laptop("203.0.113.8").register(LAPTOP))
        await until(lambda: any(_is_smr(message) for message in other.sent[first:]))

        assert await other.places(LAPTOP) == ["203.0.113.8"]
        await stop(one, other)

    run(scene())


def test_a_hub_without_a_file_keeps_nothing_to_be_written() -> None:
    async def scene() -> None:
        hub = TestHub()
        hub.registry = EmbeddedRegistry(hub.plane, hub.feed, None)
        await hub.registry.start()
        for number in range(50):
            await hub.register(laptop(name=bytes((number,)) * 16).register(f"10.1.2.{number}/32"))
            await hub.places(f"10.1.2.{number}/32")

        assert not hub.plane.map_server.has_new_nonces
        assert not hub.plane.askers.has_changes
        await hub.stop()

    run(scene())
