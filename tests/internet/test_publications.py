"""Nodes that are notified by the Map-Server when a peer moves (RFC 9437): whole nodes, a hub, a lossy network."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from lispmob.control.probing.path import ProbeConfig
from lispmob.control.subscriptions import ASKING_MAX, State
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.protocol.effect import SendControl
from lispmob.wire.auth import Key, sign
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.record import Locator, MappingRecord
from tests.crypto.support import KEY_WRAP, needs_libcrypto
from tests.internet.world import HUB, Lab, NodeHost, Packet, Weather, build, ip, locator

pytestmark = needs_libcrypto

NEW = ip("203.0.113.7")
ONE_WAY_S = 0.01
OTHER_HUB = "192.0.2.2"
ELSEWHERE = ip("203.0.113.66")


def talking(weather: Weather | None = None, seed: int = 0, **options: object) -> Lab:
    """Two nodes that have exchanged packets, and have subscribed to each other."""
    lab = build(seed=seed, weather=weather or Weather(), wrap=KEY_WRAP, publications=True, **options)  # type: ignore[arg-type]
    lab.chat(4.0)
    return lab


def way(peer: NodeHost, mover: NodeHost) -> list[str]:
    """Where the peer sends packets for the mover."""
    found = peer.table.lookup(mover.eid)
    return [] if found is None else [str(one.address) for one in found[1].locators]


def states(node: NodeHost) -> list[State]:
    return [one.state for one in node.node.subscriptions]


def without_smrs(mover: NodeHost) -> None:
    """Lose what the mover sends to its peer's RLOC, so that only the Map-Server can notify the peer."""
    mover.world.internet.cut.add(frozenset((NEW, ip("198.51.100.2"))))


def test_nodes_that_talk_subscribe_to_each_other_and_each_is_acknowledged() -> None:
    lab = talking()

    assert [states(node) for node in lab.nodes] == [[State.SUBSCRIBED], [State.SUBSCRIBED]]
    publisher = lab.hubs[0].plane.publisher
    assert len(publisher) == 2
    assert all(subscription.is_acknowledged for subscription in publisher.subscriptions)


def test_a_move_is_known_to_the_peer_after_one_round_trip_without_an_smr() -> None:
    lab = talking()
    mover, peer = lab.nodes
    without_smrs(mover)

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(2.1 * ONE_WAY_S)

    assert way(peer, mover) == [str(NEW)]
    assert peer.node.counters["rx_publication"] == 1


def test_an_idle_node_with_subscriptions_wakes_for_its_registration_alone() -> None:
    lab = talking()
    lab.world.run(30.0)
    node = lab.nodes[0].node
    before = node.counters["tx_subscription"]

    lab.world.run(250.0)

    assert node.counters["tx_subscription"] == before


@pytest.mark.parametrize("seed", range(4))
def test_a_publication_that_got_lost_is_repeated(seed: int) -> None:
    lab = talking(seed=seed)
    mover, peer = lab.nodes
    without_smrs(mover)
    lab.world.internet.cut.add(frozenset((ip(HUB), ip("198.51.100.2"))))
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(1.0)
    before = way(peer, mover)

    lab.world.internet.cut.discard(frozenset((ip(HUB), ip("198.51.100.2"))))
    lab.world.run(3.0)

    assert (before, way(peer, mover)) == (["198.51.100.1"], [str(NEW)])


@pytest.mark.parametrize("seed", range(6))
def test_in_bad_weather_the_peer_ends_up_knowing(seed: int) -> None:
    lab = talking(Weather(loss=0.3, duplication=0.2, delay_s=(0.005, 0.2)), seed=seed)
    mover, peer = lab.nodes
    for number in range(1, 4):
        mover.attach(locator(f"203.0.113.{number}", ifindex=3))
        lab.chat(10.0)
    lab.world.internet.weather = Weather()
    lab.chat(20.0)

    assert way(peer, mover) == ["203.0.113.3"]
    assert State.ASKING not in states(peer)  # there may be none: the answers with LISP-SEC can all have been lost


def test_a_subscriber_is_notified_at_its_new_locator_after_a_move_of_its_own() -> None:
    lab = talking()
    mover, peer = lab.nodes
    peer.attach(locator("203.0.113.99", ifindex=4))
    lab.chat(2.0)
    lab.world.internet.cut.add(frozenset((NEW, ip("203.0.113.99"))))

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(2.1 * ONE_WAY_S)

    assert way(peer, mover) == [str(NEW)]


def test_a_node_that_moves_all_the_time_keeps_the_keys_of_a_few_transmissions_only() -> None:
    lab = talking()
    mover, _ = lab.nodes
    lab.world.internet.cut.add(frozenset((NEW, ip(HUB))))

    for number in range(20):
        mover.attach(locator("203.0.113.8" if number % 2 else str(NEW), ifindex=3))
        lab.world.run(0.5)

    assert len(mover.node._subscriptions._asked) <= ASKING_MAX
    lab.chat(10.0)
    assert states(mover) == [State.SUBSCRIBED]


