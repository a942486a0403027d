"""Which bits of a mark are free for us."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.mh.mark_bits import choose, partial_mask, used_by
from lispmob.mh.rule import MARK, MARK_MASK, Rule


def marked(mark: int, mask: int) -> Rule:
    selectors = ((MARK, struct.pack("=I", mark)), (MARK_MASK, struct.pack("=I", mask)))
    return Rule(2001, 4, 1, is_copy=True, selectors=selectors)


MWAN3 = marked(0x100, 0x3F00)
TAILSCALE = marked(0x80000, 0xFF0000)
CILIUM = [marked(0x200, 0xF00), marked(0xA00, 0xF00)]  # Kubernetes: its proxy and its encryption
KUBE_ROUTER = [marked(0x4000, 0x4000), marked(0x8000, 0x8000)]  # the bits of kube-proxy, looked up by rules as well
WIREGUARD = marked(0xCA6C, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("rules", "highest", "mask"),
    [
        ([], 40, 0xFFFF),
        ([TAILSCALE, WIREGUARD], 40, 0xFFFF),
        ([MWAN3], 40, 0xFF),
        ([MWAN3], 200, 0xFFFFC000),
        ([MWAN3, TAILSCALE], 200, 0xFF),
        (CILIUM, 40, 0xFF),
        (CILIUM, 300, 0xFFFFF000),
        (KUBE_ROUTER, 300, 0x3FFF),
        ([*CILIUM, *KUBE_ROUTER, TAILSCALE, WIREGUARD], 200, 0xFF),
        ([marked(1, 1)], 40, 0xFFFFFFFE),
        ([marked(0x80, 0xFFFF00F0)], 40, 0xFF00),
        ([marked(0x5555, 0x55555555)], 40, 0xFFFF),
    ],
)
def test_the_usual_mask_makes_way_for_rules_of_others(rules: list[Rule], highest: int, mask: int) -> None:
    assert choose(rules, highest).bits == mask


def test_a_rule_that_compares_the_whole_mark_is_no_conflict_and_one_that_shares_a_bit_is_named() -> None:
    assert used_by([WIREGUARD, MWAN3, TAILSCALE], 0xFFFF) == [MWAN3]


@given(st.lists(st.integers(1, 0xFFFFFFFE), max_size=4), st.integers(1, 5000))
def test_a_mask_is_free_or_the_usual_one_and_has_room_for_every_interface(masks: list[int], highest: int) -> None:
    rules = [marked(mask & -mask, mask) for mask in masks]
    chosen = choose(rules, highest)

    used = 0
    for rule in rules:
        used |= partial_mask(rule)
    assert chosen.bits == 0xFFFF or not chosen.bits & used
    assert chosen.mark(highest)
