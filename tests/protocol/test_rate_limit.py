from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket


def test_a_burst_passes_and_then_one_per_interval() -> None:
    bucket = TokenBucket(3.0, burst=3)

    passed = [now for now in range(10) if bucket.take(now)]

    assert passed == [0, 1, 2, 3, 6, 9]


@pytest.mark.parametrize("interval_s", [0.1, 0.05, 1 / 3, 1 / 30, 1 / 7, 3.0])
@pytest.mark.parametrize("now", [0.0, 0.3, 12345.678, 8_640_000.1])
def test_a_full_bucket_gives_all_of_its_burst_at_once(interval_s: float, now: float) -> None:
    for burst in (1, 2, 20, 40, 64, 200):
        bucket, keyed = TokenBucket(interval_s, burst), KeyedBuckets[str](interval_s, burst)
        assert [bucket.take(now) for _ in range(burst + 1)] == [True] * burst + [False]
        assert [keyed.take("a", now) for _ in range(burst + 1)] == [True] * burst + [False]


def test_a_token_can_be_taken_exactly_when_it_is_announced() -> None:
    bucket = TokenBucket(0.1)
    bucket.take(0.3)
    at = bucket.available_at(0.3)

    assert not bucket.take(at - 1e-6)
    assert bucket.take(at)


def test_keys_have_buckets_of_their_own() -> None:
    buckets: KeyedBuckets[str] = KeyedBuckets(3.0)

    assert [buckets.take(key, 0.0) for key in "aab"] == [True, False, True]


def test_a_token_that_is_given_back_can_be_taken_again_and_none_beyond_the_burst() -> None:
    buckets: KeyedBuckets[str] = KeyedBuckets(3.0, 2)
    taken = [buckets.take("a", 0.0) for _ in range(3)]

    buckets.give_back("a")
    again = [buckets.take("a", 0.0) for _ in range(2)]
    for _ in range(9):
        buckets.give_back("a")
    much_later = [buckets.take("a", 0.0) for _ in range(3)]

    assert (taken, again, much_later) == ([True, True, False], [True, False], [True, True, False])


def test_memory_is_bounded_whatever_the_number_of_keys() -> None:
    buckets: KeyedBuckets[int] = KeyedBuckets(3.0, limit=10)

    for key in range(1000):
        assert buckets.take(key, 0.0)

    assert len(buckets) == 10


@given(st.lists(st.floats(0, 10), max_size=50), st.integers(1, 5))
def test_no_window_passes_more_than_a_burst_and_its_share(pauses: list[float], burst: int) -> None:
    bucket, now, passed = TokenBucket(1.0, burst), 0.0, []
    for pause in pauses:
        now += pause
        if bucket.take(now):
            passed.append(now)

    for index, start in enumerate(passed):
        for number, end in enumerate(passed[index:], start=1):
            assert number <= burst + (end - start) + 1e-6


def test_of_too_many_keys_the_one_used_longest_ago_is_forgotten() -> None:
    buckets: KeyedBuckets[str] = KeyedBuckets(10.0, limit=2)
    for key in ("first", "second"):
        assert buckets.take(key, 0.0)
    assert buckets.take("first", 10.0)

    assert buckets.take("third", 10.0)

    assert [buckets.take(key, 10.0) for key in ("first", "third", "second")] == [False, False, True]