def test_both_move_at_once_and_find_each_other() -> None:
    lab = talking()
    mover, peer = lab.nodes

    mover.attach(locator(str(NEW), ifindex=3))
    peer.attach(locator("203.0.113.99", ifindex=4))
    lab.world.run(0.2)

    assert (way(peer, mover), way(mover, peer)) == ([str(NEW)], ["203.0.113.99"])


def test_a_node_whose_hub_died_subscribes_at_the_next_one_and_hears_of_the_next_move() -> None:
    lab = build(nodes=3, hubs=(HUB, OTHER_HUB), wrap=KEY_WRAP, publications=True)
    mover, peer, third = lab.nodes
    for _ in range(8):
        peer.talk_to(mover)
        mover.talk_to(peer)
        lab.world.run(0.5)
    assert [len(hub.plane.publisher) for hub in lab.hubs] == [2, 0]
    for place in ("198.51.100.1", "198.51.100.2", "198.51.100.3", "203.0.113.99", str(NEW)):
        lab.world.internet.cut.add(frozenset((ip(HUB), ip(place))))
    for _ in range(40):
        peer.talk_to(third)  # so that the second hub is asked, and shows LISP-SEC
        peer.talk_to(mover)
        lab.world.run(0.5)
    peer.attach(locator("203.0.113.99", ifindex=4))
    lab.world.run(5.0)
    lab.world.internet.cut.add(frozenset((NEW, ip("203.0.113.99"))))

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(2.1 * ONE_WAY_S)

    assert way(peer, mover) == [str(NEW)]
    assert peer.node.counters["rx_publication"] == 1
    assert "10.1.0.1/32" in {str(one.prefix) for one in lab.hubs[1].plane.publisher.subscriptions}


def forged(peer: NodeHost, mover: NodeHost, key: Key, ahead: int = 1) -> Packet:
    (subscription,) = peer.node.subscriptions
    record = MappingRecord.of(mover.config.eids[0], (Locator(ELSEWHERE),))
    payload = sign(MapNotify(subscription.nonce + ahead, (record,)), key)
    return Packet(ip(HUB), ip("198.51.100.2"), payload)


@pytest.mark.parametrize("key", [Key(b"a guess"), Key(bytes(16)), Key(b"a secret")])
def test_a_publication_that_the_map_server_has_not_signed_is_counted_and_nothing_else(key: Key) -> None:
    lab = talking()
    mover, peer = lab.nodes
    sent = len(peer.sent)

    lab.world.internet.send(forged(peer, mover, key))
    lab.world.run(0.1)

    assert way(peer, mover) == ["198.51.100.1"]
    assert peer.node.counters["rx_auth"] == 1
    assert len(peer.sent) == sent


def published(lab: Lab) -> list[Packet]:
    """The publications of a move, as they arrived."""
    seen: list[Packet] = []
    address = ip("198.51.100.2")
    take = lab.nodes[1].on_packet

    def on_packet(packet: Packet) -> None:
        if packet.payload and packet.payload[0] >> 4 == 4 and packet.source == ip(HUB):
            seen.append(packet)
        take(packet)

    lab.world.internet.plug(address, on_packet)
    return seen


def test_a_publication_is_in_use_before_it_is_acknowledged() -> None:
    lab = talking()
    mover, peer = lab.nodes
    ways: list[list[str]] = []
    send = lab.world.internet.send

    def on_sent(packet: Packet) -> None:
        if packet.payload and packet.payload[0] >> 4 == 5:
            ways.append(way(peer, mover))
        send(packet)

    lab.world.internet.send = on_sent  # type: ignore[method-assign]
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.5)

    assert ways[0] == [str(NEW)]


def test_an_older_publication_that_is_played_again_is_dropped_and_not_acknowledged() -> None:
    lab = talking()
    mover, peer = lab.nodes
    seen = published(lab)
    for address in ("203.0.113.1", "203.0.113.2"):
        mover.attach(locator(address, ifindex=3))
        lab.world.run(0.5)
    sent = len(peer.sent)

    lab.world.internet.send(seen[0])
    lab.world.run(0.05)

    assert way(peer, mover) == ["203.0.113.2"]
    assert peer.node.counters["rx_replay"] == 1
    assert len(peer.sent) == sent


def test_the_last_publication_is_acknowledged_as_often_as_it_comes() -> None:
    lab = talking()
    mover, peer = lab.nodes
    seen = published(lab)
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.5)

    lab.world.internet.send(seen[-1])
    lab.world.run(0.05)

    assert peer.node.counters["rx_publication_again"] == 1
    acks = [one for _, one in peer.sent if one.payload[0] >> 4 == 5]
    assert len({one.payload for one in acks[-2:]}) == 1


