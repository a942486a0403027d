"""Who is remembered for having sent to us, whatever else arrives."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest

from lispmob.control.map_cache import MapCache
from lispmob.control.node_config import NodeConfig
from lispmob.control.peers import MAX_HEARD, MAX_STRANGERS, Peers
from lispmob.protocol.locator_set import LocatorSet
from tests.control.support import prefix

CONFIG = NodeConfig(eids=(prefix("10.1.0.1/32"),))
PEER = ip_address("203.0.113.9")
FORGED = [IPv4Address("192.0.2.0") + number for number in range(5000)]


def told(peers: Peers, now: float) -> list[str]:
    """The peers that are told of a move, in this order; we have one EID."""
    return [str(target.rloc) for target in peers.targets(MapCache(), CONFIG, LocatorSet(), now)]


@pytest.mark.parametrize("comes_first", [True, False])
def test_a_one_way_peer_is_told_of_a_move_whatever_strangers_send(comes_first: bool) -> None:
    peers = Peers()
    if comes_first:
        peers.on_heard([PEER], [], 1.0)
    peers.on_heard(FORGED, FORGED, 1.0)
    if not comes_first:
        peers.on_heard([PEER], [], 1.0)
    peers.on_heard(FORGED, FORGED, 2.0)

    assert told(peers, 3.0)[0] == str(PEER)


def test_strangers_are_told_of_a_move_as_long_as_there_are_few() -> None:
    peers = Peers()
    peers.on_heard([PEER, *FORGED], FORGED, 1.0)

    assert told(peers, 2.0) == [str(PEER), *map(str, reversed(FORGED[-MAX_STRANGERS:]))]


def test_who_forges_a_peer_as_a_stranger_takes_nothing_from_it() -> None:
    peers = Peers()
    peers.on_heard([PEER], [], 1.0)
    peers.on_heard([PEER, *FORGED], [PEER, *FORGED], 2.0)

    assert told(peers, 3.0)[0] == str(PEER)
    assert told(peers, 3.0).count(str(PEER)) == 1


def test_of_very_many_peers_the_latest_are_told() -> None:
    peers = Peers()
    peers.on_heard(FORGED, [], 1.0)

    assert told(peers, 2.0) == list(map(str, reversed(FORGED[-MAX_HEARD:])))


def test_a_peer_that_was_heard_more_than_a_minute_ago_is_not_told() -> None:
    peers = Peers()
    peers.on_heard([PEER, FORGED[0]], [FORGED[0]], 1.0)

    assert told(peers, 61.0) == [str(PEER), str(FORGED[0])]
    assert told(peers, 61.5) == []
