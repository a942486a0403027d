"""Waits, lifetimes and limits of the node's machines, each just below and just above its boundary."""

from __future__ import annotations

from collections import Counter
from itertools import count, pairwise

import pytest

from lispmob.control.announced_moves import AnnouncedMoves
from lispmob.control.gate import REQUEST_OCTETS, Gate, NonceBook
from lispmob.control.lookups.resolver import MAX_CLAIMS, MAX_LOOKUPS, MAX_STRANGE, NONCE_LIFETIME_S, Resolver
from lispmob.control.map_cache import MapCache, MapCacheEntry
from lispmob.control.path_mtu.paths import PathMtus
from lispmob.control.path_mtu.search import Way
from lispmob.control.path_mtu.size_probe import ControlProbe
from lispmob.control.probing.path import Due, Pair, Path, ProbeConfig
from lispmob.control.probing.path import State as ProbeState
from lispmob.control.registration import State
from lispmob.control.sealing.key_trial import AGAIN_S, KeyTrial
from lispmob.control.smr import FOLLOW_UPS_S, SmrSender, SmrTarget
from lispmob.control.status_bits import HeardStatus
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.effect import Count, SendControl
from lispmob.wire.address import EidPrefix
from lispmob.wire.header import MessageType
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.control.sealing.test_peer_keys import Memory, keys
from tests.control.support import EID, RESOLVER, WIFI, ip, locators, nonces, only, prefix, request_in
from tests.control.test_map_cache import entry
from tests.control.test_registration import registration

STRANGER, PEER = ip("66.66.66.66"), ip("203.0.113.5")
SITE = prefix("10.2.0.0/24")
GUARD = Guard((EID,), frozenset({WIFI.address}), frozenset({RESOLVER}))


# --- the gate


def padded(octets: int, *, is_probe: bool, fill: bytes = b"\1") -> bytes:
    request = MapRequest(7, None, (STRANGER,), (EidRecord.of(EID),), is_probe=is_probe).encode()
    return request + fill * (octets - len(request))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (padded(REQUEST_OCTETS, is_probe=False), None),
        (padded(REQUEST_OCTETS + 1, is_probe=False), "rx_size"),
        (padded(REQUEST_OCTETS + 1, is_probe=False, fill=b"\0"), "rx_size"),
        (padded(REQUEST_OCTETS, is_probe=True) + bytes(4000), None),  # a path MTU probe
        (padded(REQUEST_OCTETS + 1, is_probe=True) + bytes(4000), "rx_size"),
    ],
)
def test_a_question_has_1400_octets_at_most_beside_the_zeros_of_a_path_mtu_probe(
    payload: bytes, why: str | None
) -> None:
    assert Gate().refuses(payload, STRANGER, lambda _: False, 0.0) == why


@pytest.mark.parametrize("kind", [MessageType.MAP_REGISTER, MessageType.MAP_REFERRAL, 0, 9, 15])
@pytest.mark.parametrize(("octets", "why"), [(3, None), (4, "rx_type"), (40, "rx_type")])
def test_what_no_node_may_send_us_is_refused_by_its_type_once_it_has_four_octets(
    kind: int, octets: int, why: str | None
) -> None:
    assert Gate().is_noise(bytes((kind << 4,)) + bytes(octets - 1)) == why


@pytest.mark.parametrize(("octets", "why"), [(11, None), (12, "rx_nonce")])
def test_an_answer_is_refused_by_its_nonce_once_it_has_one(octets: int, why: str | None) -> None:
    assert Gate(NonceBook(count(1).__next__)).is_noise(b"\x20" + bytes(octets - 1)) == why


@pytest.mark.parametrize(("turned_at", "is_known"), [((29.9, 59.8), True), ((30.0, 59.9), True), ((30.0, 60.0), False)])
def test_a_nonce_is_known_for_half_a_minute_and_forgotten_after_two_turns(
    turned_at: tuple[float, float], is_known: bool
) -> None:
    book = NonceBook(count(5).__next__)
    nonce = book().to_bytes(8)
    for now in turned_at:
        book.turn(now)

    assert book.knows(nonce) == is_known


