"""Behind a NAT: one port for data, relays instead of the mapping's locators, and detection of silence."""

from __future__ import annotations

import time

import pytest

from tests.datapath.netlab import EID_A4, EID_B4, install_both, lab, open_sockets

pytestmark = pytest.mark.netns


def outer_ports(packets: list[str]) -> set[tuple[int, int]]:
    return {(int(packet[40:44], 16), int(packet[44:48], 16)) for packet in packets}


def test_data_leaves_from_port_4341_and_goes_to_the_relay_whatever_the_mapping_says() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("install", prefix=f"{EID_B4}/32", locators=["203.0.113.9"])  # has no host
        both.a("relay", uplink=link.uplink("a", (4,)), data_port="fixed", relays=[link.rloc("b", 4)])
        open_sockets(both)
        both.b("sniff", name="wire", interface=link.name)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)

        assert len(both.b("udp_received", name="x", count=10)) == 10
        assert outer_ports(both.b("sniffed", name="wire", count=10)) == {(4341, 4341)}


def test_an_ephemeral_data_port_sends_and_receives() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("relay", uplink=link.uplink("a", (4,)), data_port="ephemeral", relays=[link.rloc("b", 4)])
        open_sockets(both)
        both.b("sniff", name="wire", interface=link.name)
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        ((port, _),) = outer_ports(both.b("sniffed", name="wire", count=1))

        both.b("install", prefix=f"{EID_A4}/32", locators=[link.rloc("a", 4)], port=port)
        both.b("udp_send", name="x", to=EID_A4, port=5000)

        assert port != 4341
        assert len(both.a("udp_received", name="x", count=1)) == 1


def test_behind_a_nat_only_the_relay_is_listened_to() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("relay", uplink=link.uplink("a", (4,)), data_port="fixed", relays=["203.0.113.9"])
        open_sockets(both)

        both.b("udp_send", name="x", to=EID_A4, port=5000)

        assert both.a("udp_received", name="x", count=1, timeout_s=0.3) == []
        assert both.a("counters")["data_source"] == 1


def test_silence_after_something_was_sent_is_reported_once() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("relay", uplink=link.uplink("a", (4,)), data_port="fixed", relays=[link.rloc("b", 4)])
        open_sockets(both)  # b never answers
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        early = both.a("drain")
        time.sleep(0.15)

        both.a("udp_send", name="x", to=EID_B4, port=5000)

        assert [punt for punt in early if punt.startswith("Stalled")] == []
        stalled = [punt for punt in both.a("drain") if punt.startswith("Stalled")]
        assert len(stalled) == 1
        assert link.rloc("a", 4) in stalled[0]


def test_an_uplink_that_no_relay_knows_yet_keeps_its_packets() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("relay", uplink=link.uplink("a", (4,)), data_port="fixed", relays=[link.rloc("b", 4)], is_usable=False)
        open_sockets(both)
        both.a("udp_send", name="x", to=EID_B4, port=5000, count=3)
        before = both.b("udp_received", name="x", count=1, timeout_s=0.2)

        both.a("relay", uplink=link.uplink("a", (4,)), data_port="fixed", relays=[link.rloc("b", 4)])

        assert before == []
        assert len(both.b("udp_received", name="x", count=3)) == 3


def test_a_locator_that_names_this_uplink_is_sent_to_past_the_relay_from_the_same_port() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("relay", uplink=link.uplink("a", (4,)), data_port="fixed", relays=["203.0.113.9"])  # has no host
        both.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)], source=link.rloc("a", 4))
        open_sockets(both)
        both.b("sniff", name="wire", interface=link.name)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)

        assert len(both.b("udp_received", name="x", count=10)) == 10
        assert outer_ports(both.b("sniffed", name="wire", count=10)) == {(4341, 4341)}


def test_a_locator_that_names_another_uplink_goes_by_the_relay_of_this_one() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("relay", uplink=link.uplink("a", (4,)), data_port="fixed", relays=[link.rloc("b", 4)])
        both.a("install", prefix=f"{EID_B4}/32", locators=["203.0.113.9"], source="192.0.2.77")
        open_sockets(both)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)

        assert len(both.b("udp_received", name="x", count=10)) == 10


def test_a_locator_that_names_another_uplink_is_an_ordinary_one_where_there_is_no_relay() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)], source="192.0.2.77")
        open_sockets(both)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)

        assert len(both.b("udp_received", name="x", count=10)) == 10


def test_behind_a_nat_others_are_listened_to_where_the_uplink_admits_them() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        uplink = link.uplink("a", (4,))
        both.a("relay", uplink=uplink, data_port="fixed", relays=["203.0.113.9"], admits_others=True)
        open_sockets(both)

        both.b("udp_send", name="x", to=EID_A4, port=5000)

        assert len(both.a("udp_received", name="x", count=1)) == 1


def test_a_default_entry_that_tells_sends_as_well_and_tells_of_each_destination_once() -> None:
    with lab(links=1) as both:
        link = both.links[0]
        install_both(both, 4)
        both.a("remove", prefix=f"{EID_B4}/32")
        both.a("install", prefix="0.0.0.0/0", locators=[link.rloc("b", 4)], disposition="ENCAPSULATE_AND_REPORT")
        open_sockets(both)

        both.a("udp_send", name="x", to=EID_B4, port=5000, count=10)

        assert len(both.b("udp_received", name="x", count=10)) == 10
        told = [punt for punt in both.a("drain") if punt.startswith("Miss")]
        assert len(told) == 1
        assert EID_A4 in told[0]
        assert EID_B4 in told[0]
