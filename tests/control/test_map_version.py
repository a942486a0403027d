"""Map-Version Numbers: which of two is newer, and when ours changes."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.control.map_version import CHANGES_MAX, NUMBERS, OwnMapVersion, following, is_newer
from lispmob.datapath import _lispdp

numbers = st.integers(1, NUMBERS - 1)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (70, 69, True),
        (2117, 69, True),
        (2118, 69, False),
        (68, 69, False),
        (69, 69, False),
        (1, 4095, True),
        (4095, 1, False),
        (2049, 1, True),
        (1, 2049, False),
    ],
)
def test_the_newer_one_is_ahead_by_half_the_circle_at_most(one: int, other: int, expected: bool) -> None:
    assert is_newer(one, other) is expected
    assert _lispdp.lib.lm_map_version_is_newer(one, other) is expected


@given(numbers, numbers)
def test_of_two_numbers_exactly_one_is_newer_and_the_datapath_agrees(one: int, other: int) -> None:
    assert (is_newer(one, other) + is_newer(other, one)) == (one != other)
    assert _lispdp.lib.lm_map_version_is_newer(one, other) == is_newer(one, other)


@given(numbers)
def test_the_next_number_is_newer_and_never_the_null_version(number: int) -> None:
    assert following(number) != 0
    assert is_newer(following(number), number)


def test_the_number_grows_when_the_records_say_something_else() -> None:
    own = OwnMapVersion(count(5).__next__)

    said = [own.on_records(records, 10, 0.0, is_wanted=True) for records in ("a", "a", "b", "b", "a")]

    assert said == [5, 5, 6, 6, 7]


def test_mappings_have_no_number_where_it_is_not_configured_or_none_can_be_kept() -> None:
    own, never = OwnMapVersion(count(5).__next__), OwnMapVersion(None)

    assert own.on_records("a", 10, 0.0, is_wanted=False) == 0
    assert never.on_records("a", 10, 0.0, is_wanted=True) == 0
    assert own.on_records("a", 10, 1.0, is_wanted=True) == 5


def test_a_node_that_changes_all_the_time_keeps_its_number_before_an_old_copy_would_count_as_new() -> None:
    own = OwnMapVersion(count(1).__next__)

    in_one_ttl = {own.on_records(at, 10, at / 10, is_wanted=True) for at in range(6000)}

    assert CHANGES_MAX <= len(in_one_ttl) <= 2 * CHANGES_MAX
