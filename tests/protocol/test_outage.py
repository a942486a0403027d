"""The pause between two tries while nothing answers: short in a young outage, longer in an old one."""

from __future__ import annotations

import pytest

from lispmob.protocol.outage import RETURN_S, SHARE, longest_wait_s


@pytest.mark.parametrize(
    ("outage_s", "limit_s", "pause_s"),
    [
        (0.0, 60.0, RETURN_S),
        (RETURN_S / SHARE, 60.0, RETURN_S),
        (RETURN_S / SHARE + 20.0, 60.0, RETURN_S + 1.0),
        (600.0, 60.0, 30.0),
        (1200.0, 60.0, 60.0),
        (86400.0, 60.0, 60.0),
        (0.0, 2.0, 2.0),
        (float("inf"), 120.0, 120.0),
    ],
)
def test_the_pause_grows_with_the_outage_and_never_beyond_its_limit(
    outage_s: float, limit_s: float, pause_s: float
) -> None:
    assert longest_wait_s(outage_s, limit_s) == pytest.approx(pause_s)


def test_a_day_without_an_answer_costs_less_than_two_tries_a_minute() -> None:
    now, tries = 0.0, 0
    while now < 86400.0:
        now += longest_wait_s(now, 60.0)
        tries += 1

    assert tries < 2 * 1440
