"""Which bits of marks other programs use, in routing rules, in iptables and in nftables; pure.

A mark is 32 bits that all programs of a host share, on a packet and on a connection. Programs agree on nothing: each
takes some bits and leaves the others alone, as its masks show. kube-proxy takes 0xc000, podman 0x2000, mwan3 0x3f00,
Cilium 0xf00, Tailscale 0xff0000, Calico 0xffff0000, and most of them have no routing rule about it. Bits of a
connection's mark count alike, since both we and they copy the one mark to the other.

A rule that sets or compares the whole mark (of wg-quick, or of a user who steers by interface index) leaves no bits to
other programs, and says nothing about single ones.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from lispmob.mh.chain_text import PREFIX
from lispmob.mh.rule import MARK, MARK_MASK, Rule

EVERY_BIT: Final = 0xFFFFFFFF

_ABOUT_MARKS: Final = re.compile(r" --(?:mark|set-x?mark|tproxy-mark|nfmask|ctmask|mask) ")
_MASKED: Final = frozenset({"--mark", "--set-xmark", "--set-mark", "--tproxy-mark"})
_COPIED: Final = frozenset({"--nfmask", "--ctmask", "--mask"})
_OWN_TABLES: Final = "lispmob_"
_MARKS: Final = ({"meta": {"key": "mark"}}, {"ct": {"key": "mark"}})


class MarkUse(msgspec.Struct, frozen=True):
    """Bits that another program sets or compares. `where`: a clause that says which, for a sentence with "and".

    `is_rule`: a routing rule.
    """

    bits: int
    where: str
    is_rule: bool = False


def of_rules(rules: Iterable[Rule]) -> tuple[MarkUse, ...]:
    """The uses in routing rules of others."""
    return tuple(
        MarkUse(bits, f"`ip{' -6' if rule.family == 6 else ''} rule` has {rule}", is_rule=True)
        for rule in rules
        if (bits := partial_mask(rule))
    )


def partial_mask(rule: Rule) -> int:
    """The bits that a routing rule selects by; none if it compares the whole mark: such a mark is no ifindex."""
    return _partial(rule.number(MARK_MASK) or (EVERY_BIT if rule.selector(MARK) else 0))


def of_iptables(saved: Iterable[str], command: str) -> tuple[MarkUse, ...]:
    """The uses in the output of iptables-save, without our own chains. `command`: the program, such as `iptables`."""
    found: dict[int, MarkUse] = {}
    table = ""
    for line in saved:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A ") and _ABOUT_MARKS.search(line) and not line.startswith(f"-A {PREFIX}"):
            bits = _bits_of_line(line)
            if bits and bits not in found:
                found[bits] = MarkUse(bits, f"`{command} -t {table}` has `{line}`")
    return tuple(found.values())


def of_nftables(ruleset: object) -> tuple[MarkUse, ...]:
    """The uses in the output of `nft -j list ruleset`, without our own chains. Empty for invalid input.

    Rules of iptables are in there without the values of their marks: `of_iptables` reads those.
    """
    entries = ruleset.get("nftables") if isinstance(ruleset, Mapping) else None
    found: dict[int, MarkUse] = {}
    for entry in entries if isinstance(entries, list) else ():
        rule = entry.get("rule") if isinstance(entry, Mapping) else None
        if not isinstance(rule, Mapping) or not isinstance(rule.get("expr"), list) or _is_own(rule):
            continue
        for bits in _bits_of_expressions(rule["expr"]):
            if bits not in found:
                place = f"{rule.get('family')} {rule.get('table')} {rule.get('chain')}"
                found[bits] = MarkUse(bits, f"the chain `{place}` of nftables uses {bits:#x}")
    return tuple(found.values())


def _partial(mask: int) -> int:
    return 0 if mask & EVERY_BIT == EVERY_BIT else mask & EVERY_BIT


# --- iptables


def _bits_of_line(line: str) -> int:
    """All bits that one rule is about."""
    bits = 0
    try:
        words = iter(shlex.split(line))
    except ValueError:  # an open quote: no line of iptables-save
        return 0
    for word in words:
        if word == "--comment":  # may hold anything
            next(words, "")
        elif word in _MASKED:
            value, slash, mask = next(words, "").partition("/")
            number = _number(value)
            # --xor-mark is listed as a value with an empty mask; without a mask the whole mark is meant.
            bits |= _partial(_number(mask) | (number if word != "--mark" else 0)) if slash else 0
        elif word in _COPIED:
            bits |= _partial(_number(next(words, "")))
    return bits


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0


# --- nftables


def _is_own(rule: Mapping[str, Any]) -> bool:
    return str(rule.get("table")).startswith(_OWN_TABLES) or str(rule.get("chain")).startswith(PREFIX)


def _bits_of_expressions(expressions: list[Any]) -> Iterator[int]:
    for expression in expressions:
        mangle = expression.get("mangle") if isinstance(expression, Mapping) else None
        if isinstance(mangle, Mapping) and mangle.get("key") in _MARKS:
            changed = _partial(_changed(mangle.get("value"), mangle["key"]))
            # A mark that is set as a whole may be made of some bits of the other one.
            yield from [changed] if changed else _compared(mangle.get("value"))
        else:
            yield from _compared(expression)


def _changed(value: Any, key: Any) -> int:
    """The bits of the mark `key` that are not as before when it is set to this."""
    if value == key:
        return 0
    match value:
        case {"&": [left, int(mask)]}:
            return _changed(left, key) & mask | ~mask & EVERY_BIT
        case {"|": [left, right]} | {"^": [left, right]}:
            return _changed(left, key) | _possible(right)
    return EVERY_BIT


def _possible(value: Any) -> int:
    """The bits that may be 1 in this value."""
    match value:
        case int(number):
            return number & EVERY_BIT
        case {"&": [left, int(mask)]}:
            return _possible(left) & mask
        case {"|": [left, right]} | {"^": [left, right]}:
            return _possible(left) | _possible(right)
    return EVERY_BIT


def _compared(expression: Any) -> Iterator[int]:
    """The masks that a mark is compared with, or looked up by, anywhere in an expression."""
    match expression:
        case {"&": [left, int(mask)]} if left in _MARKS:
            if bits := _partial(mask):
                yield bits
        case Mapping():
            for part in expression.values():
                yield from _compared(part)
        case list():
            for part in expression:
                yield from _compared(part)
