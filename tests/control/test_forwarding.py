from __future__ import annotations

import pytest

from lispmob.control.forwarding import DataLosses, ForwardingPolicy, decide
from lispmob.control.map_cache import MapCacheEntry
from lispmob.control.node_config import Fallback
from lispmob.protocol.effect import UsableLocator
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.record import Action, Locator
from tests.control.support import EID, LTE, WIFI, ip, locators, prefix

OWN = locators(WIFI)
PETR = Locator(ip("192.0.2.99"))
WITH_PROXY = ForwardingPolicy("proxy", (PETR,), (EID,))


def positive(*ones: Locator) -> MapCacheEntry:
    return MapCacheEntry(prefix("10.2.0.0/24"), ones)


def negative(action: int) -> MapCacheEntry:
    return MapCacheEntry(prefix("10.2.0.0/24"), action=action)


def test_a_usable_locator_is_encapsulated_to() -> None:
    decision = decide(positive(Locator(ip("203.0.113.5"), 3, 40)), WITH_PROXY, OWN)

    assert decision.disposition == "ENCAPSULATE"
    assert decision.locators == (UsableLocator(ip("203.0.113.5"), 3, 40),)


def test_locators_come_sorted_by_priority() -> None:
    decision = decide(positive(Locator(ip("203.0.113.5"), 9), Locator(ip("203.0.113.6"), 1)), WITH_PROXY, OWN)

    assert [locator.priority for locator in decision.locators] == [1, 9]


FIRST, SECOND, THIRD = (ip(f"203.0.113.{number}") for number in (5, 6, 7))


@pytest.mark.parametrize(
    ("lost", "passing", "dead", "used"),
    [
        ((FIRST,), (SECOND,), (), (SECOND, THIRD)),
        ((FIRST, SECOND), (THIRD,), (), (THIRD,)),
        ((FIRST,), (), (), (FIRST, SECOND, THIRD)),  # nothing is known to be better
        ((FIRST,), (SECOND,), (SECOND,), (FIRST, THIRD)),  # what is better does not answer any more
        ((FIRST, SECOND, THIRD), (), (), (FIRST, SECOND, THIRD)),
        ((), (THIRD,), (), (FIRST, SECOND, THIRD)),
        ((FIRST,), (ip("192.0.2.99"),), (), (FIRST, SECOND, THIRD)),  # of another mapping
    ],
)
def test_a_locator_that_loses_data_is_left_only_for_one_that_carries_it(
    lost: tuple[IpAddress, ...],
    passing: tuple[IpAddress, ...],
    dead: tuple[IpAddress, ...],
    used: tuple[IpAddress, ...],
) -> None:
    mapping = positive(Locator(FIRST, 1), Locator(SECOND, 2), Locator(THIRD, 3))
    losses = DataLosses(frozenset(lost), frozenset(passing))

    decision = decide(mapping, WITH_PROXY, OWN, dead, losses=losses)

    assert decision.disposition == "ENCAPSULATE"
    assert tuple(locator.address for locator in decision.locators) == used
    assert {FIRST, SECOND, THIRD} - set(used) == set(decision.sources)


@pytest.mark.parametrize(
    "bad",
    [
        Locator(ip("203.0.113.5"), is_reachable=False),
        Locator(ip("203.0.113.5"), priority=255),
        Locator(ip("2001:db8::5")),  # a family that we do not have
        Locator(WIFI.address),  # our own locator
        Locator(EID.address),  # our own EID
        Locator(ip("127.0.0.1")),
        Locator(ip("0.0.0.0")),
        Locator(ip("224.0.0.1")),
        Locator(ip("255.255.255.255")),
        Locator(ip("169.254.3.4")),
        Locator(None),
        Locator(DistinguishedName(b"nowhere")),
    ],
)
def test_a_mapping_with_nothing_to_send_to_goes_to_the_proxy(bad: Locator) -> None:
    assert decide(positive(bad), WITH_PROXY, OWN).locators == (UsableLocator(ip("192.0.2.99"), 1, 100),)


def test_the_first_usable_address_of_a_list_is_taken() -> None:
    listed = Locator(AfiList((DistinguishedName(b"rtr"), ip("2001:db8::5"), ip("203.0.113.5"))))

    assert decide(positive(listed), WITH_PROXY, OWN).locators[0].address == ip("203.0.113.5")


@pytest.mark.parametrize(
    ("fallback", "disposition"), [("proxy", "ENCAPSULATE"), ("native", "NATIVE"), ("drop", "DROP")]
)
def test_what_is_not_lisp_follows_the_configured_fallback(fallback: Fallback, disposition: str) -> None:
    policy = ForwardingPolicy(fallback, (PETR,), (EID,))

    assert decide(negative(Action.NATIVELY_FORWARD), policy, OWN).disposition == disposition


def test_without_a_usable_proxy_nothing_leaks() -> None:
    policy = ForwardingPolicy("proxy", (Locator(ip("2001:db8::99")),))

    assert decide(negative(Action.NATIVELY_FORWARD), policy, locators(WIFI, LTE)).disposition == "DROP"


@pytest.mark.parametrize("action", [0, 3, 4, 5, 6, 7])
def test_every_other_action_drops(action: int) -> None:
    assert decide(negative(action), WITH_PROXY, OWN).disposition == "DROP"


def test_send_map_request_is_a_miss_for_every_packet() -> None:
    assert decide(negative(Action.SEND_MAP_REQUEST), WITH_PROXY, OWN).disposition == "MISS"


def test_an_action_on_a_record_with_locators_means_nothing() -> None:
    entry = MapCacheEntry(prefix("10.2.0.0/24"), (Locator(ip("203.0.113.5")),), action=Action.DROP)

    assert decide(entry, WITH_PROXY, OWN).disposition == "ENCAPSULATE"
