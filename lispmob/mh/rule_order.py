"""Places our routing rules among other programs' rules, so that the host's own routing is respected; pure.

Our rules select packets with an EID as source, or without a source yet. They come in two parts: for the overlay
prefixes, and in full mode for everything. A more specific route than ours, in any table that the host's rules would
use, must be found first. On most hosts only the tables local and main are looked up, and the rules of `plan.py`
suffice.

On other hosts our packets jump over the other rules, to copies that find only more specific routes:

    P    from EID to OVERLAY    goto NEAR    for each EID (IPv4: and for packets that have no source yet) and prefix
         (the rules of others)
         from all               goto END     other packets continue as without us
    NEAR (each rule of others behind P, with all that it selects by)  suppress_prefixlength LENGTH-OF-OVERLAY
         from EID               lookup 4341
    REST (each rule of others behind P, as it is)    for what our table does not route
    END                         nop

A rule about destinations more specific than our prefix is copied unchanged, and so is one about packets that are bound
to an interface or a VRF, or one that gives a user no network (blackhole). All of the table local is looked up, wherever
its rule stands. The copies stand after their originals: a program that deletes a rule without naming its priority, as
wg-quick(8) does, deletes the first match, and that must be its own.

The overlay part stands before every rule that would route its packets by a less specific route: a default route says
nothing about the overlay. The part for everything competes with other default routes. It stands before rules that all
packets match, and before rules that are close by accident: a rule that is added without a priority is put right before
the first existing one, which is ours. Rules that select packets, and are further ahead than ROOM, are there on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from itertools import accumulate
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.mh.plan import (
    FULL_PRIORITY,
    GATEWAY_PRIORITY,
    GUARD_PRIORITY,
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
    OUT_INTERFACE,
    SUPPRESS_IFGROUP,
    USERS,
    VRF,
    Rule,
)
from lispmob.wire.address import IpNetwork

COPIES_MAX: Final = 200  # ours: each slows down our lookups; a host with more has them for other hosts

Slot: TypeAlias = list[Rule]
"""Rules of one priority."""


class Arrangement(msgspec.Struct, frozen=True):
    """Our rules with their priorities; `ahead`: other rules that stay before them and take packets of ours."""

    rules: frozenset[Rule]
    ahead: tuple[Rule, ...] = ()


class RefusingTable(msgspec.Struct, frozen=True):
    """A table in which a default route refuses before any other leads somewhere.

    A rule cannot suppress that: it suppresses routes that were found, and this one is an error (FIB_RULE_TABLE in
    net/core/fib_rules.c). `nearer`: the other destinations of the table.
    """

    family: int
    table: int
    nearer: tuple[IpNetwork, ...] = ()


class Others(msgspec.Struct, frozen=True):
    """The other rules in the kernel's order.

    `met_by_all`: (family, priority) of those that select by a mark which every packet has. `has_default_table`: the
    table `default` has routes. `wide`: (family, table) of those with a default route. `refusing`: those whose default
    route refuses.
    """

    rules: tuple[Rule, ...] = ()
    met_by_all: frozenset[tuple[int, int]] = frozenset()
    has_default_table: bool = False
    wide: frozenset[tuple[int, int]] = frozenset()
    refusing: tuple[RefusingTable, ...] = ()

    def of(self, family: int) -> tuple[Rule, ...]:
        """The rules of one family that can matter.

        The kernel passes over a goto to a priority that no rule has.
        """
        listed = [rule for rule in self.rules if rule.family == family]
        priorities = {rule.priority for rule in listed}
        return tuple(
            rule
            for rule in listed
            if (rule.action != "goto" or rule.target in priorities)
            and (self.has_default_table or rule.table != DEFAULT_TABLE or rule.action != "lookup" or rule.destination)
        )


def arrange(rules: Iterable[Rule], others: Others, last_priority: int = FULL_PRIORITY) -> Arrangement:
    """Our rules of both families, with their priorities. `last_priority`: of the last one, if other rules allow."""
    wanted = tuple(rules)
    placed: set[Rule] = set()
    ahead: list[Rule] = []
    for family in (4, 6):
        ours = [rule for rule in wanted if rule.family == family]
        if ours:
            arrangement = _Family(ours, others, last_priority).arrange()
            placed |= arrangement.rules
            ahead += arrangement.ahead
    return Arrangement(frozenset(placed), tuple(ahead))


class _Family:
    def __init__(self, ours: Sequence[Rule], others: Others, last_priority: int) -> None:
        self._ours = ours
        self._theirs = theirs = others.of(ours[0].family)
        self._met_by_all = others.met_by_all
        self._guard = self._at(GUARD_PRIORITY)
        self._end = last_priority + 1 + bool(self._guard)
        self._prefixes = _longest_first(rule.destination for rule in self._at(NEAR_OVERLAY_PRIORITY))
        self._full_sources = _longest_first(rule.source for rule in self._at(FULL_PRIORITY))
        self._sources = _longest_first(rule.source for rule in self._at(OVERLAY_PRIORITY, FULL_PRIORITY))
        self._has_full = bool(self._at(NEAR_PRIORITY))
        first = max([GATEWAY_PRIORITY, *(rule.priority + 1 for rule in theirs)])
        self._refusing = {one.table: one.nearer for one in others.refusing if one.family == ours[0].family}
        self._back = _Back(ours[0].family, first, others.wide, self._refusing)

    def arrange(self) -> Arrangement:
        full_end = min([self._end, *(rule.priority for rule in self._theirs if self._full_must_lead(rule))])
        overlay_end = min([full_end, *(rule.priority for rule in self._theirs if self._overlay_must_lead(rule))])
        if overlay_end == full_end:
            overlay = full = self._fronted(full_end, lambda end: [*self._overlay_front(end), *self._full_front(end)])
        else:
            full = self._fronted(full_end, self._full_front) if self._has_full else []
            overlay = self._fronted(overlay_end, self._overlay_front)
        ahead = [
            rule
            for rule in self._theirs
            if (self._overlay_must_lead(rule) and rule.priority <= _last(overlay))
            or (self._full_must_lead(rule) and rule.priority <= _last(full))
        ]
        back, behind_all = self._back.rules()
        last = [replace(rule, priority=behind_all) for rule in self._at(GATEWAY_PRIORITY)]
        return Arrangement(frozenset([*overlay, *full, *back, *last]), tuple(ahead))

    # --- which other rules would take our packets

    def _overlay_must_lead(self, rule: Rule) -> bool:
        return _concerns(rule, self._sources) and any(
            _takes(rule, prefix.prefixlen)
            and (rule.destination is None or rule.is_inverted or rule.destination.overlaps(prefix))
            for prefix in self._prefixes
        )

    def _full_must_lead(self, rule: Rule) -> bool:
        if not self._has_full or not _takes(rule, 0) or not _concerns(rule, self._full_sources):
            return False
        is_close = rule.priority > self._end - 1 - ROOM
        return is_close or _is_met_by_all(rule) or (rule.family, rule.priority) in self._met_by_all

    # --- the parts before other rules, as slots

    def _overlay_front(self, end: int) -> list[Slot]:
        moves = [self._at(priority) for priority in range(SENDING_PRIORITY, LINGER_PRIORITY + 1)]
        # The guard stands right after the rules that lead to our device (guard.py).
        guard = [self._guard] if self._guard else []
        ours = [self._at(OVERLAY_PRIORITY - 1), self._at(OVERLAY_PRIORITY), *guard]
        behind = self._behind(end)
        if not self._prefixes or not self._sources or _is_plain(behind):
            return [*moves, self._nearer(NEAR_OVERLAY_PRIORITY), *ours]
        for length in sorted({prefix.prefixlen for prefix in self._prefixes}, reverse=True):
            near = self._back.section(_concerning(behind, self._sources), length, ours)
            prefixes = [prefix for prefix in self._prefixes if prefix.prefixlen == length]
            moves.append(self._entrances(near, prefixes, self._sources))
        return moves

    def _full_front(self, end: int) -> list[Slot]:
        marked, rest = self._at(FULL_PRIORITY - 1), self._at(FULL_PRIORITY)
        behind = self._behind(end)
        if not self._has_full or _is_plain(behind):
            return [self._nearer(NEAR_PRIORITY), marked, rest]
        near = self._back.section(_concerning(behind, self._full_sources), 0, [marked, rest])
        return [self._entrances(near, [None], self._full_sources)]

    def _entrances(self, target: int, prefixes: Sequence[IpNetwork | None], sources: Sequence[IpNetwork]) -> Slot:
        family = self._ours[0].family
        return [
            Rule(0, family, source=source, destination=prefix, action="goto", target=target)
            for prefix in prefixes
            for source in sources
        ]

    def _fronted(self, end: int, front: Callable[[int], list[Slot]]) -> list[Rule]:
        """The part right before `end`, or before the first other rule that would stand inside it."""
        while True:
            mark = self._back.mark()
            slots = front(end)
            first = end - len(slots)
            amidst = [rule.priority for rule in self._theirs if first <= rule.priority < end and rule.priority]
            if not amidst or first < 1:
                break
            self._back.undo(mark)
            end = min(amidst)
        if first < 1:  # a rule of priority 0 stands before all others
            slots = [slot for slot in slots if slot]
            first = max(end - len(slots), 1)
        return [replace(rule, priority=first + place) for place, slot in enumerate(slots) for rule in slot]

    def _behind(self, end: int) -> list[Rule]:
        return [rule for rule in self._theirs if rule.priority >= end]

    def _nearer(self, priority: int) -> Slot:
        return [part for rule in self._at(priority) for part in _parts(rule, self._refusing)]

    def _at(self, *priorities: int) -> list[Rule]:
        return [rule for rule in self._ours if rule.priority in priorities]


class _Back:
    """The part after all other rules: sections, each entered by a goto to its first priority."""

    def __init__(
        self,
        family: int,
        first: int,
        wide: Collection[tuple[int, int]],
        refusing: Mapping[int, tuple[IpNetwork, ...]],
    ) -> None:
        self._family = family
        self._first = first
        self._wide = wide
        self._refusing = refusing
        self._slots: list[Slot] = []

    def section(self, behind: Sequence[Rule], length: int, ours: list[Slot]) -> int:
        """Append a section; returns the priority to enter it by. `length`: of the prefixes, in bits."""
        start = self._first + 1 + len(self._slots)
        slots = _laid_out(self._near(behind, length)[:COPIES_MAX], start, self._refusing)
        slots += ours
        slots += _laid_out([(rule, replace(rule, priority=0)) for rule in behind][:COPIES_MAX], start + len(slots))
        self._slots += [*slots, [Rule(0, self._family, action="goto", target=_END)]]
        return start

    def mark(self) -> int:
        """The present end."""
        return len(self._slots)

    def undo(self, mark: int) -> None:
        """Remove what was appended since."""
        del self._slots[mark:]

    def rules(self) -> tuple[list[Rule], int]:
        """All of it, and the first priority after it."""
        if not self._slots:
            return [], self._first
        family, end = self._family, self._first + len(self._slots)
        slots = [[Rule(0, family, action="goto", target=_END)], *self._slots[:-1], [Rule(0, family, action="nop")]]
        rules = [
            replace(rule, priority=self._first + place, target=end if rule.target == _END else rule.target)
            for place, slot in enumerate(slots)
            for rule in slot
        ]
        return rules, end + 1

    def _near(self, behind: Sequence[Rule], length: int) -> list[tuple[Rule, Rule]]:
        """Other rules that may find a more specific route, or end the search, each with its copy."""
        found: list[tuple[Rule, Rule]] = []
        served: list[frozenset[tuple[int, bytes]]] = []  # the selectors of packets that have found a route
        for rule in behind:
            copy = _copy(rule, length)
            is_met = copy is not None and not (
                copy.action in _ENDS and any(selectors <= set(rule.selectors) for selectors in served)
            )
            if copy is not None and is_met:
                found.append((rule, copy))
            is_bare = not (rule.source or rule.destination or rule.tos or rule.is_inverted)
            if (
                rule.action == "lookup"
                and rule.suppressed_prefix_len is None
                and (rule.family, rule.table) in self._wide
            ):
                if _is_met_by_all(rule) and rule.destination is None:
                    served.append(frozenset())
                elif is_bare:
                    served.append(frozenset(rule.selectors))
        return found


_END: Final = -1
_BRANCH: Final = 3  # priorities
_ENDS: Final = ("blackhole", "unreachable", "prohibit")


_NONE: Final[Mapping[int, tuple[IpNetwork, ...]]] = {}


def _laid_out(
    copies: Sequence[tuple[Rule, Rule]], start: int, refusing: Mapping[int, tuple[IpNetwork, ...]] = _NONE
) -> list[Slot]:
    """Slots for each copy, from the priority `start` on; a goto leads to the copy of its target, or to the end."""
    widths = [_BRANCH if copy.is_inverted and _is_refused(copy, refusing) else 1 for _, copy in copies]
    firsts = list(accumulate(widths, initial=start))
    slots: list[Slot] = []
    for place, (rule, copy) in enumerate(copies):
        if widths[place] == _BRANCH:
            slots += _branch(copy, refusing, firsts[place])
            continue
        if copy.action == "goto":
            beyond = (n for n, (other, _) in enumerate(copies) if n > place and other.priority >= rule.target)
            copy = replace(copy, target=firsts[next(beyond, len(copies))])
        # A slot is never empty: a goto may lead to it.
        slots.append(_parts(copy, refusing) or [Rule(0, copy.family, action="nop")])
    return slots


def _branch(rule: Rule, refusing: Mapping[int, tuple[IpNetwork, ...]], first: int) -> list[Slot]:
    """The slots of an inverted rule whose table refuses by default: the inversion would apply to a destination too.

    `first`: the priority of the first of them, which jumps over the second.
    """
    kept = tuple(one for one in rule.selectors if one[0] != SUPPRESS_IFGROUP)
    jump = replace(
        rule, table=0, action="goto", target=first + 2, suppressed_prefix_len=None, selectors=kept, is_copy=True
    )
    about_groups = tuple(one for one in rule.selectors if one[0] == SUPPRESS_IFGROUP)
    found = replace(rule, flags=0, source=None, destination=None, tos=0, selectors=about_groups)
    none = [Rule(0, rule.family, action="nop")]
    return [[jump], [Rule(0, rule.family, action="goto", target=first + _BRANCH)], _parts(found, refusing) or none]


def _is_refused(rule: Rule, refusing: Mapping[int, tuple[IpNetwork, ...]]) -> bool:
    """True when a search for more specific routes would end at the default route of the rule's table."""
    return rule.action == "lookup" and rule.suppressed_prefix_len is not None and rule.table in refusing


