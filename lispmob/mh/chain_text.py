"""The steering rules in the language of iptables-restore; pure.

Everything stands in the mangle table, in chains whose names begin with LISPMOB-:

    OUTPUT      -o TUN   LISPMOB-MARK     our own packets          \\  first match goes to
    FORWARD     -o TUN   LISPMOB-FORWARD  packets of others        /   LISPMOB-VIA-<mark> or LISPMOB-SPREAD-<n>
    PREROUTING  -i TUN   LISPMOB-CAME-IN  remembers, in the connection mark, which uplink a flow came in by
    PREROUTING  -s EID   LISPMOB-ROUTE    with a device per uplink: as LISPMOB-FORWARD, and drops nothing

With one device per uplink the mark decides the route, so packets of others must have theirs before that. Our own are
routed anew when OUTPUT marks them.

Our jumps stand at the end of the built-in chains: rules of the user's own come before them, and where a mark of ours
is set already we touch nothing; a rule that the user appends later overrules ours. Bits outside our mask never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, product
from typing import Final

from lispmob.mh.policy import Compiled, CompiledRule, MarkMask, Share, Verdict
from lispmob.mh.selector import ICMP, PORTS_PER_MATCH, PROTOCOLS, WITH_PORTS, Selector, Span
from lispmob.values import dataclass
from lispmob.wire.address import IpNetwork

TABLE: Final = "mangle"
PREFIX: Final = "LISPMOB-"
MARK: Final = "LISPMOB-MARK"
FORWARD: Final = "LISPMOB-FORWARD"
CAME_IN: Final = "LISPMOB-CAME-IN"
ROUTE: Final = "LISPMOB-ROUTE"
VIA: Final = "LISPMOB-VIA-"
SPREAD: Final = "LISPMOB-SPREAD-"

# "Which queue of the TUN was the packet written to", counted from 1: classic BPF, since iptables has no word for it.
# ld [skb->queue_mapping]; jeq #queue, accept, refuse
_QUEUE_MATCH: Final = '-m bpf --bytecode "4,32 0 0 4294963224,21 0 1 {queue},6 0 0 65535,6 0 0 0"'


@dataclass(frozen=True, slots=True)
class Arrival:
    """How packets that came in by an uplink are told from others: by the queue of the TUN (from 0)."""

    ifindex: int
    queue: int


@dataclass(frozen=True, slots=True)
class Hooks:
    """Where the chains hang. `sources`: the EIDs, where marks decide the route."""

    tun: str
    arrivals: tuple[Arrival, ...] = ()
    sources: tuple[IpNetwork, ...] = ()

    def jumps(self, family: int) -> list[str]:
        """The jumps into our chains, as iptables-save prints them."""
        lines = [f"-A PREROUTING -i {self.tun} -j {CAME_IN}"] if self.arrivals else []
        sources = [network for network in self.sources if network.version == family]
        lines += [f"-A PREROUTING -s {network} -j {ROUTE}" for network in sources]
        return [*lines, f"-A FORWARD -o {self.tun} -j {FORWARD}", f"-A OUTPUT -o {self.tun} -j {MARK}"]


@dataclass(frozen=True, slots=True)
class ChainText:
    """What one family's table has to hold: chains in the order of their making, and the rules in them."""

    chains: tuple[str, ...]
    rules: tuple[str, ...]
    jumps: tuple[str, ...]
    skipped: tuple[str, ...] = ()  # names of rules that cannot be told to the kernel now


def chain_text(
    compiled: Compiled, hooks: Hooks, family: int, has_cgroup: Callable[[str], bool] = lambda _path: True
) -> ChainText:
    """The chains for one family. Rules whose control group does not exist match nothing, and are left out."""
    writer = _Writer(compiled.policy.mask, family)
    skipped = [
        one.rule.name
        for one in compiled.rules
        if one.rule.selector.cgroup is not None and not has_cgroup(one.rule.selector.cgroup)
    ]
    applying = [one for one in compiled.rules if one.rule.name not in skipped]
    if compiled.policy.keeps_replies and hooks.arrivals:
        writer.came_in(hooks.tun, hooks.arrivals)
    for chain in (MARK, FORWARD, *((ROUTE,) if hooks.sources else ())):
        writer.begin(chain)
        if compiled.policy.keeps_replies and hooks.arrivals:
            writer.replies(chain, [compiled.policy.mask.mark(up.ifindex) for up in compiled.uplinks])
        for one in applying:
            if family in one.rule.selector.families() and _is_for(one.rule.selector, chain == MARK):
                writer.rule(chain, one)
    return ChainText(tuple(writer.chains), tuple(writer.rules), tuple(hooks.jumps(family)), tuple(skipped))


