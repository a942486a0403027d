"""Which Map-Servers get an Info-Request: Open Overlay Router's crashes on one when it has no RTRs."""

from __future__ import annotations

import pytest

from lispmob.protocol.effect import SendControl
from lispmob.wire.info import InfoRequest
from tests.internet.nat import NatBox
from tests.internet.network import World
from tests.natt.world import OOR_KEY, RTR, FragileMapServerHost, MapServerHost, NodeHost, RtrHost, locator

PRIVATE = ["10.0.1.2", "172.16.4.1", "192.168.1.2", "100.64.0.9"]


def test_a_public_uplink_does_not_ask_a_server_that_may_crash_on_the_question() -> None:
    world = World()
    server = MapServerHost(world, None)
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator("192.0.2.10"), world.internet))

    world.run(3600.0)

    record = server.record()
    assert server.asked == 0
    assert record is not None
    assert [str(candidate.address) for candidate in record.locators] == ["192.0.2.10"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_server_that_may_crash_on_the_question_gets_registers_from_a_private_address_at_once(
    address: str,
) -> None:
    world = World()
    server = FragileMapServerHost(world)
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator(address), world.internet))  # a campus: no NAT translates

    world.run(0.5)

    record = server.record()
    assert record is not None
    assert [str(candidate.address) for candidate in record.locators] == [address]
    assert node.traversal.plan.asks_mapping_system


@pytest.mark.parametrize("is_translated", [False, True])
def test_no_server_crashes_in_a_day_with_a_default_configuration(is_translated: bool) -> None:
    world = World()
    server = FragileMapServerHost(world)
    node = NodeHost(world, key=OOR_KEY)
    segment = NatBox(world, "203.0.113.200") if is_translated else world.internet
    node.attach((locator("10.0.1.2"), segment))

    world.run(86400.0)

    assert server.deaths == 0


def test_a_server_that_its_operator_restarts_is_not_asked_to_death_either() -> None:
    world = World()
    server = FragileMapServerHost(world)
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator("10.0.1.2"), world.internet))

    for _ in range(10):
        world.run(20.0)
        server.is_up = False
        world.run(70.0)
        server.is_up = True

    assert server.deaths == 0


def test_a_server_that_comes_up_after_the_node_is_not_asked_to_death() -> None:
    world = World()
    server = FragileMapServerHost(world)
    server.is_up = False
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator("10.0.1.2"), world.internet))
    world.run(30.0)
    server.is_up = True

    world.run(600.0)

    assert server.deaths == 0
    assert server.record() is not None


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_registers_that_get_lost_do_not_make_a_server_look_as_if_it_had_rtrs(lost: int) -> None:
    world = World()
    server = FragileMapServerHost(world)
    server.drops = {True: lost}
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator("10.0.1.2"), world.internet))

    world.run(600.0)

    assert server.deaths == 0
    assert server.record() is not None


def test_a_server_that_fell_silent_after_the_question_is_never_asked_again() -> None:
    world = World()
    server = FragileMapServerHost(world)
    server.drops = {True: 4}  # with such losses it looks as if there were RTRs
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator("10.0.1.2"), world.internet))
    world.run(20.0)
    assert server.deaths == 1

    for _ in range(20):
        server.is_up = True
        server.drops = {True: 4}
        world.run(300.0)

    assert server.deaths == 1
    assert server.is_up


@pytest.mark.parametrize("lost", [{}, {True: 1}, {False: 1}, {False: 2}])
def test_a_server_of_that_kind_with_rtrs_is_asked_and_serves_a_node_behind_a_nat(lost: dict[bool, int]) -> None:
    world = World()
    server = FragileMapServerHost(world, (RTR,))
    server.drops = lost
    RtrHost(world)
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator("192.168.1.2"), NatBox(world, "203.0.113.200")))

    world.run(8.0 if False in lost else 2.0)

    assert node.state == "relayed"
    assert server.deaths == 0


def test_a_hub_of_ours_is_asked_in_a_harmless_way_and_as_fast_as_with_another_key() -> None:
    times = []
    for options in ({}, {"key": OOR_KEY}):
        world = World()
        MapServerHost(world)
        RtrHost(world)
        node = NodeHost(world, **options)  # type: ignore[arg-type]
        node.attach((locator("192.168.1.2"), NatBox(world, "203.0.113.200")))
        world.run(2.0)
        assert node.state == "relayed"
        times.append([at for at, event in node.events if event.fields.get("to") == "relayed"])
    questions = [one.payload for _, one in node.sent if isinstance(one, SendControl) and one.payload[0] >> 4 == 7]

    assert times[0] == times[1]
    assert len(InfoRequest.decode(questions[0]).authentication) == 12


@pytest.mark.parametrize(
    ("places", "options"),
    [
        ({"192.168.1.2": "nat"}, {}),
        ({"192.0.2.10": "internet", "192.168.1.2": "nat"}, {}),
        ({"192.0.2.10": "internet"}, {"prefers_rtr": True}),
        ({"192.0.2.10": "internet"}, {"rtrs": (RTR,)}),
        ({"192.0.2.10": "internet"}, {"mode": "e19"}),
    ],
)
def test_who_needs_an_rtr_or_names_one_asks_every_server(places: dict[str, str], options: dict[str, object]) -> None:
    world = World()
    MapServerHost(world)
    RtrHost(world)
    node = NodeHost(world, key=OOR_KEY, **options)  # type: ignore[arg-type]
    nat = NatBox(world, "203.0.113.200")
    node.attach(
        *(
            (locator(address, number), nat if where == "nat" else world.internet)
            for number, (address, where) in enumerate(places.items(), start=2)
        )
    )

    world.run(5.0)

    assert all(machine.seen is not None for machine in node.traversal.machines)
