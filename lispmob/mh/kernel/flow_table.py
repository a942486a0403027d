"""The flows in connection tracking, with their connection marks."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from lispmob.errors import KernelRefused
from lispmob.mh.kernel.conntrack import (
    DESTINATIONS,
    FAMILY,
    GET,
    NO_TRACKING,
    SOURCES,
    TUPLE_IP,
    TUPLE_ORIG,
    end_of,
)
from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import DUMP, FAMILIES, NESTED, NETLINK_NETFILTER, attributes, put
from lispmob.wire.address import IpAddress

# <linux/netfilter/nfnetlink_conntrack.h>
_TUPLE_PROTO: Final = 2
_PROTO_NUM, _PROTO_SOURCE, _PROTO_DESTINATION = 1, 2, 3
_MARK: Final = 8
_IP_KINDS: Final = {4: (1, 2), 6: (3, 4)}  # CTA_IP_V4_SRC, _DST; CTA_IP_V6_SRC, _DST


class Tracked(msgspec.Struct, frozen=True):
    """One flow. `ports`: ours and theirs; None for a protocol without ports. `mark`: the connection mark.

    `began_outside`: the other end sent the first packet.
    """

    source: IpAddress
    destination: IpAddress
    protocol: int
    ports: tuple[int, int] | None
    mark: int = 0
    began_outside: bool = False


def find(source: IpAddress, destination: IpAddress, protocol: int, ports: tuple[int, int]) -> Tracked | None:
    """The entry of one flow, whichever end began it; None: there is none.

    Raises KernelRefused.
    """
    version = source.version
    kinds = _IP_KINDS[version]
    addresses = put(kinds[0], source.packed) + put(kinds[1], destination.packed)
    numbers = put(_PROTO_NUM, bytes([protocol]))
    numbers += put(_PROTO_SOURCE, struct.pack("!H", ports[0])) + put(_PROTO_DESTINATION, struct.pack("!H", ports[1]))
    wanted = put(TUPLE_IP | NESTED, addresses) + put(_TUPLE_PROTO | NESTED, numbers)
    try:
        with open_netlink(NETLINK_NETFILTER) as kernel:
            header = FAMILY.pack(FAMILIES[version], 0, 0)
            for message in ask(kernel, GET, 0, header, put(TUPLE_ORIG | NESTED, wanted)):
                for flow in _tracked(message):
                    began_outside = flow.source != source
                    return Tracked(source, destination, protocol, ports, flow.mark, began_outside)
    except OSError as error:
        if error.errno not in NO_TRACKING:
            raise _refused(error) from error
    return None


def tracked() -> list[Tracked]:
    """All tracked flows, in their original direction. Blocks while it lists them. Raises KernelRefused."""
    found: list[Tracked] = []
    for family in FAMILIES.values():
        try:
            with open_netlink(NETLINK_NETFILTER) as kernel:
                for message in ask(kernel, GET, DUMP, FAMILY.pack(family, 0, 0)):
                    found += _tracked(message)
        except OSError as error:
            if error.errno not in NO_TRACKING:
                raise _refused(error) from error
    return found


def turned(flow: Tracked) -> Tracked:
    """The same flow in the direction of its answers."""
    ports = None if flow.ports is None else (flow.ports[1], flow.ports[0])
    return Tracked(flow.destination, flow.source, flow.protocol, ports, flow.mark, not flow.began_outside)


def _tracked(message: bytes) -> Iterator[Tracked]:
    found = dict(attributes(message[FAMILY.size :]))
    original = found.get(TUPLE_ORIG)
    source, destination = end_of(original, SOURCES), end_of(original, DESTINATIONS)
    numbers = dict(attributes(dict(attributes(original or b"")).get(_TUPLE_PROTO, b"")))
    if source is None or destination is None or _PROTO_NUM not in numbers:
        return
    ports = None
    if _PROTO_SOURCE in numbers and _PROTO_DESTINATION in numbers:
        ports = (int.from_bytes(numbers[_PROTO_SOURCE]), int.from_bytes(numbers[_PROTO_DESTINATION]))
    mark = int.from_bytes(found.get(_MARK, b""))
    yield Tracked(source, destination, numbers[_PROTO_NUM][0], ports, mark)


def _refused(error: OSError) -> KernelRefused:
    why = error.strerror or os.strerror(error.errno or errno.EIO)
    return KernelRefused(f"conntrack: {why}: needs CAP_NET_ADMIN")
