"""The addresses that the hub's data leaves from."""

from __future__ import annotations

from ipaddress import ip_address

from lispmob.hub.routes import Carrier, listening_first

ONE, TWO, SIX = (ip_address(text) for text in ("198.51.100.1", "198.51.100.2", "2001:db8::1"))
FOUND = (Carrier(2, "eth0", (ONE, TWO, SIX), 1500), Carrier(3, "eth1", (ip_address("203.0.113.1"),), 1400))


def test_data_leaves_from_the_address_that_the_hub_listens_at() -> None:
    (eth0, eth1) = listening_first(FOUND, (TWO,))

    assert eth0.addresses == (TWO, ONE, SIX)
    assert eth1 == FOUND[1]


def test_of_several_that_it_listens_at_the_first_in_the_configuration_is_the_first() -> None:
    assert listening_first(FOUND, (SIX, TWO, ONE))[0].addresses == (SIX, TWO, ONE)


def test_without_such_addresses_the_order_is_the_kernels() -> None:
    assert listening_first(FOUND, ()) == FOUND
