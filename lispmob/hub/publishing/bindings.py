"""The NAT bindings of nodes that register here: other packets of this hub would not pass their NATs. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from lispmob.hub.publishing.subscription import Subscription, SubscriptionKey
from lispmob.wire.address import IpAddress

BINDINGS_MAX: Final = 100_000  # ours: nodes behind NATs, at about 300 octets each
NEXT_REGISTER_S: Final = 180.0  # RFC 9301, 8.2: a node that has not registered for so long is gone


class Bindings:
    """Bindings of nodes that may have subscribed at another hub, and of subscriptions taken over from there."""

    def __init__(self, limit: int = BINDINGS_MAX) -> None:
        self._limit = limit
        self._of: OrderedDict[bytes, tuple[IpAddress, int, IpAddress]] = OrderedDict()  # least recently used first
        self._hoped_until: dict[SubscriptionKey, float] = {}

    def learn(self, xtr_id: bytes, address: IpAddress, port: int, own: IpAddress) -> None:
        """A Map-Register came from this outside address, to this local address."""
        self._of[xtr_id] = address, port, own
        self._of.move_to_end(xtr_id)
        if len(self._of) > self._limit:
            self._of.popitem(last=False)

    def applied(self, subscription: Subscription) -> Subscription:
        """A subscription that is taken over, with its binding; unchanged if there is none."""
        binding = self._of.get(subscription.xtr_id) if subscription.places[0].is_binding else None
        return subscription if binding is None else subscription.by_binding(*binding)

    def on_taken_over(self, subscription: Subscription, now: float) -> None:
        """Its node may register here soon; until then no packet passes its NAT."""
        if subscription.places[0].is_binding and subscription.xtr_id not in self._of:
            self._hoped_until[subscription.name] = now + NEXT_REGISTER_S

    def is_hoped_for(self, name: SubscriptionKey, now: float) -> bool:
        """True while a Map-Register may still give the binding to the subscriber."""
        return now < self._hoped_until.get(name, now)

    def forget(self, name: SubscriptionKey) -> None:
        """The subscription has ended, or its binding is known."""
        self._hoped_until.pop(name, None)
