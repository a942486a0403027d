"""Steering: which uplink a flow takes by the user's rules, as a mark on each of its packets; pure.

A mark names an uplink: its ifindex, in the bits of our mask (LISPmob's convention, so that rules which set `--set-mark
<ifindex>` still work). Mark 0 leaves the choice to priority and weight. Rules name uplinks by name or pattern, in order
of preference; the ifindexes are looked up again whenever the uplinks change.

The kernel (`chain_text.py`) and `evaluate` decide in the same order:

1. an existing mark, set by an application or by the user's own rule, stays;
2. a reply to a flow that came in by an uplink leaves by the same one, while it is available;
3. the first rule that matches decides;
4. priority and weight decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.iface_monitor.network_identity import UNKNOWN, Network, NetworkPattern, is_in
from lispmob.mh.selector import EVERYTHING, Flow, Selector

__all__ = ["Compiled", "Decision", "Flow", "MarkMask", "Outcome", "Policy", "Rule", "Selector", "Uplink", "Via"]

RULES_MAX: Final = 4096  # ours: each costs the kernel a comparison per packet
COPIES_MAX: Final = 2  # ours: uplinks that carry copies of one packet
COPYING_RULES_MAX: Final = 8  # ours: each has a mark and a queue of the TUN
LINES_MAX: Final = 32768  # ours: rules after multiplying their lists; iptables takes some seconds for that many
DEFAULT_MASK: Final = 0xFFFF  # ours: below the bits of WireGuard's, Tailscale's and Calico's marks
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:/+-]{0,63}")

NATIVE: Final = "native"
"""Stands in place of an uplink for packets that must not enter the overlay."""

Otherwise: TypeAlias = Literal["fallback", "drop"]
"""What happens if no uplink of a rule, or of a mark, is available: priority and weight decide, or drop."""


class MarkMask(msgspec.Struct, frozen=True):
    """Our bits of a packet's mark; they must be adjacent. An ifindex is shifted into them."""

    bits: int = DEFAULT_MASK

    def __post_init__(self) -> None:
        shifted = self.bits >> self.shift if self.bits > 0 else 0
        if not 0 < self.bits <= 0xFFFFFFFF or shifted & (shifted + 1):
            raise ValueError(f"{self.bits:#x}: a mask of 32 bits at most, of which those that are set are adjacent")

    @property
    def shift(self) -> int:
        """How far an ifindex is shifted to the left."""
        return (self.bits & -self.bits).bit_length() - 1

    def mark(self, ifindex: int) -> int:
        """The mark that names an uplink; 0 if the ifindex does not fit: marks cannot choose that uplink."""
        mark = ifindex << self.shift
        return mark if ifindex > 0 and mark & ~self.bits == 0 and mark != self.native else 0

    @property
    def native(self) -> int:
        """The mark of packets that leave without LISP; 0 if the mask has one bit only."""
        return self.bits & ~(1 << self.shift)

    def copying(self, place: int) -> int:
        """The mark of the rule number `place` (from 0) among those that send each packet twice.

        0 if the mask has no room for it: it is below `native`, far from the ifindexes.
        """
        number = self.ifindex(self.native) - 1 - place
        return number << self.shift if number > COPYING_RULES_MAX else 0

    def ifindex(self, mark: int) -> int:
        """The ifindex that a packet's mark names; 0: none."""
        return (mark & self.bits) >> self.shift


class Uplink(msgspec.Struct, frozen=True):
    """An uplink that can send now. Lower priorities come first among those that match a pattern."""

    name: str
    ifindex: int
    priority: int = 1
    is_metered: bool = False
    network: Network = UNKNOWN


class Via(msgspec.Struct, frozen=True):
    """Uplinks by name or shell pattern. `weight` 0: a preference; above 0: a share of the rule's flows."""

    pattern: str
    weight: int = 0

    def __post_init__(self) -> None:
        if not self.pattern or not 0 <= self.weight <= 255:
            raise ValueError(f"{self.pattern}: an uplink's name or pattern, and a weight of 0 to 255")