def _parts(rule: Rule, refusing: Mapping[int, tuple[IpNetwork, ...]]) -> Slot:
    """The rules that find more specific routes; one for each of these where the table's default route refuses."""
    limit, within = rule.suppressed_prefix_len, rule.destination
    if limit is None or not _is_refused(rule, refusing):
        return _halves(rule)
    nearer = [network for network in refusing[rule.table] if network.prefixlen > limit]
    wanted = {within if within is not None and _is_in(within, one) else one for one in nearer if _meets(one, within)}
    rules = [replace(rule, destination=one, suppressed_prefix_len=None) for one in _longest_first(wanted)]
    return rules[:COPIES_MAX]


def _meets(network: IpNetwork, within: IpNetwork | None) -> bool:
    return within is None or network.overlaps(within)


def _is_in(inner: IpNetwork, outer: IpNetwork) -> bool:
    return outer.prefixlen <= inner.prefixlen and inner.network_address in outer


def _last(rules: Iterable[Rule]) -> int:
    return max((rule.priority for rule in rules), default=0)


def _halves(rule: Rule) -> list[Rule]:
    """Two equivalent rules where one would match wg-quick's, which deletes all that look like its own."""
    bare = Rule(rule.priority, rule.family, MAIN_TABLE, suppressed_prefix_len=0, is_copy=rule.is_copy)
    if rule != bare:
        return [rule]
    return [replace(rule, destination=half) for half in _everything(rule.family).subnets()]


