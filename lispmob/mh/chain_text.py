"""The steering rules in the language of iptables-restore; pure.

Everything stands in the mangle table, in chains whose names begin with LISPMOB-:

    OUTPUT      -o TUN   LISPMOB-MARK     our own packets          \\  first match goes to
    FORWARD     -o TUN   LISPMOB-FORWARD  packets of others        /   LISPMOB-VIA-<mark> or LISPMOB-SPREAD-<n>
    PREROUTING  -i TUN   LISPMOB-CAME-IN  stores the uplink that a flow came in by in the connection mark
    PREROUTING  -s EID   LISPMOB-ROUTE    with a device per uplink: as LISPMOB-FORWARD, without drops

With one device per uplink the mark decides the route, so forwarded packets must be marked before routing. Our own are
routed again when OUTPUT marks them.

Our jumps stand at the end of the built-in chains, after the user's own rules. A packet with one of our marks is left
alone. A rule that the user appends later overrides ours. Bits outside our mask never change.

A kernel or a tool may lack an extension. A rule is then written without it if possible; otherwise it is left out and
named in `ChainText.lost`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, product
from typing import Final

import msgspec

from lispmob.mh.policy import Compiled, CompiledRule, MarkMask, Share, Verdict
from lispmob.mh.selector import ICMP, PORTS_PER_MATCH, PROTOCOLS, WITH_PORTS, Selector, Span
from lispmob.wire.address import IpNetwork

TABLE: Final = "mangle"
PREFIX: Final = "LISPMOB-"
MARK: Final = "LISPMOB-MARK"
FORWARD: Final = "LISPMOB-FORWARD"
CAME_IN: Final = "LISPMOB-CAME-IN"
ROUTE: Final = "LISPMOB-ROUTE"
VIA: Final = "LISPMOB-VIA-"
SPREAD: Final = "LISPMOB-SPREAD-"

# Matches the TUN queue that the packet was written to, counted from 1. Classic BPF, because iptables has no match for
# it. ld [skb->queue_mapping]; jeq #queue, accept, refuse
_QUEUE_MATCH: Final = '-m bpf --bytecode "4,32 0 0 4294963224,21 0 1 {queue},6 0 0 65535,6 0 0 0"'


TRIALS: Final[Mapping[str, str]] = {
    "bpf": _QUEUE_MATCH.format(queue=1),
    "cgroup": "-m cgroup --path .",
    "comment": '-m comment --comment "trial"',
    "CONNMARK": "-j CONNMARK --set-xmark 0x1/0x1",
    "connmark": "-m connmark --mark 0x1/0x1",
    "conntrack": "-m conntrack --ctdir REPLY",
    "dscp": "-m dscp --dscp 0x01",
    "mark": "-m mark --mark 0x1/0x1",
    "MARK": "-j MARK --set-xmark 0x1/0x1",
    "MASQUERADE": "-j MASQUERADE",
    "multiport": "-p udp -m multiport --dports 1,2",
    "owner": "-m owner --uid-owner 1",
    "statistic": "-m statistic --mode random --probability 0.5",
}
"""A test rule for each extension that a kernel or a tool may lack: if it is refused, the extension is missing."""

_EXTENSION: Final = re.compile(r"-m (\w+)|-j (CONNMARK|MARK|MASQUERADE)\b")
_FOR_REPLIES: Final = frozenset({"bpf", "conntrack", "connmark", "CONNMARK"})
_FOR_SPREADING: Final = frozenset({"statistic", "connmark", "CONNMARK"})
_WITHOUT_MULTIPORT: Final = frozenset({6, 17, 33, 132})  # whose own match has ports: TCP, UDP, DCCP, SCTP
REPLIES: Final = "replies by the uplink that the question came in by"
NOTHING: Final[frozenset[str]] = frozenset()


class Arrival(msgspec.Struct, frozen=True):
    """Identifies packets that came in by an uplink: by the queue of the TUN (from 0)."""

    ifindex: int
    queue: int


class Hooks(msgspec.Struct, frozen=True):
    """Where the chains are attached. `sources`: the EIDs, if marks decide the route."""

    tun: str
    arrivals: tuple[Arrival, ...] = ()
    sources: tuple[IpNetwork, ...] = ()

    def jumps(self, family: int) -> list[str]:
        """The jumps into our chains, as iptables-save prints them."""
        lines = [f"-A PREROUTING -i {self.tun} -j {CAME_IN}"] if self.arrivals else []
        sources = [network for network in self.sources if network.version == family]
        lines += [f"-A PREROUTING -s {network} -j {ROUTE}" for network in sources]
        return [*lines, f"-A FORWARD -o {self.tun} -j {FORWARD}", f"-A OUTPUT -o {self.tun} -j {MARK}"]


class ChainText(msgspec.Struct, frozen=True):
    """The wanted contents of one family's table: chains in order of creation, and their rules."""

    chains: tuple[str, ...]
    rules: tuple[str, ...]
    jumps: tuple[str, ...]
    skipped: tuple[str, ...] = ()  # names of rules that cannot be put into the kernel now
    lost: tuple[str, ...] = ()  # what is left out because an extension is missing, in words
    ahead: tuple[str, ...] = ()  # jumps that stand before the rules of others

    @property
    def extensions(self) -> frozenset[str]:
        """The extensions that the rules use, by their names in TRIALS."""
        found = (match[1] or match[2] for rule in self.rules for match in _EXTENSION.finditer(rule))
        return frozenset(found) & TRIALS.keys()


