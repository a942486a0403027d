"""How large a policy may be, each limit reached and exceeded by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lispmob.mh.policy import MarkMask, Policy, Rule, Selector, Via
from lispmob.mh.selector import Span


def rules(count: int, selector: Selector | None = None, copies: int = 1) -> tuple[Rule, ...]:
    return tuple(
        Rule(f"rule-{number}", selector or Selector(), (Via("cable0"),), copies=copies) for number in range(count)
    )


def of_users(count: int) -> Selector:
    return Selector(users=tuple(Span(number, number) for number in range(count)))


@pytest.mark.parametrize(
    ("most", "more", "why"),
    [
        (lambda: Policy(rules(4096)), lambda: Policy(rules(4097)), "4097 rules: 4096 at most"),
        (
            lambda: Policy(rules(32, of_users(1024))),
            lambda: Policy((*rules(32, of_users(1024)), Rule("one-more", via=(Via("cable0"),)))),
            "32769 combinations: 32768 at most",
        ),
        (lambda: Policy(rules(8, copies=2)), lambda: Policy(rules(9, copies=2)), "'rule-8': at most 8 rules"),
        (lambda: rules(1, copies=2), lambda: rules(1, copies=3), "'copies' is 1 or 2"),
        (lambda: rules(1, copies=1), lambda: rules(1, copies=0), "'copies' is 1 or 2"),
    ],
)
def test_a_policy_has_its_limits(most: Callable[[], object], more: Callable[[], object], why: str) -> None:
    most()

    with pytest.raises(ValueError, match=why):
        more()


@pytest.mark.parametrize(("dscp", "is_valid"), [(0, True), (63, True), (64, False), (-1, False)])
def test_dscp_has_six_bits(dscp: int, is_valid: bool) -> None:
    if is_valid:
        assert Selector(dscp=(dscp,)).dscp == (dscp,)
    else:
        with pytest.raises(ValueError, match="from 0 to 63"):
            Selector(dscp=(dscp,))


@pytest.mark.parametrize(("ports", "lines"), [(1, 1), (7, 1), (8, 2), (15, 2), (16, 3)])
def test_a_range_of_ports_takes_two_of_the_fifteen_places_of_a_match(ports: int, lines: int) -> None:
    spans = tuple(Span(1000 * number, 1000 * number + 5) for number in range(1, ports + 1))

    assert Selector(protocols=(17,), destination_ports=spans).combinations == lines


@pytest.mark.parametrize(
    ("ifindex", "mark"),
    [(-1, 0), (0, 0), (1, 0x0100), (0xFD, 0xFD00), (0xFE, 0), (0xFF, 0xFF00), (0x100, 0)],
)
def test_a_mark_names_each_uplink_whose_ifindex_fits_but_the_one_that_means_without_lisp(
    ifindex: int, mark: int
) -> None:
    mask = MarkMask(0xFF00)

    assert mask.native == 0xFE00
    assert mask.mark(ifindex) == mark


@pytest.mark.parametrize(("place", "mark"), [(0, 0x1D0), (20, 0x090), (21, 0)])
def test_the_marks_of_rules_with_copies_are_above_the_first_eight_ifindexes(place: int, mark: int) -> None:
    assert MarkMask(0x1F0).copying(place) == mark
