"""An RTR that sends to a node and hears nothing from where it sends: it asks, and takes the way that answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

import pytest

from lispmob.control.effect import InstallMapping, SendControl
from lispmob.hub.effect import RegistrationChanged
from lispmob.hub.nat_binding import ANSWER_S, DOUBT_S, TRUST_S
from lispmob.hub.proxy import Proxy
from lispmob.hub.rtr_effect import InstallRelay, RtrEffect
from lispmob.wire.address import IpAddress
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.test_rtr import EID, LTE, NAT, OTHER_NAT, RTR, WIFI, Scene

THIRD, THIRD_NAT = ip_address("172.16.0.2"), ip_address("203.0.113.202")
COUNT_S = 0.5


class Traffic:
    """Packets for the node all the time, and what the RTR does about it."""

    def __init__(self, scene: Scene, now: float) -> None:
        self.scene, self.now = scene, now
        self.asked: list[tuple[float, IpAddress]] = []

    def run(self, seconds: float, heard: Iterable[IpAddress] = ()) -> list[RtrEffect]:
        effects: list[RtrEffect] = []
        for _ in range(round(seconds / COUNT_S)):
            self.now += COUNT_S
            found = self.scene.rtr.on_traffic([EID], heard, self.now)
            self.asked += [(self.now, one.destination) for one in found if isinstance(one, SendControl)]
            effects += found
        return effects

    @property
    def first(self) -> str:
        return self.scene.places()[0][0]


def behind(*places: tuple[IpAddress, IpAddress, int]) -> Traffic:
    """A node that has registered by each of these uplinks: private address, its NAT's, and its priority."""
    scene = Scene()
    listed = [(private, priority, 100) for private, _, priority in places]
    for number, (private, public, _) in enumerate(places):
        scene.all_the_way(scene.register(private, (public, 20001 + number), listed=listed))
    return Traffic(scene, TRUST_S)


def test_a_binding_from_which_nothing_comes_leaves_the_work_to_its_sibling() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2))
    assert traffic.first == str(NAT)

    effects = traffic.run(DOUBT_S + ANSWER_S + 2 * COUNT_S)

    assert traffic.first == str(OTHER_NAT)
    assert [one for one in effects if isinstance(one, InstallRelay)][-1].bindings[0].address == OTHER_NAT


def test_the_node_is_asked_by_all_its_bindings_for_it_cannot_be_known_which_one_is_alive() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2), (THIRD, THIRD_NAT, 3))

    traffic.run(DOUBT_S + 2 * COUNT_S)

    assert {place for _, place in traffic.asked} == {NAT, OTHER_NAT, THIRD_NAT}


def test_a_node_that_registers_when_it_is_asked_keeps_its_binding() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2))
    listed = [(WIFI, 1, 100), (LTE, 2, 100)]

    for _ in range(10):
        traffic.run(DOUBT_S + COUNT_S)
        traffic.scene.all_the_way(traffic.scene.register(WIFI, (NAT, 20001), listed=listed), traffic.now)

    assert traffic.first == str(NAT)


def test_a_binding_that_answers_data_is_not_asked_at_all() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2))

    traffic.run(30.0, heard=[NAT])

    assert traffic.asked == []


def test_a_node_that_only_listens_is_asked_now_and_then() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2))
    listed = [(WIFI, 1, 100), (LTE, 2, 100)]

    for _ in range(60):
        if [place for at, place in traffic.asked if at == traffic.now]:
            traffic.scene.all_the_way(traffic.scene.register(WIFI, (NAT, 20001), listed=listed), traffic.now)
        traffic.run(COUNT_S)

    assert 0 < len(traffic.asked) <= 2 * (30.0 / TRUST_S)


def test_of_two_equal_bindings_the_dead_one_alone_is_left() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 1))

    traffic.run(DOUBT_S + ANSWER_S + 2 * COUNT_S, heard=[OTHER_NAT])

    assert [(place, priority) for place, _, priority, _ in traffic.scene.places()] == [
        (str(OTHER_NAT), 1),
        (str(NAT), 254),
    ]


def test_a_dead_binding_has_its_priority_back_when_a_register_comes_by_it() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2))
    traffic.run(DOUBT_S + ANSWER_S + 2 * COUNT_S)

    listed = [(WIFI, 1, 100), (LTE, 2, 100)]
    effects = traffic.scene.all_the_way(traffic.scene.register(WIFI, (NAT, 20001), listed=listed), traffic.now)

    assert traffic.first == str(NAT)
    assert any(isinstance(one, InstallRelay) for one in effects)


def test_of_three_uplinks_of_which_two_die_the_third_is_left() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2), (THIRD, THIRD_NAT, 3))

    traffic.run(2 * (DOUBT_S + ANSWER_S + 3 * COUNT_S))

    assert traffic.first == str(THIRD_NAT)


def test_a_node_with_a_single_way_is_never_asked() -> None:
    traffic = behind((WIFI, NAT, 1))

    traffic.run(30.0)

    assert traffic.asked == []
    assert not traffic.scene.rtr.watches


def test_without_packets_for_a_node_nothing_is_doubted() -> None:
    traffic = behind((WIFI, NAT, 1), (LTE, OTHER_NAT, 2))

    effects = [effect for at in range(60) for effect in traffic.scene.rtr.on_traffic([], [], traffic.now + at)]

    assert effects == []


@pytest.mark.parametrize("order", [(NAT, OTHER_NAT), (OTHER_NAT, NAT)], ids=["wifi-dies", "lte-dies"])
def test_a_node_that_also_has_an_open_locator_is_sent_to_there(order: Sequence[IpAddress]) -> None:
    dead, _ = order
    scene, open_rloc = Scene(), ip_address("192.0.2.9")
    private = WIFI if dead == NAT else LTE
    record = MappingRecord.of(
        EID,
        (Locator(RTR, 1, 100), Locator(open_rloc, 2, 100), Locator(private, 1, 100, is_reachable=False)),
        ttl_min=10,
        is_authoritative=True,
    )
    scene.all_the_way(scene.register(private, (dead, 20001), records=(record,)))
    traffic = Traffic(scene, TRUST_S)
    assert scene.rtr.watches

    effects = traffic.run(DOUBT_S + ANSWER_S + 2 * COUNT_S)

    proxy = Proxy([EID])
    proxy.on_addresses([RTR])
    proxy.on_registration(RegistrationChanged(EID, record))
    bindings = [one for one in effects if isinstance(one, InstallRelay)][-1].bindings
    (installed,) = proxy.on_relay(EID, bindings)
    assert isinstance(installed, InstallMapping)
    assert [one.address for one in installed.locators] == [open_rloc, dead]
