"""Locator-Status-Bits on the link: what we send of our locators, and the effect of what others send of theirs."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lispmob.wire.data_header import DataHeader
from tests.datapath.ebpf.test_tiers_netns import open_udp, settle
from tests.datapath.engine.test_acceptance_netns import GOOD
from tests.datapath.netlab import EID_A4, EID_B4, Lab, install_both, lab

pytestmark = pytest.mark.netns


def headers(both: Lab, count: int) -> list[DataHeader]:
    """Send so many packets from a; returns their LISP headers."""
    both.b("sniff", name="tap", interface="up0")
    both.a("udp_send", name="x", to=EID_B4, port=5000, count=count, pause_s=0.01)
    return [DataHeader.decode(bytes.fromhex(packet)[28:]) for packet in both.b("sniffed", name="tap", count=count)]


def say(both: Lab, bits: int, source: str | None = None, count: int = 3) -> None:
    payload = DataHeader(locator_status_bits=bits).encode().hex() + GOOD
    own, peer = (both.links[0].rloc(side, 4) for side in "ba")
    both.b("inject", source=source or own, to=peer, payloads=[payload] * count)
    time.sleep(0.05)


def told(both: Lab) -> list[Any]:
    return [word for word in both.a("drain") if word.startswith("StatusBits")]


def report(both: Lab, bits: int) -> str:
    rloc = both.links[0].rloc("b", 4)
    return (
        f"StatusBits(source=IPv4Address('{EID_B4}'), instance_id=0, outer_source=IPv4Address('{rloc}'), "
        f"bits={bits}, width=32)"
    )


def test_what_we_say_of_our_locators_is_in_every_header_from_the_next_packet_on() -> None:
    with lab() as both:
        install_both(both, 4)
        open_udp(both)
        settle(both)
        seen = [headers(both, 3)]
        for bits in (0b101, 0xFFFFFFFF, None):
            both.a("status_bits", bits=bits)
            seen.append(headers(both, 3))

        assert seen == [[DataHeader(locator_status_bits=bits)] * 3 for bits in (None, 0b101, 0xFFFFFFFF, None)]


def test_beside_an_instance_id_there_is_room_for_eight_of_them() -> None:
    eids = {"eids": [f"[7]{EID_A4}/32", f"[7]{EID_B4}/32"]}
    with lab() as both:
        for host, own in zip((both.a, both.b), eids["eids"], strict=True):
            host("eids", eids=[own])
        both.a("install", prefix=eids["eids"][1], locators=[both.links[0].rloc("b", 4)])
        open_udp(both)
        settle(both)
        both.a("status_bits", bits=0x1FE)

        assert headers(both, 3) == [DataHeader(instance_id=7, locator_status_bits=0xFE)] * 3


def test_bits_that_change_are_told_of_once_a_second_at_most_and_the_packets_arrive() -> None:
    with lab() as both:
        install_both(both, 4)
        open_udp(both)
        both.a("status_bits", accepts=True)
        say(both, 0b11, count=5)
        first = told(both)
        say(both, 0b01)
        too_soon = told(both)
        time.sleep(1.1)
        both.a("heard")  # in the ebpf tier a flow is checked again now and then
        say(both, 0b01)

        assert first == [report(both, 0b11)]
        assert too_soon == []
        assert told(both) == [report(both, 0b01)]
        assert len(both.a("udp_received", name="x", count=11)) == 11


def test_what_a_stranger_says_is_not_told_and_nothing_is_where_no_configuration_asks_for_bits() -> None:
    with lab() as both:
        install_both(both, 4)
        open_udp(both)
        both.b.ip("addr add 192.0.2.5/29 dev up0")
        say(both, 0b01)
        unheeded = told(both)
        both.a("status_bits", accepts=True)
        say(both, 0b01, source="192.0.2.5")

        assert unheeded == told(both) == []
        assert len(both.a("udp_received", name="x", count=6)) == 6