class Rule(msgspec.Struct, frozen=True):
    """Flows that `selector` matches leave by the first available of `via`, or are spread over those with weights.

    Metered uplinks are left out if `may_cost` is False. If none is left, or `via` is empty, `otherwise` applies. With
    `networks` the rule holds only while an uplink is in one of them. `via` NATIVE: this host's own packets leave as
    without lispd.
    """

    name: str
    selector: Selector = EVERYTHING
    via: tuple[Via, ...] = ()
    may_cost: bool = True
    otherwise: Otherwise = "fallback"
    networks: tuple[NetworkPattern, ...] = ()
    copies: int = 1
    """Each packet of a sealed flow is sent by so many uplinks at once."""
    may_copy_cost: bool = False
    """Whether a metered uplink may carry the second copy."""

    def __post_init__(self) -> None:
        if self.is_native:
            self._check_native()
        if not 1 <= self.copies <= COPIES_MAX:
            raise ValueError(f"{self.name}: 'copies' is 1 or {COPIES_MAX}: how many uplinks carry each packet")
        if self.copies > 1 and any(via.weight for via in self.via):
            raise ValueError(f"{self.name}: with 'copies' the uplinks of a rule are an order, and have no weights")
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r}: a rule's name has 1 to 64 letters (a to z, without accents), digits, spaces and _.:/+-"
            )
        if any(via.weight for via in self.via) and not all(via.weight for via in self.via):
            raise ValueError(f"{self.name}: either every uplink of a rule has a weight, or none")

    def _check_native(self) -> None:
        if len(self.via) > 1 or not self.may_cost or self.otherwise != "fallback" or self.copies > 1:
            raise ValueError(
                f"{self.name}: 'via: [native]' stands alone: there is no uplink to choose, or to do without"
            )
        if self.selector.is_of_flows:
            raise ValueError(f"{self.name}: flows to names go through the overlay, and never natively")
        if self.selector.from_interface is not None:
            raise ValueError(f"{self.name}: 'via: [native]' is about this host's own packets, not those of others")

    @property
    def is_native(self) -> bool:
        """True when its packets must not enter the overlay."""
        return any(via.pattern == NATIVE for via in self.via)

    def holds(self, uplinks: Iterable[Uplink]) -> bool:
        """Whether one of these uplinks is in a network of the rule."""
        return not self.networks or any(is_in(self.networks, uplink.network) for uplink in uplinks)

    def candidates(self, uplinks: Iterable[Uplink]) -> tuple[tuple[Uplink, int], ...]:
        """The uplinks that the rule allows now, most preferred first, each with its weight (0: no share, a rank)."""
        present = sorted((up for up in uplinks if self.may_cost or not up.is_metered), key=_rank)
        patterns = self.via or ((Via("*"),) if not self.may_cost or self.copies > 1 else ())
        found: dict[int, tuple[Uplink, int]] = {}
        for via in patterns:
            for uplink in present:
                if fnmatchcase(uplink.name, via.pattern):
                    found.setdefault(uplink.ifindex, (uplink, via.weight))
        return tuple(found.values())

    def second(self, candidates: tuple[tuple[Uplink, int], ...]) -> Uplink | None:
        """Of the candidates, the uplink that carries the copy; None: there is none."""
        rest = (uplink for uplink, _ in candidates[1:] if self.may_copy_cost or not uplink.is_metered)
        return next(rest, None) if self.copies > 1 else None


class Policy(msgspec.Struct, frozen=True):
    """All of the user's rules, in order, and settings for marks in general."""

    rules: tuple[Rule, ...] = ()
    mask: MarkMask = MarkMask()
    unusable_mark: Otherwise = "fallback"
    keeps_replies: bool = True

    def __post_init__(self) -> None:
        if len(self.rules) > RULES_MAX:
            raise ValueError(f"{len(self.rules)} rules: {RULES_MAX} at most")
        if (lines := sum(rule.selector.combinations for rule in self.rules)) > LINES_MAX:
            raise ValueError(f"the lists in the rules come to {lines} combinations: {LINES_MAX} at most")
        if self.has_native and not self.mask.native:
            raise ValueError("'via: [native]' needs a mask of two bits at least")
        self._check_copying()
        names = Counter(rule.name for rule in self.rules)
        if self.unusable_mark != "drop":
            for rule in self.rules:
                if rule.selector.is_of_flows and rule.otherwise == "drop":
                    raise ValueError(f"'{rule.name}': 'otherwise: drop' for flows needs 'unusable-mark: drop'")
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"two rules have the name '{twice[0]}'")

    def _check_copying(self) -> None:
        copying = [rule for rule in self.rules if rule.copies > 1]
        if len(copying) > COPYING_RULES_MAX:
            raise ValueError(f"'{copying[COPYING_RULES_MAX].name}': at most {COPYING_RULES_MAX} rules have 'copies'")
        if copying and not self.mask.copying(len(copying) - 1):
            raise ValueError(f"'{copying[0].name}': 'copies' needs a mask of more bits, such as {DEFAULT_MASK:#x}")

    @property
    def has_kernel_rules(self) -> bool:
        """True when a rule needs a rule in the kernel."""
        return any(not rule.selector.is_of_flows for rule in self.rules)

    @property
    def has_native(self) -> bool:
        """True when a rule may send packets without LISP."""
        return any(rule.is_native for rule in self.rules)

    def compile(self, uplinks: Iterable[Uplink]) -> Compiled:
        """The rules with marks in place of names, for the present uplinks."""
        copying = [rule.name for rule in self.rules if rule.copies > 1]
        marks = {name: self.mask.copying(place) for place, name in enumerate(copying)}
        taken = {0, *marks.values()}
        usable = tuple(sorted((up for up in uplinks if self.mask.mark(up.ifindex) not in taken), key=_rank))
        compiled = tuple(_compile(rule, usable, self.mask, marks.get(rule.name, 0)) for rule in self.rules)
        return Compiled(self, usable, compiled)


