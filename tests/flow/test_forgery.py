"""Forged, replayed and repeated datagrams have no effect on the machines of flows, within limits."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.flow.auth import FlowKey, Way, sign
from lispmob.flow.message import HEADER, Kind, Message, Reason, decode, encode
from lispmob.flow.quality import FlowClass, Quality
from tests.internet.network import Weather

from .world import A, B, Host, Network, from_the_holder, pair

KEY = FlowKey(7, b"sixteen octets at least")
STRANGER = ip_address("10.99.0.66")


def request(nonce: bytes, name: str = "backup") -> bytes:
    return encode(Message(Kind.REQUEST, nonce, name=name))


def test_a_forged_request_neither_ends_nor_crowds_out_a_flow_of_its_victim() -> None:
    network, a, b = pair()
    flow = a.call(B, "backup", port=50000)
    network.run(1.0)

    for number in range(400):
        network.carry(request(number.to_bytes(8)), Way(A, 50000, B, 3359))
        network.run(0.001)
    again = a.call(B, "backup", port=50077)
    network.run(3.0)

    assert b.ended == []
    assert a.connected[flow] == (B, 40000)
    assert again in a.opened_at
    assert len(b.ports) <= 18


def test_a_flood_of_forged_requests_leaves_room_for_real_callers() -> None:
    network, a, b = pair()
    for number in range(3000):
        forged = ip_address(f"10.99.{1 + number // 250}.{1 + number % 250}")
        network.carry(request(number.to_bytes(8)), Way(forged, 1024 + number, B, 3359))
        if number % 100 == 0:
            network.run(0.1)

    flow = a.call(B, "backup")
    network.run(3.0)

    assert flow in a.opened_at
    assert len(b.ports) <= 129
    assert len(b.opened) == 1


def test_to_a_caller_that_has_not_confirmed_go_at_most_as_many_octets_as_came_from_it() -> None:
    network, a, b = pair(Network(lose=from_the_holder))
    b.hold("safe", key=KEY)
    b.hold("chat", asks_program=True)
    for name in ("backup", "chat", "printer", "x" * 200):
        a.call(B, name, wish=Quality(FlowClass.VOICE))
    a.call(B, "safe", key=KEY, wish=Quality(FlowClass.VOICE))
    network.run(30.0)

    for port in range(50000, 50005):
        asked = sum(len(octets) for _, octets, way in network.sent if way.source_port == port and way.source == A)
        told = sum(len(octets) for _, octets, way in network.sent if way.destination_port == port and way.source == B)
        assert told <= asked


@pytest.mark.parametrize("kind", [Kind.CONFIRM, Kind.ALIVE, Kind.CLOSE])
def test_who_does_not_know_both_nonces_changes_nothing(kind: Kind) -> None:
    network, a, b = pair()
    a.call(B, "backup")
    network.run(1.0)
    nonce = next(decode(octets).caller_nonce for _, octets, _ in network.sent)

    for source in (A, STRANGER):
        network.carry(encode(Message(kind, nonce, b"notright")), Way(source, 3359, B, 3359))
        network.carry(encode(Message(kind, b"notright", b"notright")), Way(source, 3359, A, 3359))
    network.run(1.0)

    assert a.ended == b.ended == []
    assert a.ports != {}
    assert b.ports != {}


def test_an_accept_from_another_host_is_ignored() -> None:
    network, a, _b = pair(Network(weather=Weather(loss=1.0)))
    flow = a.call(B, "backup")
    nonce = decode(network.sent[0][1]).caller_nonce
    network.weather = replace(network.weather, loss=0.0)

    accept = encode(Message(Kind.ACCEPT, nonce, b"12345678", flow_port=666))
    network.carry(accept, Way(STRANGER, 3359, A, 50000))
    network.carry(accept, Way(B, 4000, A, 50000))
    network.carry(encode(Message(Kind.ACCEPT, b"12345678", b"12345678", flow_port=666)), Way(B, 3359, A, 50000))
    network.run(0.05)

    assert flow not in a.opened_at
    assert a.endpoint.counters["flow_nonce"] == 2


def test_a_request_of_a_later_version_is_refused_with_its_nonce() -> None:
    network, _a, _b = pair()
    later = bytearray(request(b"12345678"))
    later[3] = 2

    network.carry(bytes(later), Way(A, 50000, B, 3359))
    network.run(1.0)

    refusal = decode(network.sent[-1][1])
    assert (refusal.kind, refusal.caller_nonce, refusal.reason_code) == (Kind.REFUSE, b"12345678", Reason.UNSUPPORTED)


@given(st.lists(st.tuples(st.binary(max_size=200), st.sampled_from([A, STRANGER]), st.integers(1, 65535))))
def test_no_datagram_breaks_an_endpoint(datagrams: list[tuple[bytes, object, int]]) -> None:
    network, a, b = pair()
    a.call(B, "backup")
    network.run(0.5)

    for octets, source, port in datagrams:
        for lead in (b"", b"\0LF\1", HEADER.pack(b"\0LF", 1, port % 9, port & 0x80, 0, b"12345678", b"12345678")):
            b.receive(lead + octets, Way(source, port, B, 3359))  # type: ignore[arg-type]
            a.receive(lead + octets, Way(B, port, A, 50000))
    network.run(1.0)

    assert len(a.opened) == 1


def test_a_signed_message_for_another_flow_is_refused() -> None:
    network, a, b = pair()
    b.hold("safe", key=KEY)
    a.call(B, "safe", key=KEY)
    network.run(1.0)
    _, confirm, way = next(sent for sent in network.sent if decode(sent[1]).kind is Kind.CONFIRM)
    bare = confirm[:-20]

    network.carry(bare, way)
    network.carry(sign(bare, way, FlowKey(7, b"another key of sixteen")), way)
    network.run(1.0)

    assert b.endpoint.counters["flow_auth"] == 2


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("closer", ["caller", "holder"])
def test_a_host_may_call_itself(key: FlowKey | None, closer: str) -> None:
    network = Network()
    host = Host(network, A, "a")
    host.hold("backup", key=key)

    flow = host.call(A, "backup", key=key)
    network.run(2.0)
    assert len(host.opened) == 2

    other = next(opened.flow for opened in host.opened if opened.flow != flow)
    host.close(flow if closer == "caller" else other)
    network.run(2.0)

    assert [ended.flow for ended in host.ended] == [other if closer == "caller" else flow]
    assert host.ports == {}
