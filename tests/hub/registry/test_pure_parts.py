"""The parts of the adapter that need no server: clocks, keys, and what is known to be current."""

from __future__ import annotations

import struct
from binascii import crc_hqx

import pytest

from lispmob.hub.map_server import packed_part
from lispmob.hub.map_server.part import XtrRegistration
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.cache import UNREGISTERED_LIMIT, Cache
from lispmob.hub.valkey.orphans import ROUND, Orphans
from lispmob.hub.valkey.section import why_no_client
from lispmob.wire.address import EidPrefix
from lispmob.wire.map_register import MapRegister
from tests.hub.exchange import eid, xtr

LAPTOP = eid("10.1.9.9/32")
OTHER = next(
    prefix
    for number in range(5000)
    if keys.bucket_of(prefix := eid(f"10.2.{number // 256}.{number % 256}/32")) == keys.bucket_of(LAPTOP)
)


def part_at(registered_at: float) -> bytes:
    arrival = xtr("203.0.113.5", xtr_id=b"l" * 16).register("10.1.9.9/32")
    register = MapRegister.decode(arrival.payload)
    part = XtrRegistration.of(register, register.records[0], arrival.source, registered_at)
    return packed_part.pack(part, 0.0)


@pytest.mark.parametrize("hubs_clock", [0.0, 12.5, 86_400.0 * 365, -5000.0, 1e9])
def test_a_hub_with_a_clock_of_its_own_sees_what_is_left_and_no_more(hubs_clock: float) -> None:
    server = 1_750_000_000.0
    value = keys.value_of((part_at(server - 30.0),), 0.0)

    (part,) = keys.parts_of(value, server - hubs_clock)

    assert packed_part.expires_at(part) - hubs_clock == pytest.approx(150.0, abs=1e-3)
    assert packed_part.registered_at(part) - hubs_clock == pytest.approx(-30.0, abs=1e-3)


def test_a_value_goes_there_and_back() -> None:
    parts = (part_at(10.0), part_at(20.0))

    assert keys.parts_of(keys.value_of(parts, 1000.0), 1000.0) == parts


@pytest.mark.parametrize(
    "value", [b"\x00", b"\xff\xff", b"\x00\x01x", b"\x00\x23" + bytes(34), b"\x00\x22" + bytes(34)]
)
def test_a_damaged_value_raises_one_error(value: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        keys.parts_of(value, 0.0)


@pytest.mark.parametrize("octets", [b"", b"1", bytes(20), struct.pack(">QdcQH", 1, 0.0, b"m", 1, 4) + b"ab"])
def test_octets_that_are_no_message_raise_one_error(octets: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is never shown
        keys.read_change(octets)


def test_everything_of_a_prefix_is_in_one_slot() -> None:
    bucket = keys.bucket_of(LAPTOP)
    names = [keys.key(kind, bucket, b"any octets {} at all") for kind in (b"r", b"n", b"q", b"l", b"x", b"h")]

    tags = {name[name.index(b"{") + 1 : name.index(b"}")] for name in (*names, keys.channel_of(bucket))}

    assert [crc_hqx(tag, 0) % keys.SLOTS for tag in tags] == [keys.slot_of(bucket)]


def test_a_number_that_is_missing_is_noticed_and_a_late_one_is_not() -> None:
    cache = Cache()
    bucket = keys.bucket_of(LAPTOP)
    cache.on_read(LAPTOP, 5, is_registered=True)

    assert [cache.on_change(bucket, count) for count in (4, 5, 6, 7, 9)] == [True, True, True, True, False]


def test_what_was_read_later_is_not_undone_by_a_message_from_before() -> None:
    cache = Cache()
    cache.on_read(LAPTOP, 5, is_registered=True)

    assert [cache.is_newer(LAPTOP, count) for count in (4, 5, 6)] == [False, False, True]
    assert cache.is_newer(OTHER, 1), "nothing is known of it"


def test_all_of_a_bucket_is_forgotten_together() -> None:
    cache = Cache()
    elsewhere = eid("10.9.9.9/32")
    for prefix in (LAPTOP, OTHER, elsewhere):
        cache.on_read(prefix, 5, is_registered=prefix != OTHER)

    gone = cache.drop_bucket(keys.bucket_of(LAPTOP))

    assert gone == {LAPTOP, OTHER}
    assert cache.unknown([LAPTOP, OTHER, elsewhere]) == [LAPTOP, OTHER]
    assert cache.last(keys.bucket_of(LAPTOP)) == -1


def test_the_one_used_longest_ago_goes_first() -> None:
    cache = Cache(limit=2)
    first, second, third = (EidPrefix.parse(f"10.3.0.{number}/32") for number in (1, 2, 3))
    cache.on_read(first, 1, is_registered=True)
    cache.on_read(second, 1, is_registered=True)
    assert cache.is_known(first)

    assert cache.on_read(third, 1, is_registered=True) == [second]


def test_what_is_not_registered_pushes_out_nothing_that_is() -> None:
    cache = Cache(limit=10)
    cache.on_read(LAPTOP, 1, is_registered=True)

    for number in range(UNREGISTERED_LIMIT + 100):
        cache.on_read(
            EidPrefix.parse(f"10.{4 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32"), 1, is_registered=False
        )

    assert cache.is_known(LAPTOP)
    assert len(cache) == UNREGISTERED_LIMIT + 1


KEPT = range(100)


def test_before_any_hub_was_seen_none_is_taken_for_gone() -> None:
    orphans = Orphans(1)
    orphans.on_gained(3)

    assert orphans.take(KEPT, 3) == frozenset()
    assert orphans.present == {1}


def test_a_bucket_that_is_new_to_a_hub_is_searched_once_other_hubs_were_seen() -> None:
    orphans = Orphans(1)
    orphans.on_gained(3)
    orphans.take(KEPT, 0)
    orphans.on_present([1, 2])

    assert 3 in orphans.take(KEPT, 0)
    assert 3 not in orphans.take(KEPT, 1)


@pytest.mark.parametrize("left", [[1], [1, 3], []])
def test_when_a_hub_has_gone_all_buckets_are_looked_through_once(left: list[int]) -> None:
    orphans = Orphans(1)
    orphans.on_present([1, 2, 3])
    orphans.on_present(left)
    orphans.on_present(left)

    assert orphans.take(KEPT, 0) == frozenset(KEPT)
    assert len(orphans.take(KEPT, 1)) < len(KEPT)


def test_what_a_hub_left_that_was_never_seen_is_found_within_a_round() -> None:
    orphans = Orphans(1)
    orphans.on_present([1])

    turns = [orphans.take(KEPT, turn) for turn in range(ROUND)]

    assert frozenset().union(*turns) == frozenset(KEPT)
    assert max(map(len, turns)) <= len(KEPT) // ROUND + 1


def test_buckets_that_others_keep_are_theirs_to_look_through() -> None:
    orphans = Orphans(1)
    orphans.on_present([1, 2])
    orphans.on_gained(7)
    orphans.on_present([1])

    assert orphans.take({5}, 7) == {5}


@pytest.mark.parametrize("version", ["8.1.0", "8.1", "8.10.2", "9.0.0b1"])
def test_a_client_that_is_new_enough_is_taken(version: str) -> None:
    assert why_no_client(version) is None


@pytest.mark.parametrize("version", [None, "4.3.4", "6.1.0", "8.0.9", "unknown"])
def test_a_client_that_is_too_old_or_missing_is_said_with_what_to_install(version: str | None) -> None:
    told = why_no_client(version)

    assert told is not None
    assert "lispmob[cluster]" in told
    assert version is None or version in told
