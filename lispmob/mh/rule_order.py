"""Where our routing rules stand among those of others, so that the host's own routing is respected; pure.

Ours are about packets of an EID, or of no source yet, and come in two parts: for the overlay prefixes, and in full mode
for everything. What the host reaches by a nearer route than ours, in any table that its rules would use, must be found
before ours is. On most hosts only the tables local and main are looked up, and the rules of `plan.py` say all of it.

On others each part becomes a section of its own, entered by our packets only:

    from EID to OVERLAY      goto IN      for each EID (IPv4: and for packets that have no source yet) and prefix
                             goto END     packets of others do not notice us
    IN   (each rule of others behind us, with all that it selects by)  suppress_prefixlength LENGTH-OF-OVERLAY
         from EID            lookup 4341
    END                      nop

A rule of others about destinations nearer than our prefix is copied as it is, and so is one that gives an application
a network of its own (VRF), or a user none (blackhole). All of the table local is looked up, wherever its rule stands.

The overlay part stands in front of every rule that would take its packets by a wider route: a default route tells
nothing about the overlay. The part for everything competes with the default routes of others. It stands in front of
those that every packet meets, or that came close without meaning to: a rule that is added without a priority gets the
one before the first that is there, ours. Rules further in front than ROOM that select packets are there on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from lispmob.mh.plan import (
    FULL_PRIORITY,
    GATEWAY_PRIORITY,
    LINGER_PRIORITY,
    NEAR_OVERLAY_PRIORITY,
    NEAR_PRIORITY,
    OVERLAY_PRIORITY,
    ROOM,
    SENDING_PRIORITY,
)
from lispmob.mh.rule import (
    DEFAULT_TABLE,
    IN_INTERFACE,
    LOCAL_TABLE,
    MAIN_TABLE,
    MARK,
    MARK_MASK,
    SUPPRESS_IFGROUP,
    USERS,
    VRF,
    Rule,
)
from lispmob.values import dataclass
from lispmob.wire.address import IpNetwork

COPIES_MAX: Final = 200  # ours: each costs every lookup of ours something; who has more has them for hosts of their own
_NOTHING: Final[frozenset[int]] = frozenset()

Slot: TypeAlias = list[Rule]
"""Rules of one priority. The target of a goto says how many slots further on it leads, until priorities are given."""

Part: TypeAlias = Callable[[Sequence[Rule]], list[Slot]]
"""Our rules in their order, for the rules of others that are behind them."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Our rules with their priorities; `ahead`: rules of others that stay in front and take packets of ours."""

    rules: frozenset[Rule]
    ahead: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Others:
    """The rules of others in the order of the kernel. `met_by_all`: priorities of those that select by a mark which
    every packet is given. `has_default_table`: there is something in the table `default`.
    """

    rules: tuple[Rule, ...] = ()
    met_by_all: frozenset[int] = _NOTHING
    has_default_table: bool = False

    def of(self, family: int) -> tuple[Rule, ...]:
        """Those of one family that can make a difference."""
        return tuple(
            rule
            for rule in self.rules
            if rule.family == family
            and (self.has_default_table or rule.table != DEFAULT_TABLE or rule.action != "lookup" or rule.destination)
        )


def arrange(rules: Iterable[Rule], others: Others, last_priority: int = FULL_PRIORITY) -> Arrangement:
    """Our rules of both families, put where they belong. `last_priority`: of our last one, where others allow."""
    wanted = tuple(rules)
    placed: set[Rule] = set()
    ahead: list[Rule] = []
    for family in (4, 6):
        ours = [rule for rule in wanted if rule.family == family]
        if ours:
            arrangement = _Family(ours, others.of(family), others.met_by_all, last_priority).arrange()
            placed |= arrangement.rules
            ahead += arrangement.ahead
    return Arrangement(frozenset(placed), tuple(ahead))


