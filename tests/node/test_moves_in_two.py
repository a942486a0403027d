"""A move in two parts: what a Map-Server and sealed peers wait for, and all the rest once that has left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lispmob.node.node import LocalLocator, Node, NodeEffect
from lispmob.protocol.effect import InstallMapping
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Locator
from tests.control.support import LTE, WIFI, WIFI6, ip, only, prefix, register_in
from tests.node.test_node import PEER_RLOC, confirm, node, resolve, sent

PEERS = prefix("10.2.0.0/24")
MOVES: dict[str, tuple[list[LocalLocator], list[LocalLocator]]] = {
    "to another network": ([WIFI], [LTE]),
    "one of two is lost": ([WIFI, LTE], [LTE]),
    "another one comes": ([WIFI], [WIFI, LTE]),
    "the last one is lost": ([WIFI], []),
    "after a time without": ([], [LTE]),
}


def moving(before: Sequence[LocalLocator]) -> Node:
    """A registered node that has exchanged packets with a peer from `before`, or from Wi-Fi if that is nothing."""
    machine = node()
    confirm(machine, machine.on_locators(before or [WIFI], 0.0), 0.1)
    resolve(machine, 1.0)
    machine.on_used([PEERS], 2.0)
    if not before:
        machine.on_locators([], 3.0)
    return machine


def words(effects: Sequence[NodeEffect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


@pytest.mark.parametrize("name", MOVES)
def test_both_parts_together_are_what_is_done_in_one(name: str) -> None:
    before, after = MOVES[name]
    whole, parted = moving(before), moving(before)

    at_once = whole.on_locators(after, 10.0)
    first = parted.on_move(after, 10.0)
    rest = parted.on_move_told((), (), 10.0)

    assert sent([*first, *rest]) == sent(at_once)
    assert words([*first, *rest]) == words(at_once)
    assert parted.wake_at() == whole.wake_at()


@pytest.mark.parametrize("name", [name for name, (_, after) in MOVES.items() if after])
def test_the_first_part_registers_and_solicits_no_requests(name: str) -> None:
    before, after = MOVES[name]
    machine = moving(before)

    first = machine.on_move(after, 10.0)
    rest = machine.on_move_told((), (), 10.0)

    registered = register_in(first).records[0].locators
    assert {locator.address for locator in registered} == {locator.address for locator in after}
    assert not [message for message in sent(first) if message.startswith("smr")]
    assert not [message for message in sent(rest) if message.startswith(MapRegister.__name__)]


def test_the_first_part_keeps_the_forwarding_table_as_it_is() -> None:
    machine = moving([WIFI])
    both = (Locator(PEER_RLOC, 1), Locator(ip("2001:db8::5"), 2))
    machine.on_mapping_added(prefix("10.3.0.0/24"), both, 0, 9.0)

    first = machine.on_move([WIFI6], 10.0)
    rest = machine.on_move_told((), (), 10.0)

    assert only(first, InstallMapping) == []
    used = {entry.prefix: [locator.address for locator in entry.locators] for entry in only(rest, InstallMapping)}
    assert used == {PEERS: [], prefix("10.3.0.0/24"): [ip("2001:db8::5")]}


@pytest.mark.parametrize("name", ["to another network", "one of two is lost", "after a time without"])
def test_a_peer_whose_packets_are_reported_between_the_parts_gets_an_smr(name: str) -> None:
    before, after = MOVES[name]
    machine = moving(before)
    late, stranger = ip("203.0.113.77"), ip("203.0.113.78")

    machine.on_move(after, 3.5)
    rest = machine.on_move_told((), [(WIFI.address, late), (WIFI.address, stranger)], 3.5, {stranger})

    smrs = {message.split()[1] for message in sent(rest) if message.startswith("smr")}
    assert smrs >= {str(late), str(stranger), str(PEER_RLOC)}


def test_a_mapping_that_was_used_just_before_the_move_gets_an_smr_though_it_was_not_reported_yet() -> None:
    machine = node()
    confirm(machine, machine.on_locators([WIFI], 0.0), 0.1)
    machine.on_mapping_added(PEERS, [Locator(PEER_RLOC)], 0, 1.0, source="reply", ttl_s=3600.0)

    machine.on_move([LTE], 1000.0)
    rest = machine.on_move_told([PEERS], (), 1000.0)

    assert f"smr {PEER_RLOC}" in sent(rest)
