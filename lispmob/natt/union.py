"""One record for all uplinks: RTRs for those behind NATs, our own addresses for the others (NAT drafts, section 5).

In E19 the private addresses are in it too, R=0: nobody may send to them but the RTR, which learns from their priorities
and weights how to spread what it has for us.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from lispmob.control.locator_set import NEVER
from lispmob.natt.dialect import Dialect
from lispmob.natt.effect import DataPort, Reach
from lispmob.natt.machine import State, UplinkMachine
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.plan import NattPlan, Relay, UplinkPlan
from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.header import DATA_PORT
from lispmob.wire.lcaf import put_address
from lispmob.wire.lcaf_types import AfiList, WireAddress
from lispmob.wire.named_locator import RTR_NAME, RTR_PRIORITY, RTR_WEIGHT, place_name
from lispmob.wire.record import LOCATORS_PER_RECORD_LIMIT, Locator

WEIGHT_MAX: Final = 255


def plan(machines: Sequence[UplinkMachine], config: NattConfig) -> NattPlan:
    """What everybody else has to do, given where each uplink stands."""
    working = [one for one in machines if one.state is State.RELAYED or one.is_direct]
    uplinks = tuple(_uplink(one) for one in machines)
    wanted = [one for one in uplinks if one.locator.priority < NEVER]
    defaults = {relay.address: relay for uplink in wanted if uplink.is_usable for relay in uplink.relays}
    asks = not wanted or any(not uplink.relays and uplink.is_usable for uplink in wanted)
    return NattPlan(
        direct=tuple(one.locator for one in machines if one.is_direct),
        record_locators=record(working, config),
        uplinks=uplinks,
        defaults=tuple(defaults.values()),
        asks_mapping_system=asks,
    )


def record_for(one: UplinkMachine, machines: Iterable[UplinkMachine], config: NattConfig) -> tuple[Locator, ...]:
    """What the registers of this uplink say: all that works, and itself, for they are what makes it work."""
    working = [other for other in machines if other is one or other.state is State.RELAYED or other.is_direct]
    return record(working, config)


def record(machines: Sequence[UplinkMachine], config: NattConfig) -> tuple[Locator, ...]:
    """The locators of the record, each address once, in the order of the RFC."""
    locators: dict[WireAddress, Locator] = {}
    rtrs: dict[IpAddress, list[UplinkMachine]] = {}
    for one in machines:
        for rtr in one.rtrs:
            rtrs.setdefault(rtr, []).append(one)
        own = _own(one, config)
        locators[own.address] = own
    for rtr, behind in rtrs.items():
        locator = _rtr(rtr, behind)
        locators[locator.address] = locator
    return tuple(sorted(locators.values(), key=_wire_order)[:LOCATORS_PER_RECORD_LIMIT])


def _uplink(one: UplinkMachine) -> UplinkPlan:
    locator = one.locator
    relays = tuple(
        Relay(rtr, DATA_PORT, priority=1, weight=100) for rtr in one.rtrs if rtr.version == locator.address.version
    )
    is_usable = one.is_direct or one.state is State.RELAYED
    # Without relays of its family a fixed port serves nothing; an ephemeral one may be what the question came from.
    needs_port = bool(relays) or one.data_port is DataPort.EPHEMERAL
    return UplinkPlan(locator, relays, one.data_port.value if needs_port else "pool", is_usable)


def _own(one: UplinkMachine, config: NattConfig) -> Locator:
    own = one.locator
    if not one.rtrs:
        return Locator(own.address, own.priority, own.weight, is_local=True)
    if one.dialect is not Dialect.LISPERS:
        return Locator(own.address, own.priority, own.weight, is_local=True, is_reachable=False)
    seen = one.seen
    assert seen is not None
    address = seen.address if seen.address is not None and one.reach is Reach.TRANSLATED else own.address
    name = place_name(config.host_name_on(own.interface), seen.port)
    return Locator(AfiList((address, name)), own.priority, own.weight, is_local=True)


def _rtr(rtr: IpAddress, behind: list[UplinkMachine]) -> Locator:
    """An RTR stands for the uplinks behind it: their best priority, and what they weigh together at that one."""
    if all(one.dialect is Dialect.LISPERS for one in behind):
        return Locator(AfiList((rtr, DistinguishedName(RTR_NAME))), RTR_PRIORITY, RTR_WEIGHT)
    priority = min(one.locator.priority for one in behind)
    weight = sum(one.locator.weight for one in behind if one.locator.priority == priority)
    return Locator(rtr, priority, min(weight, WEIGHT_MAX))


def _wire_order(locator: Locator) -> tuple[int, bytes]:
    octets = put_address(locator.address)
    return int.from_bytes(octets[:2]), octets[2:]
