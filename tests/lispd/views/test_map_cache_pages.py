"""The map-cache in pages: everything once, in order, and no page takes long."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import count
from typing import Any, cast

from lispmob.control.node_config import NodeConfig
from lispmob.lispd.views.in_order import ENTRIES_AT_ONCE, LOCATORS_AT_ONCE
from lispmob.lispd.views.map_cache_pages import pages
from lispmob.node.node import Node
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Action, Locator


class Daemon:
    """The part of a daemon that is shown."""

    def __init__(self) -> None:
        config = NodeConfig((EidPrefix.parse("10.0.0.1/32"),), map_cache_limit=100_000)
        self.node = Node(config, new_nonce=count(1).__next__, jitter=lambda: 0.5)

    def now(self) -> float:
        return 5.0

    def add(self, *prefixes: str) -> None:
        for prefix in prefixes:
            rloc = Locator(ip_address("192.0.2.9"), 1, 100)
            self.node.on_mapping_added(EidPrefix.parse(prefix), (rloc,), Action.DROP, 0.0)


def all_of(daemon: Daemon) -> list[list[Any]]:
    return [list(page) for page in pages(cast(Any, daemon))]


def test_entries_come_in_the_order_of_their_numbers_whatever_their_order_of_arrival() -> None:
    daemon = Daemon()
    daemon.add("10.0.0.10/32", "2001:db8::/48", "10.0.0.2/32", "[7]10.0.0.0/8", "10.0.0.0/8", "9.0.0.0/8")

    shown = [entry.prefix for page in all_of(daemon) for entry in page]

    assert shown == ["9.0.0.0/8", "10.0.0.0/8", "10.0.0.2/32", "10.0.0.10/32", "[7]10.0.0.0/8", "2001:db8::/48"]


def test_a_large_map_cache_is_shown_once_and_in_small_pages() -> None:
    daemon = Daemon()
    daemon.add(*(f"10.{n // 256}.{n % 256}.0/{24 + n % 3}" for n in range(3000)))

    found = all_of(daemon)

    assert sum(map(len, found)) == len(daemon.node.map_cache)
    assert max(map(len, found)) <= ENTRIES_AT_ONCE


def test_what_is_removed_meanwhile_is_not_shown() -> None:
    daemon = Daemon()
    prefixes = [f"10.{number}.0.0/16" for number in range(2 * ENTRIES_AT_ONCE)]
    daemon.add(*prefixes)
    making = pages(cast(Any, daemon))
    next(making)

    daemon.node.on_mapping_deleted(EidPrefix.parse(prefixes[-2]), 1.0)
    rest = [entry.prefix for page in making for entry in page]

    assert rest == [*prefixes[ENTRIES_AT_ONCE:-2], prefixes[-1]]


def test_an_empty_map_cache_has_no_entries() -> None:
    assert [entry for page in all_of(Daemon()) for entry in page] == []


def test_mappings_with_many_locators_come_few_at_a_time() -> None:
    daemon = Daemon()
    rlocs = tuple(Locator(ip_address("192.0.2.0") + number, 1, 100) for number in range(1, 33))
    for number in range(200):
        daemon.node.on_mapping_added(EidPrefix.parse(f"10.0.{number}.0/24"), rlocs, Action.DROP, 0.0)

    found = all_of(daemon)

    assert sum(map(len, found)) == 200
    assert max(sum(len(entry.locators) for entry in page) for page in found) < LOCATORS_AT_ONCE + 32


def test_what_is_replaced_while_it_is_shown_is_shown_once() -> None:
    daemon = Daemon()
    prefixes = [f"10.{number}.0.0/16" for number in range(2 * ENTRIES_AT_ONCE)]
    daemon.add(*prefixes)
    shown = []
    for page in pages(cast(Any, daemon)):
        shown += [entry.prefix for entry in page]
        daemon.add(*prefixes)  # each is another entry now

    assert shown == prefixes
