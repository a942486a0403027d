"""The common record of all uplinks: RTRs for those behind NATs, our own addresses for the others (NAT drafts, section
5).

In E19 the private addresses are in it too, R=0: only the RTR may send to them. It learns from their priorities and
weights how to spread its packets for us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from lispmob.natt.dialect import Dialect
from lispmob.natt.effect import DataPort, Reach
from lispmob.natt.machine import UplinkMachine
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.plan import DataPortName, NattPlan, Relay, UplinkPlan
from lispmob.natt.state import State
from lispmob.protocol.locator_set import NEVER, EidRecords, LocalLocator
from lispmob.wire.address import DistinguishedName, EidPrefix, IpAddress
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_types import AfiList, WireAddress
from lispmob.wire.named_locator import RTR_NAME, RTR_PRIORITY, RTR_WEIGHT, place_name
from lispmob.wire.record import LOCATORS_PER_RECORD_LIMIT, Locator

WEIGHT_MAX: Final = 255


def plan(
    machines: Sequence[UplinkMachine], config: NattConfig, asks: Callable[[LocalLocator], bool] = lambda _: True
) -> NattPlan:
    """The plan, from the state of each uplink.

    `asks`: a lookup from this locator may succeed. If none can, everything goes through an RTR by default, if there is
    one.
    """
    working = [machine for machine in machines if machine.state is State.RELAYED or machine.is_direct]
    spared = left(machines)
    uplinks = tuple(_uplink(machine, config, is_left=machine in spared) for machine in machines)
    wanted = [uplink for uplink in uplinks if uplink.locator.priority < NEVER]
    defaults = {relay.address: relay for uplink in wanted if uplink.is_usable for relay in uplink.relays}
    open_ones = [uplink.locator for uplink in wanted if uplink.is_usable and not uplink.relays]
    can_ask = not wanted or any(map(asks, open_ones)) or bool(open_ones and not defaults)
    return NattPlan(
        direct=tuple(machine.locator for machine in machines if machine.is_direct),
        record_locators=record(working, config),
        uplinks=uplinks,
        defaults=tuple(defaults.values()),
        asks_mapping_system=can_ask,
        eid_records=_eid_records(working, config),
    )


def left(machines: Iterable[UplinkMachine]) -> frozenset[UplinkMachine]:
    """The uplinks that are not used because their data is lost on the way to the RTR. None if no other one works."""
    present = tuple(machines)
    shut = frozenset(machine for machine in present if machine.is_shut)
    others = (machine for machine in present if machine not in shut and machine.locator.priority < NEVER)
    return shut if any(machine.state is State.RELAYED or machine.is_direct for machine in others) else frozenset()


def record_for(
    one: UplinkMachine, machines: Iterable[UplinkMachine], config: NattConfig
) -> tuple[tuple[Locator, ...], EidRecords]:
    """The record that this uplink registers: all working uplinks and itself, because the register makes it work.

    Another uplink that registers at this moment is included too, R=0: the RTR forgets what is not listed, and either
    register may arrive last. An uplink whose RTR fell silent is marked unusable until it answers.
    """
    present = tuple(machines)
    working = [other for other in present if other is one or other.state is State.RELAYED or other.is_direct]
    starting = [other for other in present if other not in working and other.state is State.REGISTERING]
    return record(working, config, starting), _eid_records(working, config, starting)


def _eid_records(
    machines: Sequence[UplinkMachine], config: NattConfig, starting: Sequence[UplinkMachine] = ()
) -> EidRecords:
    ranked = {rank.eid for machine in (*machines, *starting) for rank in machine.locator.by_eid}
    return tuple((eid, record(machines, config, starting, eid)) for eid in config.eids if eid in ranked)


def record(
    machines: Sequence[UplinkMachine],
    config: NattConfig,
    starting: Sequence[UplinkMachine] = (),
    eid: EidPrefix | None = None,
) -> tuple[Locator, ...]:
    """The locators of an EID's record, each address once, in the order of the RFC. `starting`: with R=0 alone."""
    locators: dict[WireAddress, Locator] = {}
    spared = left((*machines, *starting))
    rtrs: dict[IpAddress, list[UplinkMachine]] = {}
    for uplink in starting:
        if uplink.rtrs and uplink.dialect is not Dialect.LISPERS:
            own = _own(uplink, config, eid)
            locators[own.address] = replace(own, priority=NEVER, weight=0) if uplink.has_failed else own
    for machine in machines:
        for rtr in machine.rtrs:
            rtrs.setdefault(rtr, []).append(machine)
        own = _own(machine, config, eid)
        locators[own.address] = replace(own, priority=NEVER, weight=0) if machine in spared else own
    for rtr, behind in rtrs.items():
        used = [machine for machine in behind if machine not in spared]
        locator = _rtr(rtr, used or behind, eid)
        locators[locator.address] = locator if used else replace(locator, priority=NEVER, weight=0)
    return tuple(sorted(locators.values(), key=_wire_order)[:LOCATORS_PER_RECORD_LIMIT])