def test_a_signed_publication_about_something_else_changes_nothing() -> None:
    lab = talking()
    mover, peer = lab.nodes
    (subscription,) = peer.node.subscriptions
    record = MappingRecord.of(peer.config.eids[0], (Locator(ELSEWHERE),))
    others = MappingRecord.of(type(mover.config.eids[0]).parse("10.9.0.0/16"), (Locator(ELSEWHERE),))
    for number, one in enumerate((record, others), start=1):
        payload = sign(MapNotify(subscription.nonce + number, (one,)), Key(subscription.secret))
        lab.world.internet.send(Packet(ip(HUB), ip("198.51.100.2"), payload))

    lab.world.run(0.1)

    assert peer.node.counters["rx_replay"] == 2
    assert peer.table.lookup(ip("10.9.0.1")) is None


def test_where_nothing_is_published_the_smr_is_enough_and_it_is_tried_again_much_later() -> None:
    lab = build(wrap=KEY_WRAP, publications=True)
    lab.hubs[0].plane.publisher.is_on = False
    lab.chat(4.0)
    mover, peer = lab.nodes
    asked = peer.node.counters["tx_subscription"]

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.2)
    lab.chat(15.0)

    assert states(peer) == [State.REFUSED]
    assert way(peer, mover) == [str(NEW)]
    assert peer.node.counters["tx_subscription"] == asked == 1


def test_without_lisp_sec_no_node_subscribes() -> None:
    lab = build()
    lab.chat(4.0)

    assert [states(node) for node in lab.nodes] == [[], []]


def test_a_peer_that_goes_away_and_comes_back_is_known_to_be_there_again_at_once() -> None:
    lab = talking()
    mover, peer = lab.nodes
    mover.perform(mover.node.on_shutdown(lab.world.now))
    lab.world.run(0.1)
    gone = way(peer, mover)
    fresh = NodeHost(lab.world, mover.config, lisp_sec=mover.lisp_sec)
    fresh.node._registrations.nonces = mover.node._registrations.nonces
    lab.world.hosts.remove(mover)
    fresh.attach(locator(str(NEW), ifindex=3))

    lab.world.run(0.1)

    assert (gone, way(peer, mover)) == ([], [str(NEW)])


def test_a_subscriber_that_vanished_is_forgotten_by_the_hub() -> None:
    lab = talking()
    mover, peer = lab.nodes
    lab.world.hosts.remove(peer)
    lab.world.internet.dead.add(ip("198.51.100.2"))

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(120.0)

    assert [str(one.source) for one in lab.hubs[0].plane.publisher.subscriptions] == ["10.1.0.1/32"]
    assert lab.hubs[0].plane.counters["subscription_lost"] == 1


def test_a_node_that_was_taken_for_dead_subscribes_again_when_it_is_back() -> None:
    lab = talking()
    mover, peer = lab.nodes
    lab.world.internet.cut.add(frozenset((ip(HUB), ip("198.51.100.2"))))
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(60.0)
    lab.world.internet.cut.clear()
    peer.perform(peer.node.on_slept(lab.world.now))

    lab.chat(5.0)

    assert len(lab.hubs[0].plane.publisher) == 2
    assert states(peer) == [State.SUBSCRIBED]


def test_a_mapping_that_is_used_no_more_ends_its_subscription() -> None:
    lab = talking()

    lab.world.run(1000.0)

    assert [states(node) for node in lab.nodes] == [[], []]
    assert len(lab.hubs[0].plane.publisher) == 0


def test_publications_that_are_switched_off_end() -> None:
    lab = talking()
    node = lab.nodes[0]
    node.perform(node.node.on_config(replace(node.config, publications=False), lab.world.now))

    lab.world.run(0.5)

    assert states(node) == []
    assert len(lab.hubs[0].plane.publisher) == 1


def test_an_answer_from_before_a_move_that_was_published_is_not_believed() -> None:
    lab = talking(probing=ProbeConfig())
    mover, peer = lab.nodes
    hub = lab.hubs[0]
    late: list[SendControl] = []
    perform = hub._perform

    def hold(effects: Iterable[PlaneEffect]) -> None:
        told = list(effects)
        replies = [one for one in told if isinstance(one, SendControl) and one.payload[0] >> 4 == 2]
        late.extend(replies)
        perform([one for one in told if one not in replies])

    hub._perform = hold  # type: ignore[method-assign]
    peer.perform(peer.node.on_slept(lab.world.now))
    lab.world.run(1.5)
    hub._perform = perform  # type: ignore[method-assign]
    without_smrs(mover)
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.05)
    known = way(peer, mover)

    hub._perform(late)
    lab.world.run(0.05)

    assert late != []
    assert known == way(peer, mover) == [str(NEW)]
