"""The kernel's side of the proxy: the routes into its device, and the addresses for tunnels (pyroute2).

Only routes through the device are changed, and they are removed with it. Whether the machine forwards packets is the
operator's decision: that is checked, and never changed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from lispmob.errors import KernelRefused
from lispmob.hub.public_address import is_private
from lispmob.netlink.iproute import AsyncIPRoute, NetlinkError
from lispmob.netlink.message import FAMILIES
from lispmob.wire.address import EidPrefix, IpAddress

ROUTE_PROTOCOL: Final = 76  # ours, "L": `ip route show proto 76` lists the routes of lisphub
_SCOPE_UNIVERSE: Final = 0
_UNUSABLE_FLAGS: Final = 0x40 | 0x20 | 0x08  # tentative, deprecated, duplicate (IFA_F_*)
_IFA_F_NODAD: Final = 0x02
_IFF_UP: Final = 1
_FORWARDING: Final = {
    4: ("net.ipv4.ip_forward", Path("/proc/sys/net/ipv4/ip_forward")),
    6: ("net.ipv6.conf.all.forwarding", Path("/proc/sys/net/ipv6/conf/all/forwarding")),
}


class Carrier(msgspec.Struct, frozen=True):
    """An interface that can carry encapsulated packets."""

    ifindex: int
    interface: str
    addresses: tuple[IpAddress, ...]
    mtu_bytes: int


async def set_routes(index: int, eids: Iterable[EidPrefix]) -> None:
    """Make the routes into the device with this ifindex exactly `eids`. Raises KernelRefused; may be repeated."""
    wanted = {str(eid.network): eid for eid in eids}
    try:
        async with AsyncIPRoute() as opened:
            netlink: Any = opened
            for version, family in FAMILIES.items():
                present = {
                    f"{route.get_attr('RTA_DST') or ('0.0.0.0' if version == 4 else '::')}/{route['dst_len']}"
                    async for route in await netlink.get_routes(family=family, oif=index, proto=ROUTE_PROTOCOL)
                    if route["proto"] == ROUTE_PROTOCOL and route.get_attr("RTA_OIF") == index
                }
                of_family = {text for text, eid in wanted.items() if eid.family == version}
                for text in present - of_family:
                    await netlink.route("del", dst=text, oif=index, family=family, proto=ROUTE_PROTOCOL)
                for text in of_family - present:
                    await netlink.route("replace", dst=text, oif=index, family=family, proto=ROUTE_PROTOCOL)
    except NetlinkError as error:
        raise _refused("routes for the proxy", error) from None


async def add_addresses(index: int, addresses: Iterable[IpAddress]) -> None:
    """Add these addresses to the device with this ifindex, each independently. Raises KernelRefused."""
    try:
        async with AsyncIPRoute() as opened:
            netlink: Any = opened
            for address in addresses:
                fields = {"flags": _IFA_F_NODAD} if address.version == 6 else {}
                length, family = address.max_prefixlen, FAMILIES[address.version]
                await netlink.addr(
                    "replace", index=index, address=str(address), prefixlen=length, family=family, **fields
                )
    except NetlinkError as error:
        raise _refused("the EIDs of this machine", error) from None


async def carriers(names: Iterable[str], own_device: str) -> tuple[Carrier, ...]:
    """The interfaces for tunnels: the named ones; else those with a default route; else all with an address."""
    wanted = frozenset(names)
    async with AsyncIPRoute() as opened:
        netlink: Any = opened
        links = {link["index"]: link async for link in await netlink.get_links()}
        addresses: dict[int, list[IpAddress]] = {}
        async for message in await netlink.get_addr():
            flags = message.get_attr("IFA_FLAGS") or message["flags"]
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if message["scope"] == _SCOPE_UNIVERSE and not flags & _UNUSABLE_FLAGS and text:
                addresses.setdefault(message["index"], []).append(ip_address(text))
        defaults: set[int] = set()
        for family in FAMILIES.values():
            async for route in await netlink.get_default_routes(family=family):
                defaults.add(route.get_attr("RTA_OIF"))
    usable = [
        Carrier(index, _name(link), tuple(addresses[index]), link.get_attr("IFLA_MTU") or 1500)
        for index, link in links.items()
        if index in addresses and link["flags"] & _IFF_UP and _name(link) not in ("lo", own_device)
    ]
    if wanted:
        return tuple(carrier for carrier in usable if carrier.interface in wanted)
    return tuple(carrier for carrier in usable if carrier.ifindex in defaults) or tuple(usable)


def preferring(preferred: Sequence[IpAddress], found: Iterable[Carrier]) -> tuple[Carrier, ...]:
    """The carriers with the addresses to send from first: the preferred ones, in their order, then public ones."""
    places = {address: place for place, address in enumerate(preferred)}

    def order(address: IpAddress) -> tuple[int, bool]:
        return places.get(address, len(places)), is_private(address)

    return tuple(replace(one, addresses=tuple(sorted(one.addresses, key=order))) for one in found)


def senders_of(found: Iterable[Carrier]) -> dict[IpAddress, IpAddress]:
    """By each address, the one that data leaves from by the same interface: the first of its family."""
    senders: dict[IpAddress, IpAddress] = {}
    for carrier in found:
        first = {address.version: address for address in reversed(carrier.addresses)}
        senders |= {address: first[address.version] for address in carrier.addresses}
    return senders


async def own_networks(own_device: str) -> tuple[EidPrefix, ...]:
    """The networks of this machine's addresses, except those of the proxy's device and loopback."""
    async with AsyncIPRoute() as opened:
        netlink: Any = opened
        names = {link["index"]: _name(link) async for link in await netlink.get_links()}
        found: list[EidPrefix] = []
        async for message in await netlink.get_addr():
            text = message.get_attr("IFA_ADDRESS") or message.get_attr("IFA_LOCAL")
            own = message.get_attr("IFA_LOCAL") or text
            if not text or names.get(message["index"]) in ("lo", own_device):
                continue
            found += [EidPrefix.make(ip_address(text), message["prefixlen"]), EidPrefix.host(ip_address(own))]
    return tuple(dict.fromkeys(found))


def missing_forwarding(families: Iterable[int]) -> list[str]:
    """The sysctls that should be 1 and are not."""
    missing = []
    for family in sorted(set(families)):
        name, path = _FORWARDING[family]
        try:
            is_on = path.read_text().strip() != "0"
        except OSError:
            is_on = False
        if not is_on:
            missing.append(name)
    return missing


def _refused(what: str, error: NetlinkError) -> KernelRefused:
    why = os.strerror(error.code) if error.code else str(error)
    needs = ": needs CAP_NET_ADMIN" if error.code in (errno.EPERM, errno.EACCES) else ""
    return KernelRefused(f"{what} refused ({why}){needs}")


def _name(link: Any) -> str:
    return str(link.get_attr("IFLA_IFNAME"))
