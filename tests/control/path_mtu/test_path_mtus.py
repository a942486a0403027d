"""The search on all paths together: which are probed, what the datapath is told, and what is forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address
from itertools import count

from lispmob.control.path_mtu.paths import AT_WORK_MAX, WAYS_MAX, MtuEffect, PathMtus
from lispmob.control.path_mtu.search import Source, Way
from lispmob.control.path_mtu.size_probe import HEADERS_OCTETS, ControlProbe
from lispmob.protocol.effect import Event, SendControl, UsePathMtu
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply

EID = EidPrefix.parse("10.1.0.2/32")
CABLE, LTE = ip_address("198.51.100.2"), ip_address("203.0.113.80")
PEER = ip_address("192.0.2.130")


def probe(way: Way) -> ControlProbe:
    return ControlProbe(EID, way.local, way.remote)


def sizes(effects: Iterable[MtuEffect]) -> list[int]:
    return [len(effect.payload) + HEADERS_OCTETS[4] for effect in effects if isinstance(effect, SendControl)]


def told(effects: Iterable[MtuEffect]) -> list[UsePathMtu]:
    return [effect for effect in effects if isinstance(effect, UsePathMtu)]


class World:
    """Paths with an MTU each; probes that fit are answered 20 ms later."""

    def __init__(self, mtus: dict[Way, int]) -> None:
        self.counters: Counter[str] = Counter()
        self.all = PathMtus(new_nonce=count(1).__next__, counters=self.counters)
        self.all.on_links({CABLE: 1500, LTE: 1500})
        self.mtus = mtus
        self.now = 0.0
        self.told: list[UsePathMtu] = []
        self.events: list[Event] = []
        self._answers: list[tuple[float, bytes]] = []

    def feed(self, effects: Iterable[MtuEffect]) -> None:
        for effect in effects:
            if isinstance(effect, UsePathMtu):
                self.told.append(effect)
            elif isinstance(effect, Event):
                self.events.append(effect)
            else:
                assert effect.source is not None
                way = Way(effect.source, effect.destination, 4341)
                if len(effect.payload) + HEADERS_OCTETS[4] <= self.mtus[way]:
                    nonce = int.from_bytes(effect.payload[4:12])
                    self._answers.append((self.now + 0.02, MapReply(nonce, (), is_probe=True).encode()))

    def run(self, for_s: float) -> None:
        end = self.now + for_s
        for _ in range(5000):
            times = [at for at in (self.all.wake_at(), *(at for at, _ in self._answers)) if at is not None]
            if not times or min(times) > end:
                break
            self.now = max(self.now, min(times))
            due = [answer for answer in self._answers if answer[0] <= self.now]
            self._answers = [answer for answer in self._answers if answer[0] > self.now]
            for _, payload in due:
                assert self.all.is_answer(payload)
                self.feed(self.all.on_answer(payload, self.now))
            self.feed(self.all.on_timer(self.now))
        self.now = end


def test_each_uplink_has_a_size_of_its_own_to_the_same_locator() -> None:
    cable, lte = Way(CABLE, PEER, 4341), Way(LTE, PEER, 4341)
    world = World({cable: 1500, lte: 1400})

    for way in (cable, lte):
        world.feed(world.all.on_large(way, probe(way), world.now))
    world.run(6.0)

    known = world.all.ways
    assert (known[cable].mtu_bytes, known[lte].mtu_bytes) == (1500, 1400)
    assert world.told[-1] == UsePathMtu(LTE, PEER, 4341, 1400)
    assert world.counters["mtu_reduced"] == 1
    assert world.events[-1].fields["mtu_bytes"] == 1400


def test_the_datapath_is_told_again_when_it_may_have_forgotten() -> None:
    way = Way(LTE, PEER, 4341)
    world = World({way: 1400})
    world.feed(world.all.on_large(way, probe(way), world.now))
    world.run(6.0)
    reduced = UsePathMtu(LTE, PEER, 4341, 1400)

    assert world.all.in_use == [reduced]
    assert told(world.all.on_large(way, probe(way), world.now)) == [reduced]


def test_an_address_that_is_gone_takes_what_is_known_of_it_with_it() -> None:
    way = Way(LTE, PEER, 4341)
    world = World({way: 1400})
    world.feed(world.all.on_large(way, probe(way), world.now))
    world.run(6.0)

    world.feed(world.all.on_links({CABLE: 1500}))

    assert world.all.in_use == []
    assert world.all[way] is None
    assert world.all.on_large(way, probe(way), world.now) == []


def test_after_a_suspend_everything_is_measured_again() -> None:
    way = Way(LTE, PEER, 4341)
    world = World({way: 1400})
    world.feed(world.all.on_large(way, probe(way), world.now))
    world.run(6.0)

    assert told(world.all.on_slept()) == [UsePathMtu(LTE, PEER, 4341, 0)]
    assert world.all.in_use == []


def test_true_icmp_saves_the_search_and_false_icmp_costs_a_round_trip() -> None:
    cable, lte = Way(CABLE, PEER, 4341), Way(LTE, PEER, 4341)
    world = World({cable: 1500, lte: 1400})

    for way in (cable, lte):
        world.feed(world.all.on_too_big(way, probe(way), 1400, world.now))
    world.run(5.0)

    known = world.all.ways
    assert (known[cable].mtu_bytes, known[cable].source) == (1500, Source.PROBED)
    assert (known[lte].mtu_bytes, known[lte].source) == (1400, Source.ICMP)
    assert UsePathMtu(CABLE, PEER, 4341, 0) in world.told


def test_an_answer_without_a_question_is_none() -> None:
    world = World({})

    assert not world.all.is_answer(MapReply(77, (), is_probe=True).encode())
    assert not world.all.is_answer(b"")
    assert not world.all.is_answer(bytes(11))


def test_the_ways_of_a_large_hub_are_bounded_and_searched_some_at_a_time() -> None:
    world = World({})
    ways = [Way(CABLE, peer(number), 4341) for number in range(WAYS_MAX + 10)]

    effects = [effect for way in ways for effect in world.all.on_large(way, probe(way), world.now)]

    assert len(world.all.ways) == WAYS_MAX
    assert len(sizes(effects)) <= AT_WORK_MAX + 10
    assert world.all.wake_at() is not None


def peer(number: int) -> IpAddress:
    return ip_address("10.200.0.1") + number
