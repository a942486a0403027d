"""Subscriptions of a node: the Map-Server notifies it when a peer's mapping changes (RFC 9437).

How it works.
1. A mapping that LISP-SEC has shown to be genuine carries traffic: a Map-Request with N=1 leaves, to the Map-Resolver
   that has shown LISP-SEC. The key of the subscription is derived from its One-Time-Key and its nonce.
2. A Map-Notify with that nonce and a valid MAC confirms it. Its mapping is used, and a Map-Notify-Ack is sent. A
   Map-Reply instead means that nothing is published: the peer's SMRs must do, and it is tried again much later.
3. A publication is a Map-Notify with a valid MAC and a nonce greater than the last one. It is used like a
   genuine answer, and acknowledged. A repeated one is acknowledged again; an older one is counted and dropped.
4. When our RLOCs change, all subscriptions are made again after the Map-Registers, to get publications at the new ones.
5. When the mapping leaves the map-cache, the subscription ends.

An idle node is woken only for a renewal every half day. Pure.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Final

import msgspec

from lispmob.control.itr_security import ItrSecurity
from lispmob.control.map_cache import MapCacheEntry
from lispmob.control.node_config import NodeConfig
from lispmob.control.sealing.key_lookups import Outside
from lispmob.errors import AuthenticationFailed
from lispmob.protocol.acceptance import Guard, accept_records
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import CONTROL_PORT, Count, Event, MachineEffect, MappingLearned, SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.rate_limit import TokenBucket
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, sign, verify
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Action

SUBSCRIPTIONS_MAX: Final = 256  # ours: peers of a node; the others send SMRs
WAITS_S: Final = (1.0, 2.0, 4.0)  # ours: between tries of one subscription
REFUSED_S: Final = (30.0, 120.0, 600.0)  # ours: until the next try at a Map-Server that publishes nothing
UNWANTED_S: Final = 3600.0  # ours: behind a NAT, without packets
RENEW_S: Final = 43_200.0  # ours: a lispmob hub forgets a subscription after a day
GONE_S: Final = 900.0  # ours: a peer that is gone may return; its mapping is published then
ASK_INTERVAL_S: Final = 0.1  # ours: ten Map-Requests a second
ASK_BURST: Final = 20
HEARD_INTERVAL_S: Final = 0.005  # ours: the MAC of 200 Map-Notifies a second is checked
HEARD_BURST: Final = 400
WINDOW_BITS: Final = 16  # ours: how far ahead of the last nonce a publication may be
ASKING_S: Final = 30.0  # ours: how late a confirmation may come
ASKING_MAX: Final = 4  # ours: transmissions of one subscription that may still be confirmed; a day of moves has many
_NONCE_BITS: Final = 0x7FFF_FFFF_FFFF_FFFF  # the first nonce leaves room to grow


class State(Enum):
    """The state of one subscription."""

    ASKING = "asking"
    SUBSCRIBED = "subscribed"
    REFUSED = "refused"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.ASKING: frozenset({State.SUBSCRIBED, State.REFUSED}),
    State.SUBSCRIBED: frozenset({State.ASKING}),
    State.REFUSED: frozenset({State.ASKING, State.SUBSCRIBED}),
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, and the keys derived from it."""

    prefix: EidPrefix
    resolver: IpAddress
    sent_at: float
    otk: bytes = dataclasses.field(repr=False)
    secret: bytes = dataclasses.field(repr=False)


class Subscription(msgspec.Struct, eq=False):
    """One subscription. `nonce`: the last accepted one. Times are monotonic seconds."""

    prefix: EidPrefix
    state: State = State.ASKING
    nonce: int = 0
    secret: bytes = b""
    last_asked: int = 0
    tries: int = 0
    refusals: int = 0
    since: float | None = None
    published_at: float | None = None
    publications: int = 0
    wanted_at: float | None = None
    """Behind a NAT: when packets went there last, as far as is known; None: a mapping in the map-cache wants it."""
    is_gone: bool = False
    """The Map-Server has said that the prefix is not registered; it will publish when it is."""

    @property
    def is_standing(self) -> bool:
        """Whether changes are published to us."""
        return self.state is State.SUBSCRIBED

    def to(self, new: State) -> None:
        """Change the state."""
        if new is self.state:
            return
        assert new in TRANSITIONS[self.state], (self.prefix, self.state, new)
        self.state = new


