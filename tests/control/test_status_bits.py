"""Locator-Status-Bits: what a node concludes from those of others, and what its own say and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.control.map_cache import MapCacheEntry
from lispmob.control.probing.path import ProbeConfig, State
from lispmob.control.probing.probing import ReachabilityChanged
from lispmob.control.status_bits import SILENT_S, HeardStatus, OwnStatus
from lispmob.node.node import Node
from lispmob.protocol.effect import SendControl, UseStatusBits
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import IpAddress
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord
from tests.control.probing.probing_world import OTHER, PEER, World
from tests.control.support import EID, LTE, WIFI, WIFI6, ip, locators, only, prefix, request_in
from tests.node.test_node import CONFIG, datagram, node

SITE = prefix("10.2.0.0/24")
FIRST, SECOND, THIRD = ip("192.0.2.5"), ip("203.0.113.5"), ip("2001:db8::5")
HOST = ip("10.2.0.7")


def entry(*addresses: IpAddress) -> MapCacheEntry:
    return MapCacheEntry(SITE, tuple(Locator(address) for address in addresses))


def nobody(_: IpAddress) -> bool:
    return False


def test_bits_count_locators_as_the_rfc_orders_them_however_the_mapping_came() -> None:
    heard = HeardStatus()
    shuffled = entry(THIRD, SECOND, FIRST)

    assert heard.on_bits(shuffled, FIRST, 0b110, 32) == ((FIRST,), ())
    assert heard.on_bits(shuffled, FIRST, 0b010, 32) == ((THIRD,), ())
    assert heard.on_bits(shuffled, FIRST, 0b111, 32) == ((), (FIRST, THIRD))


def test_what_is_more_than_an_address_comes_last_and_all_its_addresses_are_meant() -> None:
    listed = MapCacheEntry(SITE, (Locator(AfiList((FIRST, THIRD))), Locator(SECOND)))

    assert HeardStatus().on_bits(listed, THIRD, 0b01, 32) == ((FIRST, THIRD), ())


def test_beside_an_instance_id_the_locators_after_the_eighth_are_not_spoken_of() -> None:
    many = entry(*(ip(f"192.0.2.{last}") for last in range(1, 11)))

    assert HeardStatus().on_bits(many, ip("192.0.2.9"), 0, 8) == (
        tuple(ip(f"192.0.2.{last}") for last in range(1, 9)),
        (),
    )


def test_a_stranger_and_a_default_mapping_say_nothing() -> None:
    heard = HeardStatus()

    assert heard.on_bits(entry(FIRST), SECOND, 0, 32) is None
    assert heard.on_bits(MapCacheEntry(prefix("0.0.0.0/0"), (Locator(FIRST),)), FIRST, 0, 32) is None


def test_bits_of_other_locators_than_before_are_compared_with_nothing() -> None:
    heard = HeardStatus()
    heard.on_bits(entry(FIRST, SECOND), FIRST, 0b10, 32)

    assert heard.on_bits(entry(SECOND, THIRD), SECOND, 0b10, 32) == ((SECOND,), ())


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=20), st.integers(1, 32))
def test_each_change_is_told_once(words: list[int], count: int) -> None:
    heard, addresses = HeardStatus(), [ip(f"192.0.2.{last}") for last in range(1, count + 1)]
    mapping, up = entry(*addresses), set(addresses)
    for word in words:
        now_up = {address for place, address in enumerate(addresses) if word >> place & 1}
        said = heard.on_bits(mapping, addresses[0], word, 32)
        assert said is not None
        assert set(said.fallen) == up - now_up
        assert set(said.risen) == now_up - up
        up = now_up


def test_we_say_which_of_our_locators_work_in_the_order_of_our_mapping() -> None:
    own = OwnStatus(accepts=True, sends=True)

    assert own.on_locators(locators(WIFI6, LTE, WIFI), nobody, 0.0) == [UseStatusBits(True, 0b111)]
    assert own.on_locators(locators(WIFI6, LTE, WIFI), {WIFI.address}.__contains__, 1.0) == [UseStatusBits(True, 0b110)]
    assert own.on_locators(locators(WIFI6, LTE, WIFI), {WIFI.address}.__contains__, 2.0) == []


def test_after_a_move_we_are_quiet_until_no_peer_counts_our_locators_as_before() -> None:
    own = OwnStatus(accepts=True, sends=True)
    own.on_locators(locators(WIFI), nobody, 0.0)

    assert own.on_locators(locators(WIFI, LTE), nobody, 10.0) == [UseStatusBits(True, None)]
    assert own.wake_at() == 10.0 + SILENT_S
    assert own.on_timer(10.0 + SILENT_S - 1) == []
    assert own.on_timer(10.0 + SILENT_S) == [UseStatusBits(True, 0b11)]
    assert own.wake_at() is None


def test_who_does_not_send_them_says_nothing_and_waits_for_nothing() -> None:
    own = OwnStatus(accepts=True, sends=False)

    assert own.on_locators(locators(WIFI), nobody, 0.0) == [UseStatusBits(True, None)]
    assert own.on_locators(locators(LTE), nobody, 1.0) == []
    assert own.wake_at() is None
    assert own.on_config(accepts=False, sends=False) == [UseStatusBits(False, None)]


def test_behind_a_nat_rtrs_stand_in_our_mapping_and_we_say_nothing_of_ourselves() -> None:
    relayed = LocatorSet.of(1, (WIFI,), (Locator(FIRST),))

    assert OwnStatus(accepts=False, sends=True).on_locators(relayed, nobody, 0.0) == []


def test_a_bit_that_falls_has_the_locator_asked_and_packets_go_there_until_it_fails_to_answer() -> None:
    world = World()
    world.begin(targets=(PEER, OTHER))
    world.run(5.0)
    before = len(world.sent)

    world.take(world.prober.on_status_bits((PEER,), (), world.now))
    asked = [pair.remote for _, pair in world.sent[before:]]
    world.run(8.0)
    world.dead.add(PEER)
    world.take(world.prober.on_status_bits((PEER,), (), world.now))
    world.run(12.0)

    assert asked == [PEER]
    assert [change for _, change in world.of(ReachabilityChanged)] == [ReachabilityChanged(PEER, is_up=False)]
    assert world.state(remote=PEER) is State.DOWN


def test_a_bit_that_rises_has_a_dead_locator_asked_at_once() -> None:
    world = World()
    world.begin()
    world.run(5.0)
    world.dead.add(PEER)
    world.run(300.0)
    assert world.state() is State.DOWN
    world.dead.clear()

    world.take(world.prober.on_status_bits((), (PEER,), world.now))
    world.run(world.now + 1.0)

    assert world.state() is State.UP


def known(machine: Node) -> None:
    """The mapping of the site is in the cache and carries packets, and its locators have answered."""
    asked = request_in(only(machine.on_miss(EID.address, HOST, 0, 1.0), SendControl)[0])
    record = MappingRecord.of(SITE, (Locator(FIRST), Locator(SECOND)))
    machine.on_datagram(datagram(MapReply(asked.nonce, (record,)).encode()), 1.1)
    machine.on_used([SITE], 1.2)
    for _ in range(100):
        at = machine.wake_at()
        if at is None or at > 10.0:
            break
        for probe in probes(machine.on_timer(at)):
            machine.on_datagram(datagram(MapReply(probe.nonce, (record,), is_probe=True).encode()), at + 0.05)


def probes(effects: list[object] | object) -> list[MapRequest]:
    assert isinstance(effects, list)
    requests = [decode_control(send.payload) for send in only(effects, SendControl)]
    return [request for request in requests if isinstance(request, MapRequest) and request.is_probe]


def test_a_node_asks_the_locator_whose_bit_falls_only_when_one_of_its_group_says_so() -> None:
    machine = node(replace(CONFIG, probing=ProbeConfig(), status_bits="listen"))
    assert only(machine.on_locators([WIFI], 0.0), UseStatusBits) == [UseStatusBits(accepts=True, bits=None)]
    known(machine)

    forged = machine.on_status_bits(HOST, 0, ip("198.51.100.99"), 0b00, 32, 10.0)
    said = machine.on_status_bits(HOST, 0, FIRST, 0b01, 32, 10.1)

    assert only(forged, SendControl) == []
    assert machine.counters["rx_status_source"] == 1
    assert [send.destination for send in only(said, SendControl)] == [SECOND]
    assert len(probes(said)) == 1


def test_without_probing_nothing_is_heeded() -> None:
    machine = node(replace(CONFIG, probing=None, status_bits="listen"))

    assert only(machine.on_locators([WIFI], 0.0), UseStatusBits) == []
