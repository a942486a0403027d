"""Routing rules as rtnetlink messages.

Rules of others are copied with all their selectors; unknown ones are kept as the kernel listed them. Two messages mean
the same rule when their `Form` is equal.

    struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action (8 bits each), flags (32)
    then attributes FRA_*, see <linux/fib_rules.h>
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from ipaddress import ip_network
from typing import Final

import msgspec

from lispmob.iface_monitor import rtnetlink
from lispmob.iface_monitor.default_routes import ROUTE_PROTOCOL
from lispmob.mh.rule import FIND_SADDR, INVERT, Rule, RuleAction
from lispmob.netlink.connection import command, open_netlink
from lispmob.netlink.message import CREATE, EXCLUSIVE, FAMILIES, RTM_DELRULE, RTM_NEWRULE, Raw, attributes, put
from lispmob.wire.address import IpNetwork

_HEADER: Final = struct.Struct("=BBBBBBBBI")
_DST, _SRC, _GOTO, _PRIORITY, _FWMARK, _SUPPRESS_PREFIXLEN, _TABLE, _FWMASK = 1, 2, 4, 6, 10, 14, 15, 16
_OIFNAME, _PAD, _PROTOCOL, _IP_PROTO, _SPORT_RANGE, _DPORT_RANGE = 17, 18, 21, 22, 23, 24
_SPORT_MASK, _DPORT_MASK = 28, 29
_STRUCTURAL: Final = frozenset({_DST, _SRC, _GOTO, _PRIORITY, _TABLE, _PAD, _PROTOCOL, _SUPPRESS_PREFIXLEN})
_WHOLE_PORT: Final = frozenset({(_SPORT_MASK, b"\xff\xff"), (_DPORT_MASK, b"\xff\xff")})  # equal to no port selector
_NOT_SUPPRESSED: Final = 0xFFFFFFFF
_ACTIONS: Final[dict[RuleAction, int]] = {
    "lookup": 1,
    "goto": 2,
    "nop": 3,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
}
_BY_NUMBER: Final = {number: action for action, number in _ACTIONS.items()}
_SAID_BY_US: Final = INVERT | FIND_SADDR  # the flags that we set; the others are the kernel's
_IS_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH})


class Form(msgspec.Struct, frozen=True):
    """The identity of a rule: its header, and its attributes in a fixed order."""

    header: bytes
    attributes: tuple[tuple[int, bytes], ...]


def form(rule: Rule) -> Form:
    """The message of one of our rules."""
    source, destination = rule.source, rule.destination
    header = _HEADER.pack(
        FAMILIES[rule.family],
        destination.prefixlen if destination else 0,
        source.prefixlen if source else 0,
        rule.tos,
        0,
        0,
        0,
        _ACTIONS[rule.action],
        rule.flags | (FIND_SADDR if rule.finds_source else 0),
    )
    found: dict[int, bytes] = dict(rule.selectors)
    found[_PROTOCOL] = bytes([ROUTE_PROTOCOL])
    if rule.priority:
        found[_PRIORITY] = _u32(rule.priority)
    if rule.action == "lookup" and rule.table:
        found[_TABLE] = _u32(rule.table)
    if rule.action == "goto":
        found[_GOTO] = _u32(rule.target)
    if destination is not None and destination.prefixlen:
        found[_DST] = destination.network_address.packed
    if source is not None and source.prefixlen:
        found[_SRC] = source.network_address.packed
    if rule.suppressed_prefix_len is not None:
        found[_SUPPRESS_PREFIXLEN] = _u32(rule.suppressed_prefix_len)
    if rule.udp_ports is not None:
        found[_IP_PROTO] = bytes([socket.IPPROTO_UDP])
        found[_DPORT_RANGE if rule.destination is not None else _SPORT_RANGE] = struct.pack("=HH", *rule.udp_ports)
    if rule.device:
        found[_OIFNAME] = rule.device.encode() + b"\0"
    if rule.mask:
        found[_FWMASK] = _u32(rule.mask)
        if rule.mark:
            found[_FWMARK] = _u32(rule.mark)
    return Form(header, tuple(sorted(found.items())))


def form_of(raw: Raw) -> Form | None:
    """The form of a rule that the kernel lists; None if it is not ours."""
    fields = dict(attributes(raw.body[_HEADER.size :]))
    if fields.get(_PROTOCOL) != bytes([ROUTE_PROTOCOL]):
        return None
    family, dst_len, src_len, tos, _, _, _, action, flags = _HEADER.unpack_from(raw.body)
    header = _HEADER.pack(family, dst_len, src_len, tos, 0, 0, 0, action, flags & _SAID_BY_US)
    if fields.get(_SUPPRESS_PREFIXLEN) == _u32(_NOT_SUPPRESSED):
        del fields[_SUPPRESS_PREFIXLEN]
    if action != _ACTIONS["lookup"] or fields.get(_TABLE) == _u32(0):
        fields.pop(_TABLE, None)
    fields.pop(_PAD, None)
    return Form(header, tuple(sorted(fields.items() - _WHOLE_PORT)))


def foreign(raw: Raw) -> Rule | None:
    """Another program's rule; None for one of ours. Its further selectors are kept as the kernel lists them."""
    fields = dict(attributes(raw.body[_HEADER.size :]))
    if fields.get(_PROTOCOL) == bytes([ROUTE_PROTOCOL]):
        return None
    family, dst_len, src_len, tos, table, _, _, action, flags = _HEADER.unpack_from(raw.body)
    version = 6 if family == socket.AF_INET6 else 4
    suppressed = _number(fields.get(_SUPPRESS_PREFIXLEN), _NOT_SUPPRESSED)
    selectors = ((kind, value) for kind, value in fields.items() if kind not in _STRUCTURAL)
    return Rule(
        priority=_number(fields.get(_PRIORITY), 0),
        family=version,
        table=_number(fields.get(_TABLE), table),
        source=_network(fields.get(_SRC), src_len, version),
        destination=_network(fields.get(_DST), dst_len, version),
        suppressed_prefix_len=None if suppressed == _NOT_SUPPRESSED else suppressed,
        action=_BY_NUMBER.get(action, "nop"),
        target=_number(fields.get(_GOTO), 0),
        flags=flags & _SAID_BY_US,
        tos=tos,
        selectors=tuple(sorted(set(selectors) - _WHOLE_PORT)),
        is_copy=True,
    )


