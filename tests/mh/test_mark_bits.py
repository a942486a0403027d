"""Which bits of a mark are free for us."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.mh.mark_bits import choose, used_by
from lispmob.mh.mark_uses import MarkUse, of_rules, partial_mask
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
    assert choose(of_rules(rules), highest).bits == mask


def test_a_rule_that_compares_the_whole_mark_is_no_conflict_and_one_that_shares_a_bit_is_named() -> None:
    assert used_by(of_rules([WIREGUARD, MWAN3, TAILSCALE]), 0xFFFF) == list(of_rules([MWAN3]))


def filters(*masks: int) -> tuple[MarkUse, ...]:
    return tuple(MarkUse(mask, f"a chain uses {mask:#x}") for mask in masks)


@pytest.mark.parametrize(
    ("masks", "highest", "mask"),
    [
        ([0x4000, 0x8000], 40, 0x3FFF),  # kube-proxy
        ([0x2000], 40, 0x1FFF),  # podman, CNI plugins
        ([0x2000], 6000, 0xFFFFC000),
        ([0xFFFF0000], 40, 0xFFFF),  # Calico
        ([0xFFFF0000, 0x4000, 0x2000], 200, 0x1FFF),
        ([0x7E0000, 0xFF0000], 40, 0xFFFF),  # UniFi, Tailscale
        ([0xFFFF], 40, 0xFFFF),  # a person steers with our mask
    ],
)
def test_the_usual_mask_makes_way_for_packet_filters_of_others(masks: list[int], highest: int, mask: int) -> None:
    assert choose(filters(*masks), highest).bits == mask


def test_where_all_bits_are_taken_those_of_routing_rules_stay_free() -> None:
    uses = (*of_rules([MWAN3]), *filters(0xFFFF0000, 0xFFF))

    assert choose(uses, 40).bits == 0xFF
    assert used_by(uses, 0xFF) == list(filters(0xFFF))


def test_a_packet_filter_that_sets_exactly_our_bits_steers_by_our_marks() -> None:
    assert used_by(filters(0xFF00, 0xFFFF, 0x100), 0xFF00) == list(filters(0xFFFF, 0x100))


@given(st.lists(st.integers(1, 0xFFFFFFFE), max_size=4), st.integers(1, 5000))
def test_a_mask_is_free_or_the_usual_one_and_has_room_for_every_interface(masks: list[int], highest: int) -> None:
    rules = [marked(mask & -mask, mask) for mask in masks]
    chosen = choose(of_rules(rules), highest)

    used = 0
    for rule in rules:
        used |= partial_mask(rule)
    assert chosen.bits == 0xFFFF or not chosen.bits & used
    assert chosen.mark(highest)
