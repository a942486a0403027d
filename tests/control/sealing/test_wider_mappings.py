"""A mapping that is wider than the EID-Prefix of a known key: the narrower one keeps its key, whatever is answered."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from msgspec.structs import replace

from lispmob.control.sealing.peer_keys import NOWHERE, PARTS_MAX, PeerKeys, PinnedKey
from lispmob.control.sealing.sealed_entries import SealedPeer
from lispmob.protocol.effect import (
    Event,
    InstallMapping,
    MachineEffect,
    RemoveMapping,
    SetSessionSources,
    UsableLocator,
)
from lispmob.wire.address import EidPrefix
from lispmob.wire.key_record import KeyRecord
from tests.control.sealing.sealed_pair import (
    BOB_EID,
    BOB_RLOC,
    Memory,
    Side,
    alice,
    bob,
    mapping_of,
    pinned,
    settle,
    shake_hands,
)
from tests.control.support import ip, only, prefix
from tests.crypto.support import needs_libcrypto

pytestmark = needs_libcrypto

WIDE, HALF = prefix("10.2.0.0/24"), prefix("10.2.0.0/29")
EVIL_KEY, EVIL_RLOC = bytes([66]) * 32, ip("203.0.113.66")


def wide(at: EidPrefix = WIDE, disposition: str = "ENCAPSULATE") -> InstallMapping:
    """A mapping with another locator than bob's."""
    return InstallMapping(at, disposition, (UsableLocator(EVIL_RLOC, 1, 100),))  # type: ignore[arg-type]


def evil(at: EidPrefix = WIDE) -> Side:
    """The node that a hub has answer for this prefix."""
    return Side(EVIL_KEY, at, EVIL_RLOC, pinned=pinned(alice()))


def install(one: Side, mapping: InstallMapping) -> dict[EidPrefix, InstallMapping]:
    return {entry.prefix: entry for entry in only(one.machine.entries.on_installed(mapping), InstallMapping)}


def key_for(one: Side, entry: InstallMapping) -> bytes | None:
    peer = one.machine.entries.by_number(entry.peer)
    return None if peer is None else peer.known.key


def peer_at(one: Side, at: EidPrefix) -> SealedPeer:
    return next(peer for peer in one.machine.entries.peers if peer.known.prefix == at)


@pytest.mark.parametrize("is_vouched", [False, True])
def test_a_hub_does_not_get_around_a_pinned_key_with_a_wider_mapping(is_vouched: bool) -> None:
    one = alice(pinned=pinned(bob()))
    if is_vouched:
        one.machine.on_vouched(WIDE, KeyRecord((evil().public,)), 0.0)

    entries = install(one, wide())

    assert key_for(one, entries[BOB_EID]) == bob().public
    assert key_for(one, entries[WIDE]) == (evil().public if is_vouched else None)
    assert [(place.address, place.is_relay) for place in entries[BOB_EID].locators] == [(EVIL_RLOC, False)]


@pytest.mark.parametrize("at", [WIDE, prefix("10.2.0.6/31"), prefix("10.0.0.0/8")])
def test_with_strict_keys_no_wider_mapping_brings_another_key_without_a_yes(at: EidPrefix) -> None:
    one = alice(is_strict=True)
    one.machine.on_vouched(BOB_EID, KeyRecord((bob().public,)), 0.0)
    one.machine.on_vouched(at, KeyRecord((evil(at).public,)), 1.0)

    assert key_for(one, install(one, wide(at))[BOB_EID]) == bob().public


def test_a_peer_that_has_sealed_is_not_spoken_to_in_clear_by_a_wider_mapping_without_a_key() -> None:
    one, other = alice(), bob(pinned=pinned(alice()))
    one.machine.on_vouched(BOB_EID, KeyRecord((other.public,)), 0.0)
    shake_hands(one, other, 0.0)
    settle(one)

    one.machine.entries.on_removed(BOB_EID)
    entries = install(one, wide())

    assert (entries[BOB_EID].must_seal, key_for(one, entries[BOB_EID])) == (True, other.public)
    assert (entries[WIDE].must_seal, entries[WIDE].peer) == (False, 0)


def test_the_node_of_a_wider_prefix_does_not_send_for_a_narrower_one_with_another_key() -> None:
    one = alice(pinned=pinned(bob()))
    one.machine.on_vouched(WIDE, KeyRecord((evil().public,)), 0.0)
    one.machine.entries.on_installed(wide())

    sources = one.machine.keys.sources(peer_at(one, WIDE).known)

    hosts = [ip("10.2.0.0") + number for number in range(256)]
    assert [host for host in hosts if not any(part.contains(host) for part in sources)] == [BOB_EID.address]
    assert len(sources) == 8


