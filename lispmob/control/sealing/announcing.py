"""Announcements of moves between sealed peers: a Map-Notify in a sealed packet, which authenticates it (ours).

How it works.
1. Our locators change: each peer with a session gets a Map-Notify without authentication data in a sealed packet, with
   our EID-Prefixes and their locators. Its nonce grows. It is repeated up to three times until a Map-Notify-Ack comes.
2. A peer's announcement counts only for EID-Prefixes that its static key is known for, and only if its nonce has
   grown. It is used at once, and the mapping system is asked; its next answer takes precedence.
3. While no Map-Server confirms what we announced, it is announced again before its TTL ends (`announced_moves.py`).
4. A new locator is on trial: a Map-Request with P=1 for the peer's EID is sent there. Until an ETR has answered
   authoritatively, the datapath sends a bounded number of packets there. So a peer cannot direct traffic at a victim:
   a host there answers only for its own EIDs, and RTRs do not answer authoritatively.
5. Our static key is replaced: the new one is announced in the sessions of the old one, as a key record. A peer with
   strict keys uses it without asking its user, once its Map-Server vouches for it as well.

Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.control.announced_moves import HOLD_MIN
from lispmob.control.sealing.sealed_entries import SealedPeer
from lispmob.errors import MalformedMessage
from lispmob.protocol.acceptance import Guard
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Count, MachineEffect, SendControl, SendSealed
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord, is_key_record, take_key_record
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import MappingRecord

AGAIN_S: Final = (0.25, 1.0, 3.0)  # ours: until the next try
ANNOUNCED_MAX: Final = 256  # ours: peers that are sent an announcement
RECORDS_MAX: Final = 8  # ours: EID-Prefixes in one announcement
HEARD_S: Final = 1.0  # ours: announcements of a peer; a second and a third move may follow at once
HEARD_BURST: Final = 4
RENEW_SHARE: Final = 0.5  # ours, of the TTL: when an announcement that no Map-Server knows is repeated
NONCES_MAX: Final = 1024  # ours: static keys whose last nonce is kept
PROBE_AGAIN_S: Final = (0.5, 1.0, 2.0)  # ours: until the next probe of a locator on trial
PROBES_MAX: Final = 256  # ours: open probes
PROBE_LIFE_S: Final = 10.0
PROBE_INTERVAL_S: Final = 0.05  # ours: 20 a second in all, because a peer can make us probe any locator
PROBE_BURST: Final = 32


class _Unacknowledged(msgspec.Struct, eq=False):
    """An announcement that a peer has not acknowledged."""

    payload: bytes
    nonce: int
    tries: int = 0


class _Trial(msgspec.Struct, frozen=True):
    """A probe of a locator on trial."""

    remote: IpAddress
    prefix: EidPrefix
    sent_at: float


class Heard(msgspec.Struct, frozen=True):
    """The effect of an announcement: mappings to use, static keys that the peer will have, and other effects."""

    records: tuple[MappingRecord, ...] = ()
    effects: tuple[MachineEffect, ...] = ()
    keys: tuple[tuple[EidPrefix, KeyRecord], ...] = ()


class Announcer:
    """Sends and receives announcements. `next_nonce` grows, over restarts too; `new_nonce` is unpredictable."""

    def __init__(self, *, next_nonce: Callable[[], int], new_nonce: Callable[[], int]) -> None:
        self._next_nonce = next_nonce
        self._new_nonce = new_nonce
        self._announced: tuple[MappingRecord, ...] = ()
        self._unacknowledged: dict[int, _Unacknowledged] = {}  # by the peer's number
        self._agenda: Agenda[int] = Agenda()
        self._limits: KeyedBuckets[int] = KeyedBuckets(HEARD_S, HEARD_BURST)
        self._heard: OrderedDict[bytes, int] = OrderedDict()  # the last nonce of each static key
        self._probes: OrderedDict[int, _Trial] = OrderedDict()
        # The EID-Prefix that it is said to serve, and the number of probes sent.
        self._tried: dict[IpAddress, tuple[EidPrefix, int]] = {}
        self._trials: Agenda[IpAddress] = Agenda()
        self._rate = TokenBucket(PROBE_INTERVAL_S, PROBE_BURST)
        self._renew_at: float | None = None

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None if nothing is due."""
        times = (self._agenda.first(), self._trials.first(), self._renew_at)
        return min((at for at in times if at is not None), default=None)

    def on_mappings(
        self, records: Iterable[MappingRecord], peers: Iterable[SealedPeer], now: float
    ) -> list[MachineEffect]:
        """Our mappings have changed. Announce them to peers with a session, unless already announced."""
        announced = tuple(record for record in records if record.locators)[:RECORDS_MAX]
        if not announced or announced == self._announced:
            return []
        is_first, self._announced = not self._announced, announced
        self._unacknowledged.clear()
        self._agenda.clear()
        return [] if is_first else self._tell(announced, peers, now)

    def on_new_key(self, key: KeyRecord, peers: Iterable[SealedPeer], now: float) -> list[MachineEffect]:
        """Our static key will be this one. Called while the sessions of the old one are still in use."""
        located = (replace(record, locators=(*record.locators, key.to_locator())) for record in self._announced)
        return self._tell(tuple(located), peers, now) if self._announced else []

    def _tell(self, records: tuple[MappingRecord, ...], peers: Iterable[SealedPeer], now: float) -> list[MachineEffect]:
        effects: list[MachineEffect] = []
        for peer in [peer for peer in peers if peer.is_sealed(now)][:ANNOUNCED_MAX]:
            nonce = self._next_nonce()
            self._unacknowledged[peer.number] = _Unacknowledged(MapNotify(nonce, records).encode(), nonce)
            effects += self._send(peer.number, now)
        return effects

    def on_registered(
        self, peers: Iterable[SealedPeer], now: float, *, is_confirmed: bool, ttl_min: int
    ) -> list[MachineEffect]:
        """Whether a Map-Server confirms our mappings. If none does, they are sent to peers again at half of its TTL."""
        sealed = [] if is_confirmed or not self._announced else [peer for peer in peers if peer.is_sealed(now)]
        if not sealed:
            self._renew_at = None
            return []
        is_due = self._renew_at is not None and self._renew_at <= now
        if is_due or self._renew_at is None:
            self._renew_at = now + min(ttl_min, HOLD_MIN) * 60.0 * RENEW_SHARE
        effects: list[MachineEffect] = []
        for peer in sealed[:ANNOUNCED_MAX] if is_due else ():
            effects += self.on_behind(peer, now)
        return effects

    def on_behind(self, peer: SealedPeer, now: float) -> list[MachineEffect]:
        """A peer sends by an old mapping of ours: it gets our mapping again, unless that is under way."""
        if not self._announced or peer.number in self._unacknowledged or not peer.is_sealed(now):
            return []
        nonce = self._next_nonce()
        self._unacknowledged[peer.number] = _Unacknowledged(MapNotify(nonce, self._announced).encode(), nonce)
        return self._send(peer.number, now)

    def on_timer(self, own: LocatorSet, now: float) -> list[MachineEffect]:
        """Repeat unacknowledged announcements, and unanswered probes."""
        effects: list[MachineEffect] = []
        for number in self._agenda.due(now):
            effects += self._send(number, now)
        for remote in self._trials.due(now):
            effects += self._probe(remote, own, now)
        return effects

    def on_announcement(
        self, peer: SealedPeer, covers: Callable[[EidPrefix], bool], payload: bytes, now: float
    ) -> Heard:
        """A peer sent this message in its session. `covers`: whether its static key is known for an EID-Prefix."""
        try:
            message = decode_control(payload)
        except MalformedMessage as malformed:
            return _counted(malformed.counter)
        if isinstance(message, MapNotifyAck):
            return self._acknowledged(peer, message)
        if not isinstance(message, MapNotify):
            return _counted("rx_type")
        if not self._limits.take(peer.number, now):
            return _counted("rx_rate")
        key, latest = peer.known.key, self._heard.get(peer.known.key, -1)
        acknowledgement = SendSealed(peer.number, MapNotifyAck(message.nonce, message.records).encode())
        if message.nonce == latest:
            return Heard((), (acknowledgement,))
        if message.nonce < latest:
            return _counted("rx_replay")
        said = message.records[:RECORDS_MAX]
        own = [record for record in said if (prefix := record.eid_prefix) is not None and covers(prefix)]
        if not own:
            return _counted("rx_policy")
        self._heard[key] = message.nonce
        self._heard.move_to_end(key)
        if len(self._heard) > NONCES_MAX:
            self._heard.popitem(last=False)
        # An EID of the other family may belong to the peer too, but its key is not known for it.
        others = [Count("rx_announcement_unknown")] * (len(message.records) - len(own))
        effects: tuple[MachineEffect, ...] = (acknowledgement, Count("rx_announcement"), *others)
        return Heard(tuple(map(_plain, own)), effects, tuple(_keys_in(own)))

    def on_trials(
        self, tried: Iterable[tuple[IpAddress, EidPrefix]], own: LocatorSet, now: float
    ) -> list[MachineEffect]:
        """The locators on trial, each for an EID-Prefix: new ones are probed at once."""
        wanted = dict(tried)
        for remote in [remote for remote in self._tried if self._tried[remote][0] != wanted.get(remote)]:
            del self._tried[remote]
            self._trials.set(remote, None)
        effects: list[MachineEffect] = []
        for remote, prefix in wanted.items():
            if remote not in self._tried:
                self._tried[remote] = prefix, 0
                effects += self._probe(remote, own, now)
        return effects

    def on_probe_answer(self, reply: MapReply, now: float) -> tuple[IpAddress, EidPrefix] | None:
        """A Map-Reply with P=1 arrived: the locator that passes its trial, and its EID-Prefix; None without a trial."""
        trial = self._probes.get(reply.nonce)
        if trial is None:
            return None
        if now - trial.sent_at > PROBE_LIFE_S or not any(
            record.is_authoritative and record.locators and record.eid_prefix == trial.prefix
            for record in reply.records
        ):
            return None
        del self._probes[reply.nonce]
        return trial.remote, trial.prefix

    def expects(self, nonce: int) -> bool:
        """Whether a Map-Reply with this nonce is about a trial."""
        return nonce in self._probes

    def _send(self, number: int, now: float) -> list[MachineEffect]:
        pending = self._unacknowledged[number]
        if pending.tries < len(AGAIN_S):
            self._agenda.set(number, now + AGAIN_S[pending.tries])
        else:
            del self._unacknowledged[number]  # it may not support announcements: SMRs must do
        pending.tries += 1
        return [SendSealed(number, pending.payload), Count("tx_announcement")]

    def _acknowledged(self, peer: SealedPeer, message: MapNotifyAck) -> Heard:
        pending = self._unacknowledged.get(peer.number)
        if pending is None or pending.nonce != message.nonce:
            return _counted("rx_nonce")
        del self._unacknowledged[peer.number]
        self._agenda.set(peer.number, None)
        return _counted("rx_announcement_ack")

    def _probe(self, remote: IpAddress, own: LocatorSet, now: float) -> list[MachineEffect]:
        """A plain RLOC-probe from our best locator for the EID that is said to be there."""
        prefix, tries = self._tried[remote]
        uplink = own.best(remote.version)
        if tries > len(PROBE_AGAIN_S) or uplink is None:
            return []
        if (allowed_at := self._rate.available_at(now)) > now:
            self._trials.set(remote, allowed_at)
            return []
        self._rate.take(now)
        self._tried[remote] = prefix, tries + 1
        if tries < len(PROBE_AGAIN_S):
            self._trials.set(remote, now + PROBE_AGAIN_S[tries])
        nonce = self._new_nonce()
        self._probes[nonce] = _Trial(remote, prefix, now)
        while len(self._probes) > PROBES_MAX or now - next(iter(self._probes.values())).sent_at > PROBE_LIFE_S:
            self._probes.popitem(last=False)
        request = MapRequest(nonce, None, (uplink.address,), (EidRecord.of(prefix),), is_probe=True)
        sent = SendControl(request.encode(), remote, source=uplink.address, ifindex=uplink.ifindex)
        return [sent, Count("tx_trial_probe")]


def is_acceptable(record: MappingRecord, guard: Guard) -> bool:
    """Whether an announced record may be used: the limits for all mappings hold for announcements too."""
    prefix, places = record.eid_prefix, [address for locator in record.locators for address in locator.ips]
    if prefix is None or not record.locators or guard.is_overclaim(record, prefix):
        return False
    return not any(guard.is_ours(place) or prefix.contains(place) for place in places)


def _plain(record: MappingRecord) -> MappingRecord:
    """The record as the mapping system would send it: no locator local or probed, not authoritative, no key."""
    locators = tuple(
        replace(locator, is_local=False, is_probed=False) for locator in record.locators if not is_key_record(locator)
    )
    return replace(record, locators=locators, is_authoritative=False)


def _keys_in(records: Iterable[MappingRecord]) -> Iterator[tuple[EidPrefix, KeyRecord]]:
    """The key records that can be read."""
    for record in records:
        try:
            keys = take_key_record(record)[1]
        except MalformedMessage:
            continue
        if keys is not None and record.eid_prefix is not None:
            yield record.eid_prefix, keys


def _counted(name: str) -> Heard:
    return Heard((), (Count(name),))
