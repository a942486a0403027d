"""Problems as values: their keys, their order, and the line that sums them up."""

from __future__ import annotations

import pytest

from lispmob.problems.problem import (
    EXIT_CODES,
    KEYS,
    Problem,
    Severity,
    headline,
    printable,
    verdict,
    worst_first,
)

DEAD = Problem("rtr-dead", Severity.BROKEN, "the RTR 192.0.2.9 does not answer", "silent for 25 s", "restart it")
CLOSED = Problem("peer-unreachable", Severity.DEGRADED, "10.0.0.2 does not answer", subject="10.0.0.2/32")
ODD = Problem("no-overlay-prefixes", Severity.NOTICE, "only replies go into the overlay")


def test_without_a_problem_it_works() -> None:
    assert (verdict(()), headline(())) == ("working", "working")


def test_what_takes_nothing_away_leaves_the_headline_alone() -> None:
    assert (verdict([ODD]), headline([ODD])) == ("working", "working")


def test_the_headline_names_the_gravest_problem_and_counts_the_others() -> None:
    assert headline(worst_first([ODD, CLOSED])) == "degraded: 10.0.0.2 does not answer"
    assert headline(worst_first([CLOSED, ODD, DEAD])) == "not working: the RTR 192.0.2.9 does not answer (and 1 more)"


def test_problems_of_one_key_and_subject_are_one() -> None:
    again = Problem("peer-unreachable", Severity.DEGRADED, "still silent", subject="10.0.0.2/32")

    assert worst_first([CLOSED, again]) == (again,)


def test_the_same_problem_with_another_subject_is_another_one() -> None:
    other = Problem("peer-unreachable", Severity.DEGRADED, "10.0.0.3 does not answer", subject="10.0.0.3/32")

    assert worst_first([other, CLOSED]) == (other, CLOSED)


def test_an_undocumented_key_is_refused() -> None:
    with pytest.raises(ValueError, match="no key of a problem"):
        Problem("weather", Severity.NOTICE, "it rains")


def test_a_sentence_has_what_cause_and_remedy() -> None:
    assert DEAD.sentence == "the RTR 192.0.2.9 does not answer: silent for 25 s; restart it"
    assert ODD.sentence == ODD.what


def test_every_key_is_a_word_that_fits_a_line_of_a_script() -> None:
    assert all(key.replace("-", "").isalpha() and key == key.lower() and meaning for key, meaning in KEYS.items())


def test_each_verdict_has_an_exit_code_of_its_own_that_lispctl_uses_for_nothing_else() -> None:
    assert EXIT_CODES["working"] == 0
    assert len(set(EXIT_CODES.values())) == 3
    assert not {1, 2, 3, 130} & set(EXIT_CODES.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x00", "\\x00"),
        ("\u202ex", "\\u202ex"),
        ("as it is", "as it is"),
    ],
)
def test_what_came_from_outside_cannot_break_the_line(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()
