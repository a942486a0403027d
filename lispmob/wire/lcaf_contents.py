"""The contents of an LCAF: its addresses, and which of them can be encapsulated to."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from lispmob.wire.address import IpAddress
from lispmob.wire.lcaf_types import (
    AfiList,
    ApplicationData,
    AsNumber,
    Encapsulation,
    EncapsulationFormat,
    ExplicitLocatorPath,
    GeoCoordinates,
    InstanceId,
    JsonText,
    KeyValue,
    Lcaf,
    MulticastInfo,
    NatTraversal,
    NonceLocator,
    NullBody,
    OpaqueKey,
    PathHop,
    ReplicationList,
    SecurityKey,
    SourceDestKey,
    UnknownLcaf,
    VendorSpecific,
    WireAddress,
)


def parts(address: Lcaf) -> Iterator[WireAddress]:
    """The addresses that an LCAF contains directly."""
    match address:
        case AfiList(addresses):
            yield from addresses
        case NatTraversal():
            yield from (address.global_etr_rloc, address.ms_rloc, address.private_etr_rloc, *address.rtr_rlocs)
        case MulticastInfo():
            yield from (address.source, address.group)
        case SourceDestKey():
            yield from (address.source, address.destination)
        case KeyValue(key, value):
            yield from (key, value)
        case ExplicitLocatorPath(hops):
            yield from (hop.address for hop in hops)
        case ReplicationList(entries):
            yield from (entry.address for entry in entries)
        case NullBody() | OpaqueKey() | VendorSpecific() | UnknownLcaf():
            return
        case _:
            yield address.address


def contains(address: Lcaf, kind: type[Lcaf]) -> bool:
    """Whether the address is an LCAF of this kind, or contains one."""
    return isinstance(address, kind) or any(contains(part, kind) for part in parts(address) if isinstance(part, Lcaf))


def ip_addresses(locator: WireAddress) -> tuple[IpAddress, ...]:
    """The addresses to encapsulate to for a locator, in its order; empty when the locator has none or is unknown.

    An AFI-List offers each of its elements. An explicit path is entered at its first hop, unless that hop has to be
    looked up first. A locator that does not accept LISP's own encapsulation offers nothing.
    """
    match locator:
        case IPv4Address() | IPv6Address():
            return (locator,)
        case AfiList(addresses):
            return tuple(ip for element in addresses for ip in ip_addresses(element))
        case ExplicitLocatorPath((PathHop(is_lookup=False) as hop, *_)):
            return ip_addresses(hop.address)
        case EncapsulationFormat(encapsulations) if not encapsulations & Encapsulation.LISP:
            return ()
        case (
            InstanceId()
            | AsNumber()
            | ApplicationData()
            | GeoCoordinates()
            | NonceLocator()
            | SecurityKey()
            | JsonText()
            | EncapsulationFormat()
        ):
            return ip_addresses(locator.address)
    return ()
