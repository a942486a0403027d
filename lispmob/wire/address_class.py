"""Which addresses may be EIDs, and which may be RLOCs: one table. `datapath/c/base/address_class.h` repeats it.

All code that accepts an address uses this table, so that no address is accepted by one part and dropped by another. An
address that matches no row may be both.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

import msgspec

from lispmob.wire.address import IpAddress, IpNetwork


class AddressClass(msgspec.Struct, frozen=True):
    """Addresses of one kind (IANA special-purpose address registries)."""

    network: IpNetwork
    name: str
    may_be_eid: bool = False
    may_be_rloc: bool = False


def _row(text: str, name: str, *, may_be_eid: bool = False) -> AddressClass:
    return AddressClass(ip_network(text), name, may_be_eid)


CLASSES: Final = (  # the first match counts
    _row("0.0.0.0/8", "this network"),
    _row("127.0.0.0/8", "loopback"),
    _row("169.254.0.0/16", "link-local"),
    _row("224.0.0.0/4", "multicast"),
    _row("255.255.255.255/32", "broadcast"),
    # Linux treats them as unicast, and lispers.net's documents use them as EIDs; routers on the path may drop them.
    _row("240.0.0.0/4", "reserved", may_be_eid=True),
    _row("::/128", "unspecified"),
    _row("::1/128", "loopback"),
    _row("::ffff:0:0/96", "IPv4-mapped"),
    _row("::/96", "IPv4-compatible"),
    _row("100::/64", "discard-only"),
    _row("fec0::/10", "site-local"),
    _row("fe80::/10", "link-local"),
    _row("ff00::/8", "multicast"),
)


# By family: first and last address of each row, as numbers.
_RANGES: Final = {
    version: tuple(
        (int(row.network.network_address), int(row.network.broadcast_address), row)
        for row in CLASSES
        if row.network.version == version
    )
    for version in (4, 6)
}


def class_of(address: IpAddress) -> AddressClass | None:
    """The row of an address; None for an ordinary address."""
    number = int(address)
    for first, last, row in _RANGES[address.version]:
        if first <= number <= last:
            return row
    return None


def may_be_eid(address: IpAddress) -> bool:
    """True for an address that a host of the overlay may have, as source or destination of inner packets."""
    row = class_of(address)
    return row is None or row.may_be_eid


def may_be_rloc(address: IpAddress) -> bool:
    """True for an address that may be the destination of a datagram on the underlay."""
    row = class_of(address)
    return row is None or row.may_be_rloc


def why_no_eid(network: IpNetwork) -> str | None:
    """The name of the class that contains the whole prefix if none of its addresses may be an EID, else None."""
    row = class_of(network.network_address)
    if row is None or row.may_be_eid or network.broadcast_address not in row.network:
        return None
    return row.name
