"""Finds out whether an untranslated address is reachable, or behind a stateful firewall that admits only answers.

A Map-Resolver is asked to answer to a port that has never sent anything, and as a control, to the port that asks. If
only the second answer comes, there is a firewall: the uplink then needs an RTR, as behind a NAT.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec

from lispmob.errors import MalformedMessage
from lispmob.natt.question import question
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.map_reply import MapReply

ANSWER_S: Final = 1.0  # ours: then the request is repeated, twice
TRIES: Final = 3


class Way(Enum):
    """What is between the uplink and the Internet."""

    UNKNOWN = "unknown"
    OPEN = "open"
    FILTERED = "filtered"


class WayFound(msgspec.Struct, frozen=True):
    """The verdict about an address."""

    address: IpAddress
    way: Way


class FirewallProbe:
    """One verdict about one address. `spare_port` receives, and must not have sent to the resolver before."""

    def __init__(
        self,
        locator: LocalLocator,
        eid: EidPrefix,
        resolver: IpAddress,
        spare_port: int,
        *,
        new_nonce: Callable[[], int],
    ) -> None:
        self.way = Way.UNKNOWN
        self._locator = locator
        self._eid = eid
        self._resolver = resolver
        self._spare_port = spare_port
        self._spare_nonce, self._control_nonce = new_nonce(), new_nonce()
        self._controls = 0  # rounds in which the control request was answered
        self._tries = 0
        self._wake_at: float | None = None

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return self._wake_at

    def start(self, now: float) -> list[SendControl | WayFound]:
        """Send the requests."""
        self._tries += 1
        self._wake_at = now + ANSWER_S
        one, eid, resolver, place = self._locator, self._eid, self._resolver, self._locator.address
        return [
            question(one, eid, resolver, self._spare_nonce, place, self._spare_port),
            question(one, eid, resolver, self._control_nonce, place, CONTROL_PORT),
        ]

    def on_timer(self, now: float) -> list[SendControl | WayFound]:
        """A deadline may have passed."""
        if self._wake_at is None or now < self._wake_at:
            return []
        if self._tries < TRIES:
            return self.start(now)
        # After a single control answer the other one may just have been lost; after two it was blocked.
        return self._end(Way.FILTERED if self._controls > 1 else Way.UNKNOWN)

    def on_spare_datagram(self, payload: bytes, _now: float) -> list[SendControl | WayFound]:
        """A datagram came to the spare port."""
        try:
            return self.on_spare_reply(MapReply.decode(payload))
        except MalformedMessage:
            return []

    def on_spare_reply(self, reply: MapReply) -> list[SendControl | WayFound]:
        """A Map-Reply came to the spare port."""
        is_answer = self._wake_at is not None and reply.nonce == self._spare_nonce
        return self._end(Way.OPEN) if is_answer else []

    def on_control_reply(self, reply: MapReply) -> bool:
        """True when a Map-Reply on the control port answers the control request."""
        is_answer = self._wake_at is not None and reply.nonce == self._control_nonce
        self._controls += is_answer
        return is_answer

    def _end(self, way: Way) -> list[SendControl | WayFound]:
        self.way, self._wake_at = way, None
        return [WayFound(self._locator.address, way)]