# --- the map-cache


@pytest.mark.parametrize(("after_s", "is_used"), [(59.9, True), (60.0, True), (60.1, False)])
def test_a_mapping_is_in_use_for_a_minute_after_a_packet(after_s: float, is_used: bool) -> None:
    assert entry("10.2.0.0/24", at=5.0).is_used(5.0 + after_s) == is_used


@pytest.mark.parametrize(("after_s", "is_proven"), [(1.9, False), (2.0, True)])
def test_a_conversation_is_proven_by_a_packet_two_seconds_after_the_first(after_s: float, is_proven: bool) -> None:
    cache, kept = MapCache(), entry("10.2.0.0/24", at=5.0)
    cache.insert(kept)

    cache.touch([kept.prefix], 5.0 + after_s)

    assert kept.is_proven == is_proven


@pytest.mark.parametrize(("used_before_s", "outlives"), [(9.9, True), (10.0, True), (10.1, False)])
def test_a_mapping_outlives_its_ttl_when_it_was_used_in_the_last_ten_seconds(
    used_before_s: float, outlives: bool
) -> None:
    cache, kept = MapCache(), entry("10.2.0.0/24", ttl_s=60.0)
    cache.insert(kept)
    cache.touch([kept.prefix], 60.0 - used_before_s)

    assert bool(cache.on_timer(60.0).expired) != outlives


@pytest.mark.parametrize(("ttl_s", "checked_at"), [(1.0, 1.0), (1.1, 0.99), (600.0, 540.0)])
def test_a_mapping_is_checked_with_a_tenth_of_its_ttl_to_go_unless_that_is_a_second_at_most(
    ttl_s: float, checked_at: float
) -> None:
    cache = MapCache()
    cache.insert(entry("10.2.0.0/24", ttl_s=ttl_s))

    assert cache.wake_at() == pytest.approx(checked_at)


def test_of_a_full_cache_a_fifth_is_open_for_new_mappings() -> None:
    cache = MapCache(limit=10)
    kept: list[MapCacheEntry] = [entry(f"10.2.{number}.0/24") for number in range(10)]
    for one in kept:
        cache.insert(one)
        cache.touch([one.prefix], 5.0)

    assert sum(one.is_proven for one in kept) == 8


# --- announced moves


@pytest.mark.parametrize(("after_s", "is_overtaken"), [(2.9, True), (3.0, False)])
def test_an_answer_from_before_a_move_is_ignored_for_three_seconds(after_s: float, is_overtaken: bool) -> None:
    moves, before, now = AnnouncedMoves(), (Locator(PEER),), (Locator(STRANGER),)
    moves.on_moved(SITE, before, now, 5.0)

    assert moves.is_overtaken(SITE, before, 5.0 + after_s) == is_overtaken
    assert not moves.is_overtaken(SITE, now, 5.0 + after_s)


def test_of_1024_peers_the_former_mappings_are_kept_and_of_no_more() -> None:
    moves, before, now = AnnouncedMoves(), (Locator(PEER),), (Locator(STRANGER),)
    peers = [prefix(f"10.{2 + number // 256}.{number % 256}.0/24") for number in range(1025)]
    for peer in peers:
        moves.on_moved(peer, before, now, 5.0)

    assert [moves.is_overtaken(peer, before, 6.0) for peer in peers] == [True] * 1024 + [False]
    moves.on_moved(peers[-1], before, now, 8.0)
    assert moves.is_overtaken(peers[-1], before, 8.5), "those of more than three seconds ago made room"


# --- path MTUs


@pytest.mark.parametrize(("after_s", "counts"), [(2.9, 1), (3.0, 1), (3.1, 0)])
def test_the_answer_to_a_probe_of_a_size_counts_for_three_seconds(after_s: float, counts: int) -> None:
    counters: Counter[str] = Counter()
    paths, way = PathMtus(new_nonce=count(7).__next__, counters=counters), Way(WIFI.address, PEER, 4341)
    paths.on_links({WIFI.address: 1500})
    assert only(paths.on_large(way, ControlProbe(EID, way.local, way.remote), 5.0), SendControl)
    answer = MapReply(7, (), is_probe=True).encode()

    assert paths.is_answer(answer)
    paths.on_answer(answer, 5.0 + after_s)

    assert counters["rx_size_probe_answer"] == counts
    assert not paths.is_answer(answer)


