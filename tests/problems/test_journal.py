"""The journal has a line for each problem when it begins and when it ends, and none on a quiet day."""

from __future__ import annotations

from lispmob.problems.journal import BEGINS_AN_HOUR, HOUR_S, ProblemJournal
from lispmob.problems.problem import Problem, Severity

DEAD = Problem("no-answer", Severity.BROKEN, "no answer from Map-Server 192.0.2.1", "cause", "remedy", "192.0.2.1")
ODD = Problem("no-overlay-prefixes", Severity.NOTICE, "only replies go into the overlay")


def texts(journal: ProblemJournal, *problems: Problem, now: float) -> list[str]:
    return [line.text for line in journal.on_problems(problems, now)]


def test_a_problem_is_told_when_it_begins_and_when_it_ends() -> None:
    journal = ProblemJournal()

    assert texts(journal, DEAD, now=0.0) == [DEAD.sentence]
    assert texts(journal, DEAD, now=60.0) == []
    assert texts(journal, now=90.0) == ["no longer: no answer from Map-Server 192.0.2.1 (after 90 s)"]
    assert texts(journal, now=120.0) == []


def test_a_day_without_news_is_a_quiet_day() -> None:
    journal = ProblemJournal()
    texts(journal, ODD, now=0.0)

    assert [line for minute in range(1, 1440) for line in texts(journal, ODD, now=60.0 * minute)] == []


def test_other_words_for_the_same_problem_are_no_news() -> None:
    journal = ProblemJournal()
    texts(journal, DEAD, now=0.0)
    longer = Problem("no-answer", Severity.DEGRADED, "still no answer", subject="192.0.2.1")

    assert texts(journal, longer, now=5.0) == []
    assert texts(journal, now=180.0) == ["no longer: still no answer (after 3 min)"]


def test_what_comes_and_goes_is_told_a_few_times_an_hour_and_its_last_time_says_so() -> None:
    journal = ProblemJournal()

    begun = []
    for turn in range(20):
        begun += texts(journal, DEAD, now=20.0 * turn)
        texts(journal, now=20.0 * turn + 10)

    assert len(begun) == BEGINS_AN_HOUR
    assert "comes and goes" in begun[-1]
    assert texts(journal, DEAD, now=2 * HOUR_S) == [DEAD.sentence]


def test_what_begins_is_a_warning_and_what_ends_is_good_news() -> None:
    journal = ProblemJournal()

    lines = journal.on_problems([DEAD, ODD], 0.0)

    assert [line.is_warning for line in lines] == [True, True]
    assert [line.is_warning for line in journal.on_problems([], 7300.0)] == [False, False]


def test_starting_and_stopping_are_systemds_news() -> None:
    starting = Problem("starting", Severity.BROKEN, "lispd is starting")

    assert texts(ProblemJournal(), starting, now=0.0) == []


def test_since_when_a_problem_stands_is_known() -> None:
    journal = ProblemJournal()
    texts(journal, DEAD, now=5.0)
    texts(journal, DEAD, now=50.0)

    assert journal.since(DEAD) == 5.0
    assert journal.since(ODD) is None


def test_forged_variety_does_not_fill_the_memory() -> None:
    journal = ProblemJournal()
    for number in range(2000):
        peer = Problem("peer-unreachable", Severity.DEGRADED, "x", subject=str(number))
        journal.on_problems([peer], float(number))

    assert len(journal._begun) <= 256
