from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.map_cache import MapCache, MapCacheEntry, Source, State
from lispmob.wire.address import EidPrefix
from lispmob.wire.record import Locator
from tests.control.support import ip, prefix

RLOC = Locator(ip("203.0.113.1"))


def entry(text: str, *, at: float = 0.0, ttl_s: float | None = 60.0, source: Source = "reply") -> MapCacheEntry:
    expires_at = None if ttl_s is None else at + ttl_s
    return MapCacheEntry(prefix(text), (RLOC,), created_at=at, expires_at=expires_at, last_used=at, source=source)


def test_an_entry_is_gone_when_its_ttl_is_over() -> None:
    cache = MapCache()
    cache.insert(entry("10.2.0.0/24", ttl_s=60.0))

    assert cache.on_timer(59.9).expired == ()
    assert [mapping.prefix for mapping in cache.on_timer(60.0).expired] == [prefix("10.2.0.0/24")]
    assert cache.lookup(ip("10.2.0.1")) is None


def test_an_entry_in_use_asks_for_a_refresh_with_a_tenth_of_its_ttl_to_go() -> None:
    cache = MapCache()
    cache.insert(entry("10.2.0.0/24", ttl_s=600.0))
    cache.touch([prefix("10.2.0.0/24")], 530.0)

    assert cache.wake_at() == 540.0
    assert [mapping.prefix for mapping in cache.on_timer(540.0).aging] == [prefix("10.2.0.0/24")]


def test_an_entry_out_of_use_dies_quietly() -> None:
    cache = MapCache()
    cache.insert(entry("10.2.0.0/24", ttl_s=600.0))

    aging = [mapping for at in range(540, 600) for mapping in cache.on_timer(float(at)).aging]

    assert aging == []


def test_an_entry_that_is_used_again_late_is_refreshed_after_all() -> None:
    cache = MapCache()
    cache.insert(entry("10.2.0.0/24", ttl_s=600.0))
    cache.on_timer(540.0)
    cache.touch([prefix("10.2.0.0/24")], 560.0)

    assert cache.on_timer(570.0).aging


def test_a_conversation_outlives_its_ttl_for_ten_seconds_while_a_fresh_answer_is_asked_for() -> None:
    cache = MapCache()
    cache.insert(entry("10.2.0.0/24", ttl_s=60.0))
    cache.touch([prefix("10.2.0.0/24")], 59.5)

    assert [mapping.prefix for mapping in cache.on_timer(60.0).aging] == [prefix("10.2.0.0/24")]
    assert [mapping.state for mapping in cache] == [State.STALE]
    cache.touch([prefix("10.2.0.0/24")], 69.5)
    assert [mapping.prefix for mapping in cache.on_timer(70.0).expired] == [prefix("10.2.0.0/24")]


def test_a_scan_does_not_evict_a_conversation() -> None:
    cache = MapCache(limit=100)
    cache.insert(entry("10.9.0.1/32"))
    cache.touch([prefix("10.9.0.1/32")], 5.0)

    for number in range(5000):
        cache.insert(MapCacheEntry(EidPrefix.host(ip("10.2.0.0") + number), (RLOC,), created_at=6.0, expires_at=66.0))

    assert cache.lookup(ip("10.9.0.1")) is not None
    assert len(cache) == 100


def test_flushing_the_packet_queue_does_not_make_a_conversation() -> None:
    cache = MapCache(limit=2)
    for number in (1, 2, 3):
        one = entry(f"10.2.0.{number}/32", at=float(number))
        cache.insert(one)
        cache.touch([one.prefix], number + 0.1)

    assert not any(mapping.is_proven for mapping in cache)
    assert cache.get(prefix("10.2.0.1/32")) is None


def test_static_entries_neither_expire_nor_leave() -> None:
    cache = MapCache(limit=1)
    cache.insert(entry("10.3.0.0/16", ttl_s=None, source="static"))
    for number in range(10):
        cache.insert(entry(f"10.2.0.{number}/32"))

    assert cache.on_timer(1e9).expired
    assert [mapping.prefix for mapping in cache] == [prefix("10.3.0.0/16")]


def test_a_replacement_keeps_what_was_known_about_its_use() -> None:
    cache = MapCache()
    old = entry("10.2.0.0/24")
    cache.insert(old)
    cache.touch([old.prefix], 30.0)
    new = MapCacheEntry(old.prefix, (RLOC,), created_at=31.0, expires_at=91.0)

    cache.insert(new)

    assert old.state is State.GONE
    assert new.is_used(40.0)
    assert new.is_proven


steps = st.lists(
    st.tuples(st.sampled_from(["insert", "touch", "remove"]), st.integers(0, 15), st.floats(0, 20), st.floats(0.5, 90))
)


@given(steps)
def test_the_bound_holds_and_nothing_outlives_its_ttl(steps: list[tuple[str, int, float, float]]) -> None:
    cache, now = MapCache(limit=5), 0.0
    for what, number, pause_s, ttl_s in steps:
        now += pause_s
        cache.on_timer(now)
        key = EidPrefix.host(ip("10.2.0.0") + number)
        if what == "insert":
            cache.insert(MapCacheEntry(key, (RLOC,), created_at=now, expires_at=now + ttl_s))
            assert cache.get(key) is not None
        elif what == "touch":
            cache.touch([key], now)
        else:
            cache.remove(key)

        assert len(cache) <= 5
        assert all(mapping.expires_at is not None and mapping.expires_at > now for mapping in cache)
        assert (cache.wake_at() is None) == (len(cache) == 0)
