"""Converts a flow in a request to the flow that steering evaluates."""

from __future__ import annotations

import contextlib
import pwd
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar

from lispmob.api.backend import ApiError
from lispmob.api.steering.schema import FlowParams
from lispmob.config.steering import FLOW_CLASSES, read_cgroup, read_dscp, read_group, read_protocol, read_user
from lispmob.mh.selector import ICMP, PORT_MAX, PROTOCOLS, WITH_PORTS, Flow
from lispmob.wire.address import IpAddress

T = TypeVar("T")
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_MARK_MAX = 0xFFFFFFFF


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