def test_a_narrower_key_that_becomes_known_later_is_taken_out_of_sessions_that_stand() -> None:
    one, other = alice(), evil()
    one.machine.on_vouched(WIDE, KeyRecord((other.public,)), 0.0)
    ours, _ = shake_hands(one, other, 0.0)
    assert ours.sources == (WIDE,)

    told: list[MachineEffect] = list(one.machine.on_vouched(BOB_EID, KeyRecord((bob().public,)), 1.0))
    (fewer,) = only(told, SetSessionSources)
    assert not any(source.covers(BOB_EID) for source in fewer.sources)
    assert [key_for(one, entry) for entry in only(told, InstallMapping)] == [bob().public]

    pinning = one.machine.on_config(replace(one.config, pinned=(PinnedKey(prefix("10.2.0.9/32"), bytes([9]) * 32),)))
    (fewest,) = only(pinning, SetSessionSources)
    assert not any(source.contains(ip("10.2.0.9")) for source in fewest.sources)


def test_the_entry_follows_the_nearest_mapping_and_goes_with_the_last() -> None:
    one = alice(pinned=pinned(bob()))
    entries = one.machine.entries
    install(one, wide())

    nearer = install(one, replace(wide(HALF), locators=(UsableLocator(BOB_RLOC, 1, 100),)))
    assert [place.address for place in nearer[BOB_EID].locators] == [BOB_RLOC]
    assert set(install(one, mapping_of(bob()))) == {BOB_EID}
    assert [place.address for place in only(entries.on_removed(BOB_EID), InstallMapping)[0].locators] == [BOB_RLOC]
    assert [place.address for place in only(entries.on_removed(HALF), InstallMapping)[0].locators] == [EVIL_RLOC]
    assert entries.on_removed(WIDE) == [RemoveMapping(WIDE), RemoveMapping(BOB_EID)]


def test_where_the_wider_mapping_drops_packets_so_does_the_narrower_one() -> None:
    one = alice(pinned=pinned(bob()))
    install(one, wide())
    drops = wide(disposition="DROP")

    assert one.machine.entries.on_installed(drops) == [drops, RemoveMapping(BOB_EID)]
    assert BOB_EID in install(one, wide())


def test_a_key_that_is_forgotten_or_sealing_that_ends_takes_the_entry_away() -> None:
    one = alice()
    one.machine.on_vouched(BOB_EID, KeyRecord((bob().public,)), 0.0)
    install(one, wide())
    assert one.machine.entries.origin_of(BOB_EID) == WIDE

    assert only(one.machine.forget_key(BOB_EID), RemoveMapping) == [RemoveMapping(BOB_EID)]
    one.machine.on_vouched(BOB_EID, KeyRecord((bob().public,)), 1.0)
    ended = one.machine.on_config(replace(one.config, mode="off"))

    assert only(ended, RemoveMapping) == [RemoveMapping(BOB_EID)]
    assert only(ended, InstallMapping) == []
    assert one.machine.entries.origin_of(BOB_EID) == BOB_EID


def test_a_prefix_with_the_key_of_the_wider_one_needs_no_entry() -> None:
    one = alice()
    for at in (WIDE, BOB_EID):
        one.machine.on_vouched(at, KeyRecord((bob().public,)), 0.0)

    assert set(install(one, wide())) == {WIDE}
    told = one.machine.on_vouched(BOB_EID, KeyRecord((evil().public,)), 1.0)
    assert [entry.prefix for entry in only(told, InstallMapping)] == [BOB_EID]
    assert [event.kind for event in only(told, Event)] == ["key-changed"]


def test_a_prefix_of_which_others_have_every_part_may_send_nothing() -> None:
    pins = [PinnedKey(prefix(f"10.2.0.{number}/32"), bytes([number + 1]) * 32) for number in range(4)]
    keys = PeerKeys(pins, Memory())
    keys.on_vouched(prefix("10.2.0.0/30"), KeyRecord((bytes([99]) * 32,)))
    known = keys.of(prefix("10.2.0.0/30"))
    assert known is not None

    (nowhere,) = keys.sources(known)

    assert nowhere.instance_id == NOWHERE


def test_many_keys_inside_of_a_prefix_leave_it_a_bounded_number_of_parts_and_none_of_theirs() -> None:
    pins = [PinnedKey(EidPrefix.host(IPv4Address("10.2.0.0") + 2 * number), bytes(32)) for number in range(600)]
    keys = PeerKeys(pins, Memory())
    keys.on_vouched(prefix("10.2.0.0/16"), KeyRecord((bytes([99]) * 32,)))
    known = keys.of(prefix("10.2.0.0/16"))
    assert known is not None

    sources = keys.sources(known)

    assert 0 < len(sources) <= PARTS_MAX
    assert not any(source.covers(pin.prefix) for source in sources for pin in pins)
