"""What the engine of an RTR does besides a proxy's: messages that open NATs, and packets that wait for a lookup."""

from __future__ import annotations

from typing import Any

import pytest

from tests.datapath.engine.test_acceptance_netns import PLAIN, inject, udp
from tests.datapath.netlab import EID_B4, lab

pytestmark = pytest.mark.netns

CONTROL = "08000000ffffff00"
INFO_REQUEST = "70000000" + 8 * "ab" + 12 * "00" + "0011" + b"laptop".hex() + "00"
AN_RTR: dict[str, Any] = {"role": "proxy", "eids": [], "is_rtr": True}
ELSEWHERE = "10.9.0.1"


def test_an_info_request_right_behind_the_data_header_reaches_the_control_plane_of_an_rtr() -> None:
    with lab(**AN_RTR) as both:
        inject(both, [CONTROL + INFO_REQUEST, "0000000000000000" + INFO_REQUEST, CONTROL + INFO_REQUEST[:30]])

        (told,) = both.a("drain")
        assert told.startswith(r"ControlPacket(payload=b'p\x00\x00\x00\xab")
        counters = both.a("counters")
        assert (counters["data_control"], counters["data_inner"], counters["data_short"]) == (1, 1, 1)


def test_a_node_takes_no_such_message() -> None:
    with lab() as both:
        inject(both, [CONTROL + INFO_REQUEST])

        assert both.a("drain") == []
        assert both.a("counters")["data_inner"] == 1


def test_a_packet_for_what_has_to_be_asked_for_waits_and_leaves_with_the_answer_one_hop_older() -> None:
    with lab(**AN_RTR) as both:
        link = both.links[0]
        both.a("install", prefix=f"{EID_B4}/32", locators=[link.rloc("b", 4)])
        both.a("install", prefix="10.9.0.0/16", locators=[], disposition="MISS")
        inject(both, [PLAIN + udp(EID_B4, ELSEWHERE, ttl=20), PLAIN + udp("10.4.0.1", ELSEWHERE)])
        (asked,) = [punt for punt in both.a("drain") if punt.startswith("Miss")]
        both.b("sniff", name="wire", interface=link.name)

        both.a("install", prefix=f"{ELSEWHERE}/32", locators=[link.rloc("b", 4)])

        assert f"destination=IPv4Address('{ELSEWHERE}')" in asked
        (sent,) = both.b("sniffed", name="wire", count=1)
        inner = bytes.fromhex(sent)[36:]
        assert (inner[8], inner[16:20]) == (19, bytes((10, 9, 0, 1)))
        assert both.a("counters")["data_source"] == 1
