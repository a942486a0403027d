"""Which of our locators work: only answers count, and silence only if another uplink got answers meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from itertools import count

import pytest

from lispmob.node.reachability import (
    CHECK_PAUSE_S,
    CHECKS,
    FIRST_CHECK_S,
    RECHECK_MAX_S,
    RECHECK_S,
    ROUND_REST_MAX_S,
    VERDICT_S,
    VERDICT_UNKNOWN_S,
    Evidence,
    Reachability,
)
from lispmob.protocol.effect import SendControl, WitnessWanted
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import IpAddress
from tests.control.support import EID, LTE, WIFI, WIFI6, ip, request_in

RESOLVER, RESOLVER6 = ip("192.0.2.1"), ip("2001:db8:99::10")
SECOND6 = LocalLocator(ip("2001:db8:b::10"), 2, "wlan0")
ULA = LocalLocator(ip("fd12:3456:789a::2"), 2, "wlan0")
HOME = LocalLocator(ip("192.168.8.100"), 5, "eth1")
RTT_S = 0.02


class World:
    """Locators that work, locators that do not, and a clock."""

    def __init__(self, *resolvers: IpAddress) -> None:
        self.machine = Reachability((EID,), resolvers or (RESOLVER, RESOLVER6), new_nonce=count(1).__next__)
        self.now = 0.0
        self.alive: Callable[[IpAddress], bool] = lambda _: True
        self.asked: list[tuple[float, IpAddress]] = []
        self.wakes = 0

    def attach(self, *own: LocalLocator, behind: tuple[LocalLocator, ...] = ()) -> None:
        self.machine.on_locators(own, behind, self.now)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.machine.wake_at()) is not None and at <= end:
            self.now = max(self.now, at)
            self.wakes += 1
            self.take(self.machine.on_timer(self.now))
        self.now = end

    def doubt(self, *, is_urgent: bool = False) -> None:
        self.take(self.machine.on_doubt(self.now, is_urgent=is_urgent))

    def take(self, effects: Iterable[object]) -> None:
        for effect in effects:
            if isinstance(effect, SendControl):
                assert effect.source is not None
                self.asked.append((self.now, effect.source))
                assert request_in(effect).itr_rlocs == (effect.source,)
                if self.alive(effect.source):
                    assert self.machine.on_map_reply(request_in(effect).nonce, self.now + RTT_S)

    def silent(self, *locators: LocalLocator) -> list[bool]:
        return [self.machine.is_silent(locator.place) for locator in locators]


def test_a_host_with_one_locator_asks_nothing_and_wakes_for_nothing() -> None:
    world = World()
    world.attach(WIFI)

    world.doubt()
    world.run(3600.0)

    assert (world.asked, world.wakes) == ([], 0)
    assert world.silent(WIFI) == [False]


def test_a_host_with_one_locator_finds_out_whether_a_peer_or_its_own_network_is_dead() -> None:
    world = World()
    world.attach(WIFI)
    world.alive = lambda _: False

    world.doubt(is_urgent=True)
    world.run(2.0)
    lost = world.machine.in_vain
    world.machine.on_answered(WIFI.place, RTT_S, world.now)

    assert [source for _, source in world.asked] == [WIFI.address] * CHECKS
    assert (lost, world.machine.in_vain) == ((WIFI.address,), ())
    assert world.silent(WIFI) == [False]


def test_a_host_with_one_locator_that_is_answered_says_nothing_of_its_network() -> None:
    world = World()
    world.attach(WIFI)

    world.doubt(is_urgent=True)
    world.run(60.0)

    assert world.machine.in_vain == ()
    assert len(world.asked) == 1


def test_a_peer_that_answers_by_the_other_family_shows_that_a_locator_without_answers_is_dead() -> None:
    world = World(RESOLVER)
    world.attach(WIFI, WIFI6)
    world.alive = lambda _: False
    world.machine.on_peers(frozenset((WIFI6.address,)), frozenset(), frozenset((WIFI.address,)))

    world.doubt(is_urgent=True)
    world.run(2.0)

    assert world.silent(WIFI, WIFI6) == [True, False]


def test_a_locator_that_a_map_resolver_answers_is_not_silent_because_its_peers_are() -> None:
    world = World(RESOLVER)
    world.attach(WIFI, WIFI6)
    world.machine.on_peers(frozenset((WIFI6.address,)), frozenset(), frozenset((WIFI.address,)))

    world.doubt(is_urgent=True)
    world.run(2.0)

    assert world.silent(WIFI, WIFI6) == [False, False]


def test_a_new_locator_that_was_heard_by_its_register_is_not_asked_from() -> None:
    world = World()
    world.attach(WIFI, LTE)

    for locator in (WIFI, LTE):
        world.machine.on_answered(locator.place, RTT_S, FIRST_CHECK_S / 2)
    world.run(3600.0)

    assert world.asked == []


@pytest.mark.parametrize(
    ("own", "dead"),
    [
        ((WIFI, LTE), (WIFI,)),
        ((WIFI, LTE), (LTE,)),
        ((WIFI6, SECOND6), (WIFI6,)),
        ((WIFI, WIFI6), (WIFI,)),
        ((WIFI, WIFI6), (WIFI6,)),
        ((WIFI, LTE, WIFI6), (WIFI, LTE)),
        ((WIFI, LTE, WIFI6, SECOND6), (LTE, WIFI6)),
    ],
    ids=["first", "second", "renumbered", "no-ipv4", "no-ipv6", "two-of-three", "one-of-each"],
)
def test_a_locator_that_is_dead_from_the_start_is_found_out_while_another_one_is_heard(
    own: tuple[LocalLocator, ...], dead: tuple[LocalLocator, ...]
) -> None:
    world = World()
    world.alive = lambda source: source not in {locator.address for locator in dead}

    world.attach(*own)
    world.run(FIRST_CHECK_S + VERDICT_UNKNOWN_S)

    assert {locator for locator in own if world.machine.is_silent(locator.place)} == set(dead)


@pytest.mark.parametrize("dead", [WIFI, LTE, WIFI6], ids=lambda one: str(one.address))
def test_a_locator_that_dies_is_found_out_one_round_after_the_doubt(dead: LocalLocator) -> None:
    world = World()
    world.attach(WIFI, LTE, WIFI6)
    world.run(10.0)
    assert world.silent(WIFI, LTE, WIFI6) == [False] * 3

    world.alive = lambda source: source != dead.address
    world.doubt()
    world.run(VERDICT_S)

    assert [locator for locator in (WIFI, LTE, WIFI6) if world.machine.is_silent(locator.place)] == [dead]


def test_when_no_server_answers_no_uplink_is_judged_for_it_may_be_the_hub_that_died() -> None:
    world = World()
    world.attach(WIFI, LTE, WIFI6)
    world.run(10.0)

    world.alive = lambda _: False
    for _ in range(20):
        world.doubt()
        world.run(10.0)

    assert world.silent(WIFI, LTE, WIFI6) == [False] * 3


def test_an_rtr_that_answers_is_a_witness_that_the_open_uplink_is_dead() -> None:
    world = World()
    world.attach(WIFI, behind=(HOME,))
    world.machine.on_answered(HOME.place, RTT_S, world.now)
    world.run(10.0)
    assert world.silent(WIFI) == [False]

    world.alive = lambda _: False
    effects = world.machine.on_doubt(world.now)
    world.take(effects)
    world.machine.on_answered(HOME.place, RTT_S, world.now + RTT_S)
    world.run(VERDICT_S)

    assert WitnessWanted() in effects
    assert world.silent(WIFI) == [True]


def test_an_rtr_that_was_heard_before_the_doubt_is_no_witness() -> None:
    world = World()
    world.attach(WIFI, behind=(HOME,))
    world.machine.on_answered(HOME.place, RTT_S, world.now)
    world.run(10.0)

    world.alive = lambda _: False
    world.doubt()
    world.run(VERDICT_S)

    assert world.silent(WIFI) == [False]


def test_a_silent_locator_asks_again_ever_more_seldom_and_the_first_answer_clears_it() -> None:
    world = World()
    world.alive = lambda source: source != WIFI.address
    world.attach(WIFI, LTE)
    world.run(FIRST_CHECK_S + VERDICT_UNKNOWN_S)
    start, world.asked = world.now, []
    world.run(3600.0)
    rechecks = [at - start for at, _ in world.asked]

    world.alive = lambda _: True
    world.run(RECHECK_MAX_S)

    assert rechecks[0] == pytest.approx(RECHECK_S)
    assert 3600.0 / RECHECK_MAX_S <= len(rechecks) <= 3600.0 / RECHECK_MAX_S + 6
    assert world.silent(WIFI) == [False]


@pytest.mark.parametrize(
    ("own", "behind", "mute"),
    [((WIFI6,), (HOME,), [True]), ((WIFI, WIFI6), (), [False, True]), ((WIFI6,), (), [False])],
    ids=["beside-a-nat", "beside-an-open-one", "alone"],
)
def test_a_family_without_a_server_to_ask_counts_only_where_there_is_no_other(
    own: tuple[LocalLocator, ...], behind: tuple[LocalLocator, ...], mute: list[bool]
) -> None:
    world = World(RESOLVER)

    world.attach(*own, behind=behind)

    assert world.silent(*own) == mute


def test_a_peer_that_answers_speaks_for_a_family_without_a_server_to_ask() -> None:
    world = World(RESOLVER)
    world.attach(WIFI, WIFI6)

    world.machine.on_peers(frozenset({WIFI6.address}), frozenset())

    assert world.silent(WIFI6) == [False]


def test_a_local_prefix_is_not_announced_beside_a_public_address_until_it_is_heard() -> None:
    world = World()
    world.alive = lambda source: source == WIFI.address
    world.attach(WIFI, ULA)
    world.machine.on_answered(WIFI.place, RTT_S, world.now)
    at_once = world.silent(ULA)

    world.machine.on_answered(ULA.place, RTT_S, world.now)

    assert (at_once, world.silent(ULA)) == ([True], [False])


def test_needless_doubts_cost_ever_less() -> None:
    world = World()
    world.attach(WIFI, LTE)
    world.run(10.0)
    world.asked = []

    for _ in range(600):
        world.doubt()
        world.run(1.0)

    assert len(world.asked) <= 2 * (600.0 / ROUND_REST_MAX_S + 6)


def test_a_peer_found_dead_is_looked_into_at_once_even_after_needless_doubts() -> None:
    world = World()
    world.attach(WIFI, LTE)
    for _ in range(60):
        world.doubt()
        world.run(1.0)

    world.alive = lambda source: source != WIFI.address
    world.doubt(is_urgent=True)
    world.run(VERDICT_S + 1.0)

    assert world.silent(WIFI) == [True]


def test_one_address_on_two_interfaces_is_judged_for_each_by_itself() -> None:
    world = World()
    twin = dataclasses.replace(WIFI, ifindex=WIFI.ifindex + 7)
    world.attach(WIFI, twin)

    world.machine.on_answered(twin.place, RTT_S, world.now)
    way = world.machine.way(WIFI.place)

    assert way is not None
    assert way.evidence is Evidence.UNKNOWN
    assert world.machine.is_heard(twin.place)


def test_a_question_that_gets_lost_now_and_then_convicts_no_uplink() -> None:
    world = World()
    world.attach(WIFI, LTE)
    world.run(10.0)
    lost = count()

    world.alive = lambda _: next(lost) % CHECKS != 0
    for _ in range(50):
        world.doubt(is_urgent=True)
        world.run(VERDICT_S + CHECK_PAUSE_S)

    assert world.silent(WIFI, LTE) == [False, False]


def test_what_was_heard_before_a_suspend_is_asked_for_again() -> None:
    world = World()
    world.attach(WIFI, LTE)
    world.run(10.0)
    world.alive = lambda source: source != WIFI.address

    world.machine.on_slept(world.now)
    world.run(FIRST_CHECK_S + VERDICT_UNKNOWN_S + VERDICT_S)

    assert world.silent(WIFI, LTE) == [True, False]


def test_the_last_locator_that_is_left_is_never_silent() -> None:
    world = World()
    world.alive = lambda source: source != WIFI.address
    world.attach(WIFI, LTE)
    world.run(10.0)
    assert world.silent(WIFI) == [True]

    world.attach(WIFI)

    assert world.silent(WIFI) == [False]


def test_when_no_answer_comes_since_a_doubt_it_is_known_which_uplinks_asked_in_vain() -> None:
    world = World(RESOLVER)
    world.attach(WIFI, WIFI6)
    world.run(5.0)
    assert not world.machine.in_vain

    world.alive = lambda _: False
    world.doubt()
    world.run(5.0)

    assert world.machine.in_vain == (WIFI.address,)


@pytest.mark.parametrize("who", ["map-resolver", "peer", "rtr", "move", "sleep"])
def test_asking_in_vain_ends_with_any_answer_or_another_network(who: str) -> None:
    world = World(RESOLVER)
    world.attach(WIFI, WIFI6)
    world.alive = lambda _: False
    world.doubt()
    world.run(5.0)
    assert len(world.machine.in_vain) == 1

    match who:
        case "map-resolver":
            world.machine.on_answered(WIFI.place, RTT_S, world.now)
        case "peer":
            world.machine.on_peers(frozenset((WIFI6.address,)), frozenset())
        case "rtr":
            world.machine.on_answered(HOME.place, RTT_S, world.now)
        case "move":
            world.attach(LTE, WIFI6)
        case _:
            world.take(world.machine.on_slept(world.now))

    assert not world.machine.in_vain


def test_an_rtr_that_answers_meanwhile_shows_that_the_network_works() -> None:
    world = World(RESOLVER)
    world.attach(WIFI, WIFI6, behind=(HOME,))
    world.run(5.0)
    world.alive = lambda _: False
    world.doubt()
    world.machine.on_answered(HOME.place, RTT_S, world.now + 0.1)
    world.run(5.0)

    assert not world.machine.in_vain
