"""Networks that pass UDP port 4342 and spoil 4341: by a filter, or by another outside address of a NAT's pool."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from lispmob.natt.data_way import ANSWER_S, LOOK_S, SHUT_S, TRIES_IN_ALL, DataWay, Fault
from lispmob.natt.effect import DataSuspect, SendFromDataPort
from lispmob.natt.union import left
from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import IpAddress
from lispmob.wire.header import CONTROL_PORT, DATA_PORT
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.lcaf_types import NatTraversal
from tests.internet.nat import Kind, NatBox
from tests.internet.network import Packet, Receiver, Weather, World, ip
from tests.natt.world import EID, PEER, RTR, RTR2, MapServerHost, NodeHost, RtrHost, locator

OTHER_XTR = bytes(reversed(range(16)))
WITHIN_S = 5.0
BACK_S = 40.0  # a keepalive interval, and a round of questions
POOL = [f"203.0.113.{number}" for number in range(201, 209)]
OUTSIDE, ELSEWHERE = ip("203.0.113.200"), ip("203.0.113.201")


class Scene:
    """A node behind a NAT, a peer behind another one, a Map-Server, and RTRs."""

    def __init__(self, seed: int = 0, rtrs: tuple[IpAddress, ...] = (RTR,), weather: Weather | None = None) -> None:
        self.world = World(seed) if weather is None else World(seed, weather)
        self.server = MapServerHost(self.world, rtrs)
        self.rtrs = {rtr: RtrHost(self.world, rtr) for rtr in rtrs}
        self.rtr = self.rtrs[rtrs[0]]
        self.hotel = NatBox(self.world, "203.0.113.100")
        self.phone = NatBox(self.world, "203.0.113.101")
        self.node, self.peer = NodeHost(self.world), NodeHost(self.world, PEER, OTHER_XTR)

    def attach(self, *, with_phone: bool = False, hotel: NatBox | None = None) -> None:
        second = [(locator("192.168.43.2", ifindex=3, priority=2), self.phone)] if with_phone else []
        self.node.attach((locator("10.7.0.2"), hotel or self.hotel), *second)
        self.peer.attach((locator("192.168.7.7"), NatBox(self.world, "203.0.113.77")))
        self.world.run(1.0)

    def talks(self) -> bool:
        before = len(self.node.received), len(self.peer.received)
        self.node.say(PEER, b"there")
        self.peer.say(EID, b"and back")
        self.world.run(0.2)
        return len(self.node.received) > before[0] and len(self.peer.received) > before[1]

    def talks_for(self, seconds: float) -> int:
        """How many of the exchanges in this time failed."""
        return sum(not self.talks() for _ in range(int(seconds / 0.2)))

    def gap(self, within_s: float = WITHIN_S) -> float:
        return self.world.run_until(self.talks, within_s=within_s)

    def is_shut(self) -> bool:
        return self.node.traversal.machines[0].is_shut

    @property
    def port(self) -> int:
        return self.node.traversal.plan.uplinks[0].relays[0].port

    @property
    def faults(self) -> list[object]:
        return [event.fields["fault"] for _, event in self.node.events if event.kind == "data-way"]


# --- a filter


def begins(scene: Scene) -> None:
    scene.hotel.blocked_ports.add(DATA_PORT)


def at_the_rtr(scene: Scene) -> None:
    scene.rtr.has_filter = True


@pytest.mark.parametrize("filters", [begins, at_the_rtr])
def test_data_flows_within_5_s_of_a_start_where_a_filter_drops_the_data_port_alone(
    filters: Callable[[Scene], None],
) -> None:
    scene = Scene()
    filters(scene)
    scene.attach()

    assert scene.gap() <= WITHIN_S
    assert scene.port == CONTROL_PORT
    assert scene.talks_for(20.0) == 0


@pytest.mark.parametrize("filters", [begins, at_the_rtr])
@pytest.mark.parametrize("seed", range(3))
def test_data_flows_within_5_s_of_a_filter_that_begins_in_the_middle(
    filters: Callable[[Scene], None], seed: int
) -> None:
    scene = Scene(seed)
    scene.attach()
    assert scene.talks_for(3.0) == 0
    assert scene.port == DATA_PORT

    filters(scene)

    assert scene.gap() <= WITHIN_S
    assert scene.talks_for(10.0) == 0
    assert scene.faults == ["filtered"]


def test_a_node_that_only_answers_finds_the_filter_too() -> None:
    scene = Scene()
    scene.attach()
    assert scene.talks()
    begins(scene)

    def hears_back() -> bool:
        before = len(scene.node.received), len(scene.peer.received)
        scene.peer.say(EID, b"anybody there?")
        scene.world.run(0.05)
        if len(scene.node.received) > before[0]:
            scene.node.say(PEER, b"yes")
        scene.world.run(0.05)
        return len(scene.peer.received) > before[1]

    assert scene.world.run_until(hears_back, within_s=WITHIN_S) <= WITHIN_S


def test_data_goes_to_the_data_port_again_when_the_filter_is_gone() -> None:
    scene = Scene()
    scene.attach()
    begins(scene)
    assert scene.gap() <= WITHIN_S

    scene.hotel.blocked_ports.clear()

    assert scene.talks_for(2 * LOOK_S) == 0
    assert scene.port == DATA_PORT
    assert scene.faults == ["filtered", None]


@pytest.mark.parametrize("seed", range(3))
def test_an_rtr_with_one_port_is_left_for_the_other_uplink_and_taken_again(seed: int) -> None:
    scene = Scene(seed)
    scene.rtr.has_one_port = True
    scene.attach(with_phone=True)
    assert scene.talks_for(3.0) == 0

    begins(scene)

    assert scene.gap() <= WITHIN_S
    record = scene.server.record()
    assert record is not None
    priorities = {one.ip: one.priority for one in record.locators}
    assert priorities[ip("10.7.0.2")] == NEVER
    assert priorities[ip("192.168.43.2")] != NEVER
    assert scene.talks_for(10.0) == 0

    scene.hotel.blocked_ports.clear()
    scene.world.run(BACK_S)

    assert scene.talks()
    assert scene.node.traversal.plan.uplinks[0].is_usable
    assert not left(scene.node.traversal.machines)


def test_another_rtr_is_tried_once_where_there_is_no_other_uplink() -> None:
    scene = Scene(rtrs=(RTR, RTR2))
    for rtr in scene.rtrs.values():
        rtr.has_one_port = True
    scene.attach()
    assert scene.talks_for(3.0) == 0

    at_the_rtr(scene)

    assert scene.gap(10.0) <= 10.0
    assert scene.node.traversal.machines[0].rtrs == (RTR2,)


def test_a_network_that_spoils_every_rtr_is_said_and_does_not_make_the_node_wander() -> None:
    scene = Scene(rtrs=(RTR, RTR2))
    for rtr in scene.rtrs.values():
        rtr.has_one_port = True
    scene.attach()
    assert scene.talks_for(3.0) == 0
    begins(scene)

    scene.talks_for(120.0)

    assert scene.is_shut()
    assert scene.node.kinds().count("rtr-failed") <= 2
    assert "rtr-deaf" not in scene.node.kinds()

    scene.hotel.blocked_ports.clear()
    scene.talks_for(2 * LOOK_S)
    assert not scene.is_shut()
    assert scene.talks()


@pytest.mark.parametrize("is_filtered", [False, True])
def test_an_rtr_that_answers_no_question_is_not_judged(is_filtered: bool) -> None:
    scene = Scene()
    scene.rtr.is_old = True
    scene.attach(with_phone=True)
    if is_filtered:
        begins(scene)

    scene.talks_for(60.0)

    assert scene.faults == []
    assert not left(scene.node.traversal.machines)
    assert scene.port == DATA_PORT


@pytest.mark.parametrize("with_phone", [False, True])
def test_a_peer_that_never_answers_is_no_filter(with_phone: bool) -> None:
    scene = Scene()
    scene.rtr.has_one_port = True
    scene.attach(with_phone=with_phone)
    assert scene.talks()

    for _ in range(300):
        scene.node.say(PEER, b"anybody there?")
        scene.world.run(0.1)

    assert scene.faults == []


@pytest.mark.parametrize("seed", range(6))
def test_loss_of_a_tenth_each_way_is_no_filter(seed: int) -> None:
    scene = Scene(seed, weather=Weather(loss=0.1))
    scene.rtr.has_one_port = True
    scene.attach(with_phone=True)
    scene.world.run(5.0)

    scene.talks_for(120.0)

    assert "filtered" not in scene.faults


def test_an_rtr_that_is_down_is_no_filter() -> None:
    scene = Scene()
    scene.attach()
    assert scene.talks_for(3.0) == 0

    scene.rtr.is_up = False
    scene.talks_for(10.0)
    scene.rtr.is_up = True
    scene.talks_for(15.0)

    assert scene.talks()
    assert scene.faults == []


def test_an_idle_uplink_asks_nothing() -> None:
    scene = Scene()
    scene.attach()
    assert scene.talks()
    scene.world.run(30.0)
    before = scene.node.counted["tx_data_way"]

    scene.world.run(3600.0)

    assert scene.node.counted["tx_data_way"] == before


# --- another outside address


def carrier(scene: Scene, mapping: Kind = Kind.ADDRESS_AND_PORT_DEPENDENT, timeout_s: float = 60.0) -> NatBox:
    """Each flow gets any address of the pool, also two flows to one host (RFC 4787, REQ-2: "arbitrary")."""
    return NatBox(scene.world, str(OUTSIDE), mapping=mapping, preserves_ports=False, pool=POOL, timeout_s=timeout_s)


@pytest.mark.parametrize("seed", range(8))
def test_a_nat_that_gives_each_destination_port_another_address_is_no_obstacle(seed: int) -> None:
    scene = Scene(seed)
    scene.attach(hotel=carrier(scene))

    assert scene.gap() <= WITHIN_S
    assert scene.talks_for(10.0) == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_nat_that_changes_the_addresses_of_both_flows_is_followed_within_5_s(seed: int) -> None:
    scene = Scene(seed)
    nat = carrier(scene)
    scene.attach(hotel=nat)
    assert scene.gap() <= WITHIN_S

    for _ in range(5):
        nat.reboot()
        assert scene.gap() <= WITHIN_S
        assert scene.talks_for(3.0) == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_nat_with_a_pool_that_forgets_idle_flows_loses_no_later_exchange_for_more_than_5_s(seed: int) -> None:
    scene = Scene(seed)
    scene.attach(hotel=carrier(scene, timeout_s=30.0))
    assert scene.gap() <= WITHIN_S

    for _ in range(5):
        scene.world.run(90.0)
        assert scene.gap() <= WITHIN_S


@pytest.mark.parametrize("seed", range(6))
def test_an_rtr_that_tells_no_places_is_left_when_it_does_not_know_where_our_data_comes_from(seed: int) -> None:
    scene = Scene(seed)
    scene.rtr.is_old = True
    scene.attach(with_phone=True, hotel=carrier(scene))

    assert scene.gap(10.0) <= 10.0
    assert scene.talks_for(20.0) == 0
    assert set(scene.faults) <= {"other-address"}


# --- in the open


class Egress:
    """A network of public addresses that drops what goes to some ports outside."""

    def __init__(self, world: World) -> None:
        self._outer = world.internet
        self.blocked_ports: set[int] = set()

    def plug(self, address: IpAddress, receiver: Receiver) -> None:
        self._outer.plug(address, receiver)

    def unplug(self, address: IpAddress) -> None:
        self._outer.unplug(address)

    def send(self, packet: Packet) -> None:
        if packet.destination_port not in self.blocked_ports:
            self._outer.send(packet)


PUBLIC = ip("192.0.2.10")


def in_the_open(*, rtr_has_filter: bool = False) -> tuple[Scene, Egress]:
    scene = Scene()
    egress = Egress(scene.world)
    scene.rtr.has_filter = rtr_has_filter
    scene.rtr.public[EID.address] = PUBLIC
    scene.node.attach((locator(str(PUBLIC)), egress))
    scene.peer.attach((locator("192.168.7.7"), NatBox(scene.world, "203.0.113.77")))
    scene.world.run(4.0)
    return scene, egress


def doubt(scene: Scene, *, is_unheard: bool) -> None:
    """What the node says when data to a peer is unanswered, and when the peer has not got probes in data, either."""
    scene.node.perform(scene.node.traversal.on_doubted_in_the_open(PUBLIC, scene.world.now))
    scene.world.run(2.0)
    if is_unheard:
        scene.node.perform(scene.node.traversal.on_unheard(PUBLIC, scene.world.now))
    scene.world.run(0.5)


def test_an_open_uplink_whose_network_drops_data_uses_an_rtr_until_it_does_not() -> None:
    scene, egress = in_the_open()
    assert scene.node.state == "direct"
    egress.blocked_ports.add(DATA_PORT)

    doubt(scene, is_unheard=True)

    assert scene.node.state == "relayed"
    assert scene.port == CONTROL_PORT
    assert scene.gap() <= WITHIN_S
    assert scene.talks_for(10.0) == 0

    egress.blocked_ports.clear()
    scene.talks_for(2 * LOOK_S)

    assert scene.node.state == "direct"


def test_a_firewall_in_front_of_the_rtr_alone_takes_no_uplink_out_of_the_open() -> None:
    scene, _ = in_the_open(rtr_has_filter=True)

    doubt(scene, is_unheard=False)

    assert scene.node.state == "direct"
    assert any(isinstance(effect, DataSuspect) for effect in scene.node.suspected)


def test_a_peer_that_gets_no_data_takes_no_uplink_out_of_the_open_whose_data_the_rtr_gets() -> None:
    scene, _ = in_the_open()

    doubt(scene, is_unheard=True)

    assert scene.node.state == "direct"


def test_an_open_uplink_in_use_asks_now_and_then_and_an_idle_one_does_not() -> None:
    scene, _ = in_the_open()
    before = scene.node.counted["tx_data_way"]
    scene.world.run(3600.0)
    assert scene.node.counted["tx_data_way"] == before

    for _ in range(100):
        scene.peer.say(EID, b"there")
        scene.world.run(0.2)

    assert 1 <= scene.node.counted["tx_data_way"] - before <= 20.0 / LOOK_S + 1


# --- one machine


class Asked:
    """A DataWay whose questions are answered as the test says."""

    def __init__(self) -> None:
        self.way = DataWay(locator(), new_nonce=count(1).__next__)
        self.asked: list[tuple[int, int]] = []

    def take(self, effects: list[object]) -> None:
        for effect in effects:
            if isinstance(effect, SendFromDataPort):
                request = InfoRequest.decode(parse_ip_udp(effect.payload[8:]).payload)
                self.asked.append((effect.port, request.nonce))

    def answer(self, port: int, outside: IpAddress = OUTSIDE, now: float = 0.1, source: IpAddress = RTR) -> bool:
        """Answer the last question to this port."""
        nonce = next(nonce for asked, nonce in reversed(self.asked) if asked == port)
        nat = NatTraversal(CONTROL_PORT, 40000, outside, RTR, None)
        return self.way.on_info_reply(InfoReply(nonce, None, 0, nat), source, now) is not None

    def run(self, began: float, seconds: float) -> None:
        """Let its timers pass."""
        for step in range(int(seconds / ANSWER_S) + 1):
            self.take([*self.way.on_timer(began + step * ANSWER_S)])


def confirmed() -> Asked:
    asked = Asked()
    asked.take([*asked.way.on_confirmed(RTR, 0.0)])
    return asked


def test_an_answer_from_elsewhere_or_with_another_nonce_counts_for_nothing() -> None:
    asked = confirmed()
    nat = NatTraversal(CONTROL_PORT, 40000, OUTSIDE, RTR, None)

    assert not asked.answer(CONTROL_PORT, source=RTR2)
    assert asked.way.on_info_reply(InfoReply(2**60, None, 0, nat), RTR, 0.1) is None
    asked.run(0.0, 10.0)

    assert asked.way.port_to(RTR) == DATA_PORT
    assert asked.way.fault is None


def test_a_late_answer_of_the_data_port_takes_the_verdict_back() -> None:
    asked = confirmed()
    asked.answer(CONTROL_PORT)
    asked.run(0.0, 3.0)
    assert asked.way.port_to(RTR) == CONTROL_PORT

    asked.answer(DATA_PORT, now=4.0)

    assert asked.way.port_to(RTR) == DATA_PORT


def test_equal_addresses_leave_data_at_its_port_and_different_ones_do_not() -> None:
    for other, port, fault in ((OUTSIDE, DATA_PORT, None), (ELSEWHERE, CONTROL_PORT, Fault.OTHER_ADDRESS)):
        asked = confirmed()
        asked.answer(DATA_PORT, other)
        asked.answer(CONTROL_PORT)

        assert (asked.way.port_to(RTR), asked.way.fault) == (port, fault)
        assert asked.way.wake_at() is None


def test_silence_counts_only_while_registers_are_confirmed() -> None:
    for is_confirmed in (False, True):
        asked = confirmed()
        asked.answer(DATA_PORT)
        asked.run(0.0, 10.0)
        asked.take([*asked.way.on_doubt(20.0)])
        if is_confirmed:
            asked.take([*asked.way.on_confirmed(RTR, 20.1)])
        asked.run(20.0, TRIES_IN_ALL * ANSWER_S)

        assert asked.way.is_shut == is_confirmed


def test_pokes_of_an_rtr_that_answers_nothing_end_in_a_verdict_that_is_not_for_ever() -> None:
    asked = confirmed()
    asked.run(0.0, 3.0)
    for number in range(3):
        asked.take([*asked.way.on_confirmed(RTR, 5.0 + number)])
        asked.take([*asked.way.on_poked(5.5 + number)])
    assert (asked.way.is_shut, asked.way.fault) == (True, Fault.OTHER_ADDRESS)

    asked.run(8.0, 3.0)
    asked.take([*asked.way.on_confirmed(RTR, 10.0 + SHUT_S)])
    asked.run(10.0 + SHUT_S, 3.0)

    assert not asked.way.is_shut


def test_pokes_after_one_change_of_the_nat_are_no_verdict() -> None:
    asked = confirmed()
    asked.run(0.0, 3.0)

    for number in range(2):
        asked.take([*asked.way.on_poked(5.0 + number)])
    asked.take([*asked.way.on_confirmed(RTR, 8.0)])
    asked.take([*asked.way.on_poked(30.0)])

    assert not asked.way.is_shut