def chain_text(
    compiled: Compiled,
    hooks: Hooks,
    family: int,
    has_cgroup: Callable[[str], bool] = lambda _path: True,
    missing: frozenset[str] = NOTHING,
    cgroups_of_app: Callable[[str], Sequence[str]] = lambda _app: (),
) -> ChainText:
    """The chains for one family. A rule whose control group does not exist matches nothing, and is left out.

    `missing`: extensions that must not be used. `cgroups_of_app`: the present control groups of a program.
    """
    apps = {app: tuple(cgroups_of_app(app)) for rule in compiled.rules if (app := rule.rule.selector.app) is not None}
    writer = _Writer(compiled.policy.mask, family, missing, apps)
    skipped = [
        rule.rule.name
        for rule in compiled.rules
        if (rule.rule.selector.cgroup is not None and not has_cgroup(rule.rule.selector.cgroup))
        or (rule.rule.selector.app is not None and not apps[rule.rule.selector.app])
    ]
    ours = {rule.rule.name for rule in compiled.rules if rule.rule.selector.is_of_flows}  # lispd marks those itself
    elsewhere = {rule.rule.name for rule in compiled.rules if rule.verdict is Verdict.ELSEWHERE}
    applying = [rule for rule in compiled.rules if rule.rule.name not in {*skipped, *ours, *elsewhere}]
    wants_replies = compiled.policy.keeps_replies and bool(hooks.arrivals)
    keeps_replies = wants_replies and not missing & _FOR_REPLIES
    lost = [REPLIES] if wants_replies and not keeps_replies else []
    if keeps_replies:
        writer.came_in(hooks.tun, hooks.arrivals)
    for chain in (MARK, FORWARD, *((ROUTE,) if hooks.sources else ())):
        writer.begin(chain)
        if keeps_replies:
            writer.replies(chain, [compiled.policy.mask.mark(up.ifindex) for up in compiled.uplinks])
        for compiled_rule in applying:
            if family in compiled_rule.rule.selector.families() and _is_for(compiled_rule.rule.selector, chain == MARK):
                if missing and (why := _impossible(compiled_rule.rule.selector, missing)):
                    lost.append(f"rule '{compiled_rule.rule.name}' ({why})")
                else:
                    writer.rule(chain, compiled_rule)
                    if missing & _FOR_SPREADING and compiled_rule.verdict is Verdict.SPREAD:
                        lost.append(f"the weights of rule '{compiled_rule.rule.name}'")
    return ChainText(
        tuple(writer.chains),
        tuple(writer.rules),
        tuple(hooks.jumps(family)),
        tuple(skipped),
        tuple(dict.fromkeys(lost)),
    )


def _impossible(selector: Selector, missing: frozenset[str]) -> str | None:
    """Why a selector cannot be expressed without these extensions."""
    needed = {
        "owner": selector.users or selector.groups,
        "dscp": selector.dscp,
        "cgroup": selector.cgroup or selector.app,
        "multiport": (selector.source_ports or selector.destination_ports)
        and set(selector.protocols) - _WITHOUT_MULTIPORT,
    }
    lacking = [name for name, is_needed in needed.items() if is_needed and name in missing]
    return f"needs {', '.join(lacking)}" if lacking else None