def own_forms() -> set[Form]:
    """Our rules in the kernel. Raises OSError."""
    return {one for raw in _listed() if (one := form_of(raw)) is not None}


def foreign_rules() -> tuple[Rule, ...]:
    """All other rules, in the kernel's order. Raises OSError."""
    return tuple(rule for raw in _listed() if (rule := foreign(raw)) is not None)


def _listed() -> list[Raw]:
    return [raw for family in FAMILIES.values() for raw in rtnetlink.dump_rules(family)]


def add(kernel: socket.socket, one: Form) -> None:
    """Add a rule. Raises OSError; an existing one is no error."""
    try:
        _request(kernel, RTM_NEWRULE, CREATE | EXCLUSIVE, one)
    except FileExistsError:
        return


def remove(kernel: socket.socket, one: Form) -> None:
    """Remove a rule. Raises OSError; a missing one is no error."""
    try:
        _request(kernel, RTM_DELRULE, 0, one)
    except OSError as error:
        if error.errno not in _IS_GONE:
            raise


def open_kernel() -> socket.socket:
    """The socket for `add` and `remove`. Raises OSError."""
    return open_netlink()


def priority_of(one: Form) -> int:
    """Its priority."""
    return _number(dict(one.attributes).get(_PRIORITY), 0)


def table_of(one: Form) -> int:
    """The table that it looks up; 0: none."""
    return _number(dict(one.attributes).get(_TABLE), 0)


def family_of(one: Form) -> int:
    """4 or 6."""
    return 6 if one.header[0] == socket.AF_INET6 else 4


def _request(kernel: socket.socket, verb: int, flags: int, one: Form) -> None:
    body = b"".join(put(kind, value) for kind, value in one.attributes)
    command(kernel, verb, flags, one.header + body)


def _u32(number: int) -> bytes:
    return struct.pack("=I", number)


def _number(value: bytes | None, otherwise: int) -> int:
    return int.from_bytes(value, sys.byteorder) if value is not None else otherwise


def _network(address: bytes | None, length: int, version: int) -> IpNetwork | None:
    if address is None or not length:
        return None
    return ip_network((address[: 4 if version == 4 else 16], length), strict=False)
