"""Explains what happens to a flow: the route, marks, rules, the mapping, the uplink, the locators, the RTR, in order.

Nothing is guessed that can be queried: the kernel reports its route and its connection tracking, and the datapath
reports what it would do with a packet. What cannot be determined is named as such.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import pwd
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias, TypeVar

from msgspec.structs import replace

from lispmob.api.backend import ApiError
from lispmob.api.steering.schema import Choice, FlowParams, Why, WhyStep
from lispmob.config.steering import FLOW_CLASSES, read_cgroup, read_dscp, read_group, read_protocol, read_user
from lispmob.datapath.ask import Answer, FlowVerdict, Question
from lispmob.datapath.device.lanes import DEFAULT, UNUSABLE
from lispmob.errors import KernelRefused
from lispmob.lispd.explain.lost import why_lost, why_refused
from lispmob.lispd.parts import Parts
from lispmob.lispd.views.seal_views import mapping_of, seal_of
from lispmob.mh import foreign_marks
from lispmob.mh.chain_text import PREFIX, TABLE
from lispmob.mh.kernel import flow_table
from lispmob.mh.kernel.open_sockets import open_sockets
from lispmob.mh.kernel.route_query import RouteFound, route_of
from lispmob.mh.kernel.xtables import Tool, ToolMissing
from lispmob.mh.policy import Decision, Outcome
from lispmob.mh.selector import ICMP, PORT_MAX, PROTOCOLS, WITH_PORTS, Flow
from lispmob.wire.address import IpAddress

T = TypeVar("T")
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_MARK_MAX = 0xFFFFFFFF
Stage: TypeAlias = Literal["route", "mark", "rule", "mapping", "seal", "uplink", "locator", "rtr"]
_Place: TypeAlias = tuple[int, str, str, str | None]  # ifindex, local, remote, RTR

SAMPLES: Final = 256  # ours: shares are exact within 3 percent
_TOOLS: Final = {4: Tool("iptables", 4), 6: Tool("ip6tables", 6)}
_ABOUT_MARKS: Final = ("the packet has", "it answers", "the uplink that its flow", "mark ")


async def why(parts: Parts, params: FlowParams) -> Why:
    """Explain one flow. Raises ApiError for an invalid flow."""
    return await _Explanation(parts).of(params)


class _Explanation:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._steps: list[WhyStep] = []
        self._is_certain = True

    async def of(self, params: FlowParams) -> Why:
        if (own := self._own(params)) is not None:
            return own
        route, flow = self._route(params)
        devices = {self._parts.engine.config.tun_name, *(lane.device for lane in self._parts.engine.lanes)}
        if route.interface not in devices:
            why_not = f"the kernel routes it by {route.interface}" if route.interface else route.why_not or "no route"
            self._say("route", f"{why_not}: it does not enter the overlay")
            return self._done(flow, "native" if route.interface else "dropped")
        self._say("route", f"the kernel routes it into {route.interface}, from {flow.source}")
        flow = await self._of_socket(params, flow)
        flow = self._remembered(flow)
        before, behind = await self._foreign_rules(flow)
        flow = replace(flow, mark=self._passed(before, flow, flow.mark))
        decision = self._parts.steering.compiled.evaluate(flow)
        self._tell_decision(flow, decision)
        if decision.outcome is Outcome.DROP and not decision.mark:
            return self._done(flow, "dropped", rule=decision.rule)
        if decision.outcome is Outcome.NATIVE:
            return self._done(flow, "native", rule=decision.rule)
        mark = self._passed(behind, flow, decision.mark or flow.mark)
        return self._sent(flow, decision, mark)

    def _route(self, params: FlowParams) -> tuple[RouteFound, Flow]:
        incoming = params.from_interface
        if incoming is not None and incoming not in {link.name for link in self._parts.network.links}:
            raise ApiError("params", f"from_interface: there is no interface {incoming}")
        destination = read_address("destination", params.destination)
        source = None if params.source is None else read_address("source", params.source)
        preliminary = read_flow(params, source or destination)
        protocol = read_protocol_of(params, destination)
        try:
            route = route_of(
                destination,
                source,
                mark=preliminary.mark,
                uid=preliminary.uid,
                from_interface=params.from_interface,
                protocol=protocol,
                ports=(params.source_port or 0, params.port or 0),
            )
        except KernelRefused as refused:
            route = RouteFound(None, why_not=str(refused))
        if params.source is None and route.source is None:
            why_not = route.why_not or "it gives no source"
            text = f"destination: the kernel has no way to {destination} ({why_not}); see: ip route get {destination}"
            raise ApiError("params", text)
        return route, read_flow(params, source or route.source, self._came_in_by(params.came_in_by))

    def _own(self, params: FlowParams) -> Why | None:
        """If the destination is this host itself, there is no path to explain."""
        destination = read_address("destination", params.destination)
        own = self._parts.node.config.owner_of(destination, 0)
        if own is None or own.network.num_addresses > 1:
            return None
        self._say("route", f"{destination} is an EID of our own: packets to it stay on this host")
        return Why(flow=f"to {destination}", outcome="own", steps=self._steps)

    def _came_in_by(self, name: str | None) -> int:
        """The uplink that a flow came in by; 0 if none was given. Raises ApiError."""
        if name is None:
            return 0
        found = next((up.ifindex for up in self._parts.uplinks if up.name == name), None)
        if found is None:
            there = ", ".join(up.name for up in self._parts.uplinks) or "none"
            raise ApiError("params", f"came_in_by: {name} is no uplink now; there are: {there}")
        return found

    async def _of_socket(self, params: FlowParams, flow: Flow) -> Flow:
        """Adds the user, mark and control group of the flow's socket, unless they were given."""
        said = (params.user, params.group, params.cgroup, params.mark, params.from_interface)
        if (
            any(condition is not None for condition in said)
            or flow.source_port is None
            or flow.destination_port is None
        ):
            return flow
        ports = (flow.source_port, flow.destination_port)
        sockets = await asyncio.to_thread(open_sockets)
        found = sockets.get((flow.source, flow.destination, flow.protocol, ports))
        if found is None:
            return flow
        marked = f", with mark {found.mark:#x}" if found.mark else ""
        group = "" if found.cgroup is None else f", in control group {found.cgroup}"
        self._say("mark", f"a socket of user {found.uid} has this flow{group}{marked}")
        with contextlib.suppress(KeyError):
            flow = replace(flow, gid=pwd.getpwuid(found.uid).pw_gid)
        return replace(flow, uid=found.uid, mark=found.mark, cgroup=found.cgroup)

    def _remembered(self, flow: Flow) -> Flow:
        """Adds the connection tracking of an existing flow."""
        if flow.source_port is None or flow.destination_port is None or flow.came_in_by:
            return flow
        ports = (flow.source_port, flow.destination_port)
        try:
            found = flow_table.find(flow.source, flow.destination, flow.protocol, ports)
        except KernelRefused as refused:
            self._doubt("mark", str(refused))
            return flow
        if found is None:
            return flow
        ifindex = self._parts.steering.compiled.policy.mask.ifindex(found.mark)
        began = "the other end began it" if found.began_outside else "it began here"
        kept = f", and its connection mark names {self._name(ifindex)}" if ifindex else ""
        self._say("mark", f"the flow exists: {began}{kept}")
        return replace(flow, came_in_by=ifindex) if found.began_outside else replace(flow, kept_by=ifindex)

    async def _foreign_rules(self, flow: Flow) -> tuple[list[str], list[str]]:
        """Other programs' rules before and after our own chain."""
        try:
            saved = await _TOOLS[flow.destination.version].save(TABLE)
        except ToolMissing:
            return [], []
        except KernelRefused as refused:
            self._doubt("mark", f"the rules of others cannot be read: {refused}")
            return [], []
        chain = "FORWARD" if flow.is_forwarded else "OUTPUT"
        before, behind = foreign_marks.split_at(foreign_marks.of_chain(saved, chain), PREFIX)
        if flow.is_forwarded:
            before = [*foreign_marks.split_at(foreign_marks.of_chain(saved, "PREROUTING"), PREFIX)[0], *before]
        return before, [*behind, *foreign_marks.of_chain(saved, "POSTROUTING")]

    def _passed(self, lines: Sequence[str], flow: Flow, mark: int) -> int:
        """The mark after these rules."""
        for met in foreign_marks.walk(lines, flow, self._parts.engine.config.tun_name, mark):
            if met.mark is None:
                self._doubt("mark", f"another program's rule may change the mark: {met.line}")
                return mark
            mark = met.mark
            self._say("mark", f"another program's rule sets the mark {mark:#x}: {met.line}")
        return mark

    def _tell_decision(self, flow: Flow, decision: Decision) -> None:
        steering = self._parts.steering
        for step in decision.steps:
            self._say("mark" if step.startswith(_ABOUT_MARKS) else "rule", step)
        if steering.problem is not None:
            self._doubt("rule", f"the kernel does not have these rules: {steering.problem}")
        if flow.cgroup is not None and decision.rule in steering.skipped:
            self._doubt("rule", f"the control group of rule '{decision.rule}' does not exist: it matches nothing now")

    def _sent(self, flow: Flow, decision: Decision, mark: int) -> Why:
        compiled = self._parts.steering.compiled
        lanes = self._lanes(decision, compiled.policy.mask.bits & mark)
        places: Counter[_Place] = Counter()
        answers: list[Answer] = []
        for lane, weight in lanes.items():
            found = self._ask(flow, lane)
            answers += found
            for answer in found:
                if answer.verdict in (FlowVerdict.SENT, FlowVerdict.DOUBT):
                    relay = None if answer.relayed_to is None else str(answer.relayed_to)
                    places[answer.ifindex, str(answer.local), str(answer.remote), relay] += weight * len(found)
        first = answers[0]
        self._tell_mapping(first)
        if first.verdict not in (FlowVerdict.SENT, FlowVerdict.DOUBT):
            return self._not_sent(flow, decision, mark, first)
        self._tell_uplink(first, list(lanes), places)
        choices = self._choices(places)
        for choice in choices:
            self._say("locator", f"{_percent(choice.share)}from {choice.local} ({choice.uplink}) to {choice.remote}")
            if choice.rtr is not None:
                known = f"to {choice.remote}" if choice.rtr != choice.remote else "to wherever its mapping says"
                self._say("rtr", f"behind a NAT: the RTR {choice.rtr} passes it on {known}")
        silent = [remote for remote in {choice.remote: None for choice in choices} if self._is_silent(remote)]
        is_unanswered = len(silent) == len({choice.remote for choice in choices})
        return self._done(flow, "overlay", decision.rule, mark, choices, silent if is_unanswered else [])

    def _is_silent(self, remote: str) -> bool:
        return not self._parts.node.is_reachable(ip_address(remote))

    def _lanes(self, decision: Decision, ours: int) -> dict[int, int]:
        """The lanes that the mark may lead to, each with its weight."""
        compiled, engine = self._parts.steering.compiled, self._parts.engine
        if not engine.lanes:
            if ours or len(decision.uplinks) > 1:
                self._doubt("mark", f"marks have no effect here: {engine.marks_way.why}")
            return {DEFAULT: 1}
        if len(decision.uplinks) > 1 and not ours:
            rule = next(candidate for candidate in compiled.rules if candidate.rule.name == decision.rule)
            return {compiled.policy.mask.ifindex(share.mark): share.weight for share in rule.shares}
        if not ours:
            return {DEFAULT: 1}
        ifindex = compiled.policy.mask.ifindex(ours)
        if ours != decision.mark:
            verdict = f"names {self._name(ifindex)}" if compiled.usable(ours) else "names no usable uplink"
            self._say("mark", f"mark {ours:#x} {verdict}")
        return {ifindex if any(lane.ifindex == ifindex for lane in engine.lanes) else UNUSABLE: 1}

    def _ask(self, flow: Flow, lane: int) -> list[Answer]:
        """The datapath's answer; many times if an unknown port makes a difference."""
        dry_run = self._parts.engine.dry_run
        if flow.protocol not in WITH_PORTS:
            return [dry_run.ask(Question(flow.source, flow.destination, flow.protocol, None, lane))]
        source_port, port = flow.source_port, flow.destination_port
        is_known = source_port is not None and port is not None
        return [
            dry_run.ask(
                Question(
                    flow.source,
                    flow.destination,
                    flow.protocol,
                    (49152 + at if source_port is None else source_port, 1024 + at if port is None else port),
                    lane,
                )
            )
            for at in range(1 if is_known else SAMPLES)
        ]

    def _tell_mapping(self, answer: Answer) -> None:
        if answer.entry is None:
            return
        node = self._parts.node
        mapped = mapping_of(node, answer.entry)
        entry, known = node.map_cache.get(mapped), node.entry_of(mapped)
        genuine = ", genuine by LISP-SEC" if entry is not None and entry.is_genuine else ""
        source = "" if entry is None else f" ({entry.source}{genuine})"
        used = () if known is None else known.locators
        told = ", ".join(f"{locator.address} priority {locator.priority} weight {locator.weight}" for locator in used)
        dead = [] if entry is None else [ip for locator in entry.locators for ip in locator.ips]
        silent = [str(ip) for ip in dead if not self._parts.node.is_reachable(ip)]
        missing = f"; no answer from {', '.join(silent)}" if silent else ""
        self._say("mapping", f"{mapped}{source}: {told or 'no locator'}{missing}")
        seal = seal_of(self._parts, answer.entry, sessions=())  # the amount sealed is not needed
        self._say("seal", f"{seal.state}: {seal.why}")

    def _not_sent(self, flow: Flow, decision: Decision, mark: int, answer: Answer) -> Why:
        if answer.verdict is FlowVerdict.MISS:
            refused = why_refused(flow.destination, 0, self._parts.node, self._parts.now())
            reason = "" if refused is None else f"; {refused}"
            self._say(
                "mapping",
                f"there is no mapping of {flow.destination} yet: the first packet waits for it{reason}",
            )
        elif answer.verdict is FlowVerdict.NO_UPLINK:
            self._say("uplink", "there is no uplink: packets wait for one, for 3 seconds")
        else:
            now = self._parts.now()
            self._say("mapping", why_lost(answer.verdict, flow.destination, answer.entry, self._parts.node, now))
        waits = answer.verdict in (FlowVerdict.MISS, FlowVerdict.NO_UPLINK)
        return self._done(flow, "waits" if waits else "dropped", decision.rule, mark)

    def _tell_uplink(self, first: Answer, lanes: list[int], places: Counter[_Place]) -> None:
        names = list(dict.fromkeys(self._name(place[0]) for place in places))
        if len(lanes) > 1:
            self._say("uplink", f"the rule assigns each new flow at random to one of {', '.join(names)}")
            return
        if first.by_mark:
            self._say("uplink", f"{names[0]} takes it, whatever its priority")
            if first.copy_ifindex:
                copy = (
                    f"a copy of each packet leaves by {self._name(first.copy_ifindex)}; the receiver drops the second"
                )
                self._say("uplink", copy)
            return
        if lanes[0] != DEFAULT:
            self._say("uplink", "the uplink of its mark cannot send it: priority and weight decide")
        sending = self._parts.engine.uplinks
        for step in self._parts.node.preference_steps if self._parts.node.uplink_ranks else ():
            self._say("uplink", f"prefer: {self._parts.file.multihoming.prefer}: {step}")
        best = min((up.priority for up in sending), default=math.inf)
        equals = {up.interface: up.weight for up in sending if up.priority == best}
        told = " and ".join(f"{name} (weight {weight})" for name, weight in equals.items())
        if len(equals) == 1:
            self._say("uplink", f"{told.split()[0]} has the best priority")
        else:
            what = "the hash of the flow gives it to" if len(names) == 1 else "the hash of each flow gives it to one of"
            self._say("uplink", f"{told} share the best priority; {what} {', '.join(names)}")

    def _choices(self, places: Counter[_Place]) -> list[Choice]:
        total = sum(places.values())
        return [
            Choice(uplink=self._name(ifindex), local=local, remote=remote, rtr=rtr, share=round(count / total, 4))
            for (ifindex, local, remote, rtr), count in places.most_common()
        ]

    def _name(self, ifindex: int) -> str:
        return next((up.name for up in self._parts.uplinks if up.ifindex == ifindex), f"interface {ifindex}")

    def _say(self, stage: Stage, text: str) -> None:
        self._steps.append(WhyStep(stage=stage, text=text))

    def _doubt(self, stage: Stage, text: str) -> None:
        self._is_certain = False
        self._say(stage, text)

    def _done(
        self,
        flow: Flow,
        outcome: Literal["overlay", "native", "dropped", "waits"],
        rule: str | None = None,
        mark: int = 0,
        choices: list[Choice] | None = None,
        silent: list[str] | None = None,
    ) -> Why:
        return Why(
            flow=flow_text(flow),
            outcome=outcome,
            steps=self._steps,
            choices=choices or [],
            mark=mark,
            rule=rule,
            is_certain=self._is_certain,
            silent=silent or [],
        )