class _Family:
    def __init__(
        self, ours: Sequence[Rule], theirs: tuple[Rule, ...], met_by_all: Collection[int], last_priority: int
    ) -> None:
        self._ours = ours
        self._theirs = theirs
        self._met_by_all = met_by_all
        self._end = last_priority + 1
        self._prefixes = _longest_first(rule.destination for rule in self._at(NEAR_OVERLAY_PRIORITY))
        self._sources = _longest_first(rule.source for rule in self._at(OVERLAY_PRIORITY, FULL_PRIORITY))
        self._has_full = bool(self._at(NEAR_PRIORITY))

    def arrange(self) -> Arrangement:
        full_end = min([self._end, *(rule.priority for rule in self._theirs if self._full_must_lead(rule))])
        overlay_end = min([full_end, *(rule.priority for rule in self._theirs if self._overlay_must_lead(rule))])
        if overlay_end == full_end:
            return self._settled(full_end, lambda behind: [*self._overlay_part(behind), *self._full_part(behind)])
        full = self._settled(full_end, self._full_part) if self._has_full else Arrangement(frozenset())
        overlay = self._settled(overlay_end, self._overlay_part)
        return Arrangement(overlay.rules | full.rules, (*overlay.ahead, *full.ahead))

    # --- which of the others would take our packets

    def _overlay_must_lead(self, rule: Rule) -> bool:
        return any(
            _takes(rule, prefix.prefixlen) and (rule.destination is None or rule.destination.overlaps(prefix))
            for prefix in self._prefixes
        ) and self._concerns_us(rule)

    def _full_must_lead(self, rule: Rule) -> bool:
        if not self._has_full or not _takes(rule, 0) or not self._concerns_us(rule):
            return False
        is_close = rule.priority > self._end - 1 - ROOM
        return is_close or _is_met_by_all(rule) or rule.priority in self._met_by_all

    def _concerns_us(self, rule: Rule) -> bool:
        """False for a rule about sources that none of our packets has."""
        if rule.source is None or rule.is_inverted:
            return True
        return any(source.overlaps(rule.source) for source in self._sources)

    # --- the parts, as slots

    def _overlay_part(self, behind: Sequence[Rule]) -> list[Slot]:
        moves = [self._at(priority) for priority in range(SENDING_PRIORITY, LINGER_PRIORITY + 1)]
        marked, rest = self._at(OVERLAY_PRIORITY - 1), self._at(OVERLAY_PRIORITY)
        if _is_plain(behind) or not self._prefixes:
            return [*moves, self._at(NEAR_OVERLAY_PRIORITY), marked, rest]
        lengths = sorted({prefix.prefixlen for prefix in self._prefixes}, reverse=True)
        sections = [[*self._copies(behind, length), marked, rest] for length in lengths]
        guard = [self._entrances(length) for length in lengths]
        return [*moves, *_fenced(guard, sections, self._family)]

    def _full_part(self, behind: Sequence[Rule]) -> list[Slot]:
        marked, rest = self._at(FULL_PRIORITY - 1), self._at(FULL_PRIORITY)
        if _is_plain(behind) or not self._has_full:
            return [self._at(NEAR_PRIORITY), marked, rest]
        guard = [[Rule(0, self._family, source=source, action="goto") for source in self._sources]]
        return _fenced(guard, [[*self._copies(behind, 0), marked, rest]], self._family)

    def _entrances(self, length: int) -> Slot:
        return [
            Rule(0, self._family, source=source, destination=prefix, action="goto")
            for prefix in self._prefixes
            if prefix.prefixlen == length
            for source in self._sources
        ]

    def _copies(self, behind: Sequence[Rule], length: int) -> list[Slot]:
        """What others' rules would find that is nearer than `length` bits, one slot each."""
        found: list[Slot] = []
        skipped_to = 0
        for rule in behind:
            if rule.priority < skipped_to or not self._concerns_us(rule):
                continue
            if rule.action == "goto" and not rule.is_inverted and _is_met_by_all(rule) and rule.destination is None:
                skipped_to = rule.target
            elif (copy := _copy(rule, length)) is not None:
                found.append([copy])
        return found[:COPIES_MAX]

    # --- where they stand

    def _settled(self, end: int, part: Part) -> Arrangement:
        """The part right in front of `end`, or of the first rule of others that would stand in its midst."""
        while True:
            slots = part([rule for rule in self._theirs if rule.priority >= end])
            first = end - len(slots)
            amidst = [rule.priority for rule in self._theirs if first <= rule.priority < end and rule.priority]
            if not amidst or first < 1:
                break
            end = min(amidst)
        first = max(first, 1)  # who has a rule of priority 0 stands in front of everybody
        ahead = [rule for rule in self._theirs if rule.priority < first and self._overlay_must_lead(rule)]
        if self._has_full:
            ahead += [rule for rule in self._theirs if rule.priority < first and self._full_must_lead(rule)]
        last_resort = max([GATEWAY_PRIORITY, *(rule.priority + 1 for rule in self._theirs)])
        rules = {
            replace(rule, priority=first + place, target=first + place + rule.target if rule.target else 0)
            for place, slot in enumerate(slots)
            for rule in slot
        }
        rules |= {replace(rule, priority=last_resort) for rule in self._at(GATEWAY_PRIORITY)}
        return Arrangement(frozenset(rules), tuple(dict.fromkeys(ahead)))

    def _at(self, *priorities: int) -> list[Rule]:
        return [rule for rule in self._ours if rule.priority in priorities]

    @property
    def _family(self) -> int:
        return self._ours[0].family