# --- registration and lookups


@pytest.mark.parametrize(("is_late", "state"), [(False, State.REGISTERING), (True, State.LOST)])
def test_a_registration_is_lost_when_three_minutes_went_unanswered(is_late: bool, state: State) -> None:
    machine = registration()
    machine.on_locators(locators(WIFI), 0.0)
    while (at := machine.wake_at()) is not None and at < 180.0:
        machine.on_timer(at)
        assert machine.state is State.REGISTERING
    if is_late:
        assert at is not None
        machine.on_timer(at)

    assert machine.state is state


def resolver() -> Resolver:
    machine = Resolver([RESOLVER], new_nonce=nonces(1000), eids=(EID,))
    machine.on_locators(locators(WIFI))
    return machine


@pytest.mark.parametrize(("after_s", "counts"), [(0.0, True), (0.1, False)])
def test_a_map_reply_counts_as_long_as_its_nonce_lives(after_s: float, counts: bool) -> None:
    machine = resolver()
    (sent,) = only(machine.on_miss(EID.address, prefix("10.2.0.7/32"), 5.0), SendControl)
    record = MappingRecord.of(SITE, (Locator(PEER),), ttl_min=10)
    reply = MapReply(request_in(sent).nonce, (record,))

    effects = machine.on_map_reply(reply, WIFI.address, GUARD, 5.0 + NONCE_LIFETIME_S + after_s)

    assert (effects != [Count("rx_nonce")]) == counts


def test_the_limits_of_lookups_leave_room_for_peers_and_for_packets() -> None:
    assert (MAX_STRANGE, MAX_CLAIMS) == (48, 64), "docs/threats.md"
    assert MAX_CLAIMS < MAX_LOOKUPS


# --- keys


@pytest.mark.parametrize(("tries", "has_key"), [(1, True), (2, True), (3, False)])
def test_two_unanswered_registers_have_the_key_and_the_third_has_none(tries: int, has_key: bool) -> None:
    trial = KeyTrial(is_wanted=True)
    trial.on_answer(0.0, is_keyed=False, is_offered=True, tries=1)

    assert trial.says_key(tries) == has_key


@pytest.mark.parametrize(
    ("tries", "after_s", "is_tried"),
    [(2, 1.0, True), (3, 1.0, False), (3, AGAIN_S - 0.1, False), (3, AGAIN_S, True)],
)
def test_a_map_server_that_answers_only_without_a_key_is_offered_it_again_after_an_hour(
    tries: int, after_s: float, is_tried: bool
) -> None:
    trial = KeyTrial(is_wanted=True)
    trial.on_answer(0.0, is_keyed=False, is_offered=True, tries=1)
    trial.on_answer(5.0, is_keyed=False, is_offered=True, tries=tries)

    trial.on_answer(5.0 + after_s, is_keyed=False, is_offered=True, tries=1)

    assert trial.says_key(1) == is_tried


# --- what is remembered of others


def test_the_keys_of_4096_eid_prefixes_and_the_times_of_4096_keys_are_remembered() -> None:
    memory = Memory()
    known = keys(memory=memory)
    sites = [EidPrefix.host(ip("10.0.0.0") + number) for number in range(4097)]
    for number, site in enumerate(sites):
        assert len(memory.keys) == number
        known.on_vouched(site, KeyRecord((number.to_bytes(32),)))
        known.on_time(number.to_bytes(32), number + 1)

    assert [known.of(site) is not None for site in sites] == [False] + [True] * 4096
    assert [bool(known.last_time_of(number.to_bytes(32))) for number in range(4097)] == [False] + [True] * 4096


