"""The forwarding table finds the longest prefix after any updates; locators share flows as their weights say."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from lispmob.wire.address import EidPrefix, IpAddress
from tests.datapath import binding
from tests.datapath.oracle import packet as oracle
from tests.datapath.oracle import spread


def addresses() -> st.SearchStrategy[IpAddress]:
    few_bits = st.integers(0, 255)
    v4 = few_bits.map(lambda bits: IPv4Address(10 << 24 | (bits & 0xF0) << 12 | bits & 15))
    v6 = few_bits.map(lambda bits: IPv6Address(0x20010DB8 << 96 | (bits & 0xF0) << 60 | bits & 15))
    return st.one_of(v4, v6)


@st.composite
def prefixes(draw: st.DrawFn) -> EidPrefix:
    address = draw(addresses())
    length = draw(st.integers(0, address.max_prefixlen) | st.just(address.max_prefixlen))
    return EidPrefix.make(address, length, draw(st.sampled_from([0, 1, 0xFFFFFE])))


@settings(max_examples=400)
@given(st.lists(st.tuples(st.sampled_from(["insert", "insert", "remove"]), prefixes()), max_size=60), addresses())
def test_lookups_agree_with_the_reference(steps: list[tuple[str, EidPrefix]], address: IpAddress) -> None:
    table, reference = binding.Table(), oracle.Table()
    for verb, prefix in steps:
        if verb == "insert":
            table.insert(prefix)
            reference.prefixes.add(prefix)
        else:
            assert table.remove(prefix) == (prefix in reference.prefixes)
            reference.prefixes.discard(prefix)

    assert len(table) == len(reference.prefixes)
    for instance_id in (0, 1, 0xFFFFFE, 2):
        expected = reference.lookup(instance_id, address)
        assert table.lookup_length(instance_id, address) == (expected.mask_len if expected else None)
        assert table.has_instance(instance_id) == any(p.instance_id == instance_id for p in reference.prefixes)


@settings(max_examples=200)
@given(st.lists(prefixes(), max_size=60), st.lists(addresses(), min_size=1, max_size=100))
def test_many_lookups_at_once_find_what_single_ones_find(there: list[EidPrefix], wanted: list[IpAddress]) -> None:
    table = binding.Table()
    for prefix in there:
        table.insert(prefix)
    pairs = [(instance_id, address) for address in wanted for instance_id in (0, 1)]

    assert table.lookup_lengths(pairs) == [table.lookup_length(*pair) for pair in pairs]


def test_a_table_that_grows_answers_right_at_any_time_and_stays_small() -> None:
    chance = random.Random(3)
    table, hosts = binding.Table(), [ip_address(0x0A000000 + n) for n in chance.sample(range(1 << 20), 70_000)]
    for number, host in enumerate(hosts, 1):
        table.insert(EidPrefix.host(host))
        if number % 7001 == 0:
            known = chance.sample(hosts[:number], 100)
            assert table.lookup_lengths([(0, address) for address in known]) == [32] * 100
            assert table.lookup_lengths([(0, address) for address in hosts[number : number + 100]]) == [None] * 100

    while table.settle():
        pass
    assert table.memory() / len(hosts) < 100
    assert table.lookup_lengths([(0, address) for address in hosts]) == [32] * len(hosts)


def test_thousands_of_prefixes_come_and_go_while_every_lookup_stays_right() -> None:
    chance = random.Random(7)
    table, present = binding.Table(), set[EidPrefix]()
    hosts = [
        EidPrefix.host(ip_address(0x0A000000 + chance.randrange(1 << 24)), chance.randrange(3)) for _ in range(6000)
    ]
    for number, prefix in enumerate(hosts):
        table.insert(prefix)
        present.add(prefix)
        if number % 3 == 2:  # removing while the table is growing
            gone = chance.choice(hosts[: number + 1])
            assert table.remove(gone) == (gone in present)
            present.discard(gone)

    assert len(table) == len(present)
    for prefix in hosts:
        assert (table.lookup_length(prefix.instance_id, prefix.address) == 32) == (prefix in present)


LOCATORS = st.lists(
    st.tuples(
        st.sampled_from(
            [ip_address(f"192.0.2.{n}") for n in range(8)] + [ip_address(f"2001:db8::{n}") for n in range(8)]
        ),
        st.sampled_from([4341, 50000]),
        st.sampled_from([0, 1, 1, 2, 255]),
        st.sampled_from([0, 1, 20, 30, 50, 100, 255]),
    ),
    max_size=32,
    unique_by=lambda one: one[:2],
)


@settings(max_examples=500)
@given(LOCATORS, st.integers(1, 3), st.integers(0, (1 << 64) - 1))
def test_the_locator_of_a_flow_is_the_one_that_the_reference_says(
    locators: list[tuple[IpAddress, int, int, int]], families: int, flow: int
) -> None:
    contenders = [
        spread.Contender(
            spread.locator_identity(address, port),
            priority if families & (1 if address.version == 4 else 2) else spread.NEVER,
            weight,
        )
        for address, port, priority, weight in locators
    ]

    expected = spread.choose(contenders, flow)

    assert binding.Locators(locators).choose(families, flow) == (None if expected is None else locators[expected][:2])


def test_a_dead_locator_moves_no_flow_of_the_living_ones() -> None:
    three = [(ip_address(f"192.0.2.{n}"), 4341, 1, 100) for n in (1, 2, 3)]
    before, after = binding.Locators(three), binding.Locators(three[:2])
    chance = random.Random(1)

    flows = [chance.getrandbits(64) for _ in range(3000)]
    living = [flow for flow in flows if before.choose(3, flow) != three[2][:2]]

    assert 1800 < len(living) < 2200
    assert all(after.choose(3, flow) == before.choose(3, flow) for flow in living)
