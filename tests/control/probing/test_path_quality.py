"""Figures of one path, by the formulas of RFC 6298 and RFC 3550."""

from __future__ import annotations

import pytest

from lispmob.control.probing.path_quality import WINDOW, PathQuality


def measured(*round_trips_s: float) -> PathQuality:
    quality = PathQuality()
    for rtt_s in round_trips_s:
        quality.on_answer(rtt_s)
    return quality


def test_the_first_answer_is_the_round_trip_and_half_of_it_the_variation() -> None:
    quality = measured(0.1)

    assert (quality.rtt_s, quality.rtt_variation_s, quality.rtt_min_s) == (0.1, 0.05, 0.1)
    assert quality.jitter_s is None


def test_an_eighth_of_each_answer_is_taken_in_and_a_quarter_of_its_deviation() -> None:
    quality = measured(0.1, 0.2)

    assert quality.rtt_s == pytest.approx(0.1 + 0.1 / 8)
    assert quality.rtt_variation_s == pytest.approx(0.05 + (0.1 - 0.05) / 4)  # against the round trip before


def test_a_sixteenth_of_each_difference_is_taken_into_the_jitter() -> None:
    assert measured(0.1, 0.2).jitter_s == pytest.approx(0.1 / 16)
    assert measured(0.1, 0.2, 0.2).jitter_s == pytest.approx(0.1 / 16 * 15 / 16)


def test_the_quickest_answer_is_remembered() -> None:
    assert measured(0.2, 0.1, 0.3).rtt_min_s == 0.1
    assert measured(0.2, 0.3).rtt_min_s == 0.2


def test_a_path_that_does_not_change_has_no_variation_in_the_end() -> None:
    quality = measured(*[0.1] * 60)

    assert quality.rtt_s == pytest.approx(0.1)
    assert quality.rtt_variation_s == pytest.approx(0.0, abs=1e-6)


def test_the_loss_is_of_the_last_64_probes() -> None:
    quality = PathQuality()
    assert (quality.loss, quality.probes) == (None, 0)
    quality.on_lost()
    assert quality.loss == 1.0

    for _ in range(WINDOW - 1):
        quality.on_answer(0.1)
    assert (quality.loss, quality.probes) == (1 / 64, 64)
    quality.on_answer(0.1)

    assert (quality.loss, quality.probes) == (0.0, 64)


def test_an_answer_that_comes_late_is_no_loss_and_counts_for_the_last_one() -> None:
    quality = PathQuality()
    quality.on_lost()
    quality.on_lost()
    for _ in range(WINDOW - 2):
        quality.on_answer(0.1)
    quality.on_late(2.0)
    assert quality.loss == 1 / 64
    assert quality.rtt_last_s == 2.0

    quality.on_answer(0.1)  # the first of the two leaves the window

    assert quality.loss == 0.0


def test_a_late_answer_without_a_loss_changes_the_round_trip_alone() -> None:
    quality = measured(0.1)
    quality.on_late(0.2)

    assert (quality.loss, quality.probes) == (0.0, 1)
    assert quality.rtt_s == pytest.approx(0.1 + 0.1 / 8)
