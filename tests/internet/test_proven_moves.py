"""A peer that moves proves its identity by its SMR: its data is accepted before the mapping system answers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.mappings import MOVER_S
from lispmob.control.probing.path import ProbeConfig
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.map_request import MapRequest
from tests.internet.world import Lab, NodeHost, Packet, build, ip, locator

NEW = ip("203.0.113.7")
ONE_WAY_S = 0.01
ELSEWHERE = ip("203.0.113.66")


def talking() -> Lab:
    """Two nodes that have exchanged packets, and probed each other."""
    lab = build(probing=ProbeConfig())
    lab.chat(8.0)
    return lab


def taken(peer: NodeHost, mover: NodeHost) -> tuple[IpAddress, ...]:
    """The locators from which the peer accepts the mover's data."""
    found = peer.table.lookup(mover.eid)
    assert found is not None
    return (*(usable_locator.address for usable_locator in found[1].locators), *found[1].sources)


def smr_of(mover: NodeHost) -> SendControl:
    """The first SMR of its last move."""
    smrs = [one for _, one in mover.sent if one.payload[0] >> 4 == 1 and MapRequest.decode(one.payload).is_smr]
    return smrs[0]


def last_smr(lab: Lab, mover: NodeHost) -> SendControl:
    """The SMR of a move, after which the mover and all hubs are gone: no answer can confirm it."""
    mover.attach(locator(str(NEW), ifindex=3))
    smr = smr_of(mover)
    mover.attach()
    lab.world.hosts.remove(mover)
    for hub in lab.hubs:
        lab.world.hosts.remove(hub)
        lab.world.internet.unplug(hub.address)
    return smr


def test_data_from_where_it_is_now_is_taken_when_its_smr_is_here() -> None:
    lab = talking()
    mover, peer = lab.nodes

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(1.1 * ONE_WAY_S)

    found = peer.table.lookup(mover.eid)
    assert found is not None
    assert found[1].sources == (NEW,)
    assert NEW not in [usable_locator.address for usable_locator in found[1].locators]  # nothing is sent there yet


def test_once_the_mapping_system_has_told_it_stands_in_the_mapping_alone() -> None:
    lab = talking()
    mover, peer = lab.nodes

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.1)

    assert taken(peer, mover) == (NEW,)


def test_a_sender_without_the_nonce_only_makes_the_peer_ask() -> None:
    lab = talking()
    mover, peer = lab.nodes
    mover.attach(locator(str(NEW), ifindex=3))
    genuine = smr_of(mover)
    mover.attach(locator("198.51.100.1"))
    lab.world.run(5.0)
    lab.chat(3.0)
    before = taken(peer, mover)
    forged = replace(MapRequest.decode(genuine.payload), nonce=12345).encode()

    lab.world.internet.send(Packet(ELSEWHERE, genuine.destination, forged))
    lab.world.run(1.1 * ONE_WAY_S)

    assert taken(peer, mover) == before


def test_who_overhears_the_smr_and_repeats_it_from_elsewhere_gains_nothing() -> None:
    lab = talking()
    mover, peer = lab.nodes
    mover.attach(locator(str(NEW), ifindex=3))
    smr = smr_of(mover)
    lab.world.run(1.1 * ONE_WAY_S)

    lab.world.internet.send(Packet(ELSEWHERE, smr.destination, smr.payload))
    lab.world.run(1.1 * ONE_WAY_S)

    assert ELSEWHERE not in taken(peer, mover)


def test_what_the_mapping_system_does_not_confirm_ends_after_some_seconds() -> None:
    lab = talking()
    mover, peer = lab.nodes
    before = taken(peer, mover)
    smr = last_smr(lab, mover)
    lab.world.internet.send(Packet(NEW, smr.destination, smr.payload))
    lab.world.run(1.1 * ONE_WAY_S)
    during = taken(peer, mover)

    lab.world.run(MOVER_S)

    assert during == (*before, NEW)
    assert taken(peer, mover) == before


