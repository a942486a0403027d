"""A peer goes, and comes back: both find each other at once, however it went and wherever it is then."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.probing.path import ProbeConfig
from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.site import Site
from lispmob.node.node import MapServerPeer, Node
from lispmob.wire.address import EidPrefix
from lispmob.wire.eid import from_prefix
from lispmob.wire.map_request import EidRecord, MapRequest
from tests.internet.world import KEY, Lab, NodeHost, Packet, build, ip, locator

SOON_S = 2.0
PROBING = ProbeConfig(interval_s=30.0, tries=2, timeout_s=1.0)


def lab_that_talks(probing: ProbeConfig | None = PROBING) -> Lab:
    lab = build(probing=probing)
    for number, host in enumerate(lab.nodes, start=1):
        servers = tuple(MapServerPeer(hub.address, KEY, sends_xtr_id=True) for hub in lab.hubs)
        host.config = replace(host.config, map_servers=servers, xtr_id=bytes([number]) * 16, fallback="auto",
                              overlay_prefixes=(EidPrefix.parse("10.1.0.0/24").network,))  # fmt: skip
        host.perform(host.node.on_config(host.config, lab.world.now))
    lab.world.run(1.0)
    lab.chat(3.0)
    assert lab.is_connected()
    return lab


def leave(lab: Lab, host: NodeHost, *, is_clean: bool) -> None:
    if is_clean:
        host.perform(host.node.on_shutdown(lab.world.now))
        lab.world.run(0.1)
    host.attach()
    host.is_asleep = True


def come_back(lab: Lab, host: NodeHost, where: str) -> None:
    """Start another process, with an empty memory and nonces that begin later."""
    random = lab.world.random
    host.config = replace(host.config, first_nonce=host.config.first_nonce + 10**9 * round(lab.world.now + 1))
    host.node = Node(host.config, new_nonce=lambda: random.getrandbits(64), jitter=random.random)
    host.table.__init__()  # type: ignore[misc]
    host.is_asleep = False
    host.attach(locator(where))


def chat_until_heard(lab: Lab, listener: NodeHost, talker: NodeHost, within_s: float) -> bool:
    """`talker` sends ten times a second; True when `listener` receives it in time."""
    start = lab.world.now
    while lab.world.now < start + within_s:
        talker.talk_to(listener)
        lab.world.run(0.1)
        if any(at >= start for at, _ in listener.received):
            return True
    return False


@pytest.mark.parametrize("away_s", [3.0, 20.0, 45.0, 170.0])
@pytest.mark.parametrize("is_clean", [True, False], ids=["stopped", "killed"])
@pytest.mark.parametrize("where", ["198.51.100.2", "203.0.113.40"], ids=["same place", "elsewhere"])
def test_a_peer_that_came_back_is_reached_within_two_seconds(away_s: float, is_clean: bool, where: str) -> None:
    lab = lab_that_talks()
    a, b = lab.nodes
    leave(lab, b, is_clean=is_clean)
    for _ in range(round(away_s * 2)):
        a.talk_to(b)
        lab.world.run(0.5)

    come_back(lab, b, where)

    assert chat_until_heard(lab, b, a, SOON_S)


@pytest.mark.parametrize("is_clean", [True, False], ids=["stopped", "killed"])
def test_one_that_is_stopped_or_dead_is_refused_and_not_sent_anywhere_else(is_clean: bool) -> None:
    lab = lab_that_talks()
    a, b = lab.nodes

    leave(lab, b, is_clean=is_clean)
    for _ in range(50):  # probes alone detect it: there is no datapath that reports silence
        a.talk_to(b)
        lab.world.run(1.0)

    found = a.table.lookup(b.eid)
    assert found is not None
    assert found[1].disposition == ("DROP" if is_clean else "DOUBT")


@pytest.mark.parametrize("sign", ["data", "map-request"])
def test_a_sign_of_life_ends_a_negative_answer_where_no_hub_tells(sign: str) -> None:
    lab = lab_that_talks()
    a, b = lab.nodes
    leave(lab, b, is_clean=True)
    for _ in range(10):
        a.talk_to(b)
        lab.world.run(0.5)
    lab.hubs[0].plane.askers.__init__(new_nonce=lambda: 1)  # type: ignore[misc] # a hub that knows no askers
    come_back(lab, b, "203.0.113.40")
    lab.world.run(0.5)
    refused = a.table.lookup(b.eid)

    if sign == "data":
        a.perform(a.node.on_heard_from(b.eid, 0, lab.world.now))
    else:
        asks = MapRequest(9, from_prefix(b.config.eids[0]), (ip("203.0.113.40"),), (EidRecord.of(a.config.eids[0]),))
        lab.world.internet.send(Packet(ip("203.0.113.40"), ip("198.51.100.1"), asks.encode()))
    lab.world.run(SOON_S)

    again = a.table.lookup(b.eid)
    assert refused is not None
    assert refused[1].disposition == "DROP"
    assert again is not None
    assert again[1].disposition == "ENCAPSULATE"


def test_signs_of_life_that_can_be_forged_make_us_ask_seldom_and_believe_nothing() -> None:
    lab = lab_that_talks()
    a, b = lab.nodes
    leave(lab, b, is_clean=True)
    a.talk_to(b)
    lab.world.run(1.0)
    start = len(a.sent)

    for _ in range(1000):
        a.perform(a.node.on_heard_from(b.eid, 0, lab.world.now))
        lab.world.run(0.01)

    asked = [effect for _, effect in a.sent[start:] if effect.payload[0] >> 4 == 8]
    found = a.table.lookup(b.eid)
    assert len(asked) <= 3 + 10.0 / 3.0 + 1
    assert found is not None
    assert found[1].disposition == "DROP"


def test_a_site_that_is_removed_is_refused_by_its_peers_at_once() -> None:
    lab = lab_that_talks()
    a, b = lab.nodes

    lab.hubs[0].on_sites([Site("a", (a.config.eids[0],), (KEY,), strict_nonces=True)])
    lab.world.run(0.5)

    found = a.table.lookup(b.eid)
    assert found is not None
    assert found[1].disposition == "DROP"
    assert ip("198.51.100.2") not in {usable_locator.address for usable_locator in found[1].locators}


def test_a_node_whose_site_was_removed_asks_at_once_and_is_refused() -> None:
    lab = lab_that_talks()
    a, b = lab.nodes
    start = len(b.sent)

    lab.hubs[0].on_sites([Site("a", (a.config.eids[0],), (KEY,), strict_nonces=True)])
    lab.world.run(4.0)

    registers = [effect for _, effect in b.sent[start:] if effect.payload[0] >> 4 == 3]
    assert len(registers) >= 2
    assert not any(registration.is_confirmed and not registration.tries for registration in b.node.registrations)


def test_forged_words_about_our_own_mapping_cost_a_register_in_three_seconds_at_most() -> None:
    lab = lab_that_talks()
    a, _ = lab.nodes
    start = len(a.sent)
    forged = MapRequest(9, from_prefix(a.config.eids[0]), (ip("203.0.113.40"),), (EidRecord.of(a.config.eids[0]),),
                        is_smr=True, dont_map_reply=True)  # fmt: skip

    for _ in range(600):
        lab.world.internet.send(Packet(ip("203.0.113.40"), ip("198.51.100.1"), forged.encode()))
        lab.world.run(0.01)

    registers = [effect for _, effect in a.sent[start:] if effect.payload[0] >> 4 == 3]
    assert len(registers) <= 3
    assert all(registration.is_confirmed for registration in a.node.registrations)


@pytest.mark.parametrize("what", ["another place", "the same place", "sleep", "a notify"])
def test_a_node_that_has_withdrawn_does_not_register_again_whatever_comes_in(what: str) -> None:
    lab = lab_that_talks()
    a, b = lab.nodes
    b.perform(b.node.on_shutdown(lab.world.now))
    start = len(b.sent)

    if what == "another place":
        b.attach(locator("203.0.113.40"))
    elif what == "the same place":
        b.attach(locator("198.51.100.2"), locator("203.0.113.41", ifindex=3))
    elif what == "sleep":
        b.perform(b.node.on_slept(lab.world.now))
    lab.world.run(5.0)

    assert b.sent[start:] == []
    a.talk_to(b)
    lab.world.run(1.0)
    found = a.table.lookup(b.eid)
    assert found is not None
    assert found[1].disposition == "DROP"


@pytest.mark.parametrize("askers", [(0,), (1,), (0, 1)], ids=["one asks", "the other one", "both ask"])
def test_a_hub_that_has_lost_its_memory_parts_no_nodes_that_talk(askers: tuple[int, ...]) -> None:
    """A node that asks it hears that the peer is not registered; no SMR of the hub can correct that."""
    lab = lab_that_talks()
    eids = [host.config.eids[0] for host in lab.nodes]
    lab.hubs[0].plane = ControlPlane([Site(str(eid), (eid,), (KEY,), strict_nonces=True) for eid in eids])

    for number in askers:
        asker, peer = lab.nodes[number], lab.nodes[1 - number]
        (here,), (there,) = asker.addresses, peer.addresses
        smr = MapRequest(9, from_prefix(peer.config.eids[0]), (there,), (EidRecord.of(asker.config.eids[0]),),
                         is_smr=True, dont_map_reply=True)  # fmt: skip
        lab.world.internet.send(Packet(there, here, smr.encode()))
    lab.chat(SOON_S)

    assert any("mapping-negative" in lab.nodes[number].kinds() for number in askers)
    assert lab.is_connected()
