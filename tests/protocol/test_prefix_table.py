from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix
from tests.control.support import ip, prefix

# Few bits differ, so that prefixes often cover each other.
prefixes = st.builds(
    lambda bits, length, instance_id: EidPrefix.make(ip("10.0.0.0") + bits, length, instance_id),
    st.integers(0, 255),
    st.integers(0, 32),
    st.integers(0, 1),
) | st.builds(
    lambda bits, length: EidPrefix.make(ip("2001:db8::") + bits, length), st.integers(0, 255), st.integers(0, 128)
)


@given(st.dictionaries(prefixes, st.integers()), st.sets(prefixes), prefixes)
def test_lookups_agree_with_a_search_through_all_prefixes(
    inserted: dict[EidPrefix, int], removed: set[EidPrefix], wanted: EidPrefix
) -> None:
    table: PrefixTable[int] = PrefixTable()
    for one, value in inserted.items():
        table.insert(one, value)
    for one in removed:
        assert table.remove(one) == inserted.pop(one, None)

    covering = sorted(
        (eid_prefix for eid_prefix in inserted if eid_prefix.covers(wanted)), key=lambda one: -one.mask_len
    )
    holding = [
        eid_prefix
        for eid_prefix in inserted
        if eid_prefix.instance_id == wanted.instance_id and eid_prefix.contains(wanted.address)
    ]
    found = table.lookup(wanted.address, wanted.instance_id)

    assert dict(table) == inserted
    assert len(table) == len(inserted)
    assert table.get(wanted) == inserted.get(wanted)
    assert [one for one, _ in table.covering(wanted)] == covering
    assert {one for one, _ in table.covered(wanted)} == {
        eid_prefix for eid_prefix in inserted if wanted.covers(eid_prefix)
    } - {wanted}
    assert (found[0] if found else None) == max(holding, key=lambda one: one.mask_len, default=None)


def test_instance_ids_do_not_see_each_other() -> None:
    table: PrefixTable[str] = PrefixTable()
    table.insert(prefix("[7]10.0.0.0/8"), "seven")

    assert table.lookup(ip("10.1.2.3"), 0) is None
    assert table.lookup(ip("10.1.2.3"), 7) == (prefix("[7]10.0.0.0/8"), "seven")


def test_the_default_route_of_one_family_does_not_catch_the_other() -> None:
    table: PrefixTable[str] = PrefixTable()
    table.insert(prefix("0.0.0.0/0"), "all")

    assert table.lookup(ip("10.1.2.3")) is not None
    assert table.lookup(ip("2001:db8::1")) is None


def in_order(one: EidPrefix) -> tuple[int, int, int, int]:
    return one.family, one.instance_id, one.number, one.mask_len


@given(st.dictionaries(prefixes, st.integers()), st.integers(1, 7))
def test_a_walk_in_small_steps_meets_every_prefix_once_and_in_order(wanted: dict[EidPrefix, int], limit: int) -> None:
    table: PrefixTable[int] = PrefixTable()
    for one, value in wanted.items():
        table.insert(one, value)
    walked: list[tuple[EidPrefix, int]] = []
    last = None
    while step := table.following(last, limit):
        assert len(step) <= limit
        walked += step
        last = step[-1][0]

    assert walked == sorted(wanted.items(), key=lambda item: in_order(item[0]))


@given(st.sets(prefixes, min_size=2), st.sets(prefixes), st.sets(prefixes))
def test_a_walk_goes_on_behind_where_it_was_whatever_came_and_went_meanwhile(
    first: set[EidPrefix], come: set[EidPrefix], gone: set[EidPrefix]
) -> None:
    table: PrefixTable[int] = PrefixTable()
    for one in first:
        table.insert(one, 1)
    begun = table.following(None, len(first) // 2)
    last = begun[-1][0]

    for one in come:
        table.insert(one, 2)
    for one in gone:
        table.remove(one)
    rest = [one for one, _ in table.following(last, 10_000)]

    assert rest == sorted((one for one, _ in table if in_order(one) > in_order(last)), key=in_order)


def test_a_walk_through_an_empty_table_ends_at_once() -> None:
    table: PrefixTable[int] = PrefixTable()

    assert table.following(None, 10) == []
    assert table.following(prefix("10.0.0.0/8"), 10) == []
