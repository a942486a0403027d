"""The hub has IPv4 alone, a node with both families loses IPv4, and its sealed peers go on with it by IPv6."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv6Network

import pytest
from msgspec.structs import replace

from lispmob.control.map_version import following
from lispmob.control.probing.path import ProbeConfig
from lispmob.hub.map_server.site import Site
from lispmob.natt.plan import Relay
from lispmob.protocol.effect import MappingLearned
from lispmob.protocol.locator_set import NEVER, LocalLocator
from lispmob.protocol.natt_settings import NattSettings
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.record import Locator, MappingRecord
from tests.crypto.support import needs_libcrypto
from tests.internet.sealed_world import CLOCK, SealedHost, sealed
from tests.internet.test_announcements import alone, pair, way
from tests.internet.world import KEY, Lab, NodeHost, Packet, ip, locator

pytestmark = needs_libcrypto

PROBING = ProbeConfig(interval_s=5.0, timeout_s=0.5)
A4, A6 = locator("198.51.100.1"), locator("2001:db8:1::2")
B4, B6 = locator("198.51.100.2"), locator("2001:db8:b::2")
RTR = ip("192.0.2.99")
WELL_KNOWN = IPv6Network("64:ff9b::/96")
MODEM4 = locator("198.51.100.1", priority=2, ifindex=3)
WIFI6, OTHER_WIFI6 = (
    dataclasses.replace(locator(text, ifindex=number), nat64=WELL_KNOWN)
    for text, number in (("2001:db8:1::2", 4), ("2001:db8:2::2", 5))
)
WITHIN_S = 5.0
STEP_S = 0.1


def homes(
    own: tuple[LocalLocator, ...] = (A4, A6),
    peer: tuple[LocalLocator, ...] = (B4, B6),
    *,
    announces: bool = True,
    rtrs: tuple[IpAddress, ...] | None = None,
) -> Lab:
    """Two nodes that exchange packets by IPv4. `rtrs`: those that the hub names; None: the nodes look for no NAT."""
    natt = NattSettings("off" if rtrs is None else "auto")
    lab = sealed(attached=(own, peer), rtrs=rtrs or (), probing=PROBING, map_versions=True, natt=natt)
    for host in pair(lab) if not announces else ():
        host.perform(host.node.on_config(replace(host.config, announcements=False), lab.world.now))
    lab.chat(20.0)
    return lab


def lose_ipv4(lab: Lab, *noticed_by: int) -> None:
    """IPv4 of the first node leads nowhere from now on; the datapaths of these nodes notice it half a second later."""
    lab.world.internet.dead.add(A4.address)
    lab.chat(0.5, STEP_S)
    for number in noticed_by:
        host, other = lab.nodes[number], lab.nodes[1 - number]
        for target in list(addresses(host, other)):
            host.perform(host.node.on_unanswered(target, True, lab.world.now))


def addresses(host: NodeHost, other: NodeHost) -> list[IpAddress]:
    found = host.table.lookup(other.eid)
    return [] if found is None else [one.address for one in found[1].locators]


def flows(lab: Lab) -> tuple[bool, bool]:
    """Whether each of the nodes has received a packet of the other in the last second."""
    node, other = lab.nodes
    since = lab.world.now - 1.0
    return any(at > since for at, _ in node.received), any(at > since for at, _ in other.received)


@pytest.mark.parametrize(
    "noticed_by", [(0, 1), (0,), (1,)], ids=["both notice", "the node notices", "the peer notices"]
)
def test_packets_flow_both_ways_within_seconds_of_the_loss(noticed_by: tuple[int, ...]) -> None:
    lab = homes()

    lose_ipv4(lab, *noticed_by)
    lab.chat(WITHIN_S - 0.5, STEP_S)

    assert flows(lab) == (True, True)
    assert [address for address, _ in way(*reversed(pair(lab)))][:1] == [A6.address] or noticed_by == (0,)


@pytest.mark.parametrize("rtrs", [(RTR,), ()], ids=["an RTR was named", "no RTR was named"])
@pytest.mark.parametrize(
    "own",
    [(MODEM4, WIFI6), (MODEM4, WIFI6, OTHER_WIFI6), (A4, WIFI6)],
    ids=["Wi-Fi first", "two with IPv6", "equal ranks"],
)
def test_a_translator_that_does_not_exist_takes_ipv6_from_no_uplink(
    own: tuple[LocalLocator, ...], rtrs: tuple[IpAddress, ...]
) -> None:
    """Where an uplink has IPv6 alone, the well-known prefix of NAT64 is tried."""
    lab = homes(own, rtrs=rtrs)

    lose_ipv4(lab, 0, 1)
    lab.chat(WITHIN_S - 0.5, STEP_S)

    assert flows(lab) == (True, True)


def test_an_uplink_that_is_left_alone_with_ipv6_serves_although_no_translator_answers() -> None:
    lab = homes((MODEM4, WIFI6), rtrs=(RTR,))
    node, peer = pair(lab)

    node.attach(WIFI6)
    lab.chat(0.5, STEP_S)
    for host, other in ((node, peer), (peer, node)):
        for target in list(addresses(host, other)):
            host.perform(host.node.on_unanswered(target, True, lab.world.now))
    lab.chat(WITHIN_S - 0.5, STEP_S)

    assert flows(lab) == (True, True)


def test_nothing_is_sent_for_it_before_the_loss() -> None:
    with_ipv6, without = homes(), homes((A4,), (B4,))

    for both, one in zip(with_ipv6.nodes, without.nodes, strict=True):
        for name in ("tx_map_register", "tx_probe", "tx_announcement", "tx_map_request", "tx_smr", "tx_handshake"):
            assert both.node.counters[name] == one.node.counters[name], name
        assert [own.priority for own in both.node.locators.locators] == [1, NEVER]


def test_it_lasts_for_longer_than_the_registration_and_every_ttl_and_ends_well() -> None:
    lab = homes()
    lose_ipv4(lab, 0, 1)
    for _ in range(15):
        lab.chat(120.0, 1.0)
        assert flows(lab) == (True, True)

    lab.world.internet.dead.clear()
    lab.chat(200.0, 1.0)

    node, peer = pair(lab)
    entry = peer.node.map_cache.get(node.config.eids[0])
    assert entry is not None
    assert (flows(lab), entry.told_by) == ((True, True), "")


@pytest.mark.parametrize(
    "announced",
    [
        (Locator(A6.address),),
        (Locator(A4.address, priority=NEVER), Locator(A6.address)),
        (Locator(A4.address, is_reachable=False), Locator(A6.address)),
        (Locator(A4.address, priority=NEVER), Locator(ip("2001:db8:77::1")), Locator(A6.address)),
    ],
    ids=["one family", "one is given up", "one is behind a NAT", "three"],
)
def test_an_announcement_of_places_that_we_cannot_send_to_leaves_what_the_hub_said(
    announced: tuple[Locator, ...],
) -> None:
    """The hub may name itself there, as a relay between the families; the peer does not know that."""
    lab = homes(peer=(B4,))
    node, peer = pair(lab)
    prefix = node.config.eids[0]
    before, asked = way(peer, node), peer.node.counters["tx_map_request"]

    peer.perform(
        peer.node._route(peer.node._believe(MappingRecord.of(prefix, announced), lab.world.now), lab.world.now)
    )

    assert way(peer, node) == before != []
    assert peer.node.counters["tx_map_request"] > asked


def test_a_site_that_the_hub_removes_is_left_although_its_node_announces_itself() -> None:
    lab = homes()
    lose_ipv4(lab, 0, 1)
    lab.chat(10.0, 1.0)
    node, peer = pair(lab)

    kept = [Site(str(peer.config.eids[0]), peer.config.eids, (KEY,), strict_nonces=True)]
    lab.hubs[0].on_sites(kept)
    lab.chat(20.0, 1.0)

    assert way(peer, node) == []


def test_a_peer_that_falls_silent_at_the_announced_locators_is_believed_no_more() -> None:
    lab = homes()
    lose_ipv4(lab, 0, 1)
    lab.chat(10.0, 1.0)
    node, peer = pair(lab)
    prefix = node.config.eids[0]
    before = peer.node._mappings.announced.is_held(prefix, lab.world.now)

    lab.world.internet.dead.add(A6.address)
    lab.chat(30.0, 1.0)

    assert before
    assert not peer.node._mappings.announced.is_held(prefix, lab.world.now)


def test_a_node_with_another_key_takes_the_eid_back_by_its_registration() -> None:
    lab = homes()
    lose_ipv4(lab, 0, 1)
    lab.chat(10.0, 1.0)
    node, peer = pair(lab)
    prefix = node.config.eids[0]

    keys = peer.config.key_record  # any key but the one of the session
    assert keys is not None
    locators = (Locator(ip("203.0.113.9")), keys.to_locator())
    record = MappingRecord.of(prefix, locators, ttl_min=10, map_version=1)
    learned = MappingLearned(prefix, (record,), "refresh", 1.0, is_genuine=True)
    peer.perform(peer.node._route([learned], lab.world.now))

    entry = peer.node.map_cache.get(prefix)
    assert entry is not None
    assert entry.locators[0].ip == ip("203.0.113.9")


def test_without_announcements_no_peer_learns_of_it_and_no_packet_goes_to_a_locator_that_is_not_offered() -> None:
    lab = homes(announces=False)
    start = lab.world.now

    lose_ipv4(lab, 0, 1)
    lab.chat(WITHIN_S, STEP_S)

    carried = (packet for at, packet in lab.world.internet.carried if at > start and packet.data and not packet.payload)
    peer = {B6.address}
    assert not any(packet.destination in peer for packet in carried)


def test_a_locator_that_the_peer_keeps_for_itself_is_never_sent_data() -> None:
    lab = homes(peer=(B4, locator(str(B6.address), priority=NEVER)))
    start = lab.world.now

    lose_ipv4(lab, 0, 1)
    lab.chat(WITHIN_S, STEP_S)

    carried = (packet for at, packet in lab.world.internet.carried if at > start and packet.data and not packet.payload)
    assert not any(packet.destination == B6.address for packet in carried)


def said(mover: SealedHost, version: int, *locators: Locator) -> bytes:
    record = MappingRecord.of(mover.config.eids[0], locators, ttl_min=10, map_version=version)
    return MapNotify(next(CLOCK), (record,)).encode()


@pytest.mark.parametrize(("ahead", "is_kept"), [(1, True), (2000, True), (0, False), (-1, False)])
def test_an_answer_counts_unless_its_number_is_older_than_the_announced_one(ahead: int, is_kept: bool) -> None:
    """The numbers are of 12 bits and go round (RFC 9302, section 6)."""
    lab = homes()
    node, peer = pair(lab)
    prefix = node.config.eids[0]
    version = 4090  # of the mapping system's answer
    announced = version
    for _ in range(abs(ahead)):
        announced = following(announced) if ahead > 0 else announced - 1
    alone(lab)
    payload = said(node, announced, Locator(A4.address), Locator(A6.address))
    lab.world.internet.send(Packet(A4.address, B4.address, payload, data=(node.eid, peer.eid)))
    node.sessions.clear()  # it says nothing more itself
    lab.world.run(3.1)

    locators = Locator(A4.address), Locator(A6.address, NEVER)
    answer = MappingRecord.of(prefix, locators, ttl_min=10, map_version=version)
    learned = MappingLearned(prefix, (answer,), "refresh", 1.0, is_genuine=True)
    peer.perform(peer.node._route([learned], lab.world.now))

    entry = peer.node.map_cache.get(prefix)
    assert entry is not None
    assert (entry.told_by == "announced") is is_kept


def test_the_eid_of_another_node_is_not_held_by_an_announcement() -> None:
    lab = sealed(nodes=3, probing=PROBING, map_versions=True)
    mover, peer = pair(lab)
    third = lab.nodes[2]
    before = way(peer, third)
    record = MappingRecord.of(third.config.eids[0], (Locator(A6.address),), ttl_min=10, map_version=9)
    payload = MapNotify(next(CLOCK), (record,)).encode()

    lab.world.internet.send(Packet(A4.address, B4.address, payload, data=(mover.eid, peer.eid)))
    lab.world.run(1.0)

    assert way(peer, third) == before
    assert not peer.node._mappings.announced.is_held(EidPrefix.host(third.eid), lab.world.now)


def relayed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer sends by an RTR that has IPv4 alone, and by IPv6 itself, from now on."""
    peer = pair(lab)[1]
    relays = (Relay(ip("192.0.2.1"), 4341, 1, 100),)
    plan = replace(peer.node.plan, asks_mapping_system=False, defaults=relays)
    monkeypatch.setattr(
        type(peer.node), "plan", property(lambda node: plan if node is peer.node else node.traversal.plan)
    )


