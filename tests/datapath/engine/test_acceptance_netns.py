"""What an engine accepts from the network, what it refuses, and which counter shows it."""

from __future__ import annotations

import struct
import time
from ipaddress import ip_address

import pytest

from tests.datapath.netlab import EID_A4, EID_B4, EID_B6, Lab, lab
from tests.datapath.oracle import packet as oracle

pytestmark = pytest.mark.netns

PLAIN = "0000000000000000"


def udp(
    source: str, destination: str, *, port: int = 5000, source_port: int = 5000, ttl: int = 64, tos: int = 0
) -> str:
    """An inner UDP packet, in hexadecimal."""
    body = struct.pack("!HHHH", source_port, port, 12, 0) + b"\0\0\0\1"
    a, b = ip_address(source), ip_address(destination)
    if a.version == 6:
        head = struct.pack("!IHBB", 0x60000000 | tos << 20, len(body), 17, ttl) + a.packed + b.packed
        pseudo = a.packed + b.packed + struct.pack("!II", len(body), 17)
        sum_ = oracle.checksum(pseudo + body)
        return (head + body[:6] + struct.pack("!H", sum_) + body[8:]).hex()
    head = struct.pack("!BBHHHBBH", 0x45, tos, 20 + len(body), 0, 0, ttl, 17, 0) + a.packed + b.packed
    return (head[:10] + struct.pack("!H", oracle.checksum(head)) + head[12:] + body).hex()


GOOD = udp(EID_B4, EID_A4)

REFUSED = [
    ("00", "data_short"),
    (PLAIN + GOOD[:30], "data_short"),
    ("0100000000000000" + GOOD, "data_key"),
    ("0800000000123400" + GOOD, "data_iid"),
    (PLAIN + "55" + GOOD[2:], "data_inner"),
    (PLAIN + GOOD[:20] + "0000" + GOOD[24:], "data_inner"),
    (PLAIN + GOOD[:-2], "data_inner"),
    ("08000000ffffff00" + GOOD, "data_inner"),
    (PLAIN + udp(EID_B4, "10.1.0.99"), "data_notours"),
    (PLAIN + udp(EID_B4, "224.0.0.1"), "data_notours"),
    (PLAIN + udp(EID_B4, EID_A4, port=4341), "data_notours"),
    (PLAIN + udp(EID_A4, EID_A4), "data_source"),
    (PLAIN + udp("127.0.0.1", EID_A4), "data_source"),
    (PLAIN + udp("169.254.1.1", EID_A4), "data_source"),
    (PLAIN + udp("192.0.2.1", EID_A4), "data_source"),
]


def inject(both: Lab, payloads: list[str], **options: int) -> None:
    link = both.links[0]
    both.b("inject", source=link.rloc("b", 4), to=link.rloc("a", 4), payloads=payloads, **options)
    time.sleep(0.05)


def test_each_reason_to_refuse_has_its_counter_and_nothing_is_lost_silently() -> None:
    with lab() as both:
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        expected: dict[str, int] = {}
        for payload, counter in REFUSED:
            inject(both, [payload])
            expected[counter] = expected.get(counter, 0) + 1

            assert {**expected, **both.a("counters")} == both.a("counters"), payload
            assert both.a("counters") == expected, payload


def test_flags_of_features_that_are_off_are_ignored_and_counted() -> None:
    with lab() as both:
        both.a("udp_open", name="x", address=EID_A4, port=5000)

        inject(both, [flags + GOOD for flags in ("c0a1b2c300000003", "1004512300000000", "a000c0de00000000")])

        assert len(both.a("udp_received", name="x", count=3)) == 3
        counters = both.a("counters")
        assert (counters["data_nonce"], counters["data_lsb"], counters["data_version"]) == (2, 1, 1)


def test_trailing_octets_are_cut_and_ttl_and_congestion_are_carried_inside() -> None:
    with lab() as both:
        both.a("udp_open", name="x", address=EID_A4, port=5000)

        inject(both, [PLAIN + GOOD + "ffff"])
        inject(both, [PLAIN + udp(EID_B4, EID_A4, tos=2)], tos=3)
        inject(both, [PLAIN + GOOD], tos=3)
        inject(both, [PLAIN + udp(EID_B4, EID_A4, ttl=0)])

        assert both.a("udp_received", name="x", count=2) == [[1, 4], [1, 4]]
        counters = both.a("counters")
        assert (counters["data_packets"], counters["data_ecn_drop"], counters["data_ttl"]) == (2, 1, 1)


def test_control_messages_in_the_data_plane_reach_the_control_plane() -> None:
    with lab() as both:
        inject(both, ["08000000ffffff00" + udp("198.51.100.1", "192.0.2.1", port=4342, source_port=4342)])

        (told,) = both.a("drain")
        assert told.startswith(r"ControlPacket(payload=b'\x00\x00\x00\x01'")
        assert f"outer_source=IPv4Address('{both.links[0].rloc('b', 4)}')" in told


def test_an_instance_id_separates_equal_addresses() -> None:
    with lab(eids=["[4660]10.1.0.1/32"]) as both:
        both.a("udp_open", name="x", address=EID_A4, port=5000)
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        inject(both, ["0800000000123400" + GOOD, PLAIN + GOOD])

        assert "instance_id=4660" in both.a("drain")[0]
        assert len(both.a("udp_received", name="x", count=2, timeout_s=0.3)) == 1
        assert both.a("counters")["data_iid"] == 1


def test_a_proxy_takes_any_destination_but_only_registered_sources() -> None:
    with lab(role="proxy", eids=[]) as both:
        link = both.links[0]
        both.a.ip("addr add 10.77.0.1/32 dev lo")
        both.a("udp_open", name="x", address="10.77.0.1", port=5000)
        both.a("install", prefix="10.2.0.0/24", locators=[link.rloc("b", 4)])
        both.a("install", prefix="10.3.0.0/24", locators=["192.0.2.77"])

        inject(both, [PLAIN + udp(each, "10.77.0.1") for each in (EID_B4, "10.3.0.1", "10.4.0.1")])

        assert len(both.a("udp_received", name="x", count=1)) == 1
        assert both.a("counters")["data_source"] == 2
        both.a("udp_send", name="x", to=EID_B4, port=5000)
        time.sleep(0.1)
        assert both.a("counters")["out_packets"] == 1


def test_a_proxy_delivers_nothing_to_a_prohibited_prefix_but_for_what_is_allowed_inside() -> None:
    with lab(role="proxy", eids=[]) as both:
        for address in ("10.77.0.1", "10.77.1.1"):
            both.a.ip(f"addr add {address}/32 dev lo")
            both.a("udp_open", name=address, address=address, port=5000)
        both.a("install", prefix="10.2.0.0/24", locators=[both.links[0].rloc("b", 4)])
        both.a("install", prefix="10.77.0.0/16", locators=[], disposition="PROHIBIT")
        both.a("install", prefix="10.77.1.0/24", locators=[], disposition="NATIVE")

        inject(both, [PLAIN + udp(EID_B4, each) for each in ("10.77.0.1", "10.77.1.1", "10.77.0.1")])

        assert len(both.a("udp_received", name="10.77.1.1", count=1)) == 1
        assert both.a("counters")["data_denied"] == 2


def test_ipv6_inside_needs_our_own_prefix_too() -> None:
    with lab() as both:
        inject(both, [PLAIN + udp(EID_B6, "2001:db8:1::99"), PLAIN + udp("fe80::1", "2001:db8:1::1")])

        assert both.a("counters") == {"data_notours": 1, "data_source": 1}
