"""Finds marks that other programs' chains set on all packets: a routing rule that selects by such a mark applies to
all; pure.

This is for iptables; `nft_marks.py` handles nftables' own tables.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from lispmob.mh.rule import MARK, MARK_MASK, Rule

_FIRST: Final = "OUTPUT"
_EVERY_BIT: Final = 0xFFFFFFFF
_SAY_NOTHING: Final = frozenset({"mark", "connmark", "comment", "statistic", "conntrack", "state"})
"""Matches that do not depend on the kind of packet: the present mark, chance, the state of the flow."""


def given_to_all(saved: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """(value, mask) of marks that are set on packets regardless of their kind.

    `saved`: the mangle table as iptables-save prints it.
    """
    rules: defaultdict[str, list[list[str]]] = defaultdict(list)
    for line in saved:
        if line.startswith("-A "):
            _, chain, *words = shlex.split(line)
            rules[chain].append(words)
    found: dict[tuple[int, int], None] = {}
    seen: set[str] = set()
    todo = [_FIRST]
    while todo:
        chain = todo.pop()
        if chain in seen:
            continue
        seen.add(chain)
        for words in rules[chain]:
            if not _is_for_all(words):
                continue
            target = _after(words, "-j") or _after(words, "-g")
            if target == "MARK" and (text := _after(words, "--set-xmark")):
                value, _, mask = text.partition("/")
                found[int(value, 0), int(mask or "0xffffffff", 0)] = None
            elif target in rules:
                todo.append(target)
    return tuple(found)


def is_met(rule: Rule, marks: Iterable[tuple[int, int]]) -> bool:
    """True when packets with one of these marks, and no other bits, match the rule."""
    mask = rule.number(MARK_MASK) or (_EVERY_BIT if rule.selector(MARK) else 0)
    others = {kind for kind, _ in rule.selectors} - {MARK, MARK_MASK}
    if not mask or others or rule.source or rule.destination or rule.is_inverted:
        return False
    return any(value & mask == rule.number(MARK) for value, _ in marks)


def _is_for_all(words: list[str]) -> bool:
    modules = {words[at + 1] for at, word in enumerate(words[:-1]) if word == "-m"}
    options = {word for word in words if word in ("-s", "-d", "-p", "-o", "-i")}
    return not options and modules <= _SAY_NOTHING


def _after(words: list[str], option: str) -> str:
    return words[words.index(option) + 1] if option in words[:-1] else ""