def test_a_peer_behind_a_nat_sends_past_its_rtr_to_where_that_cannot_send(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = homes()
    node, peer = pair(lab)
    relayed(lab, monkeypatch)
    payload = said(node, 200, Locator(A4.address, NEVER), Locator(A6.address))

    lab.world.internet.send(Packet(A6.address, B6.address, payload, data=(node.eid, peer.eid)))
    lab.world.run(0.011)
    first = way(peer, node)
    lab.world.run(0.1)

    assert first == [(A6.address, True)]
    assert way(peer, node) == [(A6.address, False)]


@pytest.mark.parametrize("places", [(A4.address,), (A4.address, A6.address), (ip("203.0.113.7"),)])
def test_a_peer_behind_a_nat_leaves_what_its_rtr_can_send_to_to_the_rtr(
    places: tuple[IpAddress, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = homes()
    node, peer = pair(lab)
    relayed(lab, monkeypatch)
    there = said(node, 200, Locator(A4.address, NEVER), Locator(A6.address))
    lab.world.internet.send(Packet(A6.address, B6.address, there, data=(node.eid, peer.eid)))
    lab.world.run(1.5)

    back = said(node, 201, *(Locator(place) for place in places))
    lab.world.internet.send(Packet(A6.address, B6.address, back, data=(node.eid, peer.eid)))
    lab.world.run(0.011)

    assert way(peer, node) == [(ip("192.0.2.1"), False)]
