"""The way to hosts that have IPv4 only, from uplinks that have IPv6 only, by a translator (NAT64, RFC 6146). Pure.

How it works. To NAT traversal such an uplink is one behind a NAT: Map-Server and RTR keep their usual IPv4
addresses, and the machines send to those. Here, where datagrams leave, an IPv4 destination becomes the address behind
the prefix of the uplink's translator (RFC 6052). Where they arrive, a source behind the prefix becomes the IPv4 address
again. The datapath sends to, and hears from, the addresses behind the prefix, as the plan has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import SendFromDataPort
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator, Place
from lispmob.wire.address import IpAddress
from lispmob.wire.embedded_ipv4 import extract

E = TypeVar("E")


class Translation:
    """Knows the uplinks that have a translator."""

    def __init__(self) -> None:
        self._locators: dict[Place, LocalLocator] = {}
        self._former: dict[Place, LocalLocator] = {}  # before the last change: data that came then is reported later

    def on_locators(self, locators: Iterable[LocalLocator]) -> None:
        """Our addresses are these now."""
        self._former, self._locators = (
            self._locators,
            {locator.place: locator for locator in locators if locator.nat64 is not None},
        )

    def outward(self, effects: Iterable[E]) -> list[E]:
        """The same, with datagrams for IPv4 hosts sent to where the translator takes them."""
        return [self._sent(effect) for effect in effects] if self._locators else list(effects)

    def inward(self, datagram: Datagram) -> Datagram:
        """As the host has sent it that the translator stands for."""
        source = self._origin(datagram.source, datagram.destination, datagram.ifindex)
        return datagram if source == datagram.source else replace(datagram, source=source)

    def inward_data(self, arrival: DataControl) -> DataControl:
        """The same for a control message of the data port."""
        source = self._origin(arrival.outer_source, arrival.outer_destination, arrival.ifindex)
        if source == arrival.outer_source:
            return arrival
        is_bare = arrival.source == arrival.outer_source
        return replace(arrival, outer_source=source, source=source if is_bare else arrival.source)

    def heard(self, pairs: Iterable[tuple[IpAddress, IpAddress]]) -> Iterator[tuple[IpAddress, IpAddress]]:
        """Pairs of an address of ours and the outer source of data that came there."""
        return ((local, self._origin(source, local, 0)) for local, source in pairs)

    def _sent(self, effect: E) -> E:
        if not isinstance(effect, SendControl | SendFromDataPort):
            return effect
        if effect.source is None or effect.source.version == effect.destination.version:
            return effect
        locator = self._at(effect.source, effect.ifindex)
        destination = None if locator is None else locator.reach(effect.destination)
        return effect if destination is None else replace(effect, destination=destination)

    def _origin(self, source: IpAddress, local: IpAddress, ifindex: int) -> IpAddress:
        locator = self._at(local, ifindex) or _found(self._former, local, ifindex)
        if locator is None or locator.nat64 is None:
            return source
        return extract(locator.nat64, source) or source

    def _at(self, address: IpAddress, ifindex: int) -> LocalLocator | None:
        return _found(self._locators, address, ifindex)


def _found(locators: dict[Place, LocalLocator], address: IpAddress, ifindex: int) -> LocalLocator | None:
    exact = locators.get((address, ifindex))
    return exact or next((one for one in locators.values() if one.address == address), None)
