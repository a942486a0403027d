"""Measures how long the NAT of an uplink keeps an idle binding, using messages that every Map-Server supports.

    spare port --- Info-Request ---> Map-Server : 4342     twice, some seconds apart: as active as a data binding
    (silence for as long as the trial says)
    4342 --- Encapsulated Map-Request ---> the same server, "answer to the spare port's translated place"
    4342 --- the same, "answer to this port's place"       the control: this binding is alive, so the server is tested

Both answers: alive. The second alone: dead. None: no result. The Map-Server must be a Map-Resolver too.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.natt.info_exchange import Seen
from lispmob.natt.keepalive import Lifetime, Outcome
from lispmob.natt.question import SendFromSparePort, question
from lispmob.protocol.effect import Count, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import sign, verify
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import CONTROL_PORT, MessageType
from lispmob.wire.info import InfoReply, InfoRequest
from lispmob.wire.map_reply import MapReply

WARM_S: Final = 3.0  # Linux treats a flow as a stream when packets go both ways for 2 s
ANSWER_S: Final = 2.0  # ours: how long the answers may take
LOST_PAUSE_S: Final = 60.0  # ours: after a trial without a result
LOST_LIMIT: Final = 5  # ours: then another server is needed


class LifetimeMeasured(msgspec.Struct, frozen=True):
    """A trial gave a result."""

    lifetime: Lifetime


ProbeEffect: TypeAlias = SendFromSparePort | SendControl | Count | LifetimeMeasured


class Phase(Enum):
    """The step of a trial."""

    RESTING = "resting"
    WARMING = "warming"
    IDLING = "idling"
    ASKING = "asking"


class LifetimeProbe:
    """Trials for one uplink behind a NAT, one after another, until enough is known."""

    def __init__(
        self, locator: LocalLocator, eid: EidPrefix, seen: Seen, *, new_nonce: Callable[[], int], known: Lifetime
    ) -> None:
        self.lifetime = known
        self.phase = Phase.RESTING
        self._locator = locator
        self._eid = eid
        self._seen = seen
        self._new_nonce = new_nonce
        self._wake_at: float | None = None
        self._idle_s = 0.0
        self._is_warm = False
        self._info_nonce = 0
        self._place: tuple[IpAddress, int] | None = None  # the outside place of the spare port
        self._spare_nonce = self._control_nonce = 0
        self._has_control = False
        self._is_second = False
        self._lost = 0

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return self._wake_at

    def start(self, now: float) -> list[ProbeEffect]:
        """Begin the next trial; returns nothing when enough is known."""
        idle_s = self.lifetime.next_trial_s()
        if idle_s is None or self._lost >= LOST_LIMIT:
            self.phase, self._wake_at = Phase.RESTING, None
            return []
        self._idle_s = idle_s
        self._is_warm = self._is_second = False
        self._place = None
        self.phase = Phase.WARMING
        return self._warm(now)

    def on_timer(self, now: float) -> list[ProbeEffect]:
        """A deadline may have passed."""
        if self._wake_at is None or now < self._wake_at:
            return []
        if self.phase is Phase.RESTING:
            return self.start(now)
        if self.phase is Phase.WARMING:
            if self._place is None:
                return self._end(Outcome.LOST, now)
            if not self._is_warm:
                self._is_warm = True
                return self._warm(now)
            self.phase = Phase.IDLING
            self._wake_at = now + self._idle_s - WARM_S
            return []
        if self.phase is Phase.IDLING:
            self.phase = Phase.ASKING
            return self._ask(now)
        # One more, in case the answer was lost; the NAT is not the reason, as nothing was idle yet.
        if not self._is_second:
            self._is_second = True
            return self._ask(now)
        return self._end(Outcome.DEAD if self._has_control else Outcome.LOST, now)

    def on_spare_datagram(self, payload: bytes, now: float) -> list[ProbeEffect]:
        """A datagram came to the spare port."""
        try:
            if payload[:1] and payload[0] >> 4 == MessageType.INFO:
                return self._on_info_reply(InfoReply.decode(payload), payload)
            reply = MapReply.decode(payload)
        except MalformedMessage as malformed:
            return [Count(malformed.counter)]
        if self.phase is not Phase.ASKING or reply.nonce != self._spare_nonce:
            return [Count("rx_nonce")]
        return self._end(Outcome.ALIVE, now)

    def on_control_reply(self, reply: MapReply) -> bool:
        """True when a Map-Reply on the control port answers the control request."""
        if self.phase is not Phase.ASKING or reply.nonce != self._control_nonce:
            return False
        self._has_control = True
        return True

    def _on_info_reply(self, reply: InfoReply, payload: bytes) -> list[ProbeEffect]:
        if self.phase is not Phase.WARMING or reply.nonce != self._info_nonce:
            return [Count("rx_nonce")]
        try:
            verify(payload, self._seen.server.key)
        except AuthenticationFailed:
            return [Count("rx_auth")]
        # The server's later answer goes to the mapping that it sees now.
        address = self._seen.address
        if address is None or reply.nat.global_etr_rloc != address:
            return [Count("rx_policy")]
        self._place = (address, reply.nat.etr_port)
        return []

    def _warm(self, now: float) -> list[ProbeEffect]:
        self._wake_at = now + WARM_S
        self._info_nonce = self._new_nonce()
        request = InfoRequest(self._info_nonce, from_prefix(self._eid), self._eid.mask_len)
        server, one = self._seen.server, self._locator
        payload = sign(request, server.key)
        return [SendFromSparePort(payload, server.address, CONTROL_PORT, one.address, one.ifindex)]

    def _ask(self, now: float) -> list[ProbeEffect]:
        assert self._place is not None
        self._wake_at = now + ANSWER_S
        self._has_control = self._has_control and self._is_second
        if not self._is_second:
            self._spare_nonce, self._control_nonce = self._new_nonce(), self._new_nonce()
        questions = ((self._spare_nonce, self._place[1]), (self._control_nonce, self._seen.port))
        server = self._seen.server.address
        return [question(self._locator, self._eid, server, nonce, self._place[0], port) for nonce, port in questions]

    def _end(self, outcome: Outcome, now: float) -> list[ProbeEffect]:
        self._has_control = False
        if outcome is Outcome.LOST:
            self._lost += 1
            self.phase, self._wake_at = Phase.RESTING, now + LOST_PAUSE_S
            return []
        self._lost = 0
        self.lifetime = self.lifetime.after(self._idle_s, outcome)
        return [LifetimeMeasured(self.lifetime), *self.start(now)]
