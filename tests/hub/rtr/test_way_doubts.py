"""A hub that gets nothing from the locator that it sends to asks the node, and uses the path that answers."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TypeAlias

import pytest

from lispmob.hub.map_server.effect import RegistrationChanged
from lispmob.hub.proxy import Proxy
from lispmob.hub.rtr.rtr_effect import InstallRelay, WayAlive
from lispmob.hub.rtr.way_doubts import ANSWER_S, ASK_AGAIN_S, BEHIND, DOUBT_S, TRUST_S, AskWay
from lispmob.protocol.effect import InstallMapping, SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.rtr.rtr_scene import EID, LTE, NAT, OTHER_NAT, RTR, WIFI, Scene

THIRD, THIRD_NAT = ip_address("172.16.0.2"), ip_address("203.0.113.202")
OPEN, OPEN6 = ip_address("192.0.2.9"), ip_address("2001:db8::9")
RTR6 = ip_address("2001:db8::77")
Binding: TypeAlias = tuple[IpAddress, IpAddress, int]  # private address, translated address, priority
COUNT_S = 0.5
VERDICT_S = DOUBT_S + ANSWER_S + 2 * COUNT_S


class Traffic:
    """A hub with constant traffic to the node; the node answers by the locators that work."""

    def __init__(self, *bindings: Binding, opens: Iterable[tuple[IpAddress, int]] = ()) -> None:
        self.scene, self.proxy, self.now = Scene(), Proxy([EID]), 0.0
        self.scene.rtr.on_addresses([RTR, RTR6])
        self.asked: list[IpAddress] = []
        self.alive: set[IpAddress] = set()
        self._bindings = bindings
        self._opens = tuple(opens)
        locators = [Locator(ip, priority, 100) for ip, priority in self._opens]
        locators += [Locator(RTR, 1, 100)] if bindings else []
        self.proxy.on_addresses([RTR, RTR6])
        self.proxy.on_registration(RegistrationChanged(EID, MappingRecord.of(EID, locators, ttl_min=10)))
        for private, _, _ in bindings:
            self.register(private)

    def register(self, private: IpAddress) -> None:
        number, (_, public, _) = next((number, one) for number, one in enumerate(self._bindings) if one[0] == private)
        listed = [(ip, priority, 100) for ip, _, priority in self._bindings]
        effects = self.scene.all_the_way(
            self.scene.register(private, (public, 20001 + number), listed=listed), self.now
        )
        for effect in effects:
            if isinstance(effect, InstallRelay):
                self.proxy.on_relay(EID, effect.bindings)
            elif isinstance(effect, WayAlive):
                self.proxy.on_alive(effect.prefix, effect.address, effect.port, self.now)

    def run(self, seconds: float, heard: Iterable[IpAddress] = ()) -> None:
        """Send packets to the node; packets also come from these locators. Those that work answer a question."""
        for _ in range(round(seconds / COUNT_S)):
            self.now += COUNT_S
            for effect in self.proxy.on_traffic([EID], heard, self.now):
                if isinstance(effect, AskWay):
                    self._ask(effect)

    def _ask(self, doubt: AskWay) -> None:
        for sent in self.scene.rtr.ask(doubt.prefix, doubt.locator):
            assert isinstance(sent, SendControl)
            self.asked.append(sent.destination)
            if sent.destination not in self.alive:
                continue
            if doubt.locator.source is None:
                nonce = MapRequest.decode(sent.payload).nonce
                for alive in self.scene.rtr.on_map_reply(MapReply(nonce, (), is_probe=True)) or ():
                    assert isinstance(alive, WayAlive)
                    self.proxy.on_alive(alive.prefix, alive.address, alive.port, self.now)
            else:
                self.register(next(private for private, public, _ in self._bindings if public == sent.destination))

    @property
    def order(self) -> list[IpAddress]:
        """The locators in the order in which packets use them."""
        entry = self.proxy._installed[EID]
        assert isinstance(entry, InstallMapping)
        return [locator.address for locator in entry.locators if locator.priority != BEHIND]


TWO = ((WIFI, NAT, 1), (LTE, OTHER_NAT, 2))


def test_a_binding_from_which_nothing_comes_leaves_the_work_to_its_sibling() -> None:
    traffic = Traffic(*TWO)
    assert traffic.order == [NAT, OTHER_NAT]
    traffic.run(TRUST_S, heard=[NAT])

    traffic.alive = {OTHER_NAT}
    traffic.run(VERDICT_S)

    assert traffic.order == [OTHER_NAT]


def test_the_node_is_asked_by_all_its_bindings_so_that_it_finds_out_as_well() -> None:
    traffic = Traffic(*TWO, (THIRD, THIRD_NAT, 3))

    traffic.run(TRUST_S + VERDICT_S)

    assert {NAT, OTHER_NAT, THIRD_NAT} <= set(traffic.asked)


def test_a_node_that_registers_when_it_is_asked_keeps_its_binding() -> None:
    traffic = Traffic(*TWO)
    traffic.alive = {NAT, OTHER_NAT}

    traffic.run(60.0)

    assert traffic.order == [NAT, OTHER_NAT]
    assert len(traffic.asked) <= 2 * 60.0 / TRUST_S


def test_a_way_that_packets_come_from_is_not_asked_about() -> None:
    traffic = Traffic(*TWO)

    traffic.run(60.0, heard=[NAT])

    assert traffic.asked == []


def test_of_two_equal_bindings_only_the_dead_one_is_left() -> None:
    traffic = Traffic((WIFI, NAT, 1), (LTE, OTHER_NAT, 1))

    traffic.run(TRUST_S + VERDICT_S, heard=[OTHER_NAT])

    assert traffic.order == [OTHER_NAT]


def test_a_dead_binding_has_its_place_back_when_a_register_comes_by_it() -> None:
    traffic = Traffic(*TWO)
    traffic.alive = {OTHER_NAT}
    traffic.run(TRUST_S + VERDICT_S)
    assert traffic.order == [OTHER_NAT]

    traffic.register(WIFI)

    assert traffic.order == [NAT, OTHER_NAT]


def test_a_dead_way_is_asked_again_while_packets_go_to_its_node() -> None:
    traffic = Traffic(opens=[(OPEN, 1), (OPEN6, 2)])
    traffic.alive = {OPEN6}
    traffic.run(VERDICT_S)
    assert traffic.order == [OPEN6]

    traffic.alive = {OPEN, OPEN6}
    traffic.run(ASK_AGAIN_S + COUNT_S)

    assert traffic.order == [OPEN, OPEN6]


def test_of_three_uplinks_of_which_two_die_the_third_is_left() -> None:
    traffic = Traffic(*TWO, (THIRD, THIRD_NAT, 3))
    traffic.alive = {THIRD_NAT}

    traffic.run(2 * (TRUST_S + VERDICT_S))

    assert traffic.order == [THIRD_NAT]


@pytest.mark.parametrize(
    ("binding", "opens", "alive"),
    [
        ((WIFI, NAT, 1), [(OPEN, 2)], OPEN),
        ((WIFI, NAT, 2), [(OPEN, 1)], NAT),
        ((WIFI, NAT, 1), [(OPEN6, 1)], NAT),
        ((WIFI, NAT, 1), [(OPEN6, 1)], OPEN6),
    ],
    ids=["nat-first-and-dead", "open-first-and-dead", "equal-open-dead", "equal-nat-dead"],
)
def test_open_locators_and_bindings_are_judged_alike(
    binding: tuple[IpAddress, IpAddress, int], opens: list[tuple[IpAddress, int]], alive: IpAddress
) -> None:
    traffic = Traffic(binding, opens=opens)
    traffic.alive = {alive}

    traffic.run(TRUST_S + VERDICT_S, heard=[alive])

    assert traffic.order == [alive]


def test_a_node_with_a_single_way_is_never_asked() -> None:
    traffic = Traffic((WIFI, NAT, 1))

    traffic.run(30.0)

    assert traffic.asked == []
    assert not traffic.proxy.watches


def test_when_all_ways_are_dead_packets_go_there_all_the_same() -> None:
    traffic = Traffic(*TWO)

    traffic.run(30.0)

    assert {locator.address for locator in traffic.proxy._installed[EID].locators} == {NAT, OTHER_NAT}


def test_without_packets_for_a_node_nothing_is_doubted() -> None:
    traffic = Traffic(*TWO)

    assert [effect for at in range(60) for effect in traffic.proxy.on_traffic([], [], float(at))] == []


def test_a_map_reply_that_answers_no_probe_of_the_rtr_is_not_believed() -> None:
    traffic = Traffic(opens=[(OPEN, 1), (OPEN6, 2)])
    traffic.run(VERDICT_S)

    assert traffic.scene.rtr.on_map_reply(MapReply(4711, (), is_probe=True)) is None
    assert traffic.scene.rtr.on_map_reply(MapReply(1, (), is_probe=False)) is None