class _Writer:
    """Collects the lines of one family."""

    def __init__(
        self, mask: MarkMask, family: int, missing: frozenset[str], apps: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.chains: dict[str, None] = {MARK: None, FORWARD: None, CAME_IN: None}
        self._missing, self._apps = missing, apps
        self.rules: list[str] = []
        self._mask = mask
        self._family = family
        self._spreads: dict[tuple[Share, ...], str] = {}

    def begin(self, chain: str) -> None:
        """A mark that is already set takes precedence."""
        self._add(chain, f"-m mark ! --mark 0x0/{self._mask.bits:#x} -j RETURN")

    def came_in(self, tun: str, arrivals: Iterable[Arrival]) -> None:
        """Store the uplink of flows that others begin; answers to our own flows change nothing."""
        for arrival in arrivals:
            mark = self._mask.mark(arrival.ifindex)
            if not mark:
                continue
            match = f"-i {tun} -m conntrack --ctdir ORIGINAL {_QUEUE_MATCH.format(queue=arrival.queue + 1)}"
            self._add(CAME_IN, f"{match} -j CONNMARK --set-xmark {mark:#x}/{self._mask.bits:#x}")

    def replies(self, chain: str, marks: Iterable[int]) -> None:
        """Answers leave by the uplink of the request, while it is there."""
        for mark in marks:
            remembered = f"-m connmark --mark {mark:#x}/{self._mask.bits:#x}"
            self._add(chain, f"{remembered} -m conntrack --ctdir REPLY -g {self._via(mark)}")

    def rule(self, chain: str, compiled: CompiledRule) -> None:
        """One rule of the user: as many lines as its lists need."""
        match compiled.verdict:
            case Verdict.MARK:
                target = f"-g {self._via(compiled.shares[0].mark)}"
            # All flows take the heaviest, so that none moves about.
            case Verdict.SPREAD if self._missing & _FOR_SPREADING:
                target = f"-g {self._via(max(compiled.shares, key=lambda share: share.weight).mark)}"
            case Verdict.SPREAD:
                target = f"-g {self._spread(compiled.shares)}"
            case Verdict.NATIVE if chain == MARK:  # forwarded packets are not routed again after FORWARD
                target = f"-g {self._via(self._mask.native)}"
            case Verdict.DROP if chain != ROUTE:  # a packet to another destination passes there too
                target = "-j DROP"
            case Verdict.DROP | Verdict.DEFAULT | Verdict.NATIVE | Verdict.ELSEWHERE:
                target = "-j RETURN"
        comment = "" if "comment" in self._missing else f'-m comment --comment "{compiled.rule.name}" '
        selector = compiled.rule.selector
        groups = self._apps[selector.app] if selector.app is not None else ()
        has_multiport = "multiport" not in self._missing
        for match in matches(selector, self._family, has_multiport=has_multiport, groups=groups):
            self._add(chain, f"{match}{comment}{target}")

    def _via(self, mark: int) -> str:
        chain = f"{VIA}{mark:x}"
        if chain not in self.chains:
            self._add(chain, f"-j MARK --set-xmark {mark:#x}/{self._mask.bits:#x}")
        return chain

    def _spread(self, shares: tuple[Share, ...]) -> str:
        """A flow keeps its uplink; a new one is assigned at random, by weight."""
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


def matches(
    selector: Selector, family: int, *, has_multiport: bool = True, groups: Sequence[str] = ()
) -> Iterator[str]:
    """The matches of a selector: one for each combination that needs an iptables rule.

    `groups`: the control groups of its program.
    """
    fixed = "".join(_fixed(selector))
    listed = _many_ports if has_multiport else _one_port
    parts = (
        _each("-s {} ", [source for source in selector.sources if source.version == family]),
        _each("-d {} ", [destination for destination in selector.destinations if destination.version == family]),
        [_protocol(number) for number in selector.protocols if number not in ICMP or number == _icmp(family)] or [""],
        listed("sport", selector.source_ports) or [""],
        listed("dport", selector.destination_ports) or [""],
        _each("-m dscp --dscp {:#04x} ", selector.dscp),
        _each("-m owner --uid-owner {} ", selector.users),
        _each("-m owner --gid-owner {} ", selector.groups),
        _each("-m cgroup --path {} ", [path.strip("/") for path in groups]),
    )
    for combination in product(*parts):
        yield "".join(combination) + fixed


def _fixed(selector: Selector) -> Iterator[str]:
    if selector.cgroup is not None:
        yield f"-m cgroup --path {selector.cgroup.strip('/')} "
    if selector.from_interface is not None:
        yield f"-i {selector.from_interface.replace('*', '+')} "


def _is_for(selector: Selector, is_local: bool) -> bool:
    """The kernel refuses a match on the sender's process in chains without one, and on an interface likewise."""
    return selector.from_interface is None if is_local else not selector.is_local_only


def _each(form: str, values: Sequence[object]) -> list[str]:
    return [form.format(value) for value in values] or [""]


def _protocol(number: int) -> str:
    name = next((name for name, known in PROTOCOLS.items() if known == number and number in WITH_PORTS), str(number))
    return f"-p {name} "


def _many_ports(kind: str, spans: Sequence[Span]) -> list[str]:
    return [f"-m multiport --{kind}s {','.join(map(_range, batch))} " for batch in _batches(spans)]


def _one_port(kind: str, spans: Sequence[Span]) -> list[str]:
    return [f"--{kind} {_range(span)} " for span in spans]


def _range(span: Span) -> str:
    return f"{span.first}:{span.last}" if span.first < span.last else f"{span.first}"


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
