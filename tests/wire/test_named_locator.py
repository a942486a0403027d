"""What lispers.net writes into records, and what others might."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.wire.address import DistinguishedName
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.named_locator import NAME_LIMIT, PORT_MARK, host_in, is_host, is_rtr, partial, place_name, place_of
from lispmob.wire.record import Locator

NAT, LAN, RTR, OUTSIDE = (ip_address(text) for text in ("203.0.113.9", "192.168.1.2", "198.51.100.77", "192.0.2.1"))
V6 = ip_address("2001:db8::5")
HOSTS = st.binary(max_size=NAME_LIMIT + 2)


def named(address: object, name: bytes, priority: int = 1) -> Locator:
    return Locator(AfiList((address, DistinguishedName(name))), priority)  # type: ignore[arg-type]


OWN, RELAY = named(NAT, b"laptop@tp-34265"), named(RTR, b"RTR", 254)


@given(HOSTS.filter(is_host), st.integers(1, 65535))
def test_a_host_is_read_from_the_name_that_was_written(host: bytes, port: int) -> None:
    assert host_in(place_name(host, port).name) == host


@given(st.binary(max_size=300))
def test_any_name_is_read_as_a_host_that_may_be_one_or_as_none(name: bytes) -> None:
    host = host_in(name)

    assert host is None or is_host(host)


@pytest.mark.parametrize("port", [b"", b"0", b"65536", b"99999999", b"-1", b"+80", b"8 0", b"80@", "８０".encode()])
def test_an_absurd_port_makes_no_place(port: bytes) -> None:
    assert place_of(named(NAT, b"laptop" + PORT_MARK + port)) is None


@pytest.mark.parametrize(
    "host", [b"", b"x" * (NAME_LIMIT + 1), b"lap\ntop", b"lap\x7ftop", "läptop".encode(), b"a@tp-1@tp-2"]
)
def test_an_unknown_host_name_makes_no_place(host: bytes) -> None:
    assert place_of(named(NAT, host + b"@tp-34265")) is None


@pytest.mark.parametrize("locator", [RELAY, named(RTR, b"lispers.net-RTR"), Locator(RTR, 254)])
def test_an_rtr_is_known_by_its_priority_or_its_name_and_is_no_place(locator: Locator) -> None:
    assert is_rtr(locator)
    assert place_of(locator) is None


def test_one_of_its_rtrs_is_shown_the_node_and_all_others_the_rtrs() -> None:
    locators = (OWN, RELAY)

    assert partial(locators, (RTR,)) == (OWN,)
    assert partial(locators, (OUTSIDE,)) == (RELAY,)


@pytest.mark.parametrize("shown", [Locator(LAN), Locator(V6), named(LAN, b"laptop")])
def test_private_and_ipv6_locators_are_shown_to_all(shown: Locator) -> None:
    assert set(partial((OWN, shown, RELAY), (OUTSIDE,))) == {RELAY, shown}


@pytest.mark.parametrize(
    "locators", [(), (OWN,), (Locator(NAT, 254), Locator(LAN)), (replace(OWN, address=AfiList((NAT,))),)]
)
def test_other_peoples_locators_are_shown_as_they_are(locators: tuple[Locator, ...]) -> None:
    assert partial(locators, (OUTSIDE,)) == locators
