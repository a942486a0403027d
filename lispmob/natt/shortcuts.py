"""All direct paths of a node behind NATs: at most one for each EID, on the preferred uplink. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from lispmob.control.smr import solicited
from lispmob.natt.arrival import DataControl
from lispmob.natt.effect import AskAgain, DataPort, DirectPathProven, SendFromDataPort, UplinkEffect
from lispmob.natt.info_exchange import Seen
from lispmob.natt.natt_config import NattConfig
from lispmob.natt.plan import NattPlan
from lispmob.natt.shortcut import SILENCE_S, Shortcut, State, answer, candidates_of, lookup, probe
from lispmob.protocol.acceptance import Guard, accept_records
from lispmob.protocol.effect import Count, Event, EventValue, InstallMapping, RemoveMapping, SendControl, UsableLocator
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.header import DATA_PORT
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord

LIMIT: Final = 64  # ours: direct paths, including failed ones that rest
ANSWER_S: Final = 1.0  # ours
TRIES: Final = 3  # of each step
CHECK_S: Final = 15.0  # ours: how often a path in use is probed
UNUSED_S: Final = 60.0  # ours: then it is dropped
REST_S: Final = 60.0  # ours: after a failure; doubles
SILENCE_REST_S: Final = 10.0  # ours: the peer may just have been idle; doubles
REST_MAX_S: Final = 900.0
LOOKUP_INTERVAL_S: Final = 0.5
LOOKUP_BURST: Final = 4
PROBE_INTERVAL_S: Final = 0.3  # ours: of one asker
PROBE_BURST: Final = 8
ANSWERS_S: Final = 0.02  # ours: 50 answers per second in all, to strangers and to peers of direct paths each
ANSWER_BURST: Final = 50


class Ground(msgspec.Struct, frozen=True):
    """The uplink of the direct paths, and its state. If it changes, all of them end."""

    locator: LocalLocator
    seen: Seen
    rtrs: tuple[IpAddress, ...]

    def is_like(self, other: Ground | None) -> bool:
        """True when paths that work on the one work on the other."""
        return other is not None and self.identity == other.identity

    @property
    def identity(self) -> tuple[object, ...]:
        """All that decides whether a path works."""
        one, seen = self.locator, self.seen
        return one.address, one.ifindex, seen.address, seen.server.address, self.rtrs


class Shortcuts:
    """Needs the packets that match only the default entry, and all later events."""

    def __init__(self, config: NattConfig, *, new_nonce: Callable[[], int]) -> None:
        self._config = config
        self._new_nonce = new_nonce
        self._ground: Ground | None = None
        self._ways: OrderedDict[EidPrefix, Shortcut] = OrderedDict()
        self._rests: OrderedDict[EidPrefix, float] = OrderedDict()  # the length of the last rest
        self._lookups = TokenBucket(LOOKUP_INTERVAL_S, LOOKUP_BURST)
        self._askers: KeyedBuckets[IpAddress | int] = KeyedBuckets(PROBE_INTERVAL_S, PROBE_BURST)
        self._answers = {is_peer: TokenBucket(ANSWERS_S, ANSWER_BURST) for is_peer in (False, True)}

    @property
    def open_ways(self) -> tuple[Shortcut, ...]:
        """The paths in use, for display."""
        return tuple(way for way in self._ways.values() if way.state is State.OPEN)

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return min((way.due_at for way in self._ways.values()), default=None)

    def on_ground(self, ground: Ground | None, config: NattConfig) -> list[UplinkEffect]:
        """The uplink has changed to this; None: there is none, or direct paths are off."""
        self._config = config
        if ground is self._ground or (ground is not None and ground.is_like(self._ground)):
            self._ground = ground
            return []
        self._ground = ground
        effects = [effect for way in self.open_ways for effect in self._close(way, "another uplink, NAT or RTR")]
        self._ways.clear()
        self._rests.clear()
        return effects

    def on_destination(self, source: IpAddress, eid: EidPrefix, now: float) -> list[UplinkEffect]:
        """Packets go to this EID (a host) by the default entry."""
        known = self._ways.get(eid)
        if self._ground is None or not any(own.contains(source) for own in self._config.eids):
            return []
        if known is not None:
            return [self._install(known)] if known.state is State.OPEN else []  # the entry was removed
        if not self._lookups.take(now):
            return []
        while len(self._ways) >= LIMIT:
            resting = next((way for way in self._ways.values() if way.state is State.RESTING), None)
            if resting is None:
                return []
            del self._ways[resting.eid]
        one = self._ways[eid] = Shortcut(eid, source, used_at=now)
        return self._ask(one, self._ground, now)

    def on_map_reply(self, reply: MapReply, now: float) -> list[UplinkEffect] | None:
        """A Map-Reply came to the control port; None when it answers no request of ours."""
        one = next(
            (way for way in self._ways.values() if way.state is State.ASKING and reply.nonce in way.nonces), None
        )
        ground = self._ground
        if one is None or ground is None or reply.is_probe:
            return None
        guard = Guard(self._config.eids, frozenset({ground.locator.address}), frozenset({ground.seen.server.address}))
        records = accept_records(reply.records, one.eid, guard)
        if records is None:
            return [Count("rx_policy")]
        avoided = frozenset({*ground.rtrs, *ground.seen.rtrs, ground.locator.address})
        one.candidates = candidates_of(_narrowest(records, one.eid), ground.locator.address, avoided)
        if not one.candidates:
            return self._rest(one, REST_S, now)
        one.to(State.PROBING)
        return self._probe(one, ground, now)

    def on_probe_reply(self, reply: MapReply, arrival: DataControl, now: float) -> list[UplinkEffect] | None:
        """The answer to a probe came in a data packet; None when we sent no such probe."""
        one = next((way for way in self._ways.values() if reply.nonce in way.sent), None)
        if one is None:
            return None
        rloc, sent_at = one.sent[reply.nonce]
        names_it = any(prefix.covers(one.eid) for record in reply.records if (prefix := record.eid_prefix) is not None)
        if (arrival.outer_source, arrival.outer_source_port) != (rloc, DATA_PORT) or not names_it:
            return [Count("rx_policy")]
        one.rtt_s = now - sent_at
        if one.state is State.OPEN:
            one.tries, one.wake_at = 0, now + CHECK_S
            one.sent.clear()
            return []
        one.to(State.OPEN)
        one.rloc, one.opened_at, one.wake_at = rloc, now, now + CHECK_S
        rtt_ms = round(one.rtt_s * 1000, 3)
        return [self._install(one), Event("shortcut-opened", {**_fields(one), "rtt_ms": rtt_ms})]

    def on_probed(self, request: MapRequest, arrival: DataControl, plan: NattPlan, now: float) -> list[UplinkEffect]:
        """A peer probes a direct path to us: reply over the same path with our records."""
        asked = [prefix for record in request.records if (prefix := record.eid_prefix) is not None]
        eids = [eid for eid in self._config.eids if any(eid.covers(prefix) for prefix in asked)]
        is_odd = arrival.source.version != arrival.outer_destination.version or arrival.outer_source_port == 0
        if not eids or request.dont_map_reply or is_odd:
            return [Count("rx_policy")]
        place = arrival.outer_source, arrival.outer_source_port
        is_peer = any(place[0] == way.rloc or place[0] in way.candidates for way in self._ways.values())
        answers = self._answers[is_peer]
        if answers.available_at(now) > now or not self._askers.take(place[0] if is_peer else owner_of(place[0]), now):
            return [Count("rx_rate")]
        answers.take(now)
        ttl_min, own = self._config.record_ttl_min, arrival.outer_destination
        version = plan.map_version
        records = tuple(
            MappingRecord.of(eid, plan.locators_for(eid), ttl_min=ttl_min, is_authoritative=True, map_version=version)
            for eid in eids
        )
        reply = MapReply(request.nonce, records, is_probe=True).encode()
        payload = answer(own, arrival.source, reply)
        asker = solicited(request)
        told = [DirectPathProven(asker, arrival.outer_source)] if asker is not None else []
        return [SendFromDataPort(payload, *place, own, arrival.ifindex, DataPort.FIXED), Count("tx_map_reply"), *told]

    def on_used(self, prefixes: Iterable[EidPrefix], now: float) -> None:
        """These forwarding entries have carried packets."""
        for prefix in prefixes:
            if (one := self._ways.get(prefix)) is not None:
                one.used_at = now

    def on_heard(self, sources: Iterable[IpAddress]) -> None:
        """Data came from these outer addresses."""
        heard = frozenset(sources)
        for way in self.open_ways:
            if way.rloc in heard or (self._ground is not None and heard.intersection(self._ground.rtrs)):
                way.doubted_at = None

    def on_stalled(self, address: IpAddress, now: float) -> list[UplinkEffect]:
        """Data on this uplink is unanswered for longer than most round trips: check the direct path.

        A probe decides; but the peer may accept probes and no data. If nothing comes for longer, the RTR is used.
        """
        if self._ground is None or self._ground.locator.address != address:
            return []
        effects: list[UplinkEffect] = []
        for way in self.open_ways:
            way.doubted_at = now if way.doubted_at is None else way.doubted_at
            if not way.sent:
                effects += self._probe(way, self._ground, now)
        return effects

    def on_moved(self, record: MappingRecord, now: float) -> list[UplinkEffect]:
        """The Map-Server has published where an EID-Prefix is: direct paths elsewhere are looked for again."""
        prefix, places = record.eid_prefix, {address for locator in record.locators for address in locator.ips}
        effects: list[UplinkEffect] = []
        for way in self.open_ways:
            if prefix is not None and prefix.covers(way.eid) and way.rloc not in places and self._ground is not None:
                effects += self._close(way, "published")
                one = self._ways[way.eid] = Shortcut(way.eid, way.source, used_at=now)
                effects += self._ask(one, self._ground, now)
        return effects

    def on_timer(self, now: float) -> list[UplinkEffect]:
        """A deadline may have passed."""
        ground, effects = self._ground, list[UplinkEffect]()
        for way in list(self._ways.values()):
            if ground is None or now < way.due_at:
                continue
            if way.doubted_at is not None and now >= way.doubted_at + SILENCE_S:
                effects += self._rest(way, SILENCE_REST_S, now, "nothing comes back")
                continue
            if way.state is State.RESTING:
                del self._ways[way.eid]
            elif way.state is State.OPEN and not way.sent and now - way.used_at > UNUSED_S:
                effects += self._close(way, "unused")
                del self._ways[way.eid]
            elif way.tries >= TRIES:
                effects += self._rest(way, REST_S, now, "no answer")
            elif way.state is State.ASKING:
                effects += self._ask(way, ground, now)
            else:
                effects += self._probe(way, ground, now)
        return effects

    def _ask(self, one: Shortcut, ground: Ground, now: float) -> list[UplinkEffect]:
        one.tries += 1
        one.wake_at = now + ANSWER_S
        nonce = self._new_nonce()
        one.nonces.add(nonce)
        place, seen = ground.locator, ground.seen
        assert seen.address is not None, "a ground is an uplink behind a NAT"
        payload = lookup(one, nonce, seen.address, seen.port)
        # No answer: our outside port may have changed, which the same server can report.
        doubt = [AskAgain(place.address)] if one.tries > 1 else []
        sent = SendControl(payload, seen.server.address, source=place.address, ifindex=place.ifindex)
        return [*doubt, sent, Count("tx_map_request")]

    def _probe(self, one: Shortcut, ground: Ground, now: float) -> list[UplinkEffect]:
        one.tries += 1
        one.wake_at = now + ANSWER_S
        place = ground.locator
        effects: list[UplinkEffect] = []
        for candidate in (one.rloc,) if one.rloc is not None else one.candidates:
            nonce = self._new_nonce()
            one.sent[nonce] = candidate, now
            payload = probe(one, nonce, place.address, candidate)
            effects.append(
                SendFromDataPort(payload, candidate, DATA_PORT, place.address, place.ifindex, DataPort.FIXED)
            )
            effects.append(Count("tx_shortcut_probe"))
        return effects

    def _install(self, one: Shortcut) -> InstallMapping:
        assert one.rloc is not None, one
        assert self._ground is not None, one
        locator = UsableLocator(one.rloc, 1, 100, source=self._ground.locator.address)
        return InstallMapping(one.eid, "ENCAPSULATE", (locator,))

    def _rest(self, one: Shortcut, least_s: float, now: float, why: str = "") -> list[UplinkEffect]:
        effects = self._close(one, why) if one.state is State.OPEN else []
        one.to(State.RESTING)
        one.rest_s = min(max(least_s, 2 * self._rests.pop(one.eid, 0.0)), REST_MAX_S)
        one.wake_at = now + one.rest_s
        self._rests[one.eid] = one.rest_s
        while len(self._rests) > LIMIT:
            self._rests.popitem(last=False)
        return effects

    def _close(self, one: Shortcut, why: str) -> list[UplinkEffect]:
        return [RemoveMapping(one.eid), Event("shortcut-closed", {**_fields(one), "why": why})]


def _narrowest(records: tuple[MappingRecord, ...], eid: EidPrefix) -> tuple[Locator, ...]:
    covering = [
        (prefix, record) for record in records if (prefix := record.eid_prefix) is not None and prefix.covers(eid)
    ]
    return max(covering, key=lambda found: found[0].mask_len)[1].locators if covering else ()


def _fields(one: Shortcut) -> dict[str, EventValue]:
    return {"eid": str(one.eid), "rloc": str(one.rloc)}
