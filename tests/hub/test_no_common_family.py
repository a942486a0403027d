"""A hub with both families relays between nodes that share none, and answers a request in the family it came by."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.rtr.traversal import NO_TRAVERSAL
from tests.hub.exchange import HUB, ask, plane, reply_in, rlocs_of, sent, site, xtr

HUB6 = ip_address("2001:db8:99::10")
V4, V6, OTHER_V6 = "203.0.113.7", "2001:db8:1::2", "2001:db8:2::2"


def hub(*, is_rtr: bool = True, own: Sequence[str] = (str(HUB), str(HUB6)), rlocs: Sequence[str]) -> ControlPlane:
    """A hub at which a node is registered with `rlocs`."""
    made = ControlPlane([site("10.1.0.0/16")], traversal=replace(NO_TRAVERSAL, is_rtr=is_rtr))
    made.on_addresses([ip_address(one) for one in own])
    made.on_datagram(xtr("198.51.100.66").register("10.1.0.1/32", rlocs=rlocs), now=0.0)
    return made


def answered(made: ControlPlane, rlocs: Sequence[str], source: str) -> list[str]:
    (record,) = reply_in(made.on_datagram(ask("10.1.0.1/32", rlocs=rlocs, source=source), now=1.0)).records
    return rlocs_of(record)


def test_who_has_ipv4_only_reaches_a_node_with_ipv6_only_by_way_of_the_hub() -> None:
    assert answered(hub(rlocs=[V6]), [V4], V4) == [V6, str(HUB)]


def test_who_has_ipv6_only_reaches_a_node_with_ipv4_only_by_way_of_the_hub() -> None:
    assert answered(hub(rlocs=[V4]), [V6], V6) == [V4, str(HUB6)]


def test_a_node_whose_other_family_leads_nowhere_counts_as_one_without_it() -> None:
    made = hub(rlocs=[V4, V6])
    registered = made.map_server.registrations.lookup(ip_address("10.1.0.1"))
    assert registered is not None
    (part,) = registered[1]
    dead = tuple(
        replace(locator, priority=255) if str(locator.address) == V4 else locator for locator in part.record.locators
    )
    registered[1].put(dataclasses.replace(part, record=replace(part.record, locators=dead), encoded=b""))

    assert answered(made, ["198.51.100.8"], "198.51.100.8") == [V4, V6, str(HUB)]


def test_the_hub_comes_last_so_that_peers_with_the_family_take_the_direct_path() -> None:
    (record,) = reply_in(hub(rlocs=[V6]).on_datagram(ask("10.1.0.1/32", rlocs=[V4]), now=1.0)).records

    assert record.locators[-1].priority > record.locators[0].priority


@pytest.mark.parametrize(
    ("rlocs", "asker"),
    [([V6], [OTHER_V6]), ([V4, V6], [OTHER_V6]), ([V6], ["203.0.113.9", OTHER_V6])],
    ids=["both-v6", "one-has-both", "asker-has-both"],
)
def test_who_has_a_family_in_common_is_told_nothing_of_the_hub(rlocs: list[str], asker: list[str]) -> None:
    assert answered(hub(rlocs=rlocs), asker, asker[0]) == sorted(rlocs, key=lambda one: ":" in one)


def test_a_hub_that_passes_no_data_on_does_not_offer_itself() -> None:
    assert answered(hub(is_rtr=False, rlocs=[V6]), [V4], V4) == [V6]


def test_a_hub_with_one_family_does_not_offer_itself() -> None:
    assert answered(hub(own=[str(HUB)], rlocs=[V6]), [V4], V4) == [V6]


@pytest.mark.parametrize("rlocs", [[V4, V6], [V6, V4]])
def test_the_answer_goes_to_the_address_that_asked_if_it_is_one_of_those_named(rlocs: list[str]) -> None:
    made = plane(site("10.1.0.0/16"))

    for source in (V4, V6):
        (out,) = sent(made.on_datagram(ask("10.9.0.1/32", rlocs=rlocs, source=source), now=1.0))
        assert str(out.destination) == source


def test_who_asks_from_an_address_that_it_does_not_name_is_answered_at_the_first_that_it_names() -> None:
    made = plane(site("10.1.0.0/16"))

    (out,) = sent(made.on_datagram(ask("10.9.0.1/32", rlocs=[V6, V4], source="203.0.113.99"), now=1.0))

    assert str(out.destination) == V6
