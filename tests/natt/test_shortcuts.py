"""Direct paths: to a peer in the open, to one behind the same NAT, and back to the RTR when they do not work."""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest

from lispmob.natt.arrival import DataControl
from lispmob.natt.shortcut import candidates_of
from lispmob.natt.shortcuts import LIMIT, LOOKUP_BURST
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ip_udp import build_ip_udp, parse_ip_udp
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.internet.nat import Kind, NatBox
from tests.internet.network import Packet, Weather, World, ip
from tests.natt.world import EID, PEER, RTR, MapServerHost, NodeHost, RtrHost, locator

OTHER_XTR = bytes(reversed(range(16)))
IN_THE_OPEN = ip("192.0.2.10")
INSIDE, MATE, NAT = ip("192.168.1.2"), ip("192.168.1.3"), ip("203.0.113.200")
STRANGER = ip("203.0.113.66")


def scene(*, direct: bool = True, **options: object) -> tuple[World, RtrHost, NatBox, NodeHost]:
    world = World()
    MapServerHost(world)
    rtr = RtrHost(world)
    nat = NatBox(world, str(NAT), **options)  # type: ignore[arg-type]
    node = NodeHost(world, direct=direct)
    node.attach((locator(), nat))
    return world, rtr, nat, node


def public_peer(world: World, rtr: RtrHost) -> NodeHost:
    peer = NodeHost(world, PEER, OTHER_XTR)
    peer.attach((locator(str(IN_THE_OPEN)), world.internet))
    rtr.public[PEER.address] = IN_THE_OPEN
    world.run(0.5)
    return peer


def mate(world: World, nat: NatBox, *, direct: bool = True) -> NodeHost:
    peer = NodeHost(world, PEER, OTHER_XTR, direct=direct)
    peer.attach((locator(str(MATE)), nat))
    world.run(0.5)
    return peer


def talk(world: World, one: NodeHost, other: NodeHost, seconds: float = 3.0) -> None:
    """A packet each way every tenth of a second."""
    for _ in range(int(seconds * 10)):
        one.say(other.eid, b"there")
        other.say(one.eid, b"and back")
        world.run(0.1)


def ways_of(world: World, what: bytes) -> list[tuple[object, object]]:
    """The hosts of the Internet by which data packets with these octets went, in turn."""
    return [(one.source, one.destination) for _, one in world.internet.carried if one.payload.endswith(what)]


@pytest.mark.parametrize(("mapping", "filtering"), list(product(Kind, Kind)))
def test_data_to_a_peer_in_the_open_goes_straight_there_from_behind_any_nat(mapping: Kind, filtering: Kind) -> None:
    world, rtr, _, node = scene(mapping=mapping, filtering=filtering)
    peer = public_peer(world, rtr)

    talk(world, node, peer)
    got = len(peer.received)
    node.say(PEER, b"straight")
    world.run(0.1)

    assert ways_of(world, b"straight") == [(NAT, IN_THE_OPEN)]
    assert len(peer.received) == got + 1
    assert "shortcut-opened" in node.kinds()


def test_packets_go_through_the_rtr_until_the_way_is_proved() -> None:
    world, rtr, _, node = scene()
    peer = public_peer(world, rtr)

    node.say(PEER, b"first")
    world.run(0.1)

    assert ways_of(world, b"first") == [(NAT, RTR), (RTR, IN_THE_OPEN)]
    assert [what for _, what in peer.received] == [b"first"]


def test_no_packet_goes_straight_to_a_node_that_did_not_ask_for_it() -> None:
    world, rtr, _, node = scene(direct=False)
    peer = public_peer(world, rtr)

    talk(world, node, peer)

    assert node.ways == {}
    assert not [one for _, one in world.internet.carried if {one.source, one.destination} == {NAT, IN_THE_OPEN}]


def test_two_nodes_behind_one_nat_find_the_short_way_when_both_ask_for_it() -> None:
    world, _, nat, node = scene()
    peer = mate(world, nat)

    talk(world, node, peer)
    got = len(node.received), len(peer.received)
    node.say(PEER, b"next door")
    peer.say(EID, b"as well")
    world.run(0.1)

    assert (len(node.received), len(peer.received)) == (got[0] + 1, got[1] + 1)
    assert ways_of(world, b"next door") == ways_of(world, b"as well") == []


def test_with_one_of_the_two_unwilling_the_rtr_relays() -> None:
    world, _, nat, node = scene()
    peer = mate(world, nat, direct=False)

    talk(world, node, peer, 8.0)

    assert node.ways == peer.ways == {}
    assert len(peer.received) == len(node.received) == 80


