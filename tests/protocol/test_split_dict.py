"""A dictionary in parts has the contents of a dictionary, and becomes one when it is large."""

from __future__ import annotations

from lispmob.protocol.split_dict import LARGE, PARTS, AnyDict, SplitDict, grown


def test_it_holds_what_a_dictionary_holds() -> None:
    plain = {number * 7919: number for number in range(1000)}
    split = SplitDict(plain.items())
    for number in range(0, 1000, 3):
        assert split.pop(number * 7919, None) == plain.pop(number * 7919)
    del split[7919], plain[7919]

    assert len(split) == len(plain)
    assert bool(split)
    assert sorted(split.values()) == sorted(plain.values())
    assert all(split[key] == split.get(key) == value and key in split for key, value in plain.items())
    assert split.pop(-1, None) is split.get(-1) is None
    assert -1 not in split
    assert not SplitDict[int, int]()


def test_a_table_is_in_parts_once_it_is_large_and_none_of_them_is() -> None:
    table: AnyDict[int, None] = {}
    for number in range(4 * LARGE):
        table[number] = None
        table = grown(table)
        assert isinstance(table, dict) == (number < LARGE)

    assert isinstance(table, SplitDict)
    assert max(map(len, table._parts)) == 4 * LARGE / PARTS
