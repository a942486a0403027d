"""A peer that moves proves by its SMR that it is the same one: its data is taken before the mapping system tells."""

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
    """Two nodes that have talked, and probed each other."""
    lab = build(probing=ProbeConfig())
    lab.chat(8.0)
    return lab


def taken(peer: NodeHost, mover: NodeHost) -> tuple[IpAddress, ...]:
    """Where the peer takes the mover's data from."""
    found = peer.table.lookup(mover.eid)
    assert found is not None
    return (*(usable_locator.address for usable_locator in found[1].locators), *found[1].sources)


def smr_of(mover: NodeHost) -> SendControl:
    """The first one of its last move."""
    smrs = [one for _, one in mover.sent if one.payload[0] >> 4 == 1 and MapRequest.decode(one.payload).is_smr]
    return smrs[0]


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


def test_whoever_does_not_know_the_nonce_only_makes_the_peer_ask() -> None:
    lab = talking()
    mover, peer = lab.nodes
    mover.attach(locator(str(NEW), ifindex=3))
    genuine = smr_of(mover)
    mover.attach(locator("198.51.100.1"))
    lab.world.run(5.0)
    lab.chat(3.0)
    before = taken(peer, mover)
    forged = replace(MapRequest.decode(genuine.payload), nonce=12345).encode()

    lab.world.send(Packet(ELSEWHERE, genuine.destination, forged))
    lab.world.run(1.1 * ONE_WAY_S)

    assert taken(peer, mover) == before


def test_who_overhears_the_smr_and_repeats_it_from_elsewhere_gains_nothing() -> None:
    lab = talking()
    mover, peer = lab.nodes
    mover.attach(locator(str(NEW), ifindex=3))
    smr = smr_of(mover)
    lab.world.run(1.1 * ONE_WAY_S)

    lab.world.send(Packet(ELSEWHERE, smr.destination, smr.payload))
    lab.world.run(1.1 * ONE_WAY_S)

    assert ELSEWHERE not in taken(peer, mover)


def test_what_the_mapping_system_does_not_confirm_ends_after_some_seconds() -> None:
    lab = talking()
    mover, peer = lab.nodes
    before = taken(peer, mover)
    mover.attach(locator(str(NEW), ifindex=3))
    smr = smr_of(mover)
    mover.attach()
    lab.world.hosts.remove(mover)
    for hub in lab.hubs:
        lab.world.hosts.remove(hub)
        lab.world.where = {address: host for address, host in lab.world.where.items() if host is not hub}
    lab.world.send(Packet(NEW, smr.destination, smr.payload))
    lab.world.run(1.1 * ONE_WAY_S)
    during = taken(peer, mover)

    lab.world.run(MOVER_S)

    assert during == (*before, NEW)
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
