"""The marks that rules of nftables give to all packets, by the output of its own tool."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lispmob.lab.namespace import NamespaceSet
from lispmob.mh.kernel.kernel_listing import CommonMarks
from lispmob.mh.nft_marks import given_to_all
from tests.mh.test_common_marks import marked


def ruleset(*rules: list[Any], hook: str = "output", family: str = "inet", others: tuple[Any, ...] = ()) -> Any:
    base = {"family": family, "table": "t", "name": "out", "type": "route", "hook": hook, "prio": -150}
    listed = [{"chain": base}]
    listed += [{"rule": {"family": family, "table": "t", "chain": "out", "expr": rule}} for rule in rules]
    return {"nftables": [{"metainfo": {}}, *listed, *others]}


MARK = {"meta": {"key": "mark"}}


def to(value: Any) -> Any:
    return {"mangle": {"key": MARK, "value": value}}


def when(left: Any, right: Any = 1) -> Any:
    return {"match": {"op": "==", "left": left, "right": right}}


def test_a_mark_on_everything_is_found_whole_and_in_some_bits() -> None:
    some = {"|": [{"&": [MARK, 0xFFFFFF00]}, 2]}

    assert given_to_all(ruleset([to(1)], [{"counter": {}}, to(some)]), 4) == ((1, 0xFFFFFFFF), (2, 0xFF))
    assert given_to_all(ruleset([to({"|": [MARK, 0x100]})]), 6) == ((0x100, 0x100),)


def test_a_balancer_that_draws_the_mark_gives_all_of_them() -> None:
    drawn = {"map": {"key": {"numgen": {"mode": "random", "mod": 2}}, "data": {"set": [[0, 0x100], [1, 0x200]]}}}

    assert [value for value, _ in given_to_all(ruleset([when(MARK, 0), to(drawn)]), 4)] == [0x100, 0x200]


def test_chains_are_followed_also_in_a_circle() -> None:
    jump = {"jump": {"target": "more"}}
    more = [
        {"rule": {"family": "inet", "table": "t", "chain": "more", "expr": [expression]}}
        for expression in (to(7), {"goto": {"target": "out"}})
    ]

    assert given_to_all(ruleset([jump], others=tuple(more)), 4) == ((7, 0xFFFFFFFF),)


@pytest.mark.parametrize(
    "condition",
    [
        when({"payload": {"protocol": "ip", "field": "daddr"}}, "10.0.0.1"),
        when({"meta": {"key": "oifname"}}, "eth1"),
        when({"meta": {"key": "skuid"}}, 1000),
        when({"socket": {"key": "cgroupv2"}}, "vpn"),
        {"xt": {"type": "match", "name": "bpf"}},
    ],
)
def test_a_mark_for_some_packets_only_is_not_given_to_all(condition: Any) -> None:
    assert given_to_all(ruleset([condition, to(7)]), 4) == ()


def test_what_passes_through_and_what_is_of_the_other_family_is_not_what_leaves_from_here() -> None:
    assert given_to_all(ruleset([to(7)], hook="prerouting"), 4) == ()
    assert given_to_all(ruleset([to(7)], family="ip6"), 4) == ()
    assert given_to_all(ruleset([to(7)]), 4, ["t"]) == ()


def test_the_mark_of_the_connection_says_nothing_that_can_be_told() -> None:
    assert given_to_all(ruleset([to({"ct": {"key": "mark"}})], [to({"&": [MARK, 255]})]), 4) == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["mark", "output", "inet", "t", "out"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["nftables", "chain", "rule", "expr", "mangle", "key", "value", "meta", "|", "&", "map"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(JSON, JSON)
def test_whatever_a_tool_prints_is_read_or_left_out(anything: Any, expression: Any) -> None:
    for told in (anything, {"nftables": anything}, ruleset([expression]), ruleset([to(expression)])):
        assert all(0 <= value <= 0xFFFFFFFF for value, _ in given_to_all(told, 4))


BALANCER = """
table inet balancer {
  chain out { type route hook output priority mangle; policy accept;
    ct state established,related meta mark set ct mark
    ip daddr 10.0.0.0/8 accept
    meta mark & 0x3f00 == 0 counter jump choose
    oifname "eth9" meta mark set 0x7
  }
  chain choose {
    meta mark set meta mark & 0xffffc0ff | 0x100
    meta l4proto tcp meta mark set 0x9
    meta mark set numgen inc mod 2 map { 0 : 0x200, 1 : 0x300 }
  }
}
"""


BALANCED, CHOSEN = marked(0x200, 0x3F00), replace(marked(0x7, 0xFF), priority=2002)


@pytest.mark.netns
def test_the_tool_itself_tells_of_a_balancer_as_we_read_it() -> None:
    with NamespaceSet() as namespaces:
        inside = namespaces.make("nft")
        subprocess.run(inside.argv("nft", "-f", "-"), input=BALANCER, text=True, check=True, timeout=10)
        told = json.loads(inside.run("nft", "-j", "-t", "list", "ruleset"))
        with inside.entered():
            met = asyncio.run(CommonMarks().met_by_all((BALANCED, CHOSEN)))

    assert met == {(4, BALANCED.priority)}
    assert given_to_all(told, 4) == given_to_all(told, 6)
    assert set(given_to_all(told, 4)) == {(0x100, 0x3F00), (0x200, 0xFFFFFFFF), (0x300, 0xFFFFFFFF)}
