"""`lispctl rehearse`: evaluates the present flows for the current uplinks and for the given change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from lispmob.api.backend import ApiError
from lispmob.api.steering.schema import Rehearsal, Rehearsed
from lispmob.datapath.ask import Question, choose_uplink
from lispmob.datapath.model import Uplink as EngineUplink
from lispmob.errors import KernelRefused
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd import assembly
from lispmob.lispd.explain.why import flow_text
from lispmob.lispd.parts import Parts
from lispmob.lispd.sending import sending_uplinks
from lispmob.mh.kernel.flow_table import Tracked, tracked, turned
from lispmob.mh.kernel.open_sockets import Key, OpenSocket, open_sockets
from lispmob.mh.policy import Uplink as SteeringUplink
from lispmob.mh.rehearsal import rehearse
from lispmob.mh.selector import Flow
from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import IpAddress

FLOWS_MAX: Final = 2000  # ours: more than a user reads, evaluated in some tens of milliseconds
JUDGED_S: Final = 0.003  # ours: the time spent in one turn of the loop
_ANYWHERE: Final = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


class _World(msgspec.Struct, frozen=True):
    """The uplinks at one moment, in the form of the rules and of the datapath."""

    uplinks: tuple[SteeringUplink, ...]
    sending: tuple[EngineUplink, ...]

    @classmethod
    def of(cls, parts: Parts, uplinks: tuple[Uplink, ...]) -> _World:
        sending = sending_uplinks(parts.file, uplinks, parts.node)
        return cls(assembly.steering_uplinks(parts.file, uplinks), sending)


async def rehearse_now(parts: Parts, lose: Sequence[str], gain: Sequence[str]) -> Rehearsal:
    """The changes for each flow. Raises ApiError for an interface that cannot be lost or gained."""
    now = _World.of(parts, parts.uplinks)
    then = _World.of(parts, _uplinks_then(parts, lose, gain))
    known, sockets = await asyncio.to_thread(_listed)
    source: Literal["conntrack", "sockets"] = "conntrack" if known else "sockets"
    flows = _flows(parts, known, sockets)
    judged = rehearse(
        parts.steering.compiled.policy,
        now.uplinks,
        then.uplinks,
        flows[:FLOWS_MAX],
        lambda flow, uplinks: _default(parts, now if uplinks == now.uplinks else then, flow),
    )
    shown: list[Rehearsed] = []
    until = parts.now() + JUDGED_S
    for rehearsed in judged:
        shown.append(
            Rehearsed(
                flow=flow_text(rehearsed.flow),
                change=rehearsed.change.value,
                before=list(rehearsed.before),
                after=list(rehearsed.after),
                steps=list(rehearsed.steps),
            )
        )
        if parts.now() >= until:
            await asyncio.sleep(0)
            until = parts.now() + JUDGED_S
    return Rehearsal(flows=shown, source=source, left_out=max(0, len(flows) - FLOWS_MAX))


def _uplinks_then(parts: Parts, lose: Sequence[str], gain: Sequence[str]) -> tuple[Uplink, ...]:
    present = {uplink.name for uplink in parts.uplinks}
    for name in lose:
        if name not in present:
            raise ApiError("params", f"lose: {name[:40]} is no uplink now; there are: {', '.join(sorted(present))}")
    gained = [_gained(parts, name) for name in gain if name not in present]
    if not lose and not gained:
        raise ApiError("params", f"gain: {', '.join(gain)[:80]} is an uplink already")
    return (*(uplink for uplink in parts.uplinks if uplink.name not in lose), *gained)


def _gained(parts: Parts, name: str) -> Uplink:
    """An interface as an uplink whose default routes come after all others, in the families of its addresses."""
    link = next((link for link in parts.network.links if link.name == name), None)
    if link is None:
        raise ApiError("params", f"gain: there is no interface {name[:40]}")
    rule = parts.policy.rule_for(link)
    usable = tuple(usable_address.address for usable_address in parts.network.usable_addresses(link, parts.policy))
    families = {address.version for uplink in parts.uplinks for address in uplink.addresses} or {4}
    last = max((uplink.priority for uplink in parts.uplinks), default=0)
    return Uplink(
        name=name,
        ifindex=link.ifindex,
        addresses=usable or tuple(_ANYWHERE[family] for family in sorted(families)),
        metric=max((uplink.metric for uplink in parts.uplinks), default=0) + 1,
        mtu_bytes=link.mtu_bytes,
        priority=min(last + 1, NEVER - 1) if rule.priority is None else rule.priority,
        weight=100 if rule.weight is None else rule.weight,
        type=link.type,
    )


def _listed() -> tuple[list[Tracked], dict[Key, OpenSocket]]:
    try:
        return tracked(), open_sockets()
    except KernelRefused:
        return [], open_sockets()


def _flows(parts: Parts, known: list[Tracked], sockets: dict[Key, OpenSocket]) -> list[Flow]:
    """The flows with a local EID at one end, in the direction of our packets."""
    flows: dict[tuple[IpAddress, IpAddress, int, tuple[int, int] | None], Flow] = {}
    mask = parts.steering.compiled.policy.mask
    for one in known:
        if _is_own(parts, one.source) == _is_own(parts, one.destination):
            continue
        out = one if _is_own(parts, one.source) else turned(one)
        flow = Flow(out.source, out.destination, out.protocol, *(out.ports or (None, None)))
        ifindex = mask.ifindex(out.mark)
        flow = replace(flow, came_in_by=ifindex) if out.began_outside else replace(flow, kept_by=ifindex)
        flows[out.source, out.destination, out.protocol, out.ports] = flow
    for key, had in sockets.items():
        if not _is_own(parts, had.source) or _is_own(parts, had.destination):
            continue
        flow = flows.get(key) or Flow(had.source, had.destination, had.protocol, *had.ports)
        flows[key] = replace(flow, uid=had.uid, mark=had.mark, cgroup=had.cgroup)
    return list(flows.values())


def _is_own(parts: Parts, address: IpAddress) -> bool:
    return any(eid.contains(address) for eid in parts.file.eids)


def _default(parts: Parts, world: _World, flow: Flow) -> str | None:
    """The datapath's choice for the flow by priority and weight: with its own hash and rule."""
    known = flow.source_port is not None and flow.destination_port is not None
    ports = (flow.source_port or 0, flow.destination_port or 0) if known else None
    answer = parts.engine.dry_run.ask(Question(flow.source, flow.destination, flow.protocol, ports))
    installed = None if answer.entry is None else parts.node.disposition(answer.entry)
    having = {up.addresses[0].version for up in world.sending if _may_send(up)}
    if installed is not None and installed.disposition in ("ENCAPSULATE", "DOUBT"):
        fitting = [locator for locator in installed.locators if locator.address.version in having]
        best = min((locator.priority for locator in fitting), default=NEVER)
        having = {locator.address.version for locator in fitting if locator.priority == best < NEVER}
    usable = [up for up in world.sending if _may_send(up) and up.addresses[0].version in having]
    chosen = choose_uplink(usable, answer.flow)
    return None if chosen is None else chosen.interface


def _may_send(uplink: EngineUplink) -> bool:
    traversal = uplink.traversal.get(uplink.addresses[0])
    return uplink.priority < NEVER and (traversal is None or traversal.is_usable)