class Verdict(Enum):
    """What a compiled rule does with matching packets."""

    MARK = "mark"
    SPREAD = "spread"
    DEFAULT = "default"
    DROP = "drop"
    NATIVE = "native"
    ELSEWHERE = "elsewhere"
    """No uplink is in a network of the rule: it does not hold now."""


class Share(msgspec.Struct, frozen=True):
    """One uplink's share of a rule's new flows."""

    mark: int
    weight: int


class CompiledRule(msgspec.Struct, frozen=True):
    """A rule for the present uplinks. `shares` has one member for MARK, several for SPREAD, none otherwise."""

    rule: Rule
    verdict: Verdict
    shares: tuple[Share, ...] = ()
    pair: tuple[Uplink, ...] = ()
    """With copies: the uplinks of the mark of `shares`, the preferred one first; one if no other may copy."""


class Copying(msgspec.Struct, frozen=True):
    """A mark whose packets leave by `first`, and also by `second` unless that is 0: both are ifindexes."""

    number: int
    mark: int
    first: int
    second: int


class Outcome(Enum):
    """What happens to a flow."""

    UPLINK = "uplink"
    DEFAULT = "default"
    DROP = "drop"
    NATIVE = "native"


class Decision(msgspec.Struct, frozen=True):
    """The decision about a flow. `mark` 0 and DEFAULT: priority and weight decide. `steps` give the reasons.

    `uplinks` names the possible uplinks of the flow: several if the rule spreads its flows.
    """

    outcome: Outcome
    mark: int
    uplinks: tuple[str, ...]
    rule: str | None
    steps: tuple[str, ...]


