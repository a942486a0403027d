"""Which senders may use an inner source: from whom an engine accepts data, and what it keeps for a moment."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.datapath.engine.test_acceptance_netns import PLAIN, udp
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, lab

pytestmark = pytest.mark.netns

STRANGER = "192.0.2.5"  # an address of b that no mapping names
STRANGER6 = "2001:db8:ff00::5"
LOOSE: dict[str, Any] = {"source_check": "loose"}
CONTROL = "08000000ffffff00" + udp("192.0.2.1", "192.0.2.2", port=4342, source_port=4342)


def say(both: Lab, inner: str = EID_B4, source: str | None = None, count: int = 1, **options: Any) -> None:
    """Send data to a from host b, with this inner source and, as the outer source, this address of b's."""
    family = 6 if source and ":" in source else 4
    eid = EID_A6 if ":" in inner else EID_A4
    link = both.links[0]
    own = source or link.rloc("b", 4)
    both.b("inject", source=own, to=link.rloc("a", family), payloads=[PLAIN + udp(inner, eid)] * count, **options)
    time.sleep(0.05)


def heard(both: Lab, most: int = 20) -> int:
    """How many packets the application has received so far."""
    return len(both.a("udp_received", name="x", count=most, timeout_s=0.2))


def prepare(both: Lab) -> None:
    both.a("udp_open", name="x", address=EID_A4, port=5000)
    both.b.ip(f"addr add {STRANGER}/29 dev up0")
    both.b.ip(f"-6 addr add {STRANGER6}/64 dev up0 nodad")
    both.a("near", own=[both.links[0].rloc("a", 4), "10.200.0.1"], links=["192.0.2.0/29", "2001:db8:ff00::/64"])


def doubts(both: Lab) -> list[str]:
    return [word for word in both.a("drain") if word.startswith("SourceDoubted")]


def map_b(both: Lab, *locators: str, never: tuple[str, ...] = ()) -> None:
    both.a("install", prefix=f"{EID_B4}/32", locators=list(locators), never=list(never))


def test_data_of_a_peer_is_taken_from_its_locators_alone() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        map_b(both, both.links[0].rloc("b", 4))
        say(both, count=3)
        mine = heard(both, 3)
        say(both, source=STRANGER, count=3)
        say(both, count=2)

        assert (mine, heard(both, 6)) == (3, 5)
        assert both.a("counters")["data_source"] == 3
        assert len(doubts(both)) == 1


def test_strangers_take_no_place_among_those_that_are_heard() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        both.b.ip("route add local 100.66.0.0/16 dev lo")
        map_b(both, both.links[0].rloc("b", 4))
        junk = PLAIN + udp("10.3.0.7", EID_A4)
        both.b("inject_from_many", sources="100.66.0.0/16", count=1500, to=both.links[0].rloc("a", 4), payload=junk)
        say(both)

        heard_of = both.a("heard")
        assert both.links[0].rloc("b", 4) in heard_of
        assert 100 < len(heard_of) <= 257


def test_a_locator_that_nothing_is_sent_to_may_send_all_the_same() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        map_b(both, both.links[0].rloc("b", 4), never=(STRANGER,))
        say(both, source=STRANGER, count=3)

        assert heard(both, 3) == 3


def test_what_a_peer_sends_right_after_its_move_waits_for_its_new_mapping() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        map_b(both, both.links[0].rloc("b", 4))
        say(both, source=STRANGER, count=5)
        before = heard(both)
        map_b(both, STRANGER)

        assert (before, heard(both, 5)) == (0, 5)
        assert both.a("counters")["data_moved"] == 5
        map_b(both, STRANGER)
        assert heard(both) == 5


def test_waiting_packets_are_dropped_when_the_new_mapping_names_another_node() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        map_b(both, both.links[0].rloc("b", 4))
        say(both, source=STRANGER, count=5)
        map_b(both, "192.0.2.6")
        time.sleep(1.0)
        map_b(both, STRANGER)

        assert heard(both) == 0


def test_without_a_mapping_a_share_is_let_in_and_asked_about_once() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        say(both, count=10)

        assert heard(both, 10) == 10
        assert len(doubts(both)) == 1
        assert both.a("counters")["data_unknown"] == 10


def test_a_flood_from_one_sender_without_a_mapping_leaves_room_for_another() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        say(both, source=STRANGER, count=4000)
        say(both, "10.3.0.1", count=5)
        counters = both.a("counters")

        assert counters["data_unknown_limited"] > 500
        assert counters["data_unknown"] >= 1005


