"""An uplink slower than the traffic to it (tun tier): packets wait, senders slow down, losses are counted."""

from __future__ import annotations

import json
import time

import pytest

from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, RemoteEngine, install_both, lab

pytestmark = pytest.mark.netns

# What fills up first: the queue of the device, or the send buffer of the socket. tbf's burst holds a whole run of
# packets: the kernel cuts a longer run, and reports no loss of a part.
SMALL_QUEUE, LARGE_QUEUE = "100kb", "100mb"
FLOOD = 12_000  # more than a send buffer holds
FLOODS_MAX = 10


def slow_down(both: Lab, rate: str, limit: str) -> None:
    both.a.run(f"tc qdisc add dev up0 root tbf rate {rate} burst 80kb limit {limit}")


def open_udp(both: Lab, name: str, a: str, b: str, port: int) -> None:
    both.a("udp_open", name=name, address=a, port=port)
    both.b("udp_open", name=name, address=b, port=port)


def lost_at(host: RemoteEngine, interface: str) -> int:
    """Packets that a full queue of an interface has dropped."""
    (told,) = json.loads(host.run(f"ip -j -s link show dev {interface}"))
    return int(told["stats64"]["tx"]["dropped"])


def wait_until_read(host: RemoteEngine) -> None:
    """Return when the datapath has taken what was sent, and the sender's own queue has room again."""
    before = -1
    for _ in range(100):
        now = host("counters").get("out_held", 0)
        if now == before:
            return
        before = now
        time.sleep(0.05)
    pytest.fail("it goes on and on")


def busy(host: RemoteEngine) -> int:
    counters = host("counters")
    return int(counters.get("out_busy", 0) + counters.get("out_busy_aged", 0))


@pytest.mark.parametrize("limit", [SMALL_QUEUE, LARGE_QUEUE])
def test_a_burst_that_is_too_fast_for_its_uplink_arrives_in_order(limit: str) -> None:
    with lab() as both:
        install_both(both, 4)
        slow_down(both, "20mbit", limit)
        open_udp(both, "x", EID_A4, EID_B4, 5000)

        both.a("udp_send", name="x", to=EID_B4, port=5000, sizes=[1000], count=300)

        assert both.b("udp_received", name="x", count=300) == [[number, 1000] for number in range(300)]
        assert busy(both.a) == 0
        assert (both.a("counters").get("out_held", 0) > 0) == (limit == SMALL_QUEUE)


@pytest.mark.parametrize("limit", [SMALL_QUEUE, LARGE_QUEUE])
def test_what_is_too_much_for_an_uplink_is_lost_with_a_reason(limit: str) -> None:
    with lab() as both:
        install_both(both, 4)
        slow_down(both, "60mbit", limit)
        open_udp(both, "x", EID_A4, EID_B4, 5000)

        sent = 0
        for _ in range(FLOODS_MAX):  # one is enough, unless the sender had a processor and the datapath had none
            both.a("udp_send", name="x", to=EID_B4, port=5000, sizes=[1000], first=sent, count=FLOOD)
            sent += FLOOD
            if both.a("counters").get("out_held", 0) > 0 and lost_at(both.a, "lmt0") > 0:
                break
        both.b("udp_received", name="x", count=sent, timeout_s=4)

        counters = both.a("counters")
        received = both.b("udp_received", name="x", count=0)
        assert counters["out_held"] > 0
        assert lost_at(both.a, "lmt0") > 0  # the sender's own queue overflows
        assert len(received) == counters["out_packets"]
        assert len(received) + busy(both.a) + lost_at(both.a, "lmt0") == sent
        assert received == sorted(received)


@pytest.mark.parametrize("limit", [SMALL_QUEUE, LARGE_QUEUE])
def test_a_stream_fills_a_slow_uplink_and_loses_nothing_of_it(limit: str) -> None:
    octets = 2_000_000
    with lab() as both:
        install_both(both, 4)
        slow_down(both, "50mbit", limit)
        both.b("tcp_serve", address=EID_B4, port=5001)

        assert both.a("tcp_send", source=EID_A4, to=EID_B4, port=5001, octets=octets) == octets
        assert busy(both.a) == 0


def test_a_slow_uplink_costs_another_one_nothing() -> None:
    with lab(links=2) as both:
        slow, other = both.links
        both.a("uplinks", uplinks=[slow.uplink("a", [4]), other.uplink("a", [6])])
        both.a("install", prefix=f"{EID_B4}/32", locators=[slow.rloc("b", 4)])
        both.a("install", prefix=f"{EID_B6}/128", locators=[other.rloc("b", 6)])
        slow_down(both, "5mbit", SMALL_QUEUE)
        open_udp(both, "slow", EID_A4, EID_B4, 5000)
        open_udp(both, "other", EID_A6, EID_B6, 5000)

        both.a("udp_send", name="slow", to=EID_B4, port=5000, sizes=[1000], count=2000)
        wait_until_read(both.a)
        both.a("udp_send", name="other", to=EID_B6, port=5000, sizes=[100], count=200, pause_s=0.001)

        assert len(both.b("udp_received", name="other", count=200)) == 200
        assert busy(both.a) > 0
