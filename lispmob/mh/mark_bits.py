"""Chooses the bits of a packet's mark that are free for us on a host where others use some; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from lispmob.mh.policy import DEFAULT_MASK, MarkMask
from lispmob.mh.rule import MARK, MARK_MASK, Rule

MARK_BITS: Final = 32
EVERY_BIT: Final = 0xFFFFFFFF
FEWEST_BITS: Final = 8  # ours: for a mask from the lowest bit on, in which a mark equals the ifindex
GROWTH: Final = 2  # ours: later interfaces have higher numbers


def choose(rules: Iterable[Rule], highest_ifindex: int) -> MarkMask:
    """The usual mask, or one that none of these rules selects by.

    A mask from the lowest bit on is preferred: a mark then equals an ifindex, as LISPmob's users know it. If no free
    range is wide enough, the usual mask stays, and `used_by` names the conflicting rules.
    """
    used = 0
    for rule in rules:
        used |= partial_mask(rule)
    if not used & DEFAULT_MASK:
        return MarkMask(DEFAULT_MASK)
    runs = sorted(_free_runs(used), key=lambda run: (-run[1], run[0]))
    for needed in (highest_ifindex * GROWTH, highest_ifindex):
        wide = [run for run in runs if (1 << run[1]) > needed]
        low = [run for run in wide if run[0] == 0 and run[1] >= FEWEST_BITS]
        for first, length in (low or wide)[:1]:
            return MarkMask(((1 << length) - 1) << first)
    return MarkMask(DEFAULT_MASK)


def used_by(rules: Iterable[Rule], mask: int) -> list[Rule]:
    """The rules that select by bits of this mask."""
    return [rule for rule in rules if partial_mask(rule) & mask]


def partial_mask(rule: Rule) -> int:
    """The bits that a rule selects by; none if it compares all of them: such a mark is no ifindex."""
    mask = rule.number(MARK_MASK) or (EVERY_BIT if rule.selector(MARK) else 0)
    return 0 if mask == EVERY_BIT else mask


def _free_runs(used: int) -> Iterator[tuple[int, int]]:
    """(first bit, length) of each free range."""
    first = 0
    for bit in range(MARK_BITS + 1):
        if bit == MARK_BITS or used >> bit & 1:
            if bit > first:
                yield first, bit - first
            first = bit + 1
