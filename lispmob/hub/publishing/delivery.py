"""How a publication reaches its subscriber: at an address, or through the subscriber's NAT. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lispmob.hub.publishing.subscription import Place, Subscription
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress

InData: TypeAlias = Callable[[EidPrefix, bytes], list[SendControl]]
"""A control message for the node of an EID, in data through its NAT; none without an RTR here."""
ByRtr: TypeAlias = Callable[[EidPrefix, bytes, IpAddress], list[SendControl]]
"""The same by an RTR elsewhere, from this address of ours; none without one."""


class Delivery:
    """Behind a NAT, the binding that the request came by lapses; an RTR has one that keepalives keep.

    An RTR elsewhere may pass on no publications, so the binding of the request is tried beside it.
    """

    def __init__(self, in_data: InData, by_rtr: ByRtr) -> None:
        self._in_data = in_data
        self._by_rtr = by_rtr

    def to(self, subscription: Subscription, place: Place, payload: bytes) -> list[SendControl]:
        """The datagrams for one try at this place."""
        source, own = subscription.source, subscription.own
        if place.is_binding and (relayed := self._in_data(source, payload)):
            return relayed
        others = self._by_rtr(source, payload, own) if place.is_binding else []
        is_fit = own.version == place.address.version and not own.is_unspecified
        return [*others, SendControl(payload, place.address, place.port, source=own if is_fit else None)]
