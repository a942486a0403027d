"""When to check which entry: the same as a search through all deadlines finds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.entry_checks import LARGE, PARTS, SPARE, EntryChecks
from lispmob.control.map_cache import MapCacheEntry, State
from lispmob.wire.address import EidPrefix
from tests.control.support import ip


def entry(number: int) -> MapCacheEntry:
    return MapCacheEntry(EidPrefix.host(ip("10.0.0.0") + number))


@given(st.lists(st.tuples(st.sampled_from(["add", "gone", "due"]), st.integers(0, 9), st.integers(0, 50)), max_size=60))
def test_what_is_due_comes_in_the_order_of_time_and_nothing_that_is_gone(steps: list[tuple[str, int, int]]) -> None:
    checks: EntryChecks[MapCacheEntry] = EntryChecks()
    entries = [entry(number) for number in range(10)]
    times: list[tuple[int, int]] = []
    for what, number, at in steps:
        if what == "gone":
            entries[number].to(State.GONE)
            times = [known for known in times if known[1] != number]
        elif what == "add" and not entries[number].is_gone:
            checks.add(at, entries[number])
            times.append((at, number))
        elif what == "due":
            assert checks.first() == min((at for at, _ in times), default=None)
            while (found := checks.pop_due(at)) is not None:
                earliest = min(known for known in times if entries[known[1]] is found)
                assert earliest[0] == min(times)[0]
                times.remove(earliest)
            assert all(known[0] > at for known in times)


def test_a_program_that_repeats_its_mappings_does_not_fill_it_with_stale_times() -> None:
    checks: EntryChecks[MapCacheEntry] = EntryChecks()
    entries = [entry(number) for number in range(500)]
    for round_ in range(40):
        for place, former in enumerate(entries):
            entries[place] = MapCacheEntry(former.prefix)
            former.to(State.GONE)
            checks.add(1000.0 + round_, entries[place])

    assert len(checks) <= 2 * 500 + SPARE


def test_very_many_times_stand_in_small_heaps_and_still_come_in_order() -> None:
    checks: EntryChecks[MapCacheEntry] = EntryChecks()
    count = 2 * LARGE
    for number in range(count):
        checks.add(float(number * 7919 % count), entry(number))

    assert len(checks._heaps) == PARTS
    assert max(map(len, checks._heaps)) < LARGE
    found = []
    while (due := checks.pop_due(1e9)) is not None:
        found.append(due.prefix.number - int(ip("10.0.0.0")))
    assert [number * 7919 % count for number in found] == list(range(count))
