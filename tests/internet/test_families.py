"""Two families or two addresses of which one fails: the node asks, sends and is announced by the other."""

from __future__ import annotations

import pytest

from lispmob.control.probing.path import ProbeConfig
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import NEVER, LocalLocator
from lispmob.wire.address import IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import DATA_PORT
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from tests.internet.world import HUB, Lab, NodeHost, build, ip, locator

HUB6 = "2001:db8:99::10"
OLD4, NEW4 = locator("198.51.100.1"), LocalLocator(ip("203.0.113.1"), 2, "eth2", 1, 0)
V4, V6 = OLD4, locator("2001:db8:1::2")
OLD6, NEW6 = locator("2001:db8:1::2"), LocalLocator(ip("2001:db8:2::2"), 2, "eth2", 1, 0)
MODEM6 = locator("2600:1::2", ifindex=3)  # an uplink that has IPv6 only, beside one that has IPv4 only
CARRIER4 = locator("198.51.100.99", priority=2, ifindex=4)
PEER4, PEER6 = locator("192.0.2.130"), locator("2001:db8:b::2")
WITHIN_S = 5.0
PROBING = ProbeConfig(interval_s=5.0, timeout_s=0.5)


def lab(*own: LocalLocator, dead: LocalLocator | None, hubs: tuple[str, ...] = (HUB, HUB6)) -> tuple[Lab, NodeHost]:
    """A node with these locators, of which one is dead from the start, and a peer with both families."""
    made = build(hubs=hubs, probing=PROBING, is_one_hub=True)
    node, peer = made.nodes
    peer.attach(PEER4, PEER6)
    made.world.run(1.0)
    made.world.internet.dead |= {dead.address} if dead is not None else set()
    node.attach(*own)
    return made, node


def announced(node: NodeHost) -> dict[IpAddress, int]:
    return {one.address: one.priority for one in node.node.locators.locators}


def is_lookup(sent: SendControl) -> bool:
    """True for a question about another EID; about its own a node asks to find out whether its locators work."""
    message = decode_control(sent.payload) if sent.port != DATA_PORT else None  # that is a probe in data
    if not isinstance(message, EncapsulatedControl):
        return False
    request = decode_control(message.message)
    assert isinstance(request, MapRequest)
    return request.source_eid != request.records[0].eid


CASES = [
    pytest.param((V4, V6), V4, id="ipv4-leads-nowhere"),
    pytest.param((V4, V6), V6, id="ipv6-leads-nowhere"),
    pytest.param((OLD6, NEW6), OLD6, id="old-prefix"),
    pytest.param((OLD6, NEW6), NEW6, id="new-prefix"),
    pytest.param((OLD4, NEW4), OLD4, id="old-ipv4-address"),
    pytest.param((V4, OLD6, NEW6), OLD6, id="three-locators"),
    pytest.param((V4, MODEM6), V4, id="a-family-on-each-uplink-and-ipv4-dead"),
    pytest.param((V4, MODEM6), MODEM6, id="a-family-on-each-uplink-and-ipv6-dead"),
    pytest.param((CARRIER4, V4, MODEM6), V4, id="two-ipv4-uplinks-and-one-of-ipv6"),
]


@pytest.mark.parametrize(("own", "dead"), CASES)
def test_a_locator_that_is_dead_from_the_start_is_not_announced_and_not_asked_from(
    own: tuple[LocalLocator, ...], dead: LocalLocator
) -> None:
    made, node = lab(*own, dead=dead)

    made.chat(WITHIN_S)
    start = len(node.sent)
    made.chat(2.0)

    assert {address for address, priority in announced(node).items() if priority == NEVER} == {dead.address}
    assert dead.address not in {sent.source for _, sent in node.sent[start:] if is_lookup(sent)}
    assert made.is_connected()


@pytest.mark.parametrize(("own", "dead"), CASES)
def test_a_locator_that_dies_later_is_left_within_seconds(own: tuple[LocalLocator, ...], dead: LocalLocator) -> None:
    made, node = lab(*own, dead=None)
    made.chat(8.0)
    assert made.is_connected()

    made.world.internet.dead.add(dead.address)
    node.perform(node.node.on_unanswered(PEER6.address, False, made.world.now))  # the datapath reports it
    node.perform(node.node.on_unanswered(PEER4.address, False, made.world.now))
    made.chat(WITHIN_S)

    assert announced(node)[dead.address] == NEVER
    assert made.is_connected()


@pytest.mark.parametrize(("own", "dead"), CASES)
def test_a_locator_that_leads_somewhere_again_is_announced_again(
    own: tuple[LocalLocator, ...], dead: LocalLocator
) -> None:
    made, node = lab(*own, dead=dead)
    made.chat(WITHIN_S)

    made.world.internet.dead.clear()
    made.chat(60.0)

    assert NEVER not in announced(node).values()
    assert made.is_connected()


@pytest.mark.parametrize("dead", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_question_names_the_locator_that_it_leaves_from_first(dead: LocalLocator) -> None:
    made, node = lab(V4, V6, dead=dead)

    made.chat(WITHIN_S)

    for _, sent in node.sent:
        if isinstance(sent, SendControl) and sent.payload[0] >> 4 == 1:
            request = decode_control(sent.payload)
            assert isinstance(request, MapRequest)
            assert request.itr_rlocs[0] == sent.source


def test_a_hub_of_which_one_address_is_dead_leaves_the_node_connected() -> None:
    made, node = lab(V4, V6, dead=None)

    made.world.internet.dead.add(ip(HUB6))
    made.chat(70.0)

    assert made.is_connected()
    assert announced(node)[V4.address] == 1


def test_a_peer_that_probes_a_sibling_makes_the_node_ask_by_what_it_sends_from() -> None:
    made, node = lab(OLD6, NEW6, dead=None)
    made.chat(8.0)
    peer = made.nodes[1]

    made.world.internet.cut |= {frozenset((OLD6.address, PEER6.address))}
    peer.perform(peer.node.on_unanswered(OLD6.address, False, made.world.now))
    made.world.run(WITHIN_S)

    assert [event.fields["local"] for _, event in node.events if event.kind == "path-down"] == [str(OLD6.address)]


def test_when_the_hub_is_gone_no_locator_is_given_up() -> None:
    made, node = lab(V4, V6, dead=None)
    made.chat(2.0)

    made.world.internet.dead |= {ip(HUB), ip(HUB6)}
    made.chat(200.0)

    assert NEVER not in announced(node).values()
