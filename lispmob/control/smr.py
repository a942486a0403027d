"""Solicit-Map-Requests: after a move, tell those who send to us that their mapping of us is old (RFC 9301, 6.1).

An SMR need prove nothing; it makes its receiver ask the mapping system. Here is the sending side. The receiving side is
a lookup (`resolver.py`) that `solicited()` decides about.

The nonce of an SMR answers nothing (RFC 9301, 6.1), so it is free to prove something: where the receiver has probed us,
it is that of the last probe, which went to a locator of ours and was read there. A receiver of our kind takes data from
the address that the SMR comes from until the mapping system has told, and sends there if its mapping names it
(`claims.py`).

A move is told three times, for an SMR can get lost, and can leave before the Map-Server knows. The second and third
time the targets are looked up afresh: a peer that moved at the same moment is told at its new RLOC. The first SMR about
a move has a limit of its own: repeats of an earlier move do not delay it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

import msgspec

from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Count, Event, FollowUpDue, MachineEffect, SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.rate_limit import KeyedBuckets
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.eid import from_prefix, to_prefix
from lispmob.wire.map_request import EidRecord, MapRequest

SMR_INTERVAL_S = 3.0  # RFC 9301, 6.1: one SMR per 3 s to the same RLOC; here for each EID of ours, as one SMR names one
SMR_BURST = 3
MOVE_INTERVAL_S = (
    1.0  # ours: the limit above is RECOMMENDED, and a peer that hears nothing sends to a link that is gone
)
MOVE_BURST = 3  # ours: a second and a third move may follow the first at once, as in a doorway between two networks
FOLLOW_UPS_S = (4.0, 16.0)  # ours: when a register with 1, 3, 7, 15 s between its tries has probably arrived
BATCH = 64  # ours: SMRs per turn, so that a busy node does not fill the queue of the uplink it has just got
BATCH_INTERVAL_S = 0.05
MAX_QUEUED = 4096


class State(Enum):
    """Whether the last move is still being told."""

    QUIET = "quiet"
    TELLING = "telling"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.QUIET: frozenset({State.TELLING}),
    State.TELLING: frozenset({State.QUIET}),
}


class SmrTarget(msgspec.Struct, frozen=True):
    """Whom to tell what: `eid` of ours has moved; `peer` is the prefix that the RLOC serves, or our EID if unknown."""

    rloc: IpAddress
    eid: EidPrefix
    peer: EidPrefix


class SmrSender:
    """Tells moves, at once and again, within the limit per RLOC: what the limit holds back is sent later."""

    def __init__(
        self, *, new_nonce: Callable[[], int], proof_for: Callable[[IpAddress], int | None] = lambda _: None
    ) -> None:
        self.state = State.QUIET
        self._new_nonce = new_nonce
        self._proof_for = proof_for
        self._locators = LocatorSet()
        self._queue: dict[tuple[IpAddress, EidPrefix], SmrTarget] = {}
        self._agenda: Agenda[tuple[IpAddress, EidPrefix]] = Agenda()
        self._told: set[tuple[IpAddress, EidPrefix]] = set()  # since the last move
        self._follow_ups: tuple[float, ...] = ()
        self._repeats: KeyedBuckets[tuple[IpAddress, EidPrefix]] = KeyedBuckets(SMR_INTERVAL_S, SMR_BURST)
        self._moves: KeyedBuckets[tuple[IpAddress, EidPrefix]] = KeyedBuckets(MOVE_INTERVAL_S, MOVE_BURST)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None while there is nothing to tell."""
        return min((at for at in (*self._follow_ups[:1], self._agenda.first()) if at is not None), default=None)

    def on_moved(self, locators: LocatorSet, targets: Iterable[SmrTarget], now: float) -> list[MachineEffect]:
        """Our RLOCs are these now: tell the targets at once. Without RLOCs there is nothing to tell, and no way to."""
        self._locators = locators
        self._queue.clear()
        self._agenda.clear()
        self._told.clear()
        self._follow_ups = tuple(now + pause_s for pause_s in FOLLOW_UPS_S) if locators else ()
        return self.on_peers(targets, now)

    def on_peers(self, targets: Iterable[SmrTarget], now: float) -> list[MachineEffect]:
        """Tell these as well."""
        for target in targets:
            key, is_sendable = (target.rloc, target.eid), bool(self._locators.ways_to(target.rloc))
            if len(self._queue) < MAX_QUEUED and is_sendable and key not in self._queue:
                self._put(key, now, target)
        return self._drain(now)

    def on_peer_moved(self, targets: Iterable[SmrTarget], now: float) -> list[MachineEffect]:
        """A peer turned up at these RLOCs. While our own last move is being told, it may not have heard of it."""
        if self.state is State.QUIET:
            return []
        return self.on_peers([target for target in targets if (target.rloc, target.eid) not in self._told], now)

    def on_registered_late(self, now: float) -> list[MachineEffect]:
        """The first Map-Register was lost: whoever asked since the move was told the old mapping. Tell it again."""
        if not self._locators:
            return []
        later = tuple(at for at in self._follow_ups if at > now + FOLLOW_UPS_S[0])
        self._follow_ups = (now, now + FOLLOW_UPS_S[0], *later)
        return self.on_timer(now)

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed: send what the limit held back, or begin the next round."""
        effects = self._drain(now)
        if self._follow_ups and self._follow_ups[0] <= now:
            self._follow_ups = tuple(at for at in self._follow_ups if at > now)
            effects.append(FollowUpDue())
        self._settle()
        return effects

    def _drain(self, now: float) -> list[MachineEffect]:
        effects: list[MachineEffect] = []
        sent: list[str] = []
        for key in self._agenda.due(now):
            target, limits = self._queue[key], self._repeats if key in self._told else self._moves
            if len(sent) == BATCH:
                self._put(key, now + BATCH_INTERVAL_S, target)
            elif (at := limits.available_at(key, now)) > now:
                self._put(key, at, target)
            else:
                del self._queue[key]
                limits.take(key, now)
                self._told.add(key)
                sent.append(str(target.rloc))
                effects += [self._solicit(target), Count("tx_smr")]
        if sent:
            effects.append(Event("smr-sent", {"rlocs": sent, "version": self._locators.version}))
        self._settle()
        return effects

    def _put(self, key: tuple[IpAddress, EidPrefix], not_before: float, target: SmrTarget) -> None:
        self._queue[key] = target
        self._agenda.set(key, not_before)

    def _solicit(self, target: SmrTarget) -> SendControl:
        uplink = self._locators.ways_to(target.rloc)[0]
        proof = self._proof_for(target.rloc)
        message = MapRequest(
            nonce=self._new_nonce() if proof is None else proof,
            source_eid=from_prefix(target.eid),
            itr_rlocs=self._locators.itr_rlocs_from(uplink),
            records=(EidRecord.of(target.peer),),
            is_smr=True,
            dont_map_reply=True,
        )
        return SendControl(message.encode(), target.rloc, source=uplink.address, ifindex=uplink.ifindex)

    def _settle(self) -> None:
        self._to(State.TELLING if self._queue or self._follow_ups else State.QUIET)

    def _to(self, new: State) -> None:
        if new is self.state:
            return
        assert new in TRANSITIONS[self.state], (self.state, new)
        self.state = new


def solicited(request: MapRequest) -> EidPrefix | None:
    """The EID that an SMR says has moved, as a host; None when it names none."""
    family = to_prefix(request.source_eid, 0)
    return to_prefix(request.source_eid, family.width) if family is not None else None
