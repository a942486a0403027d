"""Networks that stop working and come back without any event on the host: a login, a repair, a router's restart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lispmob.natt.keepalive import Lifetime
from lispmob.wire.header import MessageType
from tests.internet.nat import Kind, NatBox
from tests.internet.network import World
from tests.natt.test_every_nat import second_node, talks
from tests.natt.world import KEY, OOR_KEY, RTR, RTR2, MapServerHost, NodeHost, RtrHost, locator

HOME = locator("192.168.8.100", 3)
SOON_S = 5.0
LONG_KEPT = Lifetime(at_least_s=160.0)  # its keepalive interval is the longest one


class Home:
    """A node behind a NAT, and a peer. `cut` and `heal` change nothing that the host could see."""

    def __init__(self, *, is_cut: bool = False, kind: Kind = Kind.ENDPOINT_INDEPENDENT) -> None:
        self.world = World()
        self.server, self.rtr = MapServerHost(self.world), RtrHost(self.world)
        self.nat = NatBox(self.world, "203.0.113.20", mapping=kind, filtering=kind, preserves_ports=False)
        self.node = NodeHost(self.world)
        if is_cut:
            self.cut()
        self.node.attach((HOME, self.nat))
        self.world.run(2.0)
        self.peer = second_node(self.world)

    def cut(self) -> None:
        self.node.dead = {HOME.place}

    def heal(self) -> None:
        self.node.dead = set()

    def sent_in(self, seconds: float) -> int:
        before = len(self.node.sent)
        self.world.run(seconds)
        return len(self.node.sent) - before


@pytest.mark.parametrize("outage_s", [12.0, 45.0, 79.0])
@pytest.mark.parametrize("kept", [Lifetime(), LONG_KEPT], ids=["unmeasured", "kept long"])
def test_an_idle_node_is_reached_within_seconds_of_the_end_of_an_outage(outage_s: float, kept: Lifetime) -> None:
    home = Home()
    home.node.traversal.on_lifetime(HOME.place, kept, home.world.now)

    home.cut()
    home.world.run(130.0 if kept is LONG_KEPT else 25.0)  # the next keepalive finds out
    home.world.run(outage_s)
    home.heal()
    took = home.world.run_until(lambda: home.node.state == "relayed", SOON_S + 3.0)
    home.world.run(0.2)  # a second register says that the uplink works

    assert took <= SOON_S + (outage_s > 60.0) * 3.0  # an old outage: a twentieth of its age
    assert talks(home.world, home.node, home.peer)


@pytest.mark.parametrize("outage_s", [3.0, 20.0, 60.0])
def test_a_node_that_starts_behind_a_login_page_works_within_seconds_of_the_login(outage_s: float) -> None:
    home = Home(is_cut=True)

    home.world.run(outage_s)
    home.heal()
    home.world.run(SOON_S)

    assert home.node.state == "relayed"
    assert talks(home.world, home.node, home.peer)


@pytest.mark.parametrize("outage_s", [6.0, 9.5, 15.0, 23.0, 31.0, 39.0])
def test_the_private_address_that_an_ordinary_register_has_left_is_replaced_by_the_rtr_at_once(outage_s: float) -> None:
    home = Home(is_cut=True)
    home.world.run(outage_s)
    home.heal()
    home.world.run_until(lambda: home.server.record() is not None, SOON_S)

    home.world.run(0.3)

    record = home.server.record()
    assert record is not None
    assert home.rtr.address in [candidate.address for candidate in record.locators if candidate.is_reachable]


def end_of_outage(home: Home) -> None:
    home.heal()


def other_address(home: Home) -> None:
    home.heal()
    home.nat.renumber("203.0.113.99")


def other_ports(home: Home) -> None:
    home.heal()
    home.nat.reboot()


@pytest.mark.parametrize("comes_back", [end_of_outage, other_address, other_ports])
def test_data_from_the_rtr_shows_at_once_that_the_outage_is_over(comes_back: Callable[[Home], None]) -> None:
    home = Home()
    home.cut()
    home.world.run(40.0)
    assert home.node.state == "registering"

    comes_back(home)
    home.node.perform(home.node.traversal.on_heard([(HOME.address, home.rtr.address)], home.world.now))
    home.world.run(0.5)

    assert home.node.state == "relayed"
    assert talks(home.world, home.node, home.peer)


def registers(home: Home) -> int:
    return sum(one.payload[0] >> 4 == MessageType.ENCAPSULATED_CONTROL for _, one in home.node.sent)


def test_data_from_the_rtr_causes_no_flood_of_registers() -> None:
    home = Home()
    home.cut()
    home.world.run(40.0)
    before = registers(home)

    for _ in range(100):
        home.node.perform(home.node.traversal.on_heard([(HOME.address, home.rtr.address)], home.world.now))
        home.world.run(0.05)

    assert registers(home) - before <= 5 + 2 + 2  # one a second, two at once, and those that are due


def test_an_outage_costs_less_with_its_age_and_is_reported_once() -> None:
    home = Home()
    home.cut()

    young = home.sent_in(120.0)
    home.world.run(7200.0)
    old = home.sent_in(1200.0)

    assert young < 60
    assert old <= 1200.0 / 20.0 + 20.0 * 4  # registers at the keepalive interval, and a series of questions each minute
    assert home.node.kinds().count("rtr-failed") == 1


@pytest.mark.parametrize("kind", Kind)
def test_after_the_nat_got_another_address_the_node_knows_how_it_is_seen(kind: Kind) -> None:
    home = Home(kind=kind)

    home.nat.renumber("203.0.113.99")
    home.node.say(home.peer.eid, b"anybody?")
    home.world.run(3.0)

    seen = home.node.traversal.machines[0].seen
    assert seen is not None
    assert str(seen.address) == "203.0.113.99"


def test_after_an_outage_the_node_knows_how_it_is_seen() -> None:
    home = Home()
    home.cut()
    home.world.run(40.0)
    home.nat.renumber("203.0.113.99")
    home.heal()
    home.world.run(SOON_S + 1.0)

    seen = home.node.traversal.machines[0].seen
    assert seen is not None
    assert str(seen.address) == "203.0.113.99"


def test_a_server_that_may_not_survive_the_question_is_asked_no_more_often_during_an_outage() -> None:
    asked = []
    for key in (KEY, OOR_KEY):
        world = World()
        node = NodeHost(world, key=key)
        node.dead = {HOME.place}
        node.attach((HOME, NatBox(world, "203.0.113.20")))
        world.run(60.0)
        asked.append(sum(one.payload[0] >> 4 == MessageType.INFO for _, one in node.sent))

    assert asked[1] <= 2 < asked[0]


@pytest.mark.parametrize("is_idle", [False, True], ids=["sending", "idle"])
@pytest.mark.parametrize("kind", Kind)
def test_a_nat_that_translates_known_flows_to_an_address_that_is_gone_is_escaped_by_another_port(
    kind: Kind, is_idle: bool
) -> None:
    """A home router with two providers: the first one fails, and what is known stays with it as long as it is used."""
    home = Home(kind=kind)

    home.nat.renumber("203.0.113.99", keeps_mappings=True)
    if is_idle:
        home.world.run(25.0)  # until the next keepalive, and its tries
    for _ in range(round(SOON_S / 0.1)):
        home.node.say(home.peer.eid, b"anybody?")
        home.world.run(0.1)

    assert home.node.state == "relayed"
    assert talks(home.world, home.node, home.peer)


@pytest.mark.parametrize("outage_s", [12.0, 31.0, 70.0])
@pytest.mark.parametrize("kind", Kind)
def test_a_session_at_a_login_page_that_ends_and_is_renewed_costs_seconds_although_all_flows_are_redirected(
    kind: Kind, outage_s: float
) -> None:
    home = Home(kind=kind)

    home.nat.end_session()
    for _ in range(round(outage_s)):
        home.node.say(home.peer.eid, b"anybody?")
        home.world.run(1.0)
    assert home.node.state == "registering"
    home.nat.has_login_page = False
    took = home.world.run_until(lambda: home.node.state == "relayed", 30.0)
    home.world.run(0.2)  # a second register says that the uplink works

    assert took <= 2 * SOON_S  # every second try leaves from a fresh port
    assert talks(home.world, home.node, home.peer)


def test_two_rtrs_behind_such_a_nat_are_both_tried_before_the_port_is_given_up() -> None:
    world = World()
    MapServerHost(world, (RTR, RTR2))
    RtrHost(world, RTR)
    RtrHost(world, RTR2)
    nat = NatBox(world, "203.0.113.20")
    node = NodeHost(world)
    node.attach((HOME, nat))
    world.run(2.0)

    nat.renumber("203.0.113.99", keeps_mappings=True)
    took = world.run_until(lambda: node.state == "registering", 30.0)
    world.run_until(lambda: node.state == "relayed", 20.0)

    assert took < 30.0
    assert node.state == "relayed"


def test_a_missing_answer_makes_the_node_ask_how_it_is_seen_and_many_of_them_no_more_than_that() -> None:
    home = Home()
    home.nat.renumber("203.0.113.99")
    before = home.server.asked

    for _ in range(20):
        home.node.perform(home.node.traversal.on_outside_doubted(home.world.now))
        home.world.run(0.5)

    seen = home.node.traversal.machines[0].seen
    assert seen is not None
    assert str(seen.address) == "203.0.113.99"
    assert home.server.asked - before <= 2  # one for each doubt in half a minute, one for the address that is new
