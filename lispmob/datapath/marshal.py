"""Between the values of the datapath's face and the structs of its C side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from lispmob.datapath import _lispdp
from lispmob.datapath.model import (
    ControlPacket,
    Echoed,
    ForwardingLocator,
    HeardAgain,
    LargeSent,
    Miss,
    MtuLearned,
    MtuSourceName,
    Punt,
    Refuted,
    Silent,
    Stalled,
    StatusBits,
    Stranger,
    TrafficResumed,
    Traversal,
)
from lispmob.wire.address import EidPrefix, IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

PRIORITY_NEVER = 255
_MISS, _CONTROL, _MTU, _RESUMED, _SILENT, _STALLED, _STRANGER, _HEARD, _STATUS, _ECHOED, _REFUTED = range(
    1, 12
)  # enum lm_punt_kind
_LARGE = 12
_MTU_SOURCES: tuple[MtuSourceName, ...] = ("icmp", "unproven", "interface")  # enum lm_mtu_source
DATA_PORTS = {"pool": 0, "fixed": 1, "ephemeral": 2}  # enum lm_data_port
NO_NAT = Traversal()


def put_address(into: Any, address: IpAddress) -> None:
    """Set a struct lm_addr."""
    into.family = address.version
    ffi.buffer(into.octets)[:] = address.packed.ljust(16, b"\0")


def one_address(address: IpAddress | None) -> Any:
    """A struct lm_addr of its own; None: no address."""
    made = ffi.new("struct lm_addr *")
    if address is not None:
        put_address(made, address)
    return made


def smallest_mtus(found: Any, count: int) -> dict[IpAddress, int]:
    """Of an array of struct lm_mtu the smallest for each locator, in octets."""
    smallest: dict[IpAddress, int] = {}
    for one in (found[i] for i in range(count)):
        locator = address(one.address)
        smallest[locator] = min(int(one.mtu), smallest.get(locator, int(one.mtu)))
    return smallest


def put_locator(into: Any, locator: ForwardingLocator) -> None:
    """Set a struct lm_locator_spec."""
    put_address(into.address, locator.address)
    into.port, into.priority, into.weight = locator.port, locator.priority, locator.weight
    if locator.source is not None:
        put_address(into.source, locator.source)
        into.fd = locator.socket


def put_traversal(spec: Any, traversal: Traversal) -> None:
    """Set what a NAT on the way asks of a struct lm_uplink_spec."""
    if not traversal.is_usable:
        spec.priority = PRIORITY_NEVER
    spec.data_port = DATA_PORTS[traversal.data_port]
    spec.admits_others, spec.passes_zero = traversal.admits_others, traversal.passes_zero
    spec.relay_count = min(len(traversal.relays), lib.LM_RELAYS_MAX)
    for relay, locator in zip(spec.relays, traversal.relays, strict=False):
        put_locator(relay, locator)


def address(c: Any) -> IpAddress:
    """What a struct lm_addr holds."""
    octets = bytes(ffi.buffer(c.octets))
    return IPv4Address(octets[:4]) if c.family == 4 else IPv6Address(octets)


def locators(locators: Sequence[ForwardingLocator]) -> Any:
    """An array of struct lm_locator_spec."""
    made = ffi.new("struct lm_locator_spec[]", max(1, len(locators)))
    for spec, locator in zip(made, locators, strict=False):
        put_locator(spec, locator)
    return made


def prefixes(prefixes: Iterable[EidPrefix]) -> tuple[Any, int]:
    """An array of struct lm_prefix, and how many it holds."""
    wanted = list(prefixes)
    made = ffi.new("struct lm_prefix[]", max(1, len(wanted)))
    for c, prefix in zip(made, wanted, strict=False):
        c.instance_id, c.length = prefix.instance_id, prefix.mask_len
        put_address(c.address, prefix.address)
    return made, len(wanted)


def prefix(c: Any) -> EidPrefix:
    """What a struct lm_prefix holds."""
    return EidPrefix.make(address(c.address), c.length, c.instance_id)


def punt(c: Any) -> Punt:
    """What a struct lm_punt tells."""
    if c.kind == _MISS:
        return Miss(address(c.source), address(c.destination), c.instance_id)
    if c.kind == _MTU:
        source = _MTU_SOURCES[c.mtu_source]
        return MtuLearned(address(c.destination), c.mtu, address(c.source), c.destination_port, source)
    if c.kind == _LARGE:
        return LargeSent(address(c.destination), address(c.source), c.destination_port)
    if c.kind == _SILENT:
        return Silent(address(c.destination), c.is_flowing, c.is_alone)
    if c.kind == _HEARD:
        return HeardAgain(address(c.source), address(c.destination))
    if c.kind == _RESUMED:
        return TrafficResumed(c.is_outbound, c.at_ns / 1e9, c.before_ns / 1e9 if c.before_ns else None)
    if c.kind == _ECHOED:
        return Echoed(address(c.destination), address(c.source))
    if c.kind == _STATUS:
        return StatusBits(address(c.source), c.instance_id, address(c.outer_source), c.status, c.status_width)
    if c.kind == _REFUTED:
        return Refuted(address(c.source), c.instance_id)
    if c.kind == _STALLED:
        return Stalled(address(c.source), c.ifindex)
    if c.kind == _STRANGER:
        return Stranger(
            address(c.source),
            address(c.destination),
            c.instance_id,
            address(c.outer_source),
            c.outer_source_port,
            address(c.outer_destination),
            c.is_registered,
        )
    assert c.kind == _CONTROL, c.kind
    return ControlPacket(
        payload=bytes(ffi.buffer(c.payload, c.length)),
        source=address(c.source),
        source_port=c.source_port,
        destination=address(c.destination),
        destination_port=c.destination_port,
        outer_source=address(c.outer_source),
        outer_source_port=c.outer_source_port,
        outer_destination=address(c.outer_destination),
        ifindex=c.ifindex,
    )
