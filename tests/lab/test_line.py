"""One direction of a link, in virtual time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.lab.line import Impairment, Line


def passed_through(line: Line, frames: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Frames with the time at which they left, by a clock that jumps from deadline to deadline."""
    out: list[tuple[float, bytes]] = []
    for at, frame in frames:
        out += drained(line, at)
        line.take(frame, at)
    return out + drained(line, float("inf"))


def drained(line: Line, until: float) -> list[tuple[float, bytes]]:
    out: list[tuple[float, bytes]] = []
    while (at := line.wake_at()) is not None and at <= until:
        out += [(at, frame) for frame in line.release(at)]
    return out


def test_a_frame_leaves_exactly_its_delay_after_it_came() -> None:
    line = Line(Impairment(delay_s=0.25), Random(1))

    assert passed_through(line, [(1.0, b"a"), (1.5, b"b")]) == [(1.25, b"a"), (1.75, b"b")]


def test_frames_of_one_instant_keep_their_order() -> None:
    line = Line(Impairment(delay_s=0.25), Random(1))

    assert [frame for _, frame in passed_through(line, [(1.0, b"z"), (1.0, b"a"), (1.0, b"m")])] == [b"z", b"a", b"m"]


def test_a_line_with_a_rate_sends_one_frame_after_the_other() -> None:
    line = Line(Impairment(rate_bit_s=8000), Random(1))

    assert passed_through(line, [(0.0, bytes(500)), (0.0, bytes(250))]) == [(0.5, bytes(500)), (0.75, bytes(250))]


def test_a_full_queue_drops_what_comes_last_and_counts_it() -> None:
    line = Line(Impairment(delay_s=1, queue_frames=2), Random(1))

    assert [frame for _, frame in passed_through(line, [(0, b"a"), (0, b"b"), (0, b"c")])] == [b"a", b"b"]
    assert line.counters.overflowed == 1


def test_a_cut_line_takes_nothing_and_still_delivers_what_was_on_its_way() -> None:
    line = Line(Impairment(delay_s=1), Random(1))
    line.take(b"before", 0.0)
    line.impairment = Impairment(delay_s=1, is_cut=True)
    line.take(b"after", 0.5)

    assert drained(line, float("inf")) == [(1.0, b"before")]
    assert line.counters.lost == 1


def test_the_same_seed_loses_the_same_frames() -> None:
    frames = [(float(n), bytes([n])) for n in range(200)]

    first, second = (passed_through(Line(Impairment(loss=0.3), Random(7)), frames) for _ in range(2))

    assert first == second
    assert 90 < len(first) < 180


@pytest.mark.parametrize("wrong", [{"delay_s": -1.0}, {"loss": 1.5}, {"queue_frames": 0}, {"rate_bit_s": -1.0}])
def test_a_line_that_cannot_exist_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a line"):
        Impairment(**wrong)  # type: ignore[arg-type]


@given(
    impairment=st.builds(
        Impairment,
        delay_s=st.floats(0, 1),
        jitter_s=st.floats(0, 1),
        loss=st.floats(0, 1),
        rate_bit_s=st.sampled_from([0.0, 1e3, 1e6]),
        queue_frames=st.integers(1, 20),
    ),
    gaps=st.lists(st.floats(0, 1), max_size=40),
    seed=st.integers(0, 2**32),
)
def test_every_frame_is_passed_or_counted_and_none_is_early(
    impairment: Impairment, gaps: list[float], seed: int
) -> None:
    line = Line(impairment, Random(seed))
    at, frames = 0.0, []
    for number, gap in enumerate(gaps):
        frames.append((at := at + gap, number.to_bytes(4, "big")))
    came = {frame: at for at, frame in frames}

    out = passed_through(line, frames)

    assert len(out) + line.counters.lost + line.counters.overflowed == len(frames)
    assert all(left >= came[frame] + impairment.delay_s for left, frame in out)
    assert [left for left, _ in out] == sorted(left for left, _ in out)
