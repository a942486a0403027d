"""The search for the MTU of one path, over a link that passes probes up to a size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.path_mtu.search import CHECK_EVERY_S, FLOOR, RAISE_FIRST_S, STEP_OCTETS, PathMtu, Source, State

RTT_S = 0.04


class Line:
    """Answers probes that fit after a round trip; `loses` and `answers_at` disturb that."""

    def __init__(
        self,
        mtu_bytes: int,
        *,
        version: int = 4,
        link_bytes: int = 1500,
        loses: Callable[[int], bool] = lambda _: False,
        quiet_s: float = 0.0,
    ) -> None:
        self.mtu_bytes = mtu_bytes
        self.path = PathMtu(version, link_bytes)
        self.now = 0.0
        self.sent: list[int] = []
        self._loses = loses
        self._quiet_s = quiet_s  # the far end answers once in so many seconds
        self._answers: list[tuple[float, int, float]] = []
        self._answered_at = float("-inf")

    def put(self, sizes: tuple[int, ...]) -> None:
        """Send probes of these sizes, in this order."""
        for size in sizes:
            self.sent.append(size)
            is_heard = size <= self.mtu_bytes and not self._loses(len(self.sent))
            if is_heard and self.now - self._answered_at >= self._quiet_s:
                self._answered_at = self.now
                self._answers.append((self.now + RTT_S, size, self.now))

    def run(self, for_s: float) -> None:
        """Advance the time; only probes leave."""
        end = self.now + for_s
        for _ in range(20_000):
            due = [at for at in (self.path.wake_at(), *(at for at, _, _ in self._answers)) if at is not None]
            if not due or min(due) > end:
                break
            self.now = max(self.now, min(due))
            arrived = [answer for answer in self._answers if answer[0] <= self.now]
            self._answers = [answer for answer in self._answers if answer[0] > self.now]
            for _, size, sent_at in arrived:
                self.put(self.path.on_answer(size, self.now - sent_at, self.now))
            self.put(self.path.on_timer(self.now))
        self.now = end

    def large(self, for_s: float, every_s: float = 2.0) -> None:
        """Send large packets for so long: the datapath reports them every two seconds."""
        end = self.now + for_s
        while self.now < end:
            self.put(self.path.on_large(self.now))
            self.run(min(every_s, end - self.now))


def test_a_way_that_takes_what_the_uplink_takes_costs_one_probe_now_and_then() -> None:
    line = Line(1500)

    line.large(60.0)

    assert line.path.mtu_bytes == 1500
    assert line.path.source is Source.PROBED
    assert set(line.sent) == {1500}
    assert len(line.sent) <= 60.0 / CHECK_EVERY_S + 1


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("mtu_bytes", [1492, 1480, 1454, 1428, 1420, 1400, 1358, 1300, 1280])
def test_a_black_hole_of_a_size_that_is_common_is_found_to_the_octet(version: int, mtu_bytes: int) -> None:
    line = Line(mtu_bytes, version=version)

    line.large(8.0)

    assert line.path.mtu_bytes == mtu_bytes
    assert line.path.source is Source.PROBED
    assert line.path.state is State.IDLE


def test_the_size_falls_within_a_second_of_the_first_large_packet() -> None:
    line = Line(1400)

    line.large(0.8)

    assert line.path.mtu_bytes == 1400


@given(st.integers(FLOOR[4], 9000), st.sampled_from([1500, 4000, 9000]))
def test_every_size_is_found_but_for_a_few_octets_and_never_one_that_does_not_pass(mtu_bytes: int, link: int) -> None:
    line = Line(mtu_bytes, link_bytes=link)

    line.large(20.0)

    assert min(mtu_bytes, link) - STEP_OCTETS * 40 < line.path.mtu_bytes <= mtu_bytes
    line.large(1.0)
    assert line.path.mtu_bytes <= min(mtu_bytes, link)


def test_no_ipv6_path_counts_as_smaller_than_1280() -> None:
    line = Line(1000, version=6)

    line.large(30.0)

    assert line.path.mtu_bytes == 1500  # no probe at all was answered: that says nothing about sizes
    assert min(line.sent) == 1280


def test_an_ipv4_path_below_1280_is_believed_once_probes_have_confirmed_it() -> None:
    line = Line(600)

    line.large(8.0)

    assert 576 <= line.path.mtu_bytes <= 600


def test_a_path_that_is_dead_says_nothing_about_sizes_and_is_asked_ever_more_seldom() -> None:
    line = Line(0)

    line.large(600.0)

    assert line.path.mtu_bytes == 1500
    assert len(line.sent) < 250
    line.sent.clear()
    line.large(600.0)
    assert len(line.sent) < 60


def test_a_peer_that_answers_once_in_three_seconds_is_measured_all_the_same() -> None:
    line = Line(1400, quiet_s=3.0)

    line.large(60.0)

    assert line.path.mtu_bytes == 1400


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_lossy_path_is_not_taken_for_a_narrow_one(every: int) -> None:
    line = Line(1500, loses=lambda number: number % every == 0)

    line.large(120.0)

    assert line.path.mtu_bytes == 1500


def test_a_black_hole_that_begins_in_the_middle_is_found_when_data_goes_unanswered() -> None:
    line = Line(1500)
    line.large(6.0)

    line.mtu_bytes = 1400
    line.put(line.path.on_doubt(line.now))
    line.run(0.6)

    assert line.path.mtu_bytes == 1400


def test_and_by_the_next_check_when_other_data_is_answered() -> None:
    line = Line(1500)
    line.large(6.0)

    line.mtu_bytes = 1400
    line.large(CHECK_EVERY_S + 2.0)

    assert line.path.mtu_bytes == 1400


def test_silence_says_nothing_about_sizes_when_no_large_packet_left() -> None:
    line = Line(1500)

    line.put(line.path.on_doubt(line.now))

    assert line.sent == []


def test_the_size_goes_up_again_while_large_packets_leave() -> None:
    line = Line(1400)
    line.large(6.0)
    line.mtu_bytes = 1500

    line.large(RAISE_FIRST_S + 3.0)

    assert line.path.mtu_bytes == 1500
    assert line.path.source is Source.PROBED


def test_larger_ones_are_tried_ever_more_seldom_while_they_do_not_pass() -> None:
    line = Line(1400)
    line.large(10.0)
    line.sent.clear()

    line.large(3600.0)

    tries = sum(size == 1500 for size in line.sent) / 3  # three volleys each
    assert 6 <= tries <= 13
    assert line.path.mtu_bytes == 1400


def test_without_large_packets_there_is_no_probe_and_no_timer() -> None:
    line = Line(1400)
    line.large(6.0)
    line.run(5.0)
    line.sent.clear()

    line.run(3600.0)

    assert line.sent == []
    assert line.path.wake_at() is None


def test_icmp_that_tells_the_truth_shortens_the_search_and_stays() -> None:
    line = Line(1380)
    line.path.on_large(line.now)
    line.put(line.path.on_too_big(1380, line.now))

    assert line.path.mtu_bytes == 1380
    line.run(5.0)
    assert line.path.mtu_bytes == 1380
    assert line.path.source is Source.ICMP


@pytest.mark.parametrize("false", [1300, 1280])
def test_icmp_with_a_false_size_is_undone_within_a_round_trip(false: int) -> None:
    line = Line(1500)
    line.put(line.path.on_too_big(false, line.now))

    line.run(RTT_S + 0.01)

    assert line.path.mtu_bytes == 1500
    assert line.path.source is Source.PROBED


def test_icmp_that_still_says_too_much_is_corrected_by_probes() -> None:
    line = Line(1300)
    line.put(line.path.on_too_big(1400, line.now))

    line.large(6.0)

    assert line.path.mtu_bytes == 1300


@pytest.mark.parametrize("said", [0, 68, 575, 1500, 9000])
def test_icmp_below_the_floor_or_above_the_size_changes_nothing(said: int) -> None:
    line = Line(1500)

    assert line.path.on_too_big(said, line.now) == ()
    assert line.path.mtu_bytes == 1500


def test_icmp_that_proves_nothing_only_makes_us_ask() -> None:
    honest, forged = Line(1400), Line(1500)

    for line in (honest, forged):
        line.put(line.path.on_claim(line.now))
        assert line.path.mtu_bytes == 1500
        line.run(5.0)

    assert honest.path.mtu_bytes == 1400
    assert forged.path.mtu_bytes == 1500
    assert len(forged.sent) == 1


def test_what_the_uplink_takes_now_is_where_it_begins_again() -> None:
    line = Line(1400)
    line.large(6.0)

    line.path.on_link(1280)
    assert (line.path.mtu_bytes, line.path.source) == (1280, Source.INTERFACE)
    line.path.on_link(9000)
    line.large(8.0)

    assert line.path.mtu_bytes == 1400


def test_an_uplink_that_refuses_a_size_is_obeyed_at_once() -> None:
    line = Line(1500)
    line.path.on_refused(1420)

    assert (line.path.mtu_bytes, line.path.source) == (1420, Source.INTERFACE)


@given(st.lists(st.tuples(st.sampled_from("lds"), st.integers(500, 1600), st.floats(0.0, 40.0)), max_size=12))
def test_whatever_happens_it_ends_and_no_probe_is_larger_than_the_uplink(steps: list[tuple[str, int, float]]) -> None:
    line = Line(1500)
    for what, size, pause in steps:
        if what == "l":
            line.mtu_bytes = size
            line.put(line.path.on_large(line.now))
        elif what == "d":
            line.put(line.path.on_doubt(line.now))
        else:
            line.put(line.path.on_too_big(size, line.now))
        line.run(pause)
    line.run(200.0)

    assert line.path.state is State.IDLE
    assert line.path.wake_at() is None
    assert all(576 <= size <= 1500 for size in line.sent)
    assert 576 <= line.path.mtu_bytes <= 1500
