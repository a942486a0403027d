"""When silence of a locator is reported: the C against its slow reference, on random traffic."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lispmob.datapath import _lispdp
from tests.datapath.oracle.silence import SilenceWatch, Word

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

MS = 1_000_000
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "sent", "sent", "arrived", "tick", "watch"]),
        st.integers(0, 400) | st.integers(0, 20),
        st.integers(20, 1500),
    ),
    max_size=60,
)


def watched(quick_ms: int = 100, slow_ms: int = 500) -> SilenceWatch:
    watch = SilenceWatch()
    watch.watch(quick_ms * MS, slow_ms * MS)
    return watch


@given(STEPS)
def test_the_c_tells_of_silence_when_the_reference_does(steps: list[tuple[str, int, int]]) -> None:
    oracle, ours, now = watched(), ffi.new("struct lm_silence *"), 1
    lib.lm_silence_watch(ours, 100 * MS, 500 * MS)

    for what, pause_ms, number in steps:
        now += pause_ms * MS
        match what:
            case "sent":
                assert lib.lm_silence_sent(ours, now, number) == oracle.sent(now, number)
            case "arrived":
                assert lib.lm_silence_arrived(ours, now) == oracle.arrived(now)
            case "tick":
                assert lib.lm_silence_tick(ours, now) == oracle.tick(now)
            case _:
                lib.lm_silence_watch(ours, number * MS, number * MS // 2)
                oracle.watch(number * MS, number * MS // 2)
        assert lib.lm_silence_due(ours) == (oracle.due() or 0)


def test_a_stream_both_ways_that_falls_silent_is_told_of_after_the_quick_patience() -> None:
    watch, words = watched(), {}
    for ms in range(1, 2000, 10):
        if (word := watch.sent(ms * MS, 100)) is not Word.NONE:
            words[ms] = word
        if ms < 1000:
            watch.arrived(ms * MS + MS)

    assert words == {1101: Word.FLOWING}


def test_a_sender_that_waits_for_acknowledgements_is_told_of_without_another_packet() -> None:
    watch = watched()
    watch.arrived(1 * MS)

    watch.sent(2 * MS, 1400)

    assert watch.due() == 102 * MS
    assert watch.tick(101 * MS) is Word.NONE
    assert watch.tick(102 * MS) is Word.FLOWING


def test_the_last_acknowledgement_of_a_download_waits_for_nothing() -> None:
    watch = watched()
    watch.arrived(1 * MS)

    watch.sent(2 * MS, 40)

    assert watch.due() is None
    assert watch.tick(10_000 * MS) is Word.NONE


def test_one_sided_traffic_is_reported_after_the_slow_timeout_and_then_not_until_it_is_watched_again() -> None:
    watch = watched()

    words = {ms: word for ms in range(1, 5000, 50) if (word := watch.sent(ms * MS, 1000)) is not Word.NONE}

    assert words == {501: Word.ONE_SIDED}
