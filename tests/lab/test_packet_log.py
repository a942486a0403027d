"""Losses, gaps and silences of probe streams that are written down here."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.lab.packet_log import STEADY_RUN, PacketLog

SENT = [(n, n * 0.01) for n in range(300)]
DELAY = 0.04


def log_without(*missing: range) -> PacketLog:
    gone = {n for numbers in missing for n in numbers}
    return PacketLog.of(SENT, [(n, at + DELAY) for n, at in SENT if n not in gone])


def test_a_stream_without_losses_has_none() -> None:
    assert log_without().lost(float("-inf"), float("inf")) == 0


def test_losses_are_counted_by_the_time_of_their_sending() -> None:
    log = log_without(range(100, 110), range(200, 201))

    assert log.lost(1.0, 1.05) == 5
    assert log.lost(0.0, 2.0) == 10
    assert log.lost(0.0, 3.0) == 11


def test_a_way_reopens_with_the_first_packet_that_gets_through_after_the_break() -> None:
    log = log_without(range(100, 116))

    assert log.reopened_at(sent_after=1.0, arrived_after=1.0) == 1.16 + DELAY


def test_packets_that_were_past_the_break_do_not_reopen_the_way() -> None:
    # Sent before the break and arriving after it.
    log = log_without(range(100, 150))

    assert log.reopened_at(sent_after=1.0, arrived_after=1.0) == 1.5 + DELAY


def test_one_lucky_packet_does_not_reopen_the_way() -> None:
    log = log_without(range(100, 120), range(121, 150))

    assert log.reopened_at(1.0, 1.0) == 1.5 + DELAY


def test_a_way_that_breaks_late_was_not_open_before() -> None:
    # The first packets after the loss still came through; the break came when they had.
    log = log_without(range(130, 150))

    assert log.reopened_at(1.0, 1.0) == 1.5 + DELAY


def test_a_way_that_stays_shut_never_reopens() -> None:
    assert log_without(range(100, 300)).reopened_at(1.0, 1.0) is None
    assert log_without(range(100, 300 - STEADY_RUN + 1)).reopened_at(1.0, 1.0) is None


def test_the_longest_silence_spans_the_break() -> None:
    log = log_without(range(100, 120))

    assert abs(log.longest_silence(0.5, 2.0) - 0.21) < 1e-9


def test_silence_up_to_the_end_counts_too() -> None:
    assert abs(log_without(range(100, 300)).longest_silence(0.5, 3.0) - (3.0 - 0.99 - DELAY)) < 1e-9


def test_a_duplicate_counts_once_at_its_first_arrival() -> None:
    log = PacketLog.of([(0, 1.0)], [(0, 1.3), (0, 1.2)])

    assert (log.packets[0].arrived_at, log.duplicates) == (1.2, 1)


arrivals = st.lists(st.one_of(st.none(), st.floats(0.0, 0.5)), max_size=80)


@given(delays=arrivals, instant=st.floats(0, 1))
def test_losses_add_up_over_any_cut(delays: list[float | None], instant: float) -> None:
    log = written(delays)

    assert log.lost(0, instant) + log.lost(instant, 2) == sum(delay is None for delay in delays)


@given(delays=arrivals, instant=st.floats(0, 1))
def test_a_reopening_is_after_the_break_and_within_the_stream(delays: list[float | None], instant: float) -> None:
    log = written(delays)

    reopened = log.reopened_at(instant, instant)

    if reopened is not None:
        times = [packet.arrived_at for packet in log.between(instant, float("inf"))]
        assert reopened in times
        assert reopened >= instant


@given(delays=arrivals)
def test_a_silence_is_never_longer_than_the_time_looked_at(delays: list[float | None]) -> None:
    log = written(delays)

    assert 0 <= log.longest_silence(0.2, 0.9) <= 0.7 + 1e-9
    assert all(gap >= 0 for _, gap in log.arrival_gaps())


def written(delays: list[float | None]) -> PacketLog:
    sent = [(n, n * 0.01) for n in range(len(delays))]
    return PacketLog.of(sent, [(n, n * 0.01 + delay) for n, delay in enumerate(delays) if delay is not None])
