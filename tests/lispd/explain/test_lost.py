"""Why a packet is lost: each reason has a sentence of its own."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import count

import pytest

from lispmob.control.node_config import NodeConfig
from lispmob.datapath.ask import FlowVerdict
from lispmob.lispd.explain.lost import why_lost
from lispmob.node.node import Node
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Action, Locator

PREFIX = EidPrefix.parse("10.99.0.2/32")
PEER = ip_address("10.99.0.2")


def node(*own: str, eid: str = "10.99.0.1/32") -> Node:
    made = Node(NodeConfig((EidPrefix.parse(eid),), fallback="drop"), new_nonce=count(1).__next__, jitter=lambda: 0.5)
    made.on_locators([LocalLocator(ip_address(address), 2, "wlan0") for address in own], 0.0)
    return made


def said(made: Node, *locators: Locator, action: Action = Action.DROP) -> str:
    made.on_mapping_added(PREFIX, locators, action, 0.0)
    return why_lost(FlowVerdict.DROP, PEER, PREFIX, made, 0.0)


@pytest.mark.parametrize(
    ("own", "theirs", "words"),
    [
        ("2001:db8::7", "198.51.100.9", "has IPv4 locators only, and the uplinks have IPv6 addresses only"),
        ("192.0.2.7", "2001:db8::9", "has IPv6 locators only, and the uplinks have IPv4 addresses only"),
    ],
)
def test_no_family_in_common_is_not_the_mappings_wish(own: str, theirs: str, words: str) -> None:
    assert words in said(node(own), Locator(ip_address(theirs), 1, 100))


def test_locators_that_take_no_packets_are_told_from_those_that_are_said_to_be_down() -> None:
    peer = ip_address("198.51.100.9")

    assert "priority 255" in said(node("192.0.2.7"), Locator(peer, 255, 0))
    assert "says itself" in said(node("192.0.2.7"), Locator(peer, 1, 100, is_reachable=False))


def test_a_static_mapping_without_locators_is_named() -> None:
    assert said(node("192.0.2.7")) == "a static mapping without locators drops it"


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("10.99.0.7", "it is in our own EID-Prefix 10.99.0.0/24"),
        ("224.0.0.5", "it is a multicast group"),
        ("fe80::1", "it is a link-local address"),
        ("255.255.255.255", "loopback, broadcast or unspecified"),
    ],
)
def test_what_is_nothing_for_the_overlay_is_told_apart(destination: str, words: str) -> None:
    assert words in why_lost(FlowVerdict.NOT_LISP, ip_address(destination), None, node(eid="10.99.0.0/24"), 0.0)


def test_every_way_to_be_lost_has_a_sentence() -> None:
    lost = set(FlowVerdict) - {FlowVerdict.SENT, FlowVerdict.MISS, FlowVerdict.NO_UPLINK}

    assert all(why_lost(verdict, PEER, None, node("192.0.2.7"), 0.0) for verdict in lost)