class Compiled(msgspec.Struct, frozen=True):
    """The policy for one set of uplinks: the input of the kernel rules, and of `why`."""

    policy: Policy
    uplinks: tuple[Uplink, ...]
    rules: tuple[CompiledRule, ...]

    def evaluate(self, flow: Flow) -> Decision:
        """What happens to a flow, with each step of the decision."""
        mask = self.policy.mask
        if self.policy.has_native and flow.mark & mask.bits == mask.native:
            return Decision(Outcome.NATIVE, mask.native, (), None, ("the packet has the mark of what leaves natively",))
        if ours := flow.mark & mask.bits:
            return self._by_mark(ours, None, (f"the packet has the mark {ours:#x} already: rules leave it alone",))
        steps = ["the packet has none of our marks"]
        if flow.came_in_by and self.policy.keeps_replies:
            if up := self._named(mask.mark(flow.came_in_by)):
                step = f"it answers a flow that came in by {up.name}: replies stay on their path"
                return Decision(Outcome.UPLINK, mask.mark(up.ifindex), (up.name,), None, (*steps, step))
            steps.append("the uplink that its flow came in by is gone: the rules decide again")
        for compiled in self.rules:
            if compiled.verdict is Verdict.ELSEWHERE:
                where = ", ".join(map(str, compiled.rule.networks))
                steps.append(f"rule '{compiled.rule.name}' does not hold now: no uplink is in the network {where}")
                continue
            why_not = compiled.rule.selector.mismatch(flow)
            if why_not is not None:
                steps.append(f"rule '{compiled.rule.name}' does not match: the flow {why_not}")
                continue
            return self._by_rule(compiled, flow, (*steps, f"rule '{compiled.rule.name}' matches"))
        first = "" if flow.flow_name is None else "what its class prefers, else "
        steps.append(f"no rule matches: {first}priority and weight decide")
        return Decision(Outcome.DEFAULT, 0, (), None, tuple(steps))

    def usable(self, mark: int) -> bool:
        """True for mark 0 and for marks that name a present uplink."""
        ours = mark & self.policy.mask.bits
        return ours == 0 or self._named(ours) is not None or self._copying(ours) is not None

    @property
    def copying(self) -> tuple[Copying, ...]:
        """The marks of rules with copies, and their uplinks now."""
        mask = self.policy.mask
        found = ((compiled.shares[0].mark, compiled.pair) for compiled in self.rules if compiled.pair)
        return tuple(
            Copying(mask.ifindex(mark), mark, pair[0].ifindex, pair[1].ifindex if len(pair) > 1 else 0)
            for mark, pair in found
        )

    def _copying(self, mark: int) -> CompiledRule | None:
        return next((found for found in self.rules if found.pair and found.shares[0].mark == mark), None)

    def _by_rule(self, compiled: CompiledRule, flow: Flow, steps: tuple[str, ...]) -> Decision:
        rule = compiled.rule
        names = tuple(up.name for share in compiled.shares if (up := self._named(share.mark)) is not None)
        match compiled.verdict:
            case Verdict.MARK:
                return self._by_mark(compiled.shares[0].mark, rule.name, steps)
            case Verdict.SPREAD:
                kept = self.policy.mask.mark(flow.kept_by)
                if kept in (share.mark for share in compiled.shares):
                    steps = (*steps, "its uplinks share new flows by weight; this one has been given its own already")
                    return self._by_mark(kept, rule.name, steps)
                shares = ", ".join(f"{name} {each.weight}" for name, each in zip(names, compiled.shares, strict=True))
                step = f"new flows are spread by weight ({shares}); a flow stays where it began"
                return Decision(Outcome.UPLINK, 0, names, rule.name, (*steps, step))
            case Verdict.NATIVE if flow.is_forwarded:
                step = "what others send through this host stays in the overlay: by priority and weight"
                return Decision(Outcome.DEFAULT, 0, (), rule.name, (*steps, step))
            case Verdict.NATIVE:
                step = "it leaves without LISP, by the host's own routes"
                return Decision(Outcome.NATIVE, self.policy.mask.native, (), rule.name, (*steps, step))
            case Verdict.ELSEWHERE:
                raise AssertionError("a rule that does not hold decides nothing")
            case Verdict.DROP:
                step = "none of its uplinks is there, and the rule says drop" if rule.via else "the rule says drop"
                return Decision(Outcome.DROP, 0, (), rule.name, (*steps, step))
            case Verdict.DEFAULT:
                wanted = bool(rule.via) or not rule.may_cost
                step = (
                    "none of its uplinks is there: priority and weight decide" if wanted else "by priority and weight"
                )
                return Decision(Outcome.DEFAULT, 0, (), rule.name, (*steps, step))

    def _by_mark(self, mark: int, rule: str | None, steps: tuple[str, ...]) -> Decision:
        if up := self._named(mark):
            step = f"mark {mark:#x} names {up.name} (ifindex {up.ifindex})"
            return Decision(Outcome.UPLINK, mark, (up.name,), rule, (*steps, step))
        if copying := self._copying(mark):
            names = tuple(up.name for up in copying.pair)
            step = f"mark {mark:#x} names {names[0]}; no other uplink is there that may carry a copy"
            if len(names) > 1:
                step = f"mark {mark:#x} names {names[0]} and {names[1]}: where it is sealed, each packet leaves by both"
            return Decision(Outcome.UPLINK, mark, names, rule or copying.rule.name, (*steps, step))
        ifindex = self.policy.mask.ifindex(mark)
        if self.policy.unusable_mark == "drop":
            step = f"mark {mark:#x} names no usable uplink (ifindex {ifindex}): dropped, as configured"
            return Decision(Outcome.DROP, mark, (), rule, (*steps, step))
        step = f"mark {mark:#x} names no usable uplink (ifindex {ifindex}): priority and weight decide"
        return Decision(Outcome.DEFAULT, mark, (), rule, (*steps, step))

    def _named(self, mark: int) -> Uplink | None:
        ifindex = self.policy.mask.ifindex(mark)
        return next((up for up in self.uplinks if up.ifindex == ifindex), None)


def _compile(rule: Rule, uplinks: tuple[Uplink, ...], mask: MarkMask, copying: int) -> CompiledRule:
    if not rule.holds(uplinks):
        return CompiledRule(rule, Verdict.ELSEWHERE)
    if rule.is_native:
        return CompiledRule(rule, Verdict.NATIVE)
    candidates = rule.candidates(uplinks)
    if not candidates:
        return CompiledRule(rule, Verdict.DROP if rule.otherwise == "drop" else Verdict.DEFAULT)
    if copying:
        second = rule.second(candidates)
        pair = (candidates[0][0],) if second is None else (candidates[0][0], second)
        return CompiledRule(rule, Verdict.MARK, (Share(copying, 0),), pair)
    shares = tuple(Share(mask.mark(uplink.ifindex), weight) for uplink, weight in candidates)
    if shares[0].weight and len(shares) > 1:
        return CompiledRule(rule, Verdict.SPREAD, shares)
    return CompiledRule(rule, Verdict.MARK, shares[:1])


def _rank(uplink: Uplink) -> tuple[int, str, int]:
    return (uplink.priority, uplink.name, uplink.ifindex)