def _everything(family: int) -> IpNetwork:
    return IPv4Network("0.0.0.0/0") if family == 4 else IPv6Network("::/0")


def _copy(rule: Rule, length: int) -> Rule | None:
    """A copy that finds only more specific routes than `length` bits; None: there are none."""
    is_nearer = rule.destination is not None and not rule.is_inverted and rule.destination.prefixlen > length
    kept = replace(rule, priority=0)
    match rule.action:
        case "goto":
            return kept
        case "lookup" if is_nearer or rule.table == LOCAL_TABLE or _is_about_bound(rule):
            return kept
        case "lookup":
            return replace(kept, suppressed_prefix_len=max(rule.suppressed_prefix_len or 0, length))
        case "blackhole" | "unreachable" | "prohibit" if is_nearer or _is_about_users(rule) or _is_about_bound(rule):
            return kept
    return None


def _concerning(behind: Iterable[Rule], sources: Sequence[IpNetwork]) -> list[Rule]:
    return [rule for rule in behind if _concerns(rule, sources)]


def _concerns(rule: Rule, sources: Sequence[IpNetwork]) -> bool:
    """False for a rule about other sources than these."""
    if rule.source is None or rule.is_inverted:
        return True
    return any(source.overlaps(rule.source) for source in sources)


def _takes(rule: Rule, length: int) -> bool:
    """True for a rule that may use a route that is no more specific than `length` bits."""
    if rule.destination is not None and not rule.is_inverted and rule.destination.prefixlen > length:
        return False
    if _is_about_bound(rule):
        return False
    match rule.action:
        case "lookup":
            is_limited = rule.suppressed_prefix_len is not None and rule.suppressed_prefix_len >= length
            return not (rule.table == LOCAL_TABLE or is_limited)
        case "nop":
            return False
        case "goto":
            return True
    return not _is_about_users(rule)


def _is_about_bound(rule: Rule) -> bool:
    """True for a rule about packets that are bound to an interface, or to a VRF: such packets are none of ours."""
    return not rule.is_inverted and bool(rule.selector(VRF) or rule.selector(OUT_INTERFACE))


def _is_about_users(rule: Rule) -> bool:
    """True for a rule about some users. Its inversion is about all others."""
    return not rule.is_inverted and bool(rule.selector(USERS))


def _is_met_by_all(rule: Rule) -> bool:
    """True when ordinary packets match the rule: of any user, without a mark."""
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
    """True when only the table main is looked up after us, for all packets: then plain rules suffice."""
    match behind:
        case [Rule(action="lookup", table=table) as only] if table == MAIN_TABLE:
            bare = not (only.selectors or only.flags or only.tos or only.source or only.destination)
            return bare and only.suppressed_prefix_len is None
    return False


def _longest_first(networks: Iterable[IpNetwork | None]) -> list[IpNetwork]:
    unique = {network for network in networks if network is not None}
    return sorted(unique, key=lambda network: (-network.prefixlen, int(network.network_address)))
