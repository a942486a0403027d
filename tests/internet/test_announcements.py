"""Sealed peers announce moves to each other: used at once, and bounded until the new locator has answered."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from lispmob.control.probing.path import ProbeConfig
from lispmob.control.sealing.announcing import Announcer
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.crypto.support import needs_libcrypto
from tests.internet.sealed_world import CLOCK, SealedHost, sealed
from tests.internet.world import HUB, Lab, NodeHost, Packet, Weather, ip, locator

pytestmark = needs_libcrypto

NEW = ip("203.0.113.7")
VICTIM = ip("203.0.113.66")
ONE_WAY_S = 0.01


def pair(lab: Lab) -> tuple[SealedHost, SealedHost]:
    mover, peer = lab.nodes[:2]
    assert isinstance(mover, SealedHost)
    assert isinstance(peer, SealedHost)
    return mover, peer


def way(peer: NodeHost, mover: NodeHost) -> list[tuple[IpAddress, bool]]:
    """Where the peer sends packets for the mover, and which of these locators are on trial."""
    found = peer.table.lookup(mover.eid)
    return [] if found is None else [(one.address, one.is_on_trial) for one in found[1].locators]


def announced(peer: SealedHost, mover: SealedHost, place: IpAddress, nonce: int | None = None) -> Packet:
    """The announcement that the mover would send in its session with the peer."""
    record = MappingRecord.of(mover.config.eids[0], (Locator(place),))
    notify = MapNotify(next(CLOCK) if nonce is None else nonce, (record,))
    return Packet(ip("198.51.100.1"), ip("198.51.100.2"), notify.encode(), data=(mover.eid, peer.eid))


def alone(lab: Lab) -> None:
    """From now on the hub receives and sends nothing, and SMRs are lost: only the sessions are left."""
    lab.world.internet.dead.add(ip(HUB))


def test_the_peer_sends_to_the_new_place_after_half_a_round_trip() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(1.1 * ONE_WAY_S)

    assert way(peer, mover) == [(NEW, True)]
    entry = peer.node.map_cache.get(mover.config.eids[0])
    assert entry is not None
    assert entry.told_by == "announced"


def test_once_the_new_place_has_answered_for_the_eid_the_trial_is_over() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(3.1 * ONE_WAY_S)

    assert way(peer, mover) == [(NEW, False)]


def test_the_mapping_systems_answer_counts_for_more_than_the_peers_word() -> None:
    lab = sealed()
    mover, peer = pair(lab)

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.5)

    entry = peer.node.map_cache.get(mover.config.eids[0])
    assert entry is not None
    assert (entry.told_by, entry.is_genuine) == ("", True)
    assert way(peer, mover) == [(NEW, False)]


def test_an_announcement_that_the_mapping_system_does_not_confirm_is_over_with_its_answer() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    before = way(peer, mover)
    lab.world.run(1.0)

    lab.world.internet.send(announced(peer, mover, VICTIM))
    lab.world.run(1.1 * ONE_WAY_S)
    during = way(peer, mover)
    lab.world.run(10.0)

    assert during == [(VICTIM, True)]
    assert way(peer, mover) == before


def test_a_victim_that_another_peer_is_at_answers_for_itself_and_stays_on_trial() -> None:
    lab = sealed(nodes=3, probing=ProbeConfig())
    mover, peer = pair(lab)
    alone(lab)
    other = lab.nodes[2].node.locators.locators[0].address
    lab.chat(8.0)

    lab.world.internet.send(announced(peer, mover, other))
    lab.world.run(5.0)

    assert way(peer, mover) == [(other, True)]
    assert way(peer, lab.nodes[2]) == [(other, False)]


def test_a_peer_speaks_for_its_own_eids_alone() -> None:
    lab = sealed(nodes=3)
    mover, peer = pair(lab)
    third = lab.nodes[2]
    before = way(peer, third)
    record = MappingRecord.of(third.config.eids[0], (Locator(VICTIM),))
    payload = MapNotify(next(CLOCK), (record,)).encode()

    lab.world.internet.send(Packet(ip("198.51.100.1"), ip("198.51.100.2"), payload, data=(mover.eid, peer.eid)))
    lab.world.run(0.1)

    assert way(peer, third) == before
    assert peer.node.counters["rx_policy"] == 1


def test_of_several_eids_those_count_that_its_key_is_known_for() -> None:
    lab = sealed(nodes=3)
    mover, peer = pair(lab)
    third = lab.nodes[2]
    before = way(peer, third)
    eids = (third.config.eids[0], mover.config.eids[0], EidPrefix.parse("2001:db8:e::1/128"))
    payload = MapNotify(next(CLOCK), tuple(MappingRecord.of(eid, (Locator(NEW),)) for eid in eids)).encode()

    lab.world.internet.send(Packet(ip("198.51.100.1"), ip("198.51.100.2"), payload, data=(mover.eid, peer.eid)))
    lab.world.run(1.1 * ONE_WAY_S)

    assert (way(peer, third), way(peer, mover)) == (before, [(NEW, True)])
    assert peer.node.counters["rx_announcement_unknown"] == 2


@pytest.mark.parametrize("place", ["198.51.100.2", "10.1.0.2", "10.1.0.1", "127.0.0.1"])
def test_a_peer_does_not_point_us_at_ourselves_or_into_the_overlay(place: str) -> None:
    lab = sealed()
    mover, peer = pair(lab)

    lab.world.internet.send(announced(peer, mover, ip(place)))
    lab.world.run(1.1 * ONE_WAY_S)

    assert ip(place) not in [address for address, _ in way(peer, mover)]


def test_an_older_announcement_is_not_believed_after_a_newer_one() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)
    old = announced(peer, mover, VICTIM)
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.1)

    lab.world.internet.send(old)
    lab.world.run(0.1)

    assert way(peer, mover) == [(NEW, False)]
    assert peer.node.counters["rx_replay"] == 1


def test_the_same_announcement_is_acknowledged_again_and_does_nothing_more() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.1)
    same = announced(peer, mover, NEW)
    for _ in range(2):
        lab.world.internet.send(same)
        lab.world.run(0.1)

    acks = [packet.payload for _, packet in mover.words if packet.payload[0] >> 4 == 5]
    assert acks[-1] == acks[-2] != acks[0]
    assert peer.node.counters["rx_announcement"] == 2


def test_an_announcement_that_is_lost_is_repeated_until_it_is_acknowledged() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)
    lost = frozenset((NEW, ip("198.51.100.2")))
    lab.world.internet.cut.add(lost)
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.1)
    before = way(peer, mover)

    lab.world.internet.cut.discard(lost)
    lab.world.run(0.4)
    sent = mover.node.counters["tx_announcement"]
    lab.world.run(10.0)

    assert before == [(ip("198.51.100.1"), False)]
    assert way(peer, mover) == [(NEW, False)]
    assert mover.node.counters["tx_announcement"] == sent == 2


def test_a_peer_that_knows_nothing_of_announcements_is_told_four_times_and_no_more() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    peer.node.on_sealed_announcement = lambda *_: []  # type: ignore[method-assign]

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(60.0)

    assert mover.node.counters["tx_announcement"] == 4
    assert way(peer, mover) == [(NEW, False)]


def test_a_flood_of_announcements_is_bounded_and_counted() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)
    for number in range(50):
        lab.world.internet.send(announced(peer, mover, ip(f"203.0.113.{number + 1}")))

    lab.world.run(0.5)

    assert peer.node.counters["rx_announcement"] == 4
    assert peer.node.counters["rx_rate"] == 46


def test_a_second_and_a_third_move_are_announced_as_the_first_was() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)

    for number in range(1, 4):
        mover.attach(locator(f"203.0.113.{number}", ifindex=3))
        lab.world.run(1.1 * ONE_WAY_S)
        assert way(peer, mover) == [(ip(f"203.0.113.{number}"), True)]
        lab.chat(1.0)


def test_the_old_answer_of_the_mapping_system_does_not_lead_back() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    lab.world.internet.cut.add(frozenset((NEW, ip(HUB))))  # the Map-Register is lost

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.5)

    assert way(peer, mover) == [(NEW, False)]


def test_without_a_session_no_peer_is_told_and_nothing_is_believed() -> None:
    lab = sealed(seal="off")
    mover, peer = pair(lab)
    peer.sessions.clear()
    before = way(peer, mover)

    lab.world.internet.send(announced(peer, mover, VICTIM))
    lab.world.run(0.1)

    assert way(peer, mover) == before


def test_where_announcements_are_off_nothing_is_told_and_nothing_is_believed() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    for node in (mover, peer):
        node.perform(node.node.on_config(replace(node.config, announcements=False), lab.world.now))
    alone(lab)
    before = way(peer, mover)

    lab.world.internet.send(announced(peer, mover, VICTIM))
    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(0.1)

    assert way(peer, mover) == before
    assert mover.node.counters["tx_announcement"] == 0


@pytest.mark.parametrize(
    "octets", [b"", b"\x40", b"\x48" + bytes(11), bytes(64), b"\x50" + bytes(20), b"\x40\0\0\2" + bytes(30)]
)
def test_what_cannot_be_read_in_a_session_is_counted_and_nothing_else(octets: bytes) -> None:
    lab = sealed()
    mover, peer = pair(lab)
    before = sum(peer.node.counters.values())

    peer.perform(peer.node.on_sealed_announcement(peer.number_of(mover.eid), 0, octets, lab.world.now))

    assert sum(peer.node.counters.values()) == before + 1
    assert way(peer, mover) == [(ip("198.51.100.1"), False)]


def test_an_acknowledgement_of_something_else_stops_no_repetition() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)
    lab.world.internet.cut.add(frozenset((NEW, ip("198.51.100.2"))))
    mover.attach(locator(str(NEW), ifindex=3))
    record = MappingRecord.of(mover.config.eids[0], (Locator(NEW),))
    ack = MapNotifyAck(12345, (record,)).encode()

    mover.perform(mover.node.on_sealed_announcement(mover.number_of(peer.eid), 0, ack, lab.world.now))
    lab.world.run(10.0)

    assert mover.node.counters["tx_announcement"] == 4


@pytest.mark.parametrize("seed", range(6))
def test_in_bad_weather_the_peer_ends_up_knowing(seed: int) -> None:
    lab = sealed(Weather(), seed=seed)
    mover, peer = pair(lab)
    lab.world.internet.weather = Weather(loss=0.3, duplication=0.2, delay_s=(0.005, 0.2))
    for number in range(1, 4):
        mover.attach(locator(f"203.0.113.{number}", ifindex=3))
        lab.chat(10.0)
    lab.world.internet.weather = Weather()
    lab.chat(5.0)

    assert way(peer, mover) == [(ip("203.0.113.3"), False)]


def test_the_probe_of_a_trial_asks_for_the_peers_eid_and_an_rtrs_answer_is_none() -> None:
    lab = sealed()
    mover, peer = pair(lab)
    alone(lab)
    lab.world.internet.send(announced(peer, mover, VICTIM))
    lab.world.run(1.1 * ONE_WAY_S)
    probes = [one for _, one in peer.sent if isinstance(one, SendControl) and one.destination == VICTIM]

    request = MapRequest.decode(probes[0].payload)
    record = MappingRecord.of(mover.config.eids[0], (Locator(VICTIM, is_local=True, is_probed=True),), ttl_min=1)
    answer = MapReply(request.nonce, (record,), is_probe=True).encode()
    lab.world.internet.send(Packet(VICTIM, ip("198.51.100.2"), answer))
    lab.world.run(1.1 * ONE_WAY_S)

    assert request.records[0].eid_prefix == mover.config.eids[0]
    assert way(peer, mover) == [(VICTIM, True)]


def test_a_node_without_a_map_resolver_leaves_a_peer_that_has_moved_to_its_rtr(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub would ever confirm the new locator, so it would stay on trial until its packets are used up."""
    lab = sealed()
    mover, peer = pair(lab)
    plan = replace(peer.node.plan, asks_mapping_system=False)
    monkeypatch.setattr(
        type(peer.node), "plan", property(lambda node: plan if node is peer.node else node.traversal.plan)
    )

    mover.attach(locator(str(NEW), ifindex=3))
    lab.world.run(1.1 * ONE_WAY_S)

    assert way(peer, mover) == []
    assert peer.node.map_cache.get(mover.config.eids[0]) is None


def test_an_unanswered_probe_of_a_trial_is_forgotten_with_the_next_one() -> None:
    nonces = iter(range(1, 100))
    announcer = Announcer(next_nonce=lambda: 1, new_nonce=lambda: next(nonces))
    own = LocatorSet.of(1, [locator("203.0.113.1")])
    eid = EidPrefix.host(ip("10.1.0.9"), 0)

    announcer.on_trials([(NEW, eid)], own, 0.0)
    assert announcer.expects(1)
    announcer.on_trials([], own, 5.0)
    announcer.on_trials([(NEW, eid)], own, 10.5)

    assert not announcer.expects(1)
    assert announcer.expects(2)
