"""Which Map-Servers get an Info-Request: Open Overlay Router's dies of one when it has no RTRs."""

from __future__ import annotations

import pytest

from tests.natt.nat_box import NatBox, World
from tests.natt.world import OOR_KEY, RTR, MapServerHost, NodeHost, RtrHost, locator


def test_a_public_uplink_does_not_ask_a_server_that_may_die_of_the_question() -> None:
    world = World()
    server = MapServerHost(world, None)
    node = NodeHost(world, key=OOR_KEY)
    node.attach((locator("192.0.2.10"), world.internet))

    world.run(3600.0)

    record = server.record()
    assert server.asked == 0
    assert record is not None
    assert [str(one.address) for one in record.locators] == ["192.0.2.10"]


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

    assert all(one.seen is not None for one in node.traversal.machines)