def _fenced(guard: list[Slot], sections: list[list[Slot]], family: int) -> list[Slot]:
    """The slots of sections that each slot of `guard` leads into one of; everything else goes on behind them."""
    starts: list[int] = []
    at = len(guard) + 1
    for section in sections:
        starts.append(at)
        at += len(section) + 1
    end = at - 1  # in the place of the last section's own way out
    slots = [
        [replace(rule, target=start - place) for rule in entrances]
        for place, (entrances, start) in enumerate(zip(guard, starts, strict=True))
    ]
    slots.append([_way_out(family, end - len(slots))])
    for section in sections:
        slots += section
        if len(slots) < end:
            slots.append([_way_out(family, end - len(slots))])
    return [*slots, [Rule(0, family, action="nop")]]


def _way_out(family: int, slots: int) -> Rule:
    return Rule(0, family, action="goto", target=slots)


def _copy(rule: Rule, length: int) -> Rule | None:
    """What a rule of others finds that is nearer than a route of `length` bits; None: nothing."""
    is_nearer = rule.destination is not None and not rule.is_inverted and rule.destination.prefixlen > length
    kept = replace(rule, priority=0, target=0)
    match rule.action:
        case "lookup" if is_nearer or rule.table == LOCAL_TABLE or rule.selector(VRF):
            return kept
        case "lookup":
            return replace(kept, suppressed_prefix_len=max(rule.suppressed_prefix_len or 0, length))
        case "blackhole" | "unreachable" | "prohibit" if is_nearer or (rule.selector(USERS) and not rule.is_inverted):
            return kept
    return None


def _takes(rule: Rule, length: int) -> bool:
    """True for a rule that may take packets by a route that is no nearer than one of `length` bits."""
    if rule.destination is not None and not rule.is_inverted and rule.destination.prefixlen > length:
        return False
    match rule.action:
        case "lookup":
            is_limited = rule.suppressed_prefix_len is not None and rule.suppressed_prefix_len >= length
            return not (rule.table == LOCAL_TABLE or rule.selector(VRF) or is_limited)
        case "nop":
            return False
        case "goto":
            return True
    return not rule.selector(USERS) or rule.is_inverted


def _is_met_by_all(rule: Rule) -> bool:
    """True when packets that nobody treats specially meet the rule: of any user, without a mark."""
    if rule.source is not None or rule.tos:
        return False
    others = {kind for kind, _ in rule.selectors} - {SUPPRESS_IFGROUP, MARK, MARK_MASK}
    if IN_INTERFACE in others and rule.selector(IN_INTERFACE) == b"lo\0":
        others.remove(IN_INTERFACE)
    if others:
        return False
    mask = rule.number(MARK_MASK) or (0xFFFFFFFF if rule.selector(MARK) else 0)
    return (rule.number(MARK) & mask == 0) is not rule.is_inverted


def _is_plain(behind: Sequence[Rule]) -> bool:
    """True when nothing but the table main is looked up behind us, for everybody: then plain rules say it all."""
    match behind:
        case [Rule(action="lookup", table=table) as only] if table == MAIN_TABLE:
            bare = not (only.selectors or only.flags or only.tos or only.source or only.destination)
            return bare and only.suppressed_prefix_len is None
    return False


def _longest_first(networks: Iterable[IpNetwork | None]) -> list[IpNetwork]:
    unique = {network for network in networks if network is not None}
    return sorted(unique, key=lambda network: (-network.prefixlen, int(network.network_address)))
