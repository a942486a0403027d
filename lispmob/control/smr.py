"""Solicit-Map-Requests: after a move, inform the senders of traffic that their mapping of us is old (RFC 9301, 6.1).

An SMR proves nothing; it makes its receiver ask the mapping system. This is the sending side. The receiving side is a
lookup (`resolver.py`), which `solicited()` starts.

The nonce of an SMR matches no reply (RFC 9301, 6.1), so it can prove something: if the receiver has probed us, it is
the nonce of the last probe, which was read at a locator of ours. A lispmob receiver accepts data from the address of
the SMR until the mapping system has answered, and sends data there if its mapping names it (`claims.py`).

A move is reported three times, because an SMR can be lost, or arrive before the Map-Server knows. The second and third
time the targets are computed again: a peer that moved at the same moment gets it at its new RLOC. The first SMR of a
move has its own limit: repetitions of an earlier move do not delay it.
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

SMR_INTERVAL_S = 3.0  # RFC 9301, 6.1: one SMR per 3 s to the same RLOC; here for each local EID, as an SMR names one
SMR_BURST = 3
MOVE_INTERVAL_S = 1.0  # ours: the limit above is RECOMMENDED, and an uninformed peer sends to a dead link
MOVE_BURST = 3  # ours: a second and a third move may follow at once, as in a doorway between two networks
FOLLOW_UPS_S = (4.0, 16.0)  # ours: when a register with tries after 1, 3, 7, 15 s has probably arrived
BATCH = 64  # ours: SMRs per call, so that a busy node does not fill the queue of its new uplink
BATCH_INTERVAL_S = 0.05
MAX_QUEUED = 4096


class State(Enum):
    """Whether SMRs of the last move are still being sent."""

    QUIET = "quiet"
    SOLICITING = "soliciting"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.QUIET: frozenset({State.SOLICITING}),
    State.SOLICITING: frozenset({State.QUIET}),
}


class SmrTarget(msgspec.Struct, frozen=True):
    """A receiver and the contents: our `eid` has moved; `peer` is the prefix of the RLOC, or our EID if unknown."""

    rloc: IpAddress
    eid: EidPrefix
    peer: EidPrefix


class SmrSender:
    """Sends the SMRs of a move, at once and repeatedly, within the limit per RLOC; delayed ones are sent later."""

    def __init__(
        self, *, new_nonce: Callable[[], int], proof_for: Callable[[IpAddress], int | None] = lambda _: None
    ) -> None:
        self.state = State.QUIET
        self._new_nonce = new_nonce
        self._proof_for = proof_for
        self._locators = LocatorSet()
        self._queue: dict[tuple[IpAddress, EidPrefix], SmrTarget] = {}
        self._agenda: Agenda[tuple[IpAddress, EidPrefix]] = Agenda()
        self._informed: set[tuple[IpAddress, EidPrefix]] = set()  # informed since the last move
        self._follow_ups: tuple[float, ...] = ()
        self._repeats: KeyedBuckets[tuple[IpAddress, EidPrefix]] = KeyedBuckets(SMR_INTERVAL_S, SMR_BURST)
        self._moves: KeyedBuckets[tuple[IpAddress, EidPrefix]] = KeyedBuckets(MOVE_INTERVAL_S, MOVE_BURST)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None if nothing is due."""
        return min((at for at in (*self._follow_ups[:1], self._agenda.first()) if at is not None), default=None)

    def on_moved(self, locators: LocatorSet, targets: Iterable[SmrTarget], now: float) -> list[MachineEffect]:
        """Our RLOCs have changed: inform the targets at once. Without RLOCs nothing can be sent."""
        self._locators = locators
        self._queue.clear()
        self._agenda.clear()
        self._informed.clear()
        self._follow_ups = tuple(now + pause_s for pause_s in FOLLOW_UPS_S) if locators else ()
        return self.on_peers(targets, now)

    def on_peers(self, targets: Iterable[SmrTarget], now: float) -> list[MachineEffect]:
        """Inform these too."""
        for target in targets:
            key, is_sendable = (target.rloc, target.eid), bool(self._locators.ways_to(target.rloc))
            if len(self._queue) < MAX_QUEUED and is_sendable and key not in self._queue:
                self._put(key, now, target)
        return self._drain(now)

    def on_peer_moved(self, targets: Iterable[SmrTarget], now: float) -> list[MachineEffect]:
        """A peer appeared at these RLOCs. While our own move is being reported, it may not have heard of it."""
        if self.state is State.QUIET:
            return []
        return self.on_peers([target for target in targets if (target.rloc, target.eid) not in self._informed], now)

    def on_registered_late(self, now: float) -> list[MachineEffect]:
        """The first Map-Register was lost: peers that asked since the move got the old mapping. Inform them again."""
        if not self._locators:
            return []
        later = tuple(at for at in self._follow_ups if at > now + FOLLOW_UPS_S[0])
        self._follow_ups = (now, now + FOLLOW_UPS_S[0], *later)
        return self.on_timer(now)

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed: send what the limit delayed, or begin the next round."""
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
            target, limits = self._queue[key], self._repeats if key in self._informed else self._moves
            if len(sent) == BATCH:
                self._put(key, now + BATCH_INTERVAL_S, target)
            elif (at := limits.available_at(key, now)) > now:
                self._put(key, at, target)
            else:
                del self._queue[key]
                limits.take(key, now)
                self._informed.add(key)
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
        self._to(State.SOLICITING if self._queue or self._follow_ups else State.QUIET)

    def _to(self, new: State) -> None:
        if new is self.state:
            return
        assert new in TRANSITIONS[self.state], (self.state, new)
        self.state = new


def solicited(request: MapRequest) -> EidPrefix | None:
    """The EID that an SMR says has moved, as a host; None if it names none."""
    family = to_prefix(request.source_eid, 0)
    return to_prefix(request.source_eid, family.width) if family is not None else None
