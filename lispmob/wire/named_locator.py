"""How lispers.net describes the locators of a node behind NATs: the table of its priorities, names and marks.

{ AFI 1 or 2: translated address, AFI 17: "host-interface@tp-PORT" }   the node's own priority
{ AFI 1 or 2: RTR, AFI 17: "RTR" }                                     priority 254, weight 0
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from ipaddress import ip_network
from typing import Final, NamedTuple

from lispmob.wire.address import DistinguishedName, IpAddress
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.record import Locator

RTR_PRIORITY: Final = 254  # release 0.593 recognizes RTRs by it
RTR_WEIGHT: Final = 0  # as in its code; draft -04 says 1
RTR_NAME: Final = b"RTR"
RTR_NAMES: Final = (RTR_NAME, b"lispers.net-RTR")  # the second: draft -09, which recognizes RTRs by the name
PORT_MARK: Final = b"@tp-"
NAME_LIMIT: Final = 128  # ours: a host name has 64 octets, an interface 15, the mark and a port 9

_PRIVATE: Final = {4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"), 6: ("fc00::/7",)}
_PRIVATE_RANGES: Final = {
    version: tuple((int(network.network_address), int(network.broadcast_address)) for network in map(ip_network, texts))
    for version, texts in _PRIVATE.items()
}


class Place(NamedTuple):
    """A translated address, and the name of the host that has it."""

    address: IpAddress
    host: bytes


def place_name(host: bytes, port: int) -> DistinguishedName:
    """The RLOC-name of a node's own locator; `port` is the translated one."""
    return DistinguishedName(b"%b%b%d" % (host, PORT_MARK, port))


def host_in(name: bytes) -> bytes | None:
    """The host of an RLOC-name, with or without a port; None for an invalid name.

    The port is not returned, because an RTR uses the port that it sees. An impossible port makes the name invalid.
    """
    host, mark, port = name.rpartition(PORT_MARK)
    if not mark:
        host = name
    elif not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        return None
    return host if is_host(host) else None


def is_host(name: bytes) -> bool:
    """True for a valid host name here: some printable octets, and no port in them."""
    return 0 < len(name) <= NAME_LIMIT and PORT_MARK not in name and all(0x20 < octet < 0x7F for octet in name)


def is_rtr(locator: Locator) -> bool:
    """True for a locator that stands for an RTR: by its priority or, in later drafts, by its name."""
    named = _named(locator)
    return locator.priority == RTR_PRIORITY or (named is not None and named[1] in RTR_NAMES)


def is_named(locators: Iterable[Locator]) -> bool:
    """True for the locators of a lispers.net node behind NATs: they include RTRs, and names."""
    ones = tuple(locators)
    return any(isinstance(locator.address, AfiList) for locator in ones) and any(is_rtr(locator) for locator in ones)


def place_of(locator: Locator) -> Place | None:
    """The node's own address by one of its locators; None for an RTR, and for a name without a host."""
    named = None if is_rtr(locator) else _named(locator)
    host = host_in(named[1]) if named is not None else None
    return Place(named[0], host) if named is not None and host is not None else None


def has_port(locator: Locator) -> bool:
    """True when the name contains a translated port: then the address is behind a NAT, whatever the record says."""
    named = _named(locator)
    return named is not None and PORT_MARK in named[1]


def partial(locators: tuple[Locator, ...], asker: Container[IpAddress]) -> tuple[Locator, ...]:
    """The locators of a node behind NATs that a requester with the addresses `asker` receives.

    One of the node's RTRs receives the node's own locators, all others the RTRs. IPv6 and private addresses are given
    to all: there is no NAT before an IPv6 address, and a requester behind the same NAT may use the private address. The
    locators of a node without NATs are returned unchanged.
    """
    if not is_named(locators):
        return locators
    rtrs = tuple(locator for locator in locators if is_rtr(locator))
    own = tuple(locator for locator in locators if not is_rtr(locator))
    if any(ip in asker for rtr in rtrs for ip in rtr.ips):
        return own
    return (*rtrs, *(locator for locator in own if any(ip.version == 6 or is_private(ip) for ip in locator.ips)))


def is_private(address: IpAddress) -> bool:
    """RFC 1918 and RFC 4193, and nothing else: test networks use documentation addresses as public ones."""
    number = int(address)
    return any(first <= number <= last for first, last in _PRIVATE_RANGES[address.version])


def _named(locator: Locator) -> tuple[IpAddress, bytes] | None:
    """Address and RLOC-name of an AFI-List locator."""
    if not isinstance(locator.address, AfiList):
        return None
    names = [part.name for part in locator.address.addresses if isinstance(part, DistinguishedName)]
    addresses = ip_addresses(locator.address)
    return (addresses[0], names[0]) if names and addresses else None
