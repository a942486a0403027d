"""Map-Version Numbers between sealed peers in the network in memory: where they come from, and their effect."""

from __future__ import annotations

from msgspec.structs import replace

from lispmob.control.map_version import following
from lispmob.protocol.effect import UseMapVersion
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control
from tests.crypto.support import needs_libcrypto
from tests.internet.sealed_world import SealedHost, sealed
from tests.internet.test_announcements import NEW, ONE_WAY_S, alone, pair, way
from tests.internet.world import Lab, ip, locator

pytestmark = needs_libcrypto


def entry_version(peer: SealedHost, mover: SealedHost) -> int:
    found = peer.table.lookup(mover.eid)
    return 0 if found is None else found[1].map_version


def versioned() -> tuple[Lab, SealedHost, SealedHost]:
    lab = sealed(map_versions=True)
    return lab, *pair(lab)


def test_what_is_registered_has_the_number_and_peers_send_by_it() -> None:
    _, mover, peer = versioned()

    assert mover.map_version != 0
    assert entry_version(peer, mover) == mover.map_version


def test_without_versions_neither_records_nor_peers_have_a_number() -> None:
    lab = sealed()
    mover, peer = pair(lab)

    assert (mover.map_version, entry_version(peer, mover)) == (0, 0)


def test_a_move_is_the_next_number_and_the_datapath_says_it_before_any_peer_is_told() -> None:
    _, mover, _ = versioned()
    before = mover.map_version

    mover.attach(locator(str(NEW), ifindex=3))

    assert mover.map_version == following(before)
    assert mover.order[0] == UseMapVersion(following(before))


def test_an_announcement_brings_the_new_number() -> None:
    lab, mover, peer = versioned()
    alone(lab)

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(1.1 * ONE_WAY_S)

    assert entry_version(peer, mover) == mover.map_version


def test_a_peer_that_has_missed_all_of_a_move_is_told_with_its_next_packet() -> None:
    lab, mover, peer = versioned()
    alone(lab)
    lab.world.internet.dead.add(peer.node.locators.locators[0].address)
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(8.0)  # every attempt is lost
    lab.world.internet.dead.discard(peer.node.locators.locators[0].address)
    lab.world.run(1.0)
    missed = way(peer, mover)

    mover.perform(mover.node.on_peer_behind(mover.number_of(peer.eid), lab.world.now))
    lab.world.run(1.1 * ONE_WAY_S)

    assert missed == [(ip("198.51.100.1"), False)]
    assert way(peer, mover) == [(NEW, True)]
    assert entry_version(peer, mover) == mover.map_version


def test_a_peer_that_does_not_answer_announcements_is_sent_an_smr() -> None:
    lab, mover, peer = versioned()
    alone(lab)
    lab.world.internet.dead.add(peer.node.locators.locators[0].address)
    number = mover.number_of(peer.eid)

    first = mover.node.on_peer_behind(number, lab.world.now)
    second = mover.node.on_peer_behind(number, lab.world.now + 1.0)

    def smrs(effects: object) -> int:
        assert isinstance(effects, list)
        messages = [decode_control(one.payload) for one in effects if type(one).__name__ == "SendControl"]
        return sum(isinstance(one, MapRequest) and one.is_smr for one in messages)

    assert (smrs(first), smrs(second)) == (0, 1)


def test_a_peer_with_a_newer_mapping_has_the_mapping_system_asked_once_a_second_and_no_more() -> None:
    lab, mover, peer = versioned()
    now = lab.world.now

    asked = [
        sum(type(one).__name__ == "SendControl" for one in peer.node.on_peer_ahead(mover.eid, 0, now + place / 10))
        for place in range(10)
    ]

    assert asked[0] >= 1
    assert sum(asked[1:]) == 0


def test_the_answer_brings_the_number_that_the_peer_says() -> None:
    lab, mover, peer = versioned()
    prefix = mover.config.eids[0]
    entry = peer.node.map_cache.get(prefix)
    assert entry is not None
    entry.map_version = 0 if mover.map_version == 1 else mover.map_version - 1

    peer.perform(peer.node.on_peer_ahead(mover.eid, 0, lab.world.now))
    lab.world.run(1.0)

    assert entry_version(peer, mover) == mover.map_version


def test_no_message_leaves_because_of_a_stranger() -> None:
    lab, mover, _ = versioned()

    for effects in (
        mover.node.on_peer_behind(99, lab.world.now),
        mover.node.on_peer_ahead(ip("10.1.0.99"), 0, lab.world.now),
    ):
        assert effects == []
    assert mover.node.counters["rx_policy"] >= 2


def test_a_reload_without_versions_takes_the_number_away() -> None:
    lab, mover, _ = versioned()

    mover.perform(mover.node.on_config(replace(mover.config, map_versions=False), lab.world.now))

    assert mover.map_version == 0
