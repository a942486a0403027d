"""Chooses the bits of a packet's mark that are free for us on a host where others use some; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from lispmob.mh.mark_uses import MarkUse
from lispmob.mh.policy import DEFAULT_MASK, MarkMask

MARK_BITS: Final = 32
FEWEST_BITS: Final = 8  # ours: for a mask from the lowest bit on, in which a mark equals the ifindex
GROWTH: Final = 2  # ours: later interfaces have higher numbers


def choose(uses: Iterable[MarkUse], highest_ifindex: int) -> MarkMask:
    """The usual mask, or one whose bits no other program uses.

    A mask from the lowest bit on is preferred: a mark then equals an ifindex, as LISPmob's users know it. Where all
    programs together leave no range that is wide enough, only the routing rules count. If that does not help either,
    the usual mask stays. `used_by` names the conflicts that remain.
    """
    known = used_by(uses, DEFAULT_MASK, all_bits=True)
    for counted in (known, [use for use in known if use.is_rule]):
        mask = _free(counted, highest_ifindex)
        if mask is not None:
            return mask
    return MarkMask(DEFAULT_MASK)


def used_by(uses: Iterable[MarkUse], mask: int, *, all_bits: bool = False) -> list[MarkUse]:
    """The uses that share bits with this mask; with `all_bits` also the others.

    A packet filter that sets exactly these bits steers by our marks, as docs/policies.md says, and does not count.
    """
    return [use for use in uses if (all_bits or use.bits & mask) and (use.is_rule or use.bits != mask)]


def _free(uses: Iterable[MarkUse], highest_ifindex: int) -> MarkMask | None:
    used = 0
    for use in uses:
        used |= use.bits
    if not used & DEFAULT_MASK:
        return MarkMask(DEFAULT_MASK)
    runs = sorted(_free_runs(used), key=lambda run: (-run[1], run[0]))
    for needed in (highest_ifindex * GROWTH, highest_ifindex):
        wide = [run for run in runs if (1 << run[1]) > needed]
        low = [run for run in wide if run[0] == 0 and run[1] >= FEWEST_BITS]
        for first, length in (low or wide)[:1]:
            return MarkMask(((1 << length) - 1) << first)
    return None


def _free_runs(used: int) -> Iterator[tuple[int, int]]:
    """(first bit, length) of each free range."""
    first = 0
    for bit in range(MARK_BITS + 1):
        if bit == MARK_BITS or used >> bit & 1:
            if bit > first:
                yield first, bit - first
            first = bit + 1
