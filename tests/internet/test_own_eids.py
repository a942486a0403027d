"""A node with two EIDs, each with a locator set of its own: peers send to each by its own priorities."""

from __future__ import annotations

import dataclasses

import pytest

from lispmob.hub.map_server.site import Site
from lispmob.node.node import MapServerPeer, NodeConfig
from lispmob.protocol.locator_set import EidRank
from lispmob.wire.address import EidPrefix, IpAddress
from tests.internet.world import HUB, KEY, HubHost, NodeHost, World, ip, locator

TWO = EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("10.1.0.2/32")
PEER = EidPrefix.parse("10.1.0.9/32")
CABLE, RADIO = ip("203.0.113.1"), ip("203.0.113.2")


@pytest.mark.parametrize("proxied", [True, False], ids=["map-server-answers", "node-answers"])
def test_a_peer_sends_to_each_eid_by_the_priorities_of_that_eid(proxied: bool) -> None:
    world = World()
    HubHost(world, HUB, [Site("two", TWO, (KEY,)), Site("peer", (PEER,), (KEY,))])
    servers = (MapServerPeer(ip(HUB), KEY, proxy_map_reply=proxied),)
    node = NodeHost(world, NodeConfig(TWO, servers, (ip(HUB),)))
    peer = NodeHost(world, NodeConfig((PEER,), servers, (ip(HUB),)))
    peer.attach(locator("198.51.100.9"))
    cable = dataclasses.replace(locator(str(CABLE), 1), by_eid=(EidRank(TWO[1], 7, 30),))
    node.attach(cable, locator(str(RADIO), 2, ifindex=3))
    world.run(1.0)

    def sends_to(eid: EidPrefix) -> list[tuple[IpAddress, int, int]]:
        if peer.table.lookup(eid.address) is None:
            peer.perform(peer.node.on_miss(PEER.address, eid.address, 0, world.now))
            world.run(1.0)
        found = peer.table.lookup(eid.address)
        assert found is not None
        return [
            (usable_locator.address, usable_locator.priority, usable_locator.weight)
            for usable_locator in found[1].locators
        ]

    assert sends_to(TWO[0]) == [(CABLE, 1, 100), (RADIO, 2, 100)]
    assert sends_to(TWO[1]) == [(RADIO, 2, 100), (CABLE, 7, 30)]
