"""Finds marks that nftables' own rules set on all packets, in the output of `nft -j list ruleset`; pure.

The counterpart of `common_marks.py`: from the chains that this host's packets pass on their way out, through those that
they jump to. A rule that selects by anything but marks, chance and the state of the flow is for some packets only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

Mark: TypeAlias = tuple[int, int]
"""(value, mask): the bits of the mask are set to those of the value."""

_EVERY_BIT: Final = 0xFFFFFFFF
_FAMILIES: Final = {4: ("ip", "inet"), 6: ("ip6", "inet")}
_HOOKS: Final = {"output"}
_MARK: Final = {"meta": {"key": "mark"}}
_SAY_NOTHING: Final = ("meta mark", "ct mark", "ct state", "ct direction", "numgen", "jhash")
_PASS_ON: Final = frozenset({"counter", "log", "limit", "quota", "comment"})

_Chain: TypeAlias = tuple[str, str, str]  # family, table, name


def given_to_all(ruleset: object, family: int, own_tables: Iterable[str] = ()) -> tuple[Mark, ...]:
    """The marks set on all packets of one family, without those of `own_tables`. Empty for invalid input."""
    entries = ruleset.get("nftables") if isinstance(ruleset, Mapping) else None
    ours = frozenset(own_tables)
    rules: dict[_Chain, list[list[Any]]] = {}
    todo: list[_Chain] = []
    for entry in entries if isinstance(entries, list) else ():
        for kind in ("chain", "rule"):
            told = entry.get(kind) if isinstance(entry, Mapping) else None
            if (
                not isinstance(told, Mapping)
                or told.get("family") not in _FAMILIES[family]
                or told.get("table") in ours
            ):
                continue
            if kind == "rule" and isinstance(told.get("expr"), list):
                rules.setdefault(_chain(told, "chain"), []).append(told["expr"])
            elif kind == "chain" and told.get("hook") in _HOOKS:
                todo.append(_chain(told, "name"))
    found: dict[Mark, None] = {}
    seen: set[_Chain] = set()
    while todo:
        chain = todo.pop()
        if chain not in seen:
            seen.add(chain)
            for expressions in rules.get(chain, ()):
                marks, targets = _of_rule(expressions)
                found |= dict.fromkeys(marks)
                todo += [(chain[0], chain[1], target) for target in targets]
    return tuple(found)


def _chain(told: Mapping[str, Any], name: str) -> _Chain:
    return str(told.get("family")), str(told.get("table")), str(told.get(name))


def _of_rule(expressions: Iterable[Any]) -> tuple[list[Mark], list[str]]:
    """The marks that a rule sets on all packets that reach it, and the chains that it sends all of them to."""
    marks: list[Mark] = []
    targets: list[str] = []
    for expression in expressions:
        if not isinstance(expression, Mapping) or len(expression) != 1:
            break
        [(kind, told)] = expression.items()
        if kind == "match" and isinstance(told, Mapping) and _says_nothing(told.get("left")):
            continue
        if kind == "mangle" and isinstance(told, Mapping):
            if told.get("key") == _MARK:
                marks += _values(told.get("value"))
        elif kind in ("jump", "goto") and isinstance(told, Mapping):
            targets.append(str(told.get("target")))
        elif kind == "vmap" and isinstance(told, Mapping) and _says_nothing(told.get("key")):
            targets += _targets(told.get("data"))
        elif kind not in _PASS_ON:
            break
    return marks, targets


def _says_nothing(left: Any) -> bool:
    """True for a condition that does not depend on the kind of packet."""
    if not isinstance(left, Mapping) or len(left) != 1:
        return False
    [(kind, told)] = left.items()
    if kind == "&" and isinstance(told, list) and told:
        return _says_nothing(told[0])
    if kind in ("numgen", "jhash"):
        return True
    return isinstance(told, Mapping) and f"{kind} {told.get('key')}" in _SAY_NOTHING


def _values(value: Any) -> Iterator[Mark]:
    """The possible values of a mark; none if unknown, as for the mark of the connection."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield value & _EVERY_BIT, _EVERY_BIT
    elif isinstance(value, Mapping) and len(value) == 1:
        [(kind, told)] = value.items()
        if kind in ("|", "^") and isinstance(told, list) and len(told) == 2 and isinstance(told[1], int):
            kept = _kept(told[0])
            if kept is not None:
                yield told[1] & _EVERY_BIT, ~kept & _EVERY_BIT | told[1] & _EVERY_BIT
        elif kind == "map" and isinstance(told, Mapping) and _says_nothing(told.get("key")):
            for pair in _pairs(told.get("data")):
                yield from _values(pair[1])


def _kept(left: Any) -> int | None:
    """The bits of the mark that stay: all of them, or those of a mask."""
    if left == _MARK:
        return _EVERY_BIT
    if isinstance(left, Mapping) and isinstance(both := left.get("&"), list) and len(both) == 2 and both[0] == _MARK:
        return both[1] if isinstance(both[1], int) else None
    return None


def _pairs(data: Any) -> Iterator[list[Any]]:
    listed = data.get("set") if isinstance(data, Mapping) else None
    for pair in listed if isinstance(listed, list) else ():
        if isinstance(pair, list) and len(pair) == 2:
            yield pair


def _targets(data: Any) -> Iterator[str]:
    for _, verdict in _pairs(data):
        for kind in ("jump", "goto"):
            if isinstance(verdict, Mapping) and isinstance(told := verdict.get(kind), Mapping):
                yield str(told.get("target"))
