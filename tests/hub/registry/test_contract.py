"""What a hub does for its nodes, whether a file, one server or a cluster keeps its registrations."""

from __future__ import annotations

from lispmob.wire.record import Action
from tests.hub.exchange import rlocs_of, site, xtr
from tests.hub.registry.rig import LAPTOP, SILENCE_S, SITES, Ground, laptop, run, until


def test_what_is_acknowledged_is_answered(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()

        acknowledged = await hub.register(laptop().register(LAPTOP))

        assert acknowledged is not None
        assert rlocs_of(acknowledged.records[0]) == ["203.0.113.5"]
        assert await hub.places("10.1.9.9/32") == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_an_unregistered_eid_is_answered_with_no_locator(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()

        assert await hub.places("10.1.7.7/32") == []
        assert await hub.places("192.0.2.1/32") == []
        await hub.stop()

    run(scene())


def test_a_registration_outlives_its_hub(ground: Ground) -> None:
    async def scene() -> None:
        first = await ground.hub()
        await first.register(laptop().register(LAPTOP))
        await first.register(laptop(name=b"6" * 16).register("2001:db8:1::9/128"))
        await first.stop()

        second = await ground.hub()

        assert await second.places(LAPTOP) == ["203.0.113.5"]
        assert await second.places("2001:db8:1::9/128") == ["203.0.113.5"]
        await second.stop()

    run(scene())


def test_a_recorded_register_is_refused_after_a_restart(ground: Ground) -> None:
    async def scene() -> None:
        node = laptop()
        recorded = node.register(LAPTOP, rlocs=["192.0.2.66"])
        first = await ground.hub()
        await first.register(recorded)
        await first.register(node.register(LAPTOP))
        await first.stop()

        second = await ground.hub()
        refused = await second.register(recorded, SILENCE_S)

        assert refused is None
        assert await second.places(LAPTOP) == ["203.0.113.5"]
        assert second.plane.counters["rx_replay"] == 1
        await second.stop()

    run(scene())


def test_a_register_of_before_a_withdrawal_is_refused_after_it(ground: Ground) -> None:
    async def scene() -> None:
        node = laptop()
        recorded = node.register(LAPTOP)
        hub = await ground.hub()
        await hub.register(recorded)
        withdrawn = await hub.register(node.withdraw(LAPTOP))

        refused = await hub.register(recorded, SILENCE_S)

        assert withdrawn is not None
        assert refused is None
        assert await hub.places(LAPTOP) == []
        await hub.stop()

    run(scene())


def test_the_same_datagram_twice_changes_nothing(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        once = laptop().register(LAPTOP)
        await hub.register(once)

        await hub.register(once, SILENCE_S)

        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        assert sum(event.kind == "registered" for event in hub.events) == 1
        await hub.stop()

    run(scene())


def test_two_xtrs_that_want_it_are_merged(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        one, other = laptop(), laptop("203.0.113.6", b"o" * 16)

        await hub.register(one.register(LAPTOP, wants_merge=True))
        merged = await hub.register(other.register(LAPTOP, wants_merge=True))
        await hub.register(one.register(LAPTOP, wants_merge=True))

        assert merged is not None
        assert rlocs_of(merged.records[0]) == ["203.0.113.5", "203.0.113.6"]
        assert await hub.places(LAPTOP) == ["203.0.113.5", "203.0.113.6"]
        await hub.register(other.withdraw(LAPTOP, wants_merge=True))
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_an_eid_that_a_node_holds_is_denied_to_another(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        await hub.register(laptop().register(LAPTOP))

        denied = await hub.register(laptop("203.0.113.66", b"t" * 16).register(LAPTOP))

        assert denied is not None
        assert denied.records[0].action == Action.DROP_POLICY_DENIED
        assert await hub.places(LAPTOP) == ["203.0.113.5"]
        assert any(event.kind == "duplicate" for event in hub.events)
        await hub.stop()

    run(scene())


def test_a_node_that_starts_again_is_told_from_one_that_moves(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        await hub.register(laptop().register(LAPTOP, nonce=100))

        await hub.register(laptop("203.0.113.8").register(LAPTOP, nonce=101))
        await hub.register(laptop("203.0.113.8").register(LAPTOP, nonce=101 + (1 << 33)))

        assert [event.kind for event in hub.events] == ["registered", "moved", "registered"]
        await hub.stop()

    run(scene())


def test_a_node_without_an_xtr_id_may_move(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        old, new = xtr("203.0.113.5"), xtr("203.0.113.9")
        recorded = old.register(LAPTOP)
        await hub.register(recorded)

        moved = await hub.register(new.register(LAPTOP))

        assert moved is not None
        assert await hub.places(LAPTOP) == ["203.0.113.9"]
        assert await hub.register(recorded, SILENCE_S) is None
        await hub.stop()

    run(scene())


def test_a_node_that_does_not_count_is_served_where_the_site_allows_it(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub([site("10.1.0.0/16", strict_nonces=None)])

        for nonce in (1 << 60, 7, 1 << 50):
            assert await hub.register(laptop().register(LAPTOP, nonce=nonce)) is not None

        for nonce in (1000, 1001):
            await hub.register(laptop(name=b"c" * 16).register("10.1.8.8/32", nonce=nonce))
        late = laptop(name=b"c" * 16).register("10.1.8.8/32", nonce=1000, rlocs=["192.0.2.66"])
        assert await hub.register(late, SILENCE_S) is None
        await hub.stop()

    run(scene())


def test_a_register_of_two_eids_is_acknowledged_as_one(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()

        acknowledged = await hub.register(laptop().register(LAPTOP, "2001:db8:1::9/128"))

        assert acknowledged is not None
        assert len(acknowledged.records) == 2
        assert await hub.places("2001:db8:1::9/128") == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_a_wrong_key_and_an_eid_of_no_site_are_refused_before_anything_is_kept(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        good = laptop().register(LAPTOP)
        spoiled = bytearray(good.payload)
        spoiled[20] ^= 1

        assert await hub.register(type(good)(bytes(spoiled), good.source, 4342, good.destination), SILENCE_S) is None
        assert await hub.register(laptop().register("10.2.0.1/32"), SILENCE_S) is None
        assert hub.plane.counters["rx_auth"] == 1
        assert hub.plane.counters["rx_policy"] == 1
        assert await hub.places(LAPTOP) == []
        await hub.stop()

    run(scene())


def test_the_closest_registration_answers(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        await hub.register(laptop(name=b"w" * 16).register("10.1.0.0/16"))
        await hub.register(laptop("203.0.113.7", b"n" * 16).register("10.1.9.0/24"))

        assert await hub.places("10.1.9.9/32") == ["203.0.113.7"]
        assert await hub.places("10.1.8.8/32") == ["203.0.113.5"]
        await hub.stop()

    run(scene())


def test_all_that_is_registered_is_listed(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        wanted = [f"10.1.3.{number}/32" for number in range(40)]
        for number, prefix in enumerate(wanted):
            await hub.register(laptop(name=number.to_bytes(16)).register(prefix))

        assert hub.registry is not None
        listed = [str(one.prefix) async for some in hub.registry.slices(8) for one in some]

        assert sorted(listed) == sorted(wanted)
        await until(lambda: hub.registry is not None and hub.registry.problem is None)
        await hub.stop()

    run(scene())


def test_sites_can_be_others_while_the_hub_runs(ground: Ground) -> None:
    async def scene() -> None:
        hub = await ground.hub()
        await hub.register(laptop().register(LAPTOP))
        assert hub.registry is not None

        hub.feed(hub.plane.on_sites([site("10.5.0.0/16", name="other")], (), now=0.0))
        hub.registry.on_sites()

        assert await hub.register(laptop().register(LAPTOP), SILENCE_S) is None
        assert await hub.register(laptop().register("10.5.0.1/32")) is not None
        hub.feed(hub.plane.on_sites(SITES, (), now=0.0))
        await hub.stop()

    run(scene())
