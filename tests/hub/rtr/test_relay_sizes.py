"""A hub's path MTUs: which nodes it probes, how, and about which of its paths."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import count

from lispmob.hub.rtr.relay_sizes import RelaySizes
from lispmob.protocol.effect import SendControl, UsableLocator, UsePathMtu
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply

HUB, OPEN, NAT = ip_address("198.18.0.10"), ip_address("192.0.2.130"), ip_address("198.51.100.2")
EID = EidPrefix.parse("10.1.0.1/32")
PLACES = {
    (OPEN, 4341): UsableLocator(OPEN, 1, 100),
    (NAT, 30001): UsableLocator(NAT, 1, 100, port=30001, source=HUB, source_port=4342),
}


def served(address: IpAddress, port: int) -> tuple[EidPrefix, UsableLocator] | None:
    place = PLACES.get((address, port))
    return None if place is None else (EID, place)


def sizes() -> RelaySizes:
    made = RelaySizes(served, new_nonce=count(1).__next__)
    made.on_links({HUB: 1500})
    return made


def test_a_node_in_the_open_is_asked_at_its_control_port() -> None:
    (probe,) = sizes().on_large(HUB, OPEN, 4341, 0.0)

    assert isinstance(probe, SendControl)
    assert (probe.destination, probe.port, probe.is_whole) == (OPEN, 4342, True)
    assert len(probe.payload) == 1472


def test_a_node_behind_a_nat_is_asked_where_its_data_goes_to() -> None:
    (probe,) = sizes().on_large(HUB, NAT, 30001, 0.0)

    assert isinstance(probe, SendControl)
    assert (probe.destination, probe.port, probe.source, probe.is_whole) == (NAT, 30001, HUB, True)
    assert probe.payload[4:7] == b"\xff\xff\xff"
    assert len(probe.payload) == 1472


def test_a_pair_of_locators_that_reaches_no_node_is_not_probed() -> None:
    assert sizes().on_large(HUB, NAT, 30002, 0.0) == []
    assert sizes().on_too_big(HUB, NAT, 30002, 1300, "icmp", 0.0) == []


def test_the_way_that_takes_less_is_told_to_the_datapath_and_told_again_when_that_forgot() -> None:
    found = sizes()
    found.on_too_big(HUB, OPEN, 4341, 1400, "icmp", 0.0)
    now, effects = 0.0, found.on_large(HUB, OPEN, 4341, 0.0)
    assert effects == [UsePathMtu(HUB, OPEN, 4341, 1400)]

    for _ in range(100):
        if (at := found.wake_at()) is None:
            break
        now = at
        for effect in found.on_timer(now):
            if isinstance(effect, SendControl) and len(effect.payload) + 28 <= 1400:
                answer = MapReply(int.from_bytes(effect.payload[4:12]), (), is_probe=True).encode()
                assert found.is_answer(answer)
                found.on_answer(answer, now)

    assert found.on_links({HUB: 1500}) == [UsePathMtu(HUB, OPEN, 4341, 1400)]
    assert found.on_links({HUB: 9000})[0] == UsePathMtu(HUB, OPEN, 4341, 0)