def _percent(share: float) -> str:
    return "" if share == 1 else f"{share * 100:.0f} % of such flows: "


# --- the flow in a request


def read_flow(params: FlowParams, default_source: IpAddress | None, came_in_by: int = 0) -> Flow:
    """The flow. `default_source` replaces a missing source. Raises ApiError with a sentence."""
    destination = read_address("destination", params.destination)
    source = default_source if params.source is None else read_address("source", params.source)
    if source is None:
        raise ApiError("params", f"source: there is no address of this host to reach {destination} from; name one")
    if source.version != destination.version:
        raise ApiError("params", f"source: {source} and {destination} are of different families")
    protocol = read_protocol_of(params, destination)
    ports = (params.source_port, params.port)
    for name, port in (("source_port", params.source_port), ("port", params.port)):
        if port is not None and not 0 <= port <= PORT_MAX:
            raise ApiError("params", f"{name}: {port} is not 0 to {PORT_MAX}")
    if protocol not in WITH_PORTS and ports != (None, None):
        raise ApiError("params", f"port: {protocol_name(protocol)} has no ports")
    if params.from_interface is not None and (params.user or params.group or params.cgroup):
        raise ApiError("params", "from_interface: forwarded packets have no user, group or cgroup of this host")
    if params.flow_class is not None and (params.flow_name is None or params.flow_class not in FLOW_CLASSES):
        raise ApiError("params", f"flow_class: with flow_name, one of {', '.join(FLOW_CLASSES)}")
    uid = _one("user", params.user, lambda text: read_user(text).first, "a user of this host, or a number")
    gid = _one("group", params.group, lambda text: read_group(text).first, "a group of this host, or a number")
    if uid is not None and gid is None:
        with contextlib.suppress(KeyError):
            gid = pwd.getpwuid(uid).pw_gid
    return Flow(
        source,
        destination,
        protocol,
        params.source_port,
        params.port,
        dscp=_one("dscp", params.dscp, read_dscp, "a number from 0 to 63, or a name such as ef") or 0,
        uid=uid,
        gid=gid,
        cgroup=_one("cgroup", params.cgroup, read_cgroup, "a control group's path"),
        from_interface=params.from_interface,
        mark=_one("mark", params.mark, _mark, "a number such as 5 or 0x5") or 0,
        came_in_by=came_in_by,
        flow_name=None if params.flow_name is None else params.flow_name.lower(),
        flow_class=None if params.flow_name is None else params.flow_class or "default",
    )


