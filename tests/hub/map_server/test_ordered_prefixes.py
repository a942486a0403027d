"""The ordered table answers as a walk over all prefixes would."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix
from tests.hub.exchange import eid

# Few bits differ, so that prefixes nest and touch often.
NUMBERS = st.integers(0, 255).map(lambda low: 0x0A000000 + low)
PREFIXES = st.builds(
    lambda number, mask_len, iid: EidPrefix.make(IPv4Address(number), mask_len, iid),
    NUMBERS,
    st.sampled_from([0, 8, 20, 24, 25, 26, 28, 30, 31, 32]),
    st.sampled_from([0, 7]),
)
CHANGES = st.lists(st.tuples(st.booleans(), PREFIXES), max_size=40)


def tables(changes: list[tuple[bool, EidPrefix]]) -> tuple[OrderedPrefixTable[int], PrefixTable[int]]:
    ordered: OrderedPrefixTable[int] = OrderedPrefixTable()
    plain: PrefixTable[int] = PrefixTable()
    for number, (is_added, prefix) in enumerate(changes):
        for table in (ordered, plain):
            if is_added:
                table.insert(prefix, number)
            else:
                table.remove(prefix)
    return ordered, plain


@given(CHANGES, PREFIXES)
def test_what_lies_below_a_prefix_is_what_a_walk_finds(changes: list[tuple[bool, EidPrefix]], asked: EidPrefix) -> None:
    ordered, plain = tables(changes)

    found = ordered.covered(asked)

    assert sorted(found, key=str) == sorted(plain.covered(asked), key=str)
    assert ordered.covered(asked, 3) == found[:3]
    assert len(ordered) == len(plain)


@given(CHANGES, NUMBERS, st.sampled_from([0, 8, 24, 28]))
def test_a_gap_is_as_wide_as_can_be(changes: list[tuple[bool, EidPrefix]], number: int, mask_len: int) -> None:
    ordered, plain = tables(changes)
    address = IPv4Address(number)
    within = EidPrefix.make(address, mask_len)
    others = [one for one, _ in plain if not one.instance_id and not one.contains(address)]

    gap = ordered.gap(address, within)

    assert gap.contains(address)
    assert within.covers(gap)
    assert not any(gap.network.overlaps(other.network) for other in others)
    if gap != within:
        wider = EidPrefix.make(address, gap.mask_len - 1)
        assert any(wider.network.overlaps(other.network) for other in others)


def test_families_and_instances_are_apart() -> None:
    ordered: OrderedPrefixTable[int] = OrderedPrefixTable()
    for text in ("[7]10.0.0.0/24", "2001:db8::/64"):
        ordered.insert(eid(text), 1)

    assert str(ordered.gap(IPv4Address("10.0.0.1"), eid("0.0.0.0/0"))) == "0.0.0.0/0"
    assert str(ordered.gap(IPv6Address("2001:db8::1"), eid("::/0"))) == "::/0"
    assert str(ordered.gap(IPv6Address("2001:db8:1::"), eid("::/0"))) == "2001:db8:1::/48"


def test_a_table_is_met_in_slices_while_it_changes() -> None:
    ordered: OrderedPrefixTable[str] = OrderedPrefixTable()
    for text in ("10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "[7]10.0.0.0/24", "10.0.0.1/32", "2001:db8::/64"):
        ordered.insert(eid(text), text)

    met = []
    for number, values in enumerate(ordered.slices(2)):
        assert len(values) <= 2
        met += values
        if number == 0:
            ordered.remove(eid("2001:db8::/64"))
            ordered.remove(eid(values[0]))

    assert sorted(met) == ["10.0.0.0/24", "10.0.0.1/32", "10.0.1.0/24", "10.0.2.0/24", "[7]10.0.0.0/24"]
