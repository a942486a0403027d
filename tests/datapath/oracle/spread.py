"""Which of several contenders a flow goes to: table/rendezvous.c in Python. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from lispmob.wire.address import IpAddress

NEVER: Final = 255
_MASK: Final = (1 << 64) - 1
_FACTOR: Final = 0xD6E8FEB86659FD93
_GOLDEN: Final = 0x9E3779B97F4A7C15
_LOG2: Final = tuple(round(65536 * math.log2(1 + place / 64)) for place in range(65))


class Contender(msgspec.Struct, frozen=True):
    """One that may be chosen. `identity` identifies it for as long as it exists; priority 255 takes no part."""

    identity: int
    priority: int = 1
    weight: int = 100


def identity(data: bytes) -> int:
    """A 64-bit number from the octets that identify a contender."""
    value = len(data)
    for octet in data:
        value = (_mix(value ^ octet) + _GOLDEN) & _MASK
    return value


def locator_identity(address: IpAddress, port: int) -> int:
    """The identity of a locator: family, 16 octets, port."""
    return identity(bytes([address.version]) + address.packed.ljust(16, b"\0") + port.to_bytes(2, "big"))


def uplink_identity(ifindex: int) -> int:
    """The identity of an uplink: it does not change with its address."""
    return identity(b"\0" + ifindex.to_bytes(4, "big"))


def choose(contenders: Sequence[Contender], flow: int) -> int | None:
    """The index of the winner among those of the lowest priority; None: there is none."""
    best = min((contender.priority for contender in contenders), default=NEVER)
    if best == NEVER:
        return None
    members = [index for index, one in enumerate(contenders) if one.priority == best]
    if len(members) == 1:
        return members[0]
    has_weights = any(contenders[index].weight for index in members)
    winner, winner_cost, winner_weight = -1, 0, 1
    for index in members:
        weight = contenders[index].weight if has_weights else 1
        if weight == 0:
            continue
        cost = _cost(flow, contenders[index].identity)
        if winner < 0 or cost * winner_weight < winner_cost * weight:
            winner, winner_cost, winner_weight = index, cost, weight
    return winner


def _mix(x: int) -> int:
    x ^= x >> 32
    x = x * _FACTOR & _MASK
    x ^= x >> 32
    x = x * _FACTOR & _MASK
    return x ^ x >> 32


def _cost(flow: int, its_identity: int) -> int:
    """-log2 of a draw from (0, 1), in 65536ths: exponentially distributed, so that a weight divides it."""
    draw = _mix(flow ^ _mix(its_identity)) >> 16 | 1
    whole = draw.bit_length() - 1
    fraction = draw >> (whole - 22) if whole >= 22 else draw << (22 - whole)
    place, within = fraction >> 16 & 63, fraction & 0xFFFF
    logarithm = (whole << 16) + _LOG2[place] + ((_LOG2[place + 1] - _LOG2[place]) * within >> 16)
    return max((48 << 16) - logarithm, 1)