def test_the_status_bits_of_1024_mappings_are_remembered() -> None:
    heard, place = HeardStatus(), (Locator(PEER), Locator(STRANGER))
    entries = [MapCacheEntry(EidPrefix.host(ip("10.0.0.0") + number), place) for number in range(1025)]
    for one in entries:
        assert heard.on_bits(one, PEER, 0b01, 32) != ((), ())

    again = [heard.on_bits(one, PEER, 0b01, 32) for one in reversed(entries)]

    assert [said == ((), ()) for said in again] == [True] * 1024 + [False]


def test_4096_smrs_wait_to_be_sent() -> None:
    machine = SmrSender(new_nonce=nonces())
    peers = [SmrTarget(ip("203.0.0.0") + number, EID, SITE) for number in range(5000)]

    sent = only(machine.on_moved(locators(WIFI), peers, 0.0), SendControl)
    while (at := machine.wake_at()) is not None and at < FOLLOW_UPS_S[0]:
        sent += only(machine.on_timer(at), SendControl)

    assert {one.destination for one in sent} <= {target.rloc for target in peers[:4096]}


# --- paths


STEADY = ProbeConfig(jitter=0.0)


def up(now: float = 0.0) -> Path:
    path = Path(Pair(WIFI.address, PEER), EID, now)
    assert path.on_due(STEADY, 0.5, now) is Due.PROBE
    path.on_answer(0.02, False, STEADY, 0.5, now)
    assert path.state is ProbeState.UP
    return path


def dead(path: Path, now: float) -> float:
    """Nothing is answered any more from now on; returns when the path counts as dead."""
    path.on_hint("icmp", now)
    while path.state is not ProbeState.DOWN:
        path.on_due(STEADY, 0.5, path.wake_at)
        assert path.wake_at < now + 10.0
    return path.since


@pytest.mark.parametrize(("heard_at", "due"), [(29.9, Due.NOTHING), (0.1, Due.NOTHING), (0.0, Due.PROBE)])
def test_data_of_the_last_interval_replaces_a_probe(heard_at: float, due: Due) -> None:
    path = up()
    path.on_heard(STEADY, heard_at)

    assert path.on_due(STEADY, 0.5, 30.0) is due


def test_data_replaces_twenty_probes_in_a_row() -> None:
    path, found = up(), list[Due]()
    while len(found) < 43:
        path.on_heard(STEADY, path.wake_at)
        found.append(path.on_due(STEADY, 0.5, path.wake_at))
        if found[-1] is Due.PROBE:
            path.on_answer(0.02, False, STEADY, 0.5, path.wake_at)

    assert [at for at, due in enumerate(found) if due is Due.PROBE] == [20, 41]


@pytest.mark.parametrize(("later_s", "answers"), [(299.9, 2), (300.0, 1)])
def test_a_path_that_died_twice_in_five_minutes_needs_two_answers(later_s: float, answers: int) -> None:
    path = up()
    died_at = dead(path, 10.0)
    path.on_answer(0.02, False, STEADY, 0.5, died_at + 1.0)
    dead(path, died_at + 200.0)

    needed = 0
    while path.state is ProbeState.DOWN:
        needed += 1
        path.on_answer(0.02, False, STEADY, 0.5, died_at + later_s + needed / 1000)

    assert needed == answers


def test_a_path_that_dies_all_the_time_needs_five_answers_and_no_more() -> None:
    path, now = up(), 0.0
    for _ in range(8):
        now = dead(path, now + 1.0)
        needed = 0
        while path.state is ProbeState.DOWN:
            needed += 1
            path.on_answer(0.02, False, STEADY, 0.5, now + 0.1)

    assert needed == 5


def test_a_dead_path_is_probed_after_2_seconds_and_then_ever_more_rarely_up_to_a_minute() -> None:
    path = up()
    times = [dead(path, 10.0)]
    for _ in range(8):
        times.append(path.wake_at)
        assert path.on_due(STEADY, 0.5, path.wake_at) is Due.PROBE

    assert [round(later - former, 3) for former, later in pairwise(times)] == [2, 2, 4, 8, 16, 32, 60, 60]