@pytest.mark.parametrize("pause_s", [0.5, 1.0, 2.9, 3.5])
def test_a_nonce_counts_for_some_seconds_however_often_it_is_said_again(pause_s: float) -> None:
    lab = talking()
    mover, peer = lab.nodes
    before = taken(peer, mover)
    smr = last_smr(lab, mover)
    taken_s = 0.0
    for _ in range(int(12.0 / pause_s)):
        lab.world.internet.send(Packet(NEW, smr.destination, smr.payload))
        lab.world.run(1.1 * ONE_WAY_S)
        for _ in range(int(pause_s * 10)):
            taken_s += 0.1 * (NEW in taken(peer, mover))
            lab.world.run(0.1)

    assert 0.0 < taken_s <= MOVER_S + 0.2
    assert taken(peer, mover) == before


@pytest.mark.parametrize("moves", [2, 3])
def test_a_second_move_is_proven_as_the_first_was(moves: int) -> None:
    lab = talking()
    mover, peer = lab.nodes

    for number in range(1, moves + 1):
        lab.chat(3.0)
        place = ip(f"203.0.113.{number}")
        mover.attach(locator(str(place), ifindex=3))
        lab.world.run(1.1 * ONE_WAY_S)
        found = peer.table.lookup(mover.eid)
        assert found is not None
        assert found[1].sources == (place,)


WIFI, LTE = locator("198.51.100.1", priority=1), locator("203.0.113.8", ifindex=3, priority=2)


def with_two_uplinks() -> Lab:
    lab = talking()
    lab.nodes[0].attach(WIFI, LTE)
    lab.world.run(1.0)
    lab.chat(3.0)
    return lab


def moved_and_back() -> tuple[Lab, SendControl]:
    """The mover has left its better uplink and returned to it; the SMR of the first move."""
    lab = with_two_uplinks()
    mover, _ = lab.nodes
    mover.attach(LTE)
    smr = smr_of(mover)
    mover.attach(WIFI, LTE)
    lab.world.run(4.0)
    lab.chat(1.0)
    return lab, smr


def best(peer: NodeHost, mover: NodeHost) -> list[IpAddress]:
    """The locators to which the peer's data goes."""
    found = peer.table.lookup(mover.eid)
    assert found is not None
    first = min(one.priority for one in found[1].locators)
    return [one.address for one in found[1].locators if one.priority == first]


def test_data_goes_to_the_uplink_that_is_left_as_soon_as_its_smr_is_here() -> None:
    lab = with_two_uplinks()
    mover, peer = lab.nodes
    assert best(peer, mover) == [WIFI.address]

    mover.attach(LTE)
    lab.world.run(1.1 * ONE_WAY_S)
    during = best(peer, mover)
    lab.world.run(0.1)

    assert during == [LTE.address]
    assert taken(peer, mover) == (LTE.address,)


def test_data_goes_back_when_the_better_uplink_is_back() -> None:
    lab = with_two_uplinks()
    mover, peer = lab.nodes
    mover.attach(LTE)
    lab.world.run(0.1)

    mover.attach(WIFI, LTE)
    lab.world.run(MOVER_S)

    assert best(peer, mover) == [WIFI.address]


def test_an_smr_that_says_nothing_new_turns_data_aside_for_some_seconds_at_most() -> None:
    lab, smr = moved_and_back()
    mover, peer = lab.nodes
    assert best(peer, mover) == [WIFI.address]

    lab.world.internet.send(Packet(LTE.address, smr.destination, smr.payload))
    lab.world.run(MOVER_S + 0.1)

    assert best(peer, mover) == [WIFI.address]


def test_an_smr_without_the_nonce_turns_no_data_aside() -> None:
    lab, genuine = moved_and_back()
    mover, peer = lab.nodes
    forged = replace(MapRequest.decode(genuine.payload), nonce=12345).encode()

    lab.world.internet.send(Packet(LTE.address, genuine.destination, forged))
    lab.world.run(1.1 * ONE_WAY_S)

    assert best(peer, mover) == [WIFI.address]


def test_equal_uplinks_are_not_turned_away_from() -> None:
    lab = talking()
    mover, peer = lab.nodes
    equal = locator("203.0.113.8", ifindex=3)
    third = locator("203.0.113.9", ifindex=4)
    mover.attach(WIFI, equal, third)
    lab.world.run(1.0)
    lab.chat(3.0)

    mover.attach(equal, third)
    lab.world.run(1.1 * ONE_WAY_S)

    assert {equal.address, third.address} <= set(best(peer, mover))
