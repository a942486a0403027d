"""Hosts with several EIDs: a request to one of them is answered from that one. In memory, in virtual time."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from lispmob.flow.auth import FlowKey
from lispmob.flow.effect import Failure

from .world import Address, Host, Network, pair

SECOND = ip_address("10.99.0.12")
KEY = FlowKey(7, b"sixteen octets at least")


def with_two_eids() -> tuple[Network, Host, Host]:
    network, a, b = pair()
    network.places[SECOND] = b
    return network, a, b


def sources_of(network: Network, a: Host) -> set[Address]:
    return {way.source for _, _, way in network.sent if way.destination == a.address}


@pytest.mark.parametrize("key", [None, KEY])
def test_a_call_to_the_second_eid_of_a_host_opens_and_ends_there(key: FlowKey | None) -> None:
    network, a, b = with_two_eids()
    b.hold("locked", key=key)

    flow = a.call(SECOND, "locked", key=key)
    network.run(1.0)
    a.close(flow)
    network.run(5.0)

    assert [opened.flow for opened in a.opened] == [flow]
    assert len(b.ended) == 1
    assert sources_of(network, a) == {SECOND}


@pytest.mark.parametrize("name", ["absent", "forbidden"])
def test_a_refusal_of_the_second_eid_comes_from_it(name: str) -> None:
    network, a, b = with_two_eids()
    b.hold("forbidden", may_call=lambda _caller: False)

    a.call(SECOND, name)
    network.run(1.0)

    assert [failed.failure for failed in a.failed] in ([Failure.NO_SUCH_NAME], [Failure.REFUSED])
    assert sources_of(network, a) == {SECOND}


def test_a_repeated_close_is_answered_from_the_eid_that_was_asked_when_the_flow_has_gone() -> None:
    network, a, b = with_two_eids()
    flow = a.call(SECOND, "backup")
    network.run(1.0)
    network.lose = lambda _octets, way: way.destination == a.address

    a.close(flow)
    network.run(10.0)

    assert len(b.ended) == 1
    assert sources_of(network, a) == {SECOND}