def test_an_address_that_is_the_peers_elsewhere_and_a_strangers_here_is_not_believed() -> None:
    world, _, nat, node = scene()
    peer = mate(world, NatBox(world, "203.0.113.77"))
    stranger = NodeHost(world, EidPrefix.parse("172.30.9.9/32"), bytes(16), direct=True)
    stranger.attach((locator(str(MATE)), nat))

    talk(world, node, peer, 8.0)

    assert node.ways == {}
    assert len(peer.received) == 80
    assert stranger.counted["rx_policy"] > 0  # it is asked for an EID that it does not have
    assert stranger.received == []


NEVER = 255


def hidden(address: str, priority: int = 1) -> Locator:
    """A locator behind NATs as records of this dialect have it: R=0."""
    return Locator(ip(address), priority, is_reachable=False)


@pytest.mark.parametrize(
    ("locators", "own", "wanted"),
    [
        ((hidden("192.168.1.3"), Locator(ip("198.51.100.9"), 2)), "192.168.1.2", ["192.168.1.3"]),
        ((hidden("192.168.1.3"),), "198.51.100.7", []),  # ours is public: here, theirs belongs to another host
        ((Locator(ip("192.168.1.3")),), "192.168.1.2", []),  # R=1: nothing says that it is behind a NAT
        ((Locator(ip("192.0.2.10"), 2), Locator(ip("192.0.2.11"), 1)), "192.168.1.2", ["192.0.2.11", "192.0.2.10"]),
        ((Locator(ip("192.0.2.10"), NEVER), Locator(ip("127.0.0.1")), Locator(ip("2001:db8::1"))), "192.168.1.2", []),
        ((Locator(ip("192.0.2.66")),), "192.168.1.2", []),  # avoided
    ],
)
def test_a_peer_is_looked_for_where_it_may_be_met_and_nowhere_else(
    locators: tuple[Locator, ...], own: str, wanted: list[str]
) -> None:
    assert [str(candidate) for candidate in candidates_of(locators, ip(own), frozenset({ip("192.0.2.66")}))] == wanted


def test_a_stall_has_an_open_way_probed_at_once_and_once() -> None:
    world, rtr, _, node = scene()
    talk(world, node, public_peer(world, rtr))
    shortcuts = node.traversal.shortcuts
    (way,) = shortcuts.open_ways
    assert not way.sent

    first = shortcuts.on_stalled(locator().address, world.now)
    second = shortcuts.on_stalled(locator().address, world.now)

    assert (len(first) > 0, second) == (True, [])


@pytest.mark.parametrize(
    ("prefix", "place", "is_closed"),
    [
        (PEER.address, "192.0.2.11", True),  # it has moved
        (PEER.address, str(IN_THE_OPEN), False),  # it is where it was
        ("10.77.0.1", "192.0.2.11", False),  # another peer has moved
    ],
)
def test_a_publication_closes_ways_that_lead_elsewhere_and_has_them_looked_for_at_once(
    prefix: object, place: str, is_closed: bool
) -> None:
    world, rtr, _, node = scene()
    talk(world, node, public_peer(world, rtr))
    assert PEER.address in node.ways
    record = MappingRecord.of(EidPrefix.host(ip(str(prefix))), (Locator(ip(place)),), ttl_min=10)

    node.perform(node.traversal.on_published(record, world.now))

    assert ("shortcut-closed" in node.kinds()) is is_closed
    assert (PEER.address in node.ways) is not is_closed
    world.run(1.0)  # it is probed where the mapping system says that it is
    assert PEER.address in node.ways


def test_a_way_that_is_not_answered_any_more_is_given_up_for_the_rtr() -> None:
    world, rtr, _, node = scene()
    peer = public_peer(world, rtr)
    talk(world, node, peer)
    assert PEER.address in node.ways
    peer.attach((locator("192.0.2.11"), world.internet))  # and nothing told us
    rtr.public[PEER.address] = ip("192.0.2.11")

    for _ in range(200):
        node.say(PEER, b"still here")
        world.run(0.1)
    got = len(peer.received)
    node.say(PEER, b"again")
    world.run(0.1)

    assert len(peer.received) == got + 1


def test_a_peer_that_takes_probes_and_no_data_is_talked_to_through_the_rtr() -> None:
    world, rtr, _, node = scene()
    peer = public_peer(world, rtr)
    talk(world, node, peer)
    assert PEER.address in node.ways

    for _ in range(30):  # neither it nor any other peer sends anything
        node.say(PEER, b"hello?")
        world.run(0.1)
    node.say(PEER, b"by the rtr")
    world.run(0.1)

    assert "shortcut-closed" in node.kinds()
    assert ways_of(world, b"by the rtr") == [(NAT, RTR), (RTR, IN_THE_OPEN)]


def test_answers_that_take_their_time_are_no_reason_to_give_up() -> None:
    world = World(weather=Weather(delay_s=(0.08, 0.08)))
    MapServerHost(world)
    rtr, nat = RtrHost(world), NatBox(world, str(NAT))
    node = NodeHost(world, direct=True)
    node.attach((locator(), nat))
    world.run(1.0)
    peer = public_peer(world, rtr)

    for _ in range(20):  # a round trip takes a third of a second
        node.say(PEER, b"ping")
        world.run(0.5)
        peer.say(EID, b"pong")
        world.run(0.5)

    assert PEER.address in node.ways
    assert "shortcut-closed" not in node.kinds()