class Subscriptions:
    """All subscriptions of a node. `new_nonce` is unpredictable."""

    def __init__(self, config: NodeConfig, security: ItrSecurity, *, new_nonce: Callable[[], int]) -> None:
        self._config = config
        self._security = security
        self._new_nonce = new_nonce
        self._own = LocatorSet()
        self._outside: Outside | None = None
        self._of: dict[EidPrefix, Subscription] = {}
        self._agenda: Agenda[EidPrefix] = Agenda()
        self._asked: OrderedDict[int, _Asked] = OrderedDict()  # open requests by nonce, oldest first
        self._windows: Counter[int] = Counter()
        self._asks = TokenBucket(ASK_INTERVAL_S, ASK_BURST)
        self._heard = TokenBucket(HEARD_INTERVAL_S, HEARD_BURST)

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """All of them, for display."""
        return tuple(self._of.values())

    def of(self, prefix: EidPrefix) -> Subscription | None:
        """The subscription to a mapping."""
        return self._of.get(prefix)

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds; None if nothing is due."""
        return self._agenda.first()

    def knows(self, octets: bytes) -> bool:
        """Whether these eight octets may be the nonce of an answer or of a publication; others are noise."""
        window = int.from_bytes(octets) >> WINDOW_BITS
        return window in self._windows or window - 1 in self._windows

    def on_config(self, config: NodeConfig, now: float) -> list[MachineEffect]:
        """The configuration was reloaded."""
        self._config = config
        if config.subscribes:
            return []
        return [effect for prefix in [*self._of] for effect in self._end(prefix, now)]

    def on_locators(self, own: LocatorSet, now: float) -> list[MachineEffect]:
        """The RLOCs at which we are reachable have changed. The Map-Registers with them have been sent."""
        is_same, self._own = own.locators == self._own.locators, own
        if is_same or not own:
            return []
        return self._subscribe_again(now)

    def on_outside(self, outside: Outside | None, now: float) -> list[MachineEffect]:
        """Without an uplink that others reach by themselves: our control port behind a NAT, or None.

        The Map-Server publishes to where the request came from, or by the RTR that it knows us registered by.
        """
        is_same, self._outside = outside == self._outside, outside
        return [] if is_same or outside is None or self._own else self._subscribe_again(now)

    def on_wanted(self, prefix: EidPrefix, now: float) -> list[MachineEffect]:
        """Behind a NAT: packets go to this prefix, of which LISP-SEC has proved the mapping; an RTR has it, not we."""
        subscription = self._of.get(prefix)
        if subscription is not None:
            subscription.wanted_at = now
        if subscription is not None or len(self._of) >= SUBSCRIPTIONS_MAX or not self._can_ask(now):
            return []
        subscription = self._of[prefix] = Subscription(prefix, wanted_at=now)
        return self._ask(subscription, now)

    def on_slept(self, now: float) -> list[MachineEffect]:
        """The host was suspended: publications meanwhile were missed and not acknowledged."""
        return self._subscribe_again(now)

    def on_used(self, entries: Iterable[MapCacheEntry], now: float) -> list[MachineEffect]:
        """These mappings carry traffic, and we are registered: subscribe to them as far as there is room."""
        effects: list[MachineEffect] = []
        for entry in entries:
            is_fit = entry.is_genuine and entry.source == "reply" and entry.locators
            if not is_fit or entry.prefix in self._of or not self._can_ask(now):
                continue
            if len(self._of) < SUBSCRIPTIONS_MAX:
                subscription = self._of[entry.prefix] = Subscription(entry.prefix)
                effects += self._ask(subscription, now)
        return effects

    def on_forgotten(self, prefix: EidPrefix, why: str, now: float) -> list[MachineEffect]:
        """A mapping has left the map-cache. One that the Map-Server withdrew may come back."""
        subscription = self._of.get(prefix)
        if subscription is None or why == "replaced":
            return []
        if subscription.is_gone and subscription.state is State.SUBSCRIBED:
            self._agenda.set(prefix, now + GONE_S)
            return []
        return self._end(prefix, now)

    def on_timer(self, now: float) -> list[MachineEffect]:
        """A deadline may have passed: ask again, renew, or end a subscription to a prefix that is long gone."""
        self._trim(now)
        effects: list[MachineEffect] = []
        for prefix in self._agenda.due(now):
            subscription = self._of[prefix]
            is_unwanted = subscription.wanted_at is not None and now - subscription.wanted_at > UNWANTED_S
            if subscription.is_gone or (is_unwanted and subscription.state is State.SUBSCRIBED):
                effects += self._end(prefix, now)
            elif subscription.state is State.ASKING and subscription.tries > len(WAITS_S):
                effects += self._refused(subscription, now)
            else:
                if subscription.state is not State.ASKING:
                    subscription.tries = 0
                subscription.to(State.ASKING)
                effects += self._ask(subscription, now)
        return effects

    def on_map_reply(self, reply: MapReply, raw: bytes, now: float) -> list[MachineEffect] | None:
        """A Map-Reply came; None if it answers no subscription. A genuine one means that nothing is published."""
        asked = self._asked.get(reply.nonce)
        if asked is None:
            return None
        eids, effects = self._security.verify(reply, raw, asked.otk, asked.prefix, asked.resolver, now)
        subscription = self._of.get(asked.prefix)
        if eids is None or subscription is None:
            return effects
        self._forget_asked(reply.nonce)
        is_again = any(record.action == Action.DROP_AUTH_FAILURE for record in reply.records)
        if subscription.state is not State.ASKING or (is_again and subscription.tries <= len(WAITS_S)):
            return effects  # another request is due soon
        return [*effects, *self._refused(subscription, now)]

    def on_map_notify(
        self, notify: MapNotify, raw: bytes, datagram: Datagram, guard: Guard, now: float
    ) -> list[MachineEffect] | None:
        """A Map-Notify came; None if it cannot be ours. Nothing counts before the MAC is verified."""
        asked = self._asked.get(notify.nonce)
        if asked is None and not self.knows(notify.nonce.to_bytes(8)):
            return None
        if not self._heard.take(now):
            return [Count("rx_rate")]
        if asked is not None and _is_signed(raw, notify, asked.secret):
            subscription = self._of.get(asked.prefix)
            return [] if subscription is None else self._confirmed(subscription, asked, notify, datagram, guard, now)
        window = notify.nonce >> WINDOW_BITS
        near = [one for one in self._of.values() if one.secret and 0 <= window - (one.nonce >> WINDOW_BITS) <= 1]
        signed = next((one for one in near if _is_signed(raw, notify, one.secret)), None)
        if signed is None:
            return [Count("rx_auth")]
        return self._published(signed, notify, datagram, guard, now)

    # --- inside

    def _confirmed(
        self,
        subscription: Subscription,
        asked: _Asked,
        notify: MapNotify,
        datagram: Datagram,
        guard: Guard,
        now: float,
    ) -> list[MachineEffect]:
        """The Map-Server has accepted it. The same Map-Notify may come again until our acknowledgement has arrived."""
        if _is_refusal(notify):
            return self._lost(subscription, now)
        if asked.secret == subscription.secret and notify.nonce <= subscription.nonce:
            return self._published(subscription, notify, datagram, guard, now)
        is_new = subscription.since is None
        learned = self._learned(subscription, notify, guard)
        if learned is None:
            return [Count("rx_policy")]
        self._keep(subscription, notify.nonce, asked.secret)
        subscription.to(State.SUBSCRIBED)
        subscription.since, subscription.tries, subscription.refusals = now, 0, 0
        self._agenda.set(subscription.prefix, now + RENEW_S)
        effects: list[MachineEffect] = [self._acknowledge(subscription, notify, datagram), *learned]
        return [*effects, Event("subscribed", {"eid": str(subscription.prefix)})] if is_new else effects

    def _published(
        self, subscription: Subscription, notify: MapNotify, datagram: Datagram, guard: Guard, now: float
    ) -> list[MachineEffect]:
        """A Map-Notify that the Map-Server has signed for this subscription: check its nonce against the last one."""
        if _is_refusal(notify) and notify.nonce >= subscription.nonce:
            return self._lost(subscription, now)
        if notify.nonce == subscription.nonce:
            return [self._acknowledge(subscription, notify, datagram), Count("rx_publication_again")]
        learned = self._learned(subscription, notify, guard) if notify.nonce > subscription.nonce else None
        if learned is None:
            return [Count("rx_replay")]
        self._keep(subscription, notify.nonce, subscription.secret)
        subscription.published_at, subscription.publications = now, subscription.publications + 1
        ack = self._acknowledge(subscription, notify, datagram)
        event = Event("published", {"eid": str(subscription.prefix), "rlocs": _rlocs(notify)})
        return [*learned, ack, Count("rx_publication"), event]  # packets are lost until the mapping is in use

    def _learned(self, subscription: Subscription, notify: MapNotify, guard: Guard) -> list[MachineEffect] | None:
        """The mapping that it states for the subscribed prefix, or a part of it; None if there is none."""
        prefix = subscription.prefix
        records = accept_records(notify.records, prefix, guard)
        if not records or not all(_is_within(record.eid_prefix, prefix) for record in records):
            return None
        subscription.is_gone = any(not record.ttl_min and record.eid_prefix == prefix for record in records)
        if not subscription.is_gone and subscription.state is State.SUBSCRIBED:
            self._agenda.set(prefix, (subscription.since or 0.0) + RENEW_S)
        return [MappingLearned(prefix, records, "published", 0.0, is_genuine=True)]

    def _acknowledge(self, subscription: Subscription, notify: MapNotify, datagram: Datagram) -> SendControl:
        """The same contents, signed by us, sent back to the source (RFC 9437, 6)."""
        ack = MapNotifyAck(notify.nonce, notify.records, xtr_id=notify.xtr_id, site_id=notify.site_id)
        payload = sign(ack, _key(subscription.secret, notify.key_id))
        return SendControl(
            payload, datagram.source, datagram.source_port, source=datagram.destination, ifindex=datagram.ifindex
        )

    def _lost(self, subscription: Subscription, now: float) -> list[MachineEffect]:
        """The Map-Server has ended it because acknowledgements were missing."""
        if subscription.state is State.ASKING:
            return [Count("rx_subscription_lost")]  # it is already being made again
        subscription.to(State.ASKING)
        subscription.tries, subscription.is_gone = 0, False
        return [Count("rx_subscription_lost"), *self._ask(subscription, now)]

    def _refused(self, subscription: Subscription, now: float) -> list[MachineEffect]:
        subscription.to(State.REFUSED)
        self._keep(subscription, 0, b"")
        subscription.since = None
        wait_s = REFUSED_S[min(subscription.refusals, len(REFUSED_S) - 1)]
        subscription.refusals += 1
        self._agenda.set(subscription.prefix, now + wait_s)
        return [Count("subscription_refused")]

    def _subscribe_again(self, now: float) -> list[MachineEffect]:
        effects: list[MachineEffect] = []
        for subscription in self._of.values():
            if subscription.state is not State.REFUSED:
                subscription.to(State.ASKING)
                subscription.tries = 0
                effects += self._ask(subscription, now)
        return effects

    def _can_ask(self, now: float) -> bool:
        is_ready = self._config.subscribes and self._resolver() is not None
        return is_ready and self._asks.available_at(now) <= now

    def _resolver(self, turn: int = 0) -> IpAddress | None:
        """A reachable Map-Resolver that has shown LISP-SEC; each turn picks the next one."""
        shown = (one for one in self._config.map_resolvers if self._security.has_shown(one))
        fit = [one for one in shown if self._way_to(one) is not None]
        return fit[turn % len(fit)] if fit else None

    def _ask(self, subscription: Subscription, now: float) -> list[MachineEffect]:
        """Send one Map-Request with N=1, each with its own nonce and One-Time-Key; delayed if the limit requires."""
        resolver = self._resolver(subscription.tries)
        at = self._asks.available_at(now)
        if resolver is None or at > now:
            self._agenda.set(subscription.prefix, at if at > now else now + REFUSED_S[0])
            return []
        self._asks.take(now)
        wait_s = WAITS_S[min(subscription.tries, len(WAITS_S) - 1)]
        subscription.tries += 1
        self._agenda.set(subscription.prefix, now + wait_s)
        uplink = self._own.best(resolver.version)
        # Behind a NAT the address that it hides: so the Map-Server knows to answer where the request came from.
        hidden = () if self._outside is None else (self._outside.local,)
        itr_rlocs = hidden if uplink is None else self._own.itr_rlocs_from(uplink)
        return [self._request(subscription.prefix, resolver, itr_rlocs, now), Count("tx_subscription")]

    def _way_to(self, resolver: IpAddress) -> tuple[IpAddress, int] | None:
        """The address and the interface that a request leaves from; None: it cannot."""
        if (uplink := self._own.best(resolver.version)) is not None:
            return uplink.address, uplink.ifindex
        outside = self._outside
        is_fit = outside is not None and not self._own and outside.local.version == resolver.version
        return (outside.local, outside.ifindex) if outside is not None and is_fit else None

    def _request(
        self, prefix: EidPrefix, resolver: IpAddress, itr_rlocs: tuple[IpAddress | None, ...], now: float
    ) -> SendControl:
        subscription = self._of[prefix]
        latest = max(subscription.nonce, subscription.last_asked)
        nonce = subscription.last_asked = latest + 1 if latest else self._new_nonce() & _NONCE_BITS
        otk, authentication = self._security.protect(nonce, resolver)
        secret = self._security.publication_secret(otk, nonce)
        for old in self._asked_about(prefix)[: 1 - ASKING_MAX]:
            self._forget_asked(old)
        self._asked[nonce] = _Asked(prefix, resolver, now, otk, secret)
        self._windows[nonce >> WINDOW_BITS] += 1
        source = self._config.source_for(prefix)
        eid = self._config.eids[0] if source is None else EidPrefix.host(source, prefix.instance_id)
        request = MapRequest(
            nonce=nonce,
            source_eid=from_prefix(EidPrefix.host(eid.address, eid.instance_id)),
            itr_rlocs=itr_rlocs,
            records=(EidRecord.of(prefix, wants_notify=True),),
            xtr_id=self._config.xtr_id,
            site_id=self._config.site_id,
        )
        way = self._way_to(resolver)
        assert way is not None, resolver
        inner = source or ip_address("0.0.0.0" if prefix.family == 4 else "::")
        ecm = EncapsulatedControl(
            inner, CONTROL_PORT, prefix.address, CONTROL_PORT, request.encode(), authentication=authentication
        )
        return SendControl(ecm.encode(), resolver, source=way[0], ifindex=way[1])

    def _end(self, prefix: EidPrefix, now: float) -> list[MachineEffect]:
        """End a subscription, with one message to the Map-Server if it knows us. A lost one is noticed by missing
        acknowledgements.
        """
        subscription, effects = self._of[prefix], list[MachineEffect]()
        resolver = self._resolver()
        if subscription.secret and resolver is not None and self._asks.take(now):
            effects = [self._request(prefix, resolver, (None,), now), Count("tx_unsubscription")]
        self._keep(subscription, 0, b"")
        for nonce in self._asked_about(prefix):
            self._forget_asked(nonce)
        del self._of[prefix]
        self._agenda.set(prefix, None)
        return effects

    def _keep(self, subscription: Subscription, nonce: int, secret: bytes) -> None:
        if subscription.secret:
            self._close_window(subscription.nonce)
        subscription.nonce, subscription.secret = nonce, secret
        if secret:
            self._windows[nonce >> WINDOW_BITS] += 1

    def _trim(self, now: float) -> None:
        while self._asked:
            nonce, oldest = next(iter(self._asked.items()))
            if now - oldest.sent_at <= ASKING_S:
                return
            self._forget_asked(nonce)

    def _asked_about(self, prefix: EidPrefix) -> list[int]:
        """The nonces of its transmissions, the oldest first."""
        return [nonce for nonce, asked in self._asked.items() if asked.prefix == prefix]

    def _forget_asked(self, nonce: int) -> None:
        del self._asked[nonce]
        self._close_window(nonce)

    def _close_window(self, nonce: int) -> None:
        window = nonce >> WINDOW_BITS
        self._windows[window] -= 1
        if not self._windows[window]:
            del self._windows[window]


def _key(secret: bytes, key_id: int) -> Key:
    """RFC 9437 leaves the algorithm open: ours is 2. The Key ID is that of the secret that wrapped the key."""
    return Key(secret, key_id, Algorithm.HMAC_SHA_256_128)


def _is_signed(raw: bytes, notify: MapNotify, secret: bytes) -> bool:
    try:
        verify(raw, _key(secret, notify.key_id))
    except AuthenticationFailed:
        return False
    return True


def _is_refusal(notify: MapNotify) -> bool:
    """The Map-Server refuses or ends a subscription (RFC 9437, 6): no locators, and ACT 5."""
    return all(not record.locators and record.action == Action.DROP_AUTH_FAILURE for record in notify.records)


def _is_within(prefix: EidPrefix | None, subscribed: EidPrefix) -> bool:
    return prefix is not None and (subscribed.covers(prefix) or prefix.covers(subscribed))


def _rlocs(notify: MapNotify) -> list[str]:
    return [str(locator.ip) for record in notify.records for locator in record.locators if locator.ip is not None]
