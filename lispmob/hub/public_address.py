"""A hub behind a 1:1 NAT, as on most rented machines: its own address is private, and others know a public one.

Inside the hub only the public address is used: in messages to nodes, in registrations, and for recognising ourselves.
This module translates at the edge: arrivals at the private address count as arrivals at the public one, and messages
from the public address are sent from the private one, because the machine has no other. Messages of the hub to itself
stay on the machine. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from msgspec.structs import replace

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.rtr.rtr_effect import InData, SendFromRelayPort, UnregisteredData
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress

_PRIVATE: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)  # RFC 1918, RFC 6598, RFC 4193


def is_private(address: IpAddress) -> bool:
    """True for an address that is valid only in its own network."""
    return any(address.version == network.version and address in network for network in _PRIVATE)


class PublicAddresses:
    """Translates between this machine's addresses and its public ones; without public addresses nothing changes."""

    def __init__(self, public: Iterable[IpAddress] = ()) -> None:
        self._public = {address.version: address for address in public}
        self._own: dict[int, IpAddress] = {}  # the address to send from, by family
        self._private: set[IpAddress] = set()  # our addresses that a public one stands for

    def on_addresses(self, own: Sequence[IpAddress]) -> tuple[IpAddress, ...]:
        """This machine's addresses, the best one first; returns those that others know."""
        self._private = {address for address in own if self._is_translated(address)}
        self._own = {address.version: address for address in reversed(own) if address in self._private}
        known = [self._public[address.version] if address in self._private else address for address in own]
        return tuple(dict.fromkeys([*known, *self._public.values()]))

    def known(self, address: IpAddress) -> IpAddress:
        """The public address of a local one; any other stays as it is."""
        return self._public[address.version] if address in self._private else address

    def own(self, address: IpAddress) -> IpAddress:
        """The local address of a public one; any other stays as it is."""
        is_public = address == self._public.get(address.version)
        return self._own.get(address.version, address) if is_public else address

    def arrived(self, arrival: Arrival) -> Arrival:
        """A datagram from the control port, with its destination translated."""
        if not self._public:
            return arrival
        at = arrival.destination
        if self._is_translated(at) and at not in self._private:
            self._private.add(at)
            self._own.setdefault(at.version, at)
        return replace(arrival, source=self.known(arrival.source), destination=self.known(at))

    def arrived_in_data(self, packet: InData) -> InData:
        """A control message in a data packet."""
        return replace(packet, address=self.known(packet.address), rtr=self.known(packet.rtr))

    def arrived_unregistered(self, packet: UnregisteredData) -> UnregisteredData:
        """Data from an unregistered source."""
        return replace(packet, outer_destination=self.known(packet.outer_destination))

    def to_send(self, effect: SendControl) -> SendControl:
        """A control message. Without a source address the kernel chooses one."""
        if not self._public:
            return effect
        source = effect.source
        if source is not None and source == self._public.get(source.version):
            source = self._own.get(source.version)
        return replace(effect, source=source, destination=self.own(effect.destination))

    def to_send_in_data(self, effect: SendFromRelayPort) -> SendFromRelayPort:
        """A datagram from the data port."""
        return replace(effect, source=self.own(effect.source))

    def _is_translated(self, address: IpAddress) -> bool:
        return address.version in self._public and is_private(address)


def unreachable_as_rtr(known: Sequence[IpAddress]) -> str | None:
    """A sentence if an RTR has only private addresses: it can serve at most its own network."""
    if not known or not all(is_private(address) for address in known):
        return None
    listed = ", ".join(map(str, known))
    return (
        f"this machine has only private addresses ({listed}): nodes elsewhere cannot use it as their RTR. Where it has "
        "a public address outside, as rented machines do, name that in hub.conf: 'public-address: [ADDRESS]'"
    )