def _uplink(one: UplinkMachine, config: NattConfig, *, is_left: bool) -> UplinkPlan:
    locator = one.locator
    # The first one has all the data, so that its silence is noticed; the others are kept open, and listened to.
    fitting = [(rtr, at) for rtr in one.rtrs if (at := locator.reach(rtr)) is not None]
    relays = tuple(
        Relay(at, one.data_way.port_to(rtr), priority=rank, weight=100, rtr=rtr if rtr != at else None)
        for rank, (rtr, at) in enumerate(fitting, start=1)
    )
    is_usable = (one.is_direct or one.state is State.RELAYED) and not is_left
    admits_others = bool(relays) and config.direct and one.dialect is Dialect.E19
    # Without relays of its family a fixed port is useless; an ephemeral one may have sent the Info-Request.
    needs_port = bool(relays) or one.data_port is DataPort.EPHEMERAL
    port: DataPortName = one.data_port.value if needs_port else "pool"
    return UplinkPlan(locator, relays, port, admits_others, bool(relays and one.passes_zero), is_usable)


def _own(one: UplinkMachine, config: NattConfig, eid: EidPrefix | None) -> Locator:
    own = one.locator.announced_for(eid)
    if not one.rtrs:
        return Locator(own.name, own.priority, own.weight, is_local=True)
    if one.dialect is not Dialect.LISPERS:
        return Locator(one.name, own.priority, own.weight, is_local=True, is_reachable=False)
    seen = one.seen
    assert seen is not None
    told = (seen.address, seen.port) if seen.address is not None else one.punches.place
    host = config.host_name_on(own.interface)
    if told is None:
        return Locator(AfiList((own.address, DistinguishedName(host))), own.priority, own.weight, is_local=True)
    address = own.address if one.reach is Reach.DIRECT else told[0]
    return Locator(AfiList((address, place_name(host, told[1]))), own.priority, own.weight, is_local=True)


def _rtr(rtr: IpAddress, behind: list[UplinkMachine], eid: EidPrefix | None) -> Locator:
    """An RTR represents the uplinks behind it: with their best priority, and the sum of their weights at it."""
    if all(machine.dialect is Dialect.LISPERS for machine in behind):
        return Locator(AfiList((rtr, DistinguishedName(RTR_NAME))), RTR_PRIORITY, RTR_WEIGHT)
    told = [machine.locator.announced_for(eid) for machine in behind]
    priority = min(locator.priority for locator in told)
    weight = sum(locator.weight for locator in told if locator.priority == priority)
    return Locator(rtr, priority, min(weight, WEIGHT_MAX))


def _wire_order(locator: Locator) -> tuple[int, bytes]:
    octets = put_address(locator.address)
    return int.from_bytes(octets[:2]), octets[2:]