class _Writer:
    """Collects the lines of one family."""

    def __init__(self, mask: MarkMask, family: int) -> None:
        self.chains: dict[str, None] = {MARK: None, FORWARD: None, CAME_IN: None}
        self.rules: list[str] = []
        self._mask = mask
        self._family = family
        self._spreads: dict[tuple[Share, ...], str] = {}

    def begin(self, chain: str) -> None:
        """Whoever marked the packet before us knows better."""
        self._add(chain, f"-m mark ! --mark 0x0/{self._mask.bits:#x} -j RETURN")

    def came_in(self, tun: str, arrivals: Iterable[Arrival]) -> None:
        """Remember the uplink of flows that others begin; what answers our own flows changes nothing."""
        for arrival in arrivals:
            mark = self._mask.mark(arrival.ifindex)
            if not mark:
                continue
            match = f"-i {tun} -m conntrack --ctdir ORIGINAL {_QUEUE_MATCH.format(queue=arrival.queue + 1)}"
            self._add(CAME_IN, f"{match} -j CONNMARK --set-xmark {mark:#x}/{self._mask.bits:#x}")

    def replies(self, chain: str, marks: Iterable[int]) -> None:
        """Answers leave by the uplink that the question came in by, while it is there."""
        for mark in marks:
            remembered = f"-m connmark --mark {mark:#x}/{self._mask.bits:#x}"
            self._add(chain, f"{remembered} -m conntrack --ctdir REPLY -g {self._via(mark)}")

    def rule(self, chain: str, compiled: CompiledRule) -> None:
        """One rule of the user's: as many lines as its lists need."""
        match compiled.verdict:
            case Verdict.MARK:
                target = f"-g {self._via(compiled.shares[0].mark)}"
            case Verdict.SPREAD:
                target = f"-g {self._spread(compiled.shares)}"
            case Verdict.DROP if chain != ROUTE:  # a packet on its way elsewhere passes there as well
                target = "-j DROP"
            case Verdict.DROP | Verdict.DEFAULT:
                target = "-j RETURN"
        for match in matches(compiled.rule.selector, self._family):
            self._add(chain, f'{match}-m comment --comment "{compiled.rule.name}" {target}')

    def _via(self, mark: int) -> str:
        chain = f"{VIA}{mark:x}"
        if chain not in self.chains:
            self._add(chain, f"-j MARK --set-xmark {mark:#x}/{self._mask.bits:#x}")
        return chain

    def _spread(self, shares: tuple[Share, ...]) -> str:
        """A flow stays with the uplink that it was given; new ones are drawn by weight."""
        if shares in self._spreads:
            return self._spreads[shares]
        chain = self._spreads[shares] = f"{SPREAD}{len(self._spreads)}"
        bits = self._mask.bits
        self.chains[chain] = None
        for share in shares:
            self._add(chain, f"-m connmark --mark {share.mark:#x}/{bits:#x} -g {self._via(share.mark)}")
        rest = list(accumulate(reversed([share.weight for share in shares])))[::-1]
        for share, left in zip(shares, rest, strict=True):
            drawn = (
                "" if share.weight == left else f"-m statistic --mode random --probability {share.weight / left:.8f} "
            )
            kept = f"{SPREAD}KEEP-{share.mark:x}"
            if kept not in self.chains:
                self._add(kept, f"-j CONNMARK --set-xmark {share.mark:#x}/{bits:#x}")
                self._add(kept, f"-g {self._via(share.mark)}")
            self._add(chain, f"{drawn}-g {kept}")
        return chain

    def _add(self, chain: str, rule: str) -> None:
        self.chains.setdefault(chain)
        self.rules.append(f"-A {chain} {rule}")


def matches(selector: Selector, family: int) -> Iterator[str]:
    """The matches of a selector, one for each combination that iptables needs a rule of its own for."""
    fixed = "".join(_fixed(selector))
    parts = (
        _each("-s {} ", [one for one in selector.sources if one.version == family]),
        _each("-d {} ", [one for one in selector.destinations if one.version == family]),
        [_protocol(number) for number in selector.protocols if number not in ICMP or number == _icmp(family)] or [""],
        [_ports("sports", batch) for batch in _batches(selector.source_ports)] or [""],
        [_ports("dports", batch) for batch in _batches(selector.destination_ports)] or [""],
        _each("-m dscp --dscp {:#04x} ", selector.dscp),
        _each("-m owner --uid-owner {} ", selector.users),
        _each("-m owner --gid-owner {} ", selector.groups),
    )
    for combination in product(*parts):
        yield "".join(combination) + fixed


def _fixed(selector: Selector) -> Iterator[str]:
    if selector.cgroup is not None:
        yield f"-m cgroup --path {selector.cgroup.strip('/')} "
    if selector.from_interface is not None:
        yield f"-i {selector.from_interface.replace('*', '+')} "


def _is_for(selector: Selector, is_local: bool) -> bool:
    """The kernel refuses a match on the sender's process where there is none, and one on an interface likewise."""
    return selector.from_interface is None if is_local else not selector.is_local_only


def _each(form: str, values: Sequence[object]) -> list[str]:
    return [form.format(value) for value in values] or [""]


def _protocol(number: int) -> str:
    name = next((name for name, known in PROTOCOLS.items() if known == number and number in WITH_PORTS), str(number))
    return f"-p {name} "


def _ports(kind: str, batch: Sequence[Span]) -> str:
    listed = ",".join(f"{span.first}:{span.last}" if span.first < span.last else f"{span.first}" for span in batch)
    return f"-m multiport --{kind} {listed} "


def _batches(spans: Sequence[Span]) -> Iterator[list[Span]]:
    batch: list[Span] = []
    taken = 0
    for span in spans:
        size = 1 if span.first == span.last else 2
        if taken + size > PORTS_PER_MATCH:
            yield batch
            batch, taken = [], 0
        batch.append(span)
        taken += size
    if batch:
        yield batch


def _icmp(family: int) -> int:
    return 1 if family == 4 else 58