def read_protocol_of(params: FlowParams, destination: IpAddress) -> int:
    """The protocol: TCP if only a port is given, ICMP if nothing is. Raises ApiError."""
    if params.protocol is None:
        return 6 if params.port is not None else 1 if destination.version == 4 else 58
    number = _one("protocol", params.protocol, read_protocol, f"a number, or one of {', '.join(PROTOCOLS)}")
    assert number is not None
    return number if number not in ICMP else 1 if destination.version == 4 else 58


def protocol_name(number: int) -> str:
    """ "tcp", or the number of a protocol without a name here."""
    return _NAMES.get(number, f"protocol {number}")


def flow_text(flow: Flow) -> str:
    """The flow in one line, for display."""
    source, destination = (_end(*end) for end in _ends(flow))
    return f"{protocol_name(flow.protocol)} {source} -> {destination}"


def _ends(flow: Flow) -> tuple[tuple[IpAddress, int | None], tuple[IpAddress, int | None]]:
    return (flow.source, flow.source_port), (flow.destination, flow.destination_port)


def _end(address: IpAddress, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def read_address(name: str, text: str) -> IpAddress:
    """An address without a zone. Raises ApiError."""
    with contextlib.suppress(ValueError):
        if "%" not in text:
            return ip_address(text)
    raise ApiError("params", f"{name}: {text[:60]!r} is not an IPv4 or IPv6 address")


def _mark(text: str) -> int:
    number = int(text, 0)
    if not 0 <= number <= _MARK_MAX:
        raise ValueError
    return number


def _one(name: str, text: str | None, read: Callable[[str], T], accepts: str) -> T | None:
    if text is None:
        return None
    try:
        return read(text)
    except ValueError:
        raise ApiError("params", f"{name}: {text[:60]!r} is not {accepts}") from None