def test_a_move_ends_all_short_ways_and_they_are_found_again() -> None:
    world, rtr, _, node = scene()
    peer = public_peer(world, rtr)
    talk(world, node, peer)
    other = NatBox(world, "203.0.113.99")

    node.attach((locator("10.9.9.9"), other))
    ended = dict(node.ways)
    world.run(0.5)
    talk(world, node, peer, 15.0)

    assert ended == {}
    assert node.ways[PEER.address].source == ip("10.9.9.9")


def test_an_unused_way_is_forgotten_and_costs_nothing_more() -> None:
    world, rtr, _, node = scene()
    peer = public_peer(world, rtr)
    talk(world, node, peer)

    world.run(120.0)
    before = node.counted["tx_shortcut_probe"]
    world.run(120.0)

    assert node.ways == {}
    assert node.counted["tx_shortcut_probe"] == before


def test_an_answer_from_elsewhere_or_for_another_node_proves_nothing() -> None:
    for spoil in ("source", "port", "eid"):
        world, rtr, nat, node = scene()
        public_peer(world, rtr)
        good: list[Packet] = []
        world.internet.unplug(IN_THE_OPEN)
        node.say(PEER, b"hello")
        world.run(0.2)
        probe = next(one for at, one in world.internet.carried if one.destination == IN_THE_OPEN and one.source == NAT)
        good.append(probe)
        nonce, own = _nonce(probe), parse_ip_udp(probe.payload[8:]).source

        reply = build_ip_udp(IN_THE_OPEN, 4342, own, 4341, _reply(nonce, EID if spoil == "eid" else PEER))
        source = STRANGER if spoil == "source" else IN_THE_OPEN
        answer = Packet(source, INSIDE, probe.payload[:8] + reply, 4000 if spoil == "port" else 4341, 4341)
        node.on_packet(0, answer)

        assert node.ways == {}, spoil
        assert node.counted["rx_policy"] == 1 or spoil == "source", spoil
        node.on_packet(
            0, dataclasses.replace(answer, source=IN_THE_OPEN, source_port=4341, payload=probe.payload[:8] + reply)
        )
        assert (node.ways != {}) == (spoil != "eid"), spoil
        assert nat.refused >= 0


def test_many_destinations_cost_no_more_than_a_few_lookups() -> None:
    world, _, _, node = scene()
    world.run(0.5)

    for number in range(500):
        eid = EidPrefix.host(ip(f"172.31.{number >> 8}.{number & 255}"))
        node.perform(node.traversal.on_destination(EID.address, eid, world.now))
    world.run(0.01)

    assert node.counted["tx_map_request"] <= LOOKUP_BURST
    assert len(node.traversal.shortcuts._ways) <= LIMIT


def test_at_most_64_destinations_are_tried_and_those_that_rest_make_room() -> None:
    world, _, _, node = scene()
    world.run(1.0)
    for number in range(150):
        node.say(EidPrefix.host(ip("172.30.9.0") + number), b"anybody there?")
        world.run(0.5)
        assert len(node.traversal.shortcuts._ways) <= 64

    assert len(node.traversal.shortcuts._ways) == 64
    assert EidPrefix.host(ip("172.30.9.149")) in node.traversal.shortcuts._ways


@pytest.mark.parametrize("strangers", ["198.18.0.0", "2001:db8:66::"])
def test_strangers_who_probe_cost_a_peer_of_a_direct_path_none_of_its_answers(strangers: str) -> None:
    world, rtr, _, node = scene()
    peer = public_peer(world, rtr)
    talk(world, node, peer)
    request = MapRequest(7, None, (IN_THE_OPEN,), (EidRecord.of(EID),), is_probe=True)

    def answers(source: IpAddress, now: float) -> int:
        own = INSIDE if source.version == 4 else ip("2001:db8:1::2")
        arrival = DataControl(b"", source, 4341, own, 4342, source, 4341, own, 2)
        return len(node.traversal.shortcuts.on_probed(request, arrival, node.traversal.plan, now)) > 1

    got = sum(answers(ip(strangers) + number, world.now + number / 5000) for number in range(5000))

    assert got <= (8 + 4 if ":" in strangers else 50 + 51)
    assert all(answers(IN_THE_OPEN, world.now + 0.9999) for _ in range(8))


def _nonce(probe: Packet) -> int:
    return int.from_bytes(parse_ip_udp(probe.payload[8:]).payload[4:12])


def _reply(nonce: int, eid: EidPrefix) -> bytes:
    record = MappingRecord.of(eid, (Locator(IN_THE_OPEN),), ttl_min=10, is_authoritative=True)
    return MapReply(nonce, (record,), is_probe=True).encode()