def test_no_packet_comes_from_a_network_that_an_uplink_is_on() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        say(both, "192.0.2.4")
        say(both, "192.0.2.6", source=STRANGER)
        say(both, "2001:db8:ff00::9", source=STRANGER6)

        assert heard(both) == 0
        assert both.a("counters")["data_near"] == 3


def test_an_eid_inside_such_a_network_speaks_by_its_mapping() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        both.a("install", prefix="192.0.2.4/32", locators=[both.links[0].rloc("b", 4)])
        say(both, "192.0.2.4")
        mine = heard(both, 1)
        say(both, "192.0.2.4", source=STRANGER)

        assert (mine, heard(both)) == (1, 1)


def test_a_proxy_passes_on_packets_of_any_source() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        map_b(both, both.links[0].rloc("b", 4))
        both.a("near", proxies=[STRANGER])
        for inner in ("198.18.0.1", EID_B4, "10.9.0.1"):
            say(both, inner, source=STRANGER)

        assert heard(both, 3) == 3
        assert both.a("counters").get("data_unknown", 0) == 0


def test_strict_takes_nothing_without_a_mapping_and_keeps_it_until_there_is_one() -> None:
    with lab(source_check="strict") as both:
        prepare(both)
        say(both, count=3)
        before = heard(both)
        map_b(both, both.links[0].rloc("b", 4))

        assert (before, heard(both, 3)) == (0, 3)
        assert both.a("counters")["data_source"] == 3


def test_off_takes_a_peers_source_from_any_sender() -> None:
    with lab(source_check="off") as both:
        prepare(both)
        map_b(both, both.links[0].rloc("b", 4))
        say(both, source=STRANGER, count=2)
        say(both, "192.0.2.4")

        assert heard(both, 3) == 3


def test_the_check_may_change_while_packets_move() -> None:
    with lab(source_check="off") as both:
        prepare(both)
        map_b(both, both.links[0].rloc("b", 4))
        seen = []
        for check in ("off", "loose", "off", "strict"):
            both.a("check_sources", check=check)
            say(both, source=STRANGER)
            seen.append(heard(both))

        assert seen == [1, 1, 2, 2]


HERE = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1", "192.0.2.1"),
    ("192.0.2.1", "192.0.2.1"),
    ("10.200.0.1", "192.0.2.1"),
    (EID_A4, "192.0.2.1"),
    ("::1", "::1"),
    ("2001:db8:ff00::1", "2001:db8:ff00::1"),
    (EID_A6, "2001:db8:ff00::1"),
]


@pytest.mark.parametrize("check", ["off", "loose"])
def test_no_user_of_this_host_speaks_for_a_peer(check: str) -> None:
    with lab(source_check=check) as both:
        prepare(both)
        both.a.ip("addr add 10.200.0.1/32 dev lo")
        for number, (source, to) in enumerate(HERE, 1):
            map_b(both, both.links[0].rloc("b", 4), never=(source,))
            both.a("inject", source=source, to=to, payloads=[PLAIN + udp(EID_B4, EID_A4), CONTROL, "00"])
            time.sleep(0.05)
            assert both.a("counters")["data_local"] == 3 * number, (source, to)

        assert heard(both) == 0
        assert both.a("drain") == []
        assert "data_short" not in both.a("counters")


def test_ipv6_is_checked_alike() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        both.a("udp_open", name="y", address=EID_A6, port=5000)
        rloc = both.links[0].rloc("b", 6)
        both.a("install", prefix=f"{EID_B6}/128", locators=[rloc])
        say(both, EID_B6, source=rloc, count=2)
        say(both, EID_B6, source=STRANGER6, count=2)

        assert len(both.a("udp_received", name="y", count=3, timeout_s=0.2)) == 2
        assert both.a("counters")["data_source"] == 2


def test_control_messages_in_data_never_fill_the_ring_of_reports() -> None:
    with lab(**LOOSE) as both:
        prepare(both)
        both.b("inject", source=STRANGER, to=both.links[0].rloc("a", 4), payloads=[CONTROL] * 5000)
        for last in range(1, 60):
            both.a("udp_send", name="x", to=f"10.7.0.{last}", port=5000)
        time.sleep(0.1)
        told = [word for _ in range(20) for word in both.a("drain")]

        assert sum(word.startswith("Miss") for word in told) == 59
        counters = both.a("counters")
        assert counters["data_control_limited"] > 4000
        assert counters.get("punt_lost", 0) == 0
