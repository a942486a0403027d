"""Packets of a rule with copies: sealed once, sent by two uplinks, delivered once, also when one of them loses some."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from lispmob.datapath import sealing
from tests.datapath.netlab import EID_A4, EID_A6, EID_B4, EID_B6, Lab, RemoteEngine, lab
from tests.datapath.seal.test_sealed_netns import OF_A, OF_B, data_of, grown, send, use_keys

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto"),
]

TWICE = 65000
"""The mark of packets that leave twice."""
PEER = "198.51.100.9"
"""b's locator, reached by either link."""
LOSSES = ("data_key", "data_tag", "data_source", "data_inner", "data_clear", "out_unsealed", "out_busy")


@pytest.fixture(scope="module", params=["tun", "ebpf"])
def twice(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two links; a has sockets "x" and "y" whose packets leave by both of them."""
    with lab(links=2, tier=request.param, mark_mask=0xFFFF) as made:
        made.b.ip(f"addr add {PEER}/32 dev lo")
        for metric, link in enumerate(made.links, start=1):
            made.a.ip(f"route add {PEER} via {link.rloc('b', 4)} dev {link.name} metric {metric}")
        for engine, v4, v6 in ((made.a, EID_A4, EID_A6), (made.b, EID_B4, EID_B6)):
            engine("udp_open", name="x", address=v4, port=5000)
            engine("udp_open", name="y", address=v6, port=5000)
        lead(made)
        yield made


def lead(both: Lab, uplinks: int = 2) -> None:
    """Let the packets of "x" and "y" leave by so many uplinks; mappings and keys are as at first."""
    both.a("uplinks", uplinks=[link.uplink("a") for link in both.links])
    both.a("lanes", names=[link.name for link in both.links[:uplinks]], copying=TWICE)
    for name in "xy":
        both.a("udp_mark", name=name, mark=TWICE)
    for prefix in OF_B:
        both.a("install", prefix=prefix, locators=[PEER], peer=1, must_seal=True)
    for prefix in OF_A:
        both.b("install", prefix=prefix, locators=[both.links[0].rloc("a", 4)], peer=1, must_seal=True)
    use_keys(both)


@contextlib.contextmanager
def losing(engine: RemoteEngine, interface: str, share: float) -> Iterator[None]:
    """Lose this share of the packets that come in there, at random."""
    rule = f"PREROUTING -i {interface} -p udp --dport 4341 -m statistic --mode random --probability {share} -j DROP"
    engine.run(f"iptables -t raw -A {rule}")
    try:
        yield
    finally:
        engine.run(f"iptables -t raw -D {rule}")


@pytest.mark.parametrize("interface", ["up0", "up1"])
@pytest.mark.parametrize("name", ["x", "y"])
def test_no_packet_is_lost_while_one_of_two_uplinks_loses_a_fifth(twice: Lab, interface: str, name: str) -> None:
    lead(twice)
    before_a, before_b = twice.a("counters"), twice.b("counters")

    with losing(twice.b, interface, 0.2):
        got = send(twice, 500, 0, name, pause_s=0.0005)

    assert sorted(got) == list(range(500))
    assert grown(twice.a, before_a, "out_copies", "out_uncopied") == {"out_copies": 500}
    dropped = grown(twice.b, before_b, "data_replay", *LOSSES)
    assert dropped.keys() == {"data_replay"}
    assert 300 < dropped["data_replay"] < 470, "the window drops the copies that have arrived second"


def test_the_two_copies_are_the_same_octets_with_the_same_counter(twice: Lab) -> None:
    lead(twice)
    for link in twice.links:
        twice.b("sniff", name=link.name, interface=link.name)
    assert send(twice, 20, 0, sizes=[64, 900, 1300]) == list(range(20))

    first, second = (data_of(twice.b("sniffed", name=link.name, count=20)) for link in twice.links)
    sealed = [payload for payload in first if payload[0] & 3 == 1]
    assert len(sealed) >= 20
    assert sealed == [payload for payload in second if payload[0] & 3 == 1]


def test_a_tcp_stream_that_leaves_twice_arrives_once(twice: Lab) -> None:
    lead(twice)
    before = twice.b("counters")
    twice.b("tcp_serve", address=EID_B4, port=5003)

    with losing(twice.b, "up1", 0.2):
        sent = twice.a("tcp_send", source=EID_A4, to=EID_B4, port=5003, octets=2_000_000, mark=TWICE)

    assert sent == 2_000_000
    assert grown(twice.b, before, *LOSSES) == {}


def test_with_one_uplink_left_packets_leave_once_and_are_counted_so(twice: Lab) -> None:
    lead(twice)
    twice.a("uplinks", uplinks=[twice.links[1].uplink("a")])
    before = twice.a("counters")

    assert send(twice, 20, 0) == list(range(20))
    assert grown(twice.a, before, "out_copies", "out_uncopied") == {"out_uncopied": 20}


def test_copies_count_for_what_a_locator_on_trial_may_get(twice: Lab) -> None:
    lead(twice)
    for prefix in OF_B:
        twice.a("install", prefix=prefix, locators=[PEER], peer=1, must_seal=True, is_on_trial=True)
    before_a, before_b = twice.a("counters"), twice.b("counters")

    got = send(twice, 200, 0)

    arrived = len(got) + grown(twice.b, before_b, "data_replay").get("data_replay", 0)
    assert 200 < arrived <= 256, "packets and copies together"
    assert grown(twice.a, before_a, "out_unproven")["out_unproven"] >= 400 - 256


def test_in_clear_nothing_leaves_twice_since_no_receiver_could_drop_the_second(twice: Lab) -> None:
    lead(twice)
    twice.a("install", prefix=OF_B[0], locators=[PEER])
    before = twice.a("counters")

    assert send(twice, 20, 0) == list(range(20))
    assert grown(twice.a, before, "out_copies", "out_uncopied") == {"out_uncopied": 20}


def test_an_uplink_that_refuses_leaves_the_packet_to_the_other_one_once(twice: Lab) -> None:
    lead(twice)
    before = twice.a("counters")
    twice.a.ip("link set up0 down")
    try:
        got = send(twice, 50, 0, pause_s=0.001)
    finally:
        twice.a.ip("link set up0 up")
        twice.a.ip("-6 addr replace 2001:db8:ff00::1/64 dev up0 nodad")

    assert got == list(range(50))
    assert grown(twice.a, before, "out_copies") == {}


def test_through_relays_the_copies_are_nested_alike_and_arrive_once(twice: Lab) -> None:
    lead(twice)
    for prefix in OF_B:
        place = {"locators": [PEER], "peer": 1, "must_seal": True, "is_relay": True}
        twice.a("install", prefix=prefix, **place)
    before = twice.b("counters")

    with losing(twice.b, "up0", 0.2):
        assert sorted(send(twice, 200, 0, "y", pause_s=0.0005)) == list(range(200))

    assert grown(twice.b, before, *LOSSES, "data_notours") == {}
