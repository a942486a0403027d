"""What may be an EID, and what may be an RLOC: one table. `datapath/c/base/address_class.h` repeats it.

Everything that takes an address asks here, so that none is accepted in one place and dropped in another. What matches
no row may be both.
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


CLASSES: Final = (  # the first one that matches counts
    _row("0.0.0.0/8", "this network"),
    _row("127.0.0.0/8", "loopback"),
    _row("169.254.0.0/16", "link-local"),
    _row("224.0.0.0/4", "multicast"),
    _row("255.255.255.255/32", "broadcast"),
    # Linux takes them for unicast, and lispers.net's documents number EIDs with them; routers on the way may not.
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
    """The row of an address; None: it is an ordinary one."""
    number = int(address)
    for first, last, row in _RANGES[address.version]:
        if first <= number <= last:
            return row
    return None


def may_be_eid(address: IpAddress) -> bool:
    """True for an address that a host of the overlay may have, and packets in it may go to."""
    row = class_of(address)
    return row is None or row.may_be_eid


def may_be_rloc(address: IpAddress) -> bool:
    """True for an address that a datagram can be sent to across a network."""
    row = class_of(address)
    return row is None or row.may_be_rloc


def why_no_eid(network: IpNetwork) -> str | None:
    """The name of the class that the whole prefix lies in when no address of it may be an EID, else None."""
    row = class_of(network.network_address)
    if row is None or row.may_be_eid or network.broadcast_address not in row.network:
        return None
    return row.name
