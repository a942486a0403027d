"""Publish/subscribe (RFC 9437) where several hubs share a registry: which one publishes, and that no move is missed."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address

import msgspec
import pytest

from lispmob.errors import AuthenticationFailed
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.site import Site
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.housekeeping import HUBS, Presence
from lispmob.hub.valkey.registry import SharedRegistry
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer
from lispmob.protocol.effect import SendControl
from lispmob.wire.auth import Key, sign, verify
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.hub.exchange import HUB, KEY, Xtr, eid, site, xtr
from tests.hub.publishing.subscriber import MOVER, Subscriber, mover, rlocs
from tests.hub.registry.rig import SILENCE_S, TestHub, ValkeyGround, run, until

pytestmark = needs_libcrypto

SITES = (site("10.1.0.0/16"),)
WITHIN_S = 30.0  # a silent hub counts as gone after ten seconds; a lease lasts three
ISLAND_S = 0.7  # silence, until a hub of these tests is an island
OTHER = ip_address("198.51.100.2")


async def hubs(cluster: ValkeyCluster, count: int = 2, sites: tuple[Site, ...] = SITES) -> list[TestHub]:
    ground = ValkeyGround(cluster)
    return [await ground.hub(sites, name=f"hub {number}", wrap=KEY_WRAP) for number in range(count)]


def signed(hub: TestHub, one: Subscriber) -> list[SendControl]:
    """What a hub has sent to a subscriber, signed with its current key."""
    found = []
    for sent in hub.sent:
        if sent.payload[0] >> 4 == 4 and str(sent.destination) == one.address:
            try:
                verify(sent.payload, Key(one.secret, one.key.key_id))
            except AuthenticationFailed:
                continue
            found.append(sent)
    return found


def latest(hub: TestHub, one: Subscriber) -> MapNotify:
    return MapNotify.decode(signed(hub, one)[-1].payload)


def acknowledge(hub: TestHub, one: Subscriber) -> None:
    notify = latest(hub, one)
    payload = sign(MapNotifyAck(notify.nonce, notify.records), Key(one.secret, one.key.key_id))
    hub.receive(Arrival(payload, ip_address(one.address), 4342, HUB))


async def subscriber(hub: TestHub, asked: str = MOVER, registered_at: TestHub | None = None) -> Subscriber:
    """A node that is registered, with an accepted subscription."""
    one = Subscriber(hub.plane)
    register = Xtr(ip_address(one.address), KEY, xtr_id=one.xtr_id).register(one.own)
    assert await (registered_at or hub).register(register) is not None
    await subscribe(hub, one, asked)
    return one


async def subscribe(hub: TestHub, one: Subscriber, asked: str = MOVER) -> Arrival:
    arrival = one.arrival(one.request(asked))
    hub.receive(arrival)
    await until(lambda: signed(hub, one))
    acknowledge(hub, one)
    await settled(hub)
    return arrival


async def settled(*some: TestHub) -> None:
    for hub in some:
        assert hub.registry is not None
        await hub.registry.settle()


def number_of(hub: TestHub) -> int:
    assert isinstance(hub.registry, SharedRegistry)
    return int.from_bytes(hub.registry._subscriptions._hub)


def stored(cluster: ValkeyCluster, prefix: str = MOVER) -> list[bytes]:
    """The values of subscriptions in the bucket of an EID-Prefix."""
    bucket = keys.bucket_of(eid(prefix))
    return list(cluster.owner_of(str(bucket)).ask("HVALS", keys.key(b"s", bucket)))


async def kill(cluster: ValkeyCluster, hub: TestHub) -> None:
    """The hub becomes silent, and what it has written about itself stays until it expires."""
    number = number_of(hub)
    await hub.stop()
    presence = msgspec.json.encode(Presence("killed", "", time.time() - 5))
    cluster.owner_of("0").ask("HSET", HUBS, str(number), presence)


def test_a_move_registered_at_one_hub_is_published_by_the_one_that_was_asked(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await there.register(mover("203.0.113.5"))
        one = await subscriber(here)
        confirmed = latest(here, one)

        await there.register(mover("198.51.100.99"))
        await until(lambda: rlocs(latest(here, one)) == ["198.51.100.99"])

        assert latest(here, one).nonce == confirmed.nonce + 1
        await asyncio.sleep(SILENCE_S)
        assert signed(there, one) == []
        assert len(signed(here, one)) == 2, "once"

    run(scene())


def test_a_move_before_the_hub_hears_of_moves_is_published_as_soon_as_it_does(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        registry = here.registry
        assert isinstance(registry, SharedRegistry)
        await there.register(mover("203.0.113.5"))
        bucket, channels = keys.bucket_of(eid(MOVER)), registry._channels
        channels._drop(bucket)  # as at a start: nothing of the bucket is known, and its channel is not confirmed yet
        registry._cache.drop_bucket(bucket)
        one = await subscriber(here)

        await there.register(mover("198.51.100.99"))
        await asyncio.sleep(SILENCE_S)
        assert len(signed(here, one)) == 1
        channels.on_moved(())

        await until(lambda: rlocs(latest(here, one)) == ["198.51.100.99"])
        await until(lambda: len(registry._current) == keys.BUCKETS)
        assert len(signed(here, one)) == 2, "once"

    run(scene())


def test_a_subscriber_that_is_registered_at_another_hub_may_subscribe(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await there.register(mover("203.0.113.5"))

        one = await subscriber(here, registered_at=there)

        assert rlocs(latest(here, one)) == ["203.0.113.5"]

    run(scene())


def test_a_withdrawal_at_another_hub_is_published_where_the_mapping_is_not_in_memory(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await there.register(mover("203.0.113.5"))
        one = await subscriber(here)
        assert isinstance(here.registry, SharedRegistry)
        here.registry.forget(eid(MOVER))

        await there.register(mover("203.0.113.5", ttl_min=0))
        await until(lambda: len(signed(here, one)) == 2)

        assert latest(here, one).records[0].ttl_min == 0

    run(scene())


def test_a_registration_around_a_narrower_one_is_not_said_to_hold_for_it(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await there.register(mover("203.0.113.5"))
        one = await subscriber(here)
        assert isinstance(here.registry, SharedRegistry)
        for hub in (here, there):
            here.registry.forget(eid(MOVER))
            await hub.register(xtr("198.51.100.66", xtr_id=b"w" * 16).register("10.1.0.0/24"))
            await hub.register(xtr("198.51.100.67", xtr_id=b"w" * 16).register("10.1.0.0/24"))
            await asyncio.sleep(SILENCE_S)

        assert len(signed(here, one)) == 1

    run(scene())


def test_a_node_that_subscribes_at_another_hub_is_forgotten_by_the_former_one(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)

        await subscribe(there, one)
        await until(lambda: not len(here.plane.publisher))
        sent = len(here.sent)
        await here.register(mover("198.51.100.99"))
        await until(lambda: rlocs(latest(there, one)) == ["198.51.100.99"])

        assert [out for out in here.sent[sent:] if str(out.destination) == one.address] == []
        assert len(stored(cluster)) == 1

    run(scene())


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_when_a_hub_is_gone_another_one_publishes_in_its_place_with_greater_nonces(
    cluster: ValkeyCluster, end: str
) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        there.plane.on_addresses([OTHER])
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)
        await here.register(mover("203.0.113.6"))
        await until(lambda: rlocs(latest(here, one)) == ["203.0.113.6"])
        before = latest(here, one).nonce
        await settled(here)
        await (kill(cluster, here) if end == "killed" else here.stop())

        await there.register(mover("203.0.113.7"))  # while no hub publishes
        await until(lambda: signed(there, one), WITHIN_S)
        caught_up = latest(there, one)
        sent = signed(there, one)[0]
        acknowledge(there, one)
        await there.register(mover("203.0.113.8"))
        await until(lambda: rlocs(latest(there, one)) == ["203.0.113.8"])

        assert rlocs(caught_up) == ["203.0.113.7"]
        assert before < caught_up.nonce < latest(there, one).nonce
        assert sent.source == OTHER
        assert [value[:8] for value in stored(cluster)] == [number_of(there).to_bytes(8)]

    run(scene())


def test_of_two_hubs_that_are_left_one_takes_a_subscription_over(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there, third = await hubs(cluster, 3)
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)
        await here.stop()

        await until(lambda: len(there.plane.publisher) + len(third.plane.publisher), WITHIN_S)
        await there.register(mover("203.0.113.7"))
        await until(
            lambda: any(rlocs(latest(hub, one)) == ["203.0.113.7"] for hub in (there, third) if signed(hub, one))
        )
        await asyncio.sleep(SILENCE_S)

        assert len(there.plane.publisher) + len(third.plane.publisher) == 1
        assert sorted(bool(signed(hub, one)) for hub in (there, third)) == [False, True]

    run(scene())


def test_a_hub_that_was_thought_gone_stops_publishing(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)
        assert isinstance(there.registry, SharedRegistry)

        await there.registry._subscriptions.take_over([keys.bucket_of(eid(MOVER))], frozenset())
        await until(lambda: not len(here.plane.publisher))
        await here.register(mover("203.0.113.7"))
        await until(lambda: rlocs(latest(there, one)) == ["203.0.113.7"])

        assert len(signed(here, one)) == 1

    run(scene())


def test_a_recorded_subscription_that_is_played_at_another_hub_changes_nothing(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)
        recorded = await subscribe(here, one)
        recorded_secret = one.secret
        await subscribe(here, one)
        former = stored(cluster)

        there.receive(recorded)
        await until(lambda: there.registry and there.registry.counters.get("registry_subscription_replays"))

        assert len(there.plane.publisher) == 0
        assert stored(cluster) == former
        assert one.secret != recorded_secret
        await there.register(mover("203.0.113.7"))
        await until(lambda: rlocs(latest(here, one)) == ["203.0.113.7"])

    run(scene())


def test_the_servers_hold_no_key_of_a_subscription(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        (here,) = await hubs(cluster, 1)
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)

        (value,) = stored(cluster)

        assert one.secret not in value
        assert ip_address(one.address).packed in value, "it is the subscription"

    run(scene())


def test_a_hub_without_the_site_takes_nothing_of_it_over(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        (here,) = await hubs(cluster, 1)
        (stranger,) = await hubs(cluster, 1, (site("10.1.0.0/16", key=Key(b"another key")),))
        await here.register(mover("203.0.113.5"))
        await subscriber(here)
        assert isinstance(stranger.registry, SharedRegistry)

        await stranger.registry._subscriptions.take_over([keys.bucket_of(eid(MOVER))], frozenset())

        assert len(stranger.plane.publisher) == 0
        assert len(stored(cluster)) == 1

    run(scene())


def test_a_subscription_that_has_ended_is_with_the_servers_no_more(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        (here,) = await hubs(cluster, 1)
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)
        assert len(stored(cluster)) == 1
        request = one.request()
        here.receive(one.arrival(msgspec.structs.replace(request, itr_rlocs=(None,))))
        await until(lambda: not len(here.plane.publisher))
        await settled(here)

        assert stored(cluster) == []

    run(scene())


@pytest.mark.parametrize("value", [b"", b"x" * 7, b"x" * 8, b"x" * 8 + b"\xc1"])
def test_a_damaged_subscription_costs_no_other_one(cluster: ValkeyCluster, value: bytes) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        bucket = keys.bucket_of(eid(MOVER))
        cluster.owner_of(str(bucket)).ask("HSET", keys.key(b"s", bucket), b"no such field", value)
        await here.register(mover("203.0.113.5"))
        await subscriber(here)
        assert isinstance(there.registry, SharedRegistry)

        await there.registry._subscriptions.take_over([bucket], frozenset())

        assert len(there.plane.publisher) == 1

    run(scene())


@pytest.mark.parametrize("at", [0, 30, -30, -1])
def test_a_subscription_that_was_changed_in_the_servers_stops_no_hub(cluster: ValkeyCluster, at: int) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await here.register(mover("203.0.113.5"))
        await subscriber(here)
        bucket = keys.bucket_of(eid(MOVER))
        server, key = cluster.owner_of(str(bucket)), keys.key(b"s", bucket)
        field, value = server.ask("HGETALL", key)
        await here.stop()
        assert isinstance(there.registry, SharedRegistry)
        for cut in (value[:at] if at else value[:8], value[: at or 9] + b"\xff" + value[at or 9 :], value + value):
            server.ask("HSET", key, field, cut)
            await there.registry._subscriptions.take_over([bucket], frozenset())

        await there.register(mover("203.0.113.7"))
        assert await there.places(MOVER) == ["203.0.113.7"]

    run(scene())


def test_what_changed_while_a_hub_was_deaf_is_published_when_it_hears_again(cluster: ValkeyCluster) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        await there.register(mover("203.0.113.5"))
        one = await subscriber(here)
        server = cluster.owner_of(str(keys.bucket_of(eid(MOVER))))

        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await there.register(mover("203.0.113.7"))
        await until(lambda: rlocs(latest(here, one)) == ["203.0.113.7"])

    run(scene())


def test_an_island_publishes_and_gives_the_servers_its_subscriptions_when_they_are_back(
    own_server: ValkeyServer,
) -> None:
    async def scene() -> None:
        own_server.start().wait()
        here = await ValkeyGround(own_server).hub(SITES, wrap=KEY_WRAP)
        await here.register(mover("203.0.113.5"))
        one = await subscriber(here)
        own_server.kill()
        await here.register(mover("203.0.113.5"), SILENCE_S)
        await asyncio.sleep(ISLAND_S)

        assert await here.register(mover("203.0.113.7")) is not None
        await until(lambda: rlocs(latest(here, one)) == ["203.0.113.7"])
        acknowledge(here, one)
        own_server.start().wait()
        bucket = keys.bucket_of(eid(MOVER))
        await until(lambda: own_server.ask("HVALS", keys.key(b"s", bucket)))

        (value,) = own_server.ask("HVALS", keys.key(b"s", bucket))
        assert value[:8] == number_of(here).to_bytes(8)

    run(scene())


def test_a_subscriber_behind_a_nat_hears_the_hub_that_took_over_by_the_binding_of_its_register(
    cluster: ValkeyCluster,
) -> None:
    async def scene() -> None:
        here, there = await hubs(cluster)
        there.plane.on_addresses([OTHER])
        await here.register(mover("203.0.113.5"))
        one = Subscriber(here.plane)
        node = Xtr(ip_address(one.address), KEY, xtr_id=one.xtr_id)
        inside = ["192.168.7.7"]
        await here.register(node.register(one.own, rlocs=inside))
        here.receive(one.arrival(one.request(rlocs=("192.168.7.7",)), source_port=40_001))
        await until(lambda: signed(here, one))
        acknowledge(here, one)
        await settled(here)
        await here.stop()
        await until(lambda: signed(there, one), WITHIN_S)
        in_vain = signed(there, one)[0]

        arrival = node.register(one.own, rlocs=inside)
        there.receive(Arrival(arrival.payload, arrival.source, 40_002, OTHER))
        await until(lambda: signed(there, one)[-1].port == 40_002)

        assert in_vain.port == 40_001
        assert signed(there, one)[-1].source == OTHER

    run(scene())
