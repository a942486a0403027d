"""The Map-Server's side of publish/subscribe (RFC 9437): subscriptions, and their publications.

How it works.
1. A Map-Request with N=1 arrives (`on_request`). It needs LISP-SEC: a secret of the
   site of the Source EID must unwrap the One-Time-Key, and the xTR-ID must have registered that EID. The key of
   the subscription is derived from One-Time-Key and nonce; the same pair never makes a second one.
2. The Map-Notify with the nonce of the Map-Request confirms it. It is repeated like a publication, until a
   Map-Notify-Ack comes.
3. A registration changed (`on_changed`): each subscriber of the prefix, of a wider or of a narrower one, gets a
   Map-Notify with the next nonce. A removed mapping has TTL 0.
4. Without a Map-Notify-Ack it is sent three times, three seconds apart, three times more with doubled pauses, and then
   to the next ITR-RLOC. After the last one the subscription ends, with a last Map-Notify.

For a subscriber behind a NAT, publications go to the source of its Map-Request, or through its RTR if it registers
through one. If that hub is gone, the NAT admits only the hubs that the node registers with: so unacknowledged
publications go to the source of its last Map-Register here, at once when the next one arrives (`on_registered`). Pure.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final, TypeAlias

import msgspec

from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import HubSecurity, Protection, host_of
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.map_server.ordered_prefixes import OrderedPrefixTable
from lispmob.hub.publishing.associations import Associations
from lispmob.hub.publishing.bindings import Bindings
from lispmob.hub.publishing.delivery import Delivery
from lispmob.hub.publishing.subscription import (
    LIFETIME_S,
    Subscription,
    SubscriptionChanges,
    SubscriptionKey,
    key_of,
    mark_of,
)
from lispmob.hub.publishing.wish import Wish
from lispmob.protocol.agenda import Agenda
from lispmob.protocol.effect import Event, SendControl
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key, sign, verify
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Action, MappingRecord

RETRIES_S: Final = (3.0, 3.0, 3.0, 6.0, 12.0, 24.0)  # RFC 9437, 6: three tries three seconds apart; ours: three more
PER_XTR: Final = 1000  # ours
PER_SITE: Final = 10_000  # ours: of one secret, so that no site takes the room of others
IN_ALL: Final = 100_000  # ours: at about 700 octets each
ASKED_S: Final = 0.05  # ours: subscriptions of one xTR, after a burst: all its peers after a move
ASKED_BURST: Final = 200
PUBLICATIONS_S: Final = 1000.0  # ours: a second, as many as a hub can send
QUEUE_LIMIT: Final = 100_000  # ours: each subscription is queued once
NONCE_GAP: Final = 1 << 10  # ours: nonces that may have been used since the state file was last written
LATEST_NONCE: Final = (1 << 64) - (1 << 24)  # no subscription begins so close to the end
OF_ONE_NONCE: Final = 16  # ours: subscriptions that wait for an acknowledgement; each costs a MAC when one comes
CHANGED_KEPT: Final = 4096  # ours: prefixes that changed while subscriptions were being restored
REFUSED_TTL_MIN: Final = 1  # ours: the next one may be right

MappingOf: TypeAlias = Callable[[Subscription, EidPrefix], tuple[MappingRecord, ...]]
"""The publication for this subscriber about a prefix."""


class _Open(msgspec.Struct, eq=False):
    """An unacknowledged Map-Notify."""

    payload: bytes
    nonce: int
    tries: int = 0
    place: int = 0


class Publisher:
    """All subscriptions of a hub."""

    def __init__(self, map_server: MapServer, security: HubSecurity, mapping_of: MappingOf, delivery: Delivery) -> None:
        self.counters: Counter[str] = Counter()
        self.is_on = True
        self.last: tuple[float, EidPrefix] | None = None  # time and prefix of the last publication
        self._map_server = map_server
        self._security = security
        self._mapping_of = mapping_of
        self._delivery = delivery
        self._of: OrderedPrefixTable[dict[bytes, Subscription]] = OrderedPrefixTable()  # by EID-Prefix, then xTR-ID
        self._of_xtr: defaultdict[bytes, dict[EidPrefix, None]] = defaultdict(dict)
        self._bindings = Bindings()
        self._per_site: Counter[bytes] = Counter()
        self._open: dict[SubscriptionKey, _Open] = {}
        self._by_nonce: dict[int, list[SubscriptionKey]] = {}  # subscribers choose them: two may choose the same
        self._due: Agenda[SubscriptionKey] = Agenda()
        self._expiry: Agenda[SubscriptionKey] = Agenda()
        self._count = 0
        self._queue: dict[SubscriptionKey, list[EidPrefix]] = {}
        self._held_until = float("-inf")
        self._asked: KeyedBuckets[bytes] = KeyedBuckets(ASKED_S, ASKED_BURST)
        self._rate = TokenBucket(1 / PUBLICATIONS_S, int(PUBLICATIONS_S))
        self._associations = Associations()
        self._unsaved: set[SubscriptionKey] = set()
        self._changed_meanwhile: dict[EidPrefix, None] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def subscriptions(self) -> list[Subscription]:
        """All of them, for display."""
        return [subscription for _, some in self._of for subscription in some.values()]

    def find(self, name: SubscriptionKey) -> Subscription | None:
        """The subscription of this EID-Prefix and xTR-ID."""
        return self._get(name)

    def wake_at(self) -> float | None:
        """When on_timer is due; None for never."""
        times = [self._due.first(), self._held_until if self._queue else None]
        times.append(self._expiry.first())
        return min((at for at in times if at is not None), default=None)

    def on_timer(self, now: float) -> list[SendControl | Event]:
        """Repeat unacknowledged messages, send delayed ones, and drop expired ones."""
        effects: list[SendControl | Event] = []
        for name in self._due.due(now):
            if (subscription := self._get(name)) is not None and name in self._open:
                effects += self._send(subscription, self._open[name], now)
        for name in self._expiry.due(now):
            self._forget(name)
            self.counters["subscription_expired"] += 1
        return [*effects, *self._drain(now)]

    def on_request(self, wish: Wish, now: float) -> list[SendControl | Event] | MappingRecord | None:
        """A request to subscribe, or to end it. A record: the refusal. None: answer it as any Map-Request.

        The nonce of a Map-Request that LISP-SEC protects begins a security association (RFC 9437, 7.1).
        """
        request, protection = wish.request, wish.protection
        xtr_id = request.xtr_id
        if not self.is_on or xtr_id is None:
            return None
        if protection.opened_by is None or not self.may_subscribe(request, protection):
            self.counters["rx_subscription_policy"] += 1
            return _refusal(wish.prefix, Action.DROP_POLICY_DENIED)
        name = wish.prefix, xtr_id
        known, mark = self._get(name), mark_of(protection.opened_by)
        if not self._asked.take(xtr_id, now):
            self.counters["rx_subscription_rate"] += 1
            return None
        is_new = self._associations.take(protection.otk, request.nonce, mark, now)
        if is_new is None:
            self.counters["rx_subscription_limit"] += 1
            return None
        is_crowded = len(self._by_nonce.get(request.nonce, ())) >= OF_ONE_NONCE
        if request.nonce > LATEST_NONCE or not is_new or is_crowded:
            self.counters["rx_replay"] += 1
            return _refusal(wish.prefix, Action.DROP_AUTH_FAILURE)
        if all(rloc is None for rloc in request.itr_rlocs):
            return self._unsubscribe(wish, known, mark)
        if not wish.places or not any(record.locators for record in wish.found):
            return None  # there is no registration: the answer says so, and an SMR follows when there is one
        if known is None and self._is_full(xtr_id, mark):
            self.counters["rx_subscription_limit"] += 1
            return _refusal(wish.prefix, Action.DROP_POLICY_DENIED)
        if known is not None and known.mark != mark:
            self.counters["rx_subscription_policy"] += 1
            return _refusal(wish.prefix, Action.DROP_POLICY_DENIED)  # of another site, which has not registered this
        source = host_of(request.source_eid)
        assert source is not None, "may_subscribe has looked"
        subscription = Subscription(
            prefix=wish.prefix,
            xtr_id=xtr_id,
            source=source,
            places=wish.places,
            own=wish.arrival.destination,
            families=wish.families,
            nonce=request.nonce,
            secret=lisp_sec_auth.publication_key(protection.otk, request.nonce),
            key_id=protection.key_id,
            mark=mark,
            expires_at=now + LIFETIME_S,
        )
        self.counters["rx_subscription"] += 1
        self._put(subscription)
        return self._say(subscription, wish.found, now)

    def may_subscribe(self, request: MapRequest, protection: Protection) -> bool:
        """Whether the subscriber has registered the Source EID, or another hub has checked that (RFC 9437, 5)."""
        source, secret = host_of(request.source_eid), protection.opened_by
        if source is None or secret is None or request.xtr_id is None:
            return False
        if any(secret == hub.octets for hub in self._security.hub_secrets):
            return True
        covering = self._map_server.registrations.covering(source)
        return bool(covering) and any(part.xtr_id == request.xtr_id for part in covering[0][1])

    def on_changed(self, prefix: EidPrefix, now: float) -> list[SendControl | Event]:
        """The mapping of a registered prefix has changed, or was removed."""
        if self._changed_meanwhile is not None and len(self._changed_meanwhile) < CHANGED_KEPT:
            self._changed_meanwhile[prefix] = None
        for _, some in (*self._of.covering(prefix), *self._of.covered(prefix, QUEUE_LIMIT - len(self._queue))):
            for subscription in some.values():
                if subscription.prefix.mask_len > prefix.mask_len and self._has_closer(subscription.prefix, prefix):
                    continue  # a more specific mapping applies for this subscriber
                if subscription.expires_at > now:
                    waiting = self._queue.setdefault(subscription.name, [])
                    if prefix not in waiting:
                        waiting.append(prefix)
        return self._drain(now)

    def on_acknowledged(self, payload: bytes) -> list[SendControl | Event]:
        """A Map-Notify-Ack arrived. It counts only with a valid MAC."""
        names = self._by_nonce.get(int.from_bytes(payload[4:12]), ()) if len(payload) >= 12 else ()
        open_ones = [found for name in names if (found := self._get(name)) is not None]
        if not open_ones:
            self.counters["rx_nonce"] += 1
            return []
        subscription = next((one for one in open_ones if _is_signed(payload, one.key)), None)
        if subscription is None:
            self.counters["rx_auth"] += 1
            return []
        try:
            MapNotifyAck.decode(payload)
        except MalformedMessage as malformed:
            self.counters[malformed.counter] += 1
            return []
        self.counters["rx_map_notify_ack"] += 1
        self._close(subscription.name)
        if subscription.is_acknowledged:
            return []
        self._replace(dataclasses.replace(subscription, is_acknowledged=True))
        fields = {"eid": str(subscription.prefix), "subscriber": str(subscription.source)}
        return [Event("subscribed", {**fields, "place": str(subscription.places[0].address)})]

    def on_sites(self) -> None:
        """Sites or keys have changed: end subscriptions that none of them authenticates."""
        for subscription in self.subscriptions:
            if self.proof_of(subscription) is None:
                self._forget(subscription.name)
                self.counters["subscription_revoked"] += 1

    def proof_of(self, subscription: Subscription) -> bytes | None:
        """The secret of the site or hub that authenticated a subscriber; None if it is not configured here."""
        of_site = self._security.secrets_of(subscription.source, self._map_server.sites)
        secrets = (secret.octets for secret in (*of_site, *self._security.hub_secrets))
        return next((secret for secret in secrets if mark_of(secret) == subscription.mark), None)

    # --- several hubs

    def cares_for(self, prefix: EidPrefix) -> bool:
        """True when this EID-Prefix has subscribers."""
        return bool(self._of.covering(prefix)) or bool(self._of.covered(prefix, 1))

    def concerned(self, prefix: EidPrefix) -> list[EidPrefix]:
        """The more specific subscribed EID-Prefixes, which may have other mappings than the changed one."""
        return [narrower for narrower, _ in self._of.covered(prefix, QUEUE_LIMIT)]

    def taken_over(self, subscription: Subscription, own: Iterable[IpAddress]) -> Subscription:
        """The subscription to adopt from a hub that is gone, which may have sent more. `own`: our addresses."""
        here, version = tuple(own), subscription.own.version
        if subscription.own not in here:
            unspecified = ip_address("::" if version == 6 else "0.0.0.0")
            asked = next((address for address in here if address.version == version), unspecified)
            subscription = dataclasses.replace(subscription, own=asked)
        subscription = self._bindings.applied(subscription)
        return dataclasses.replace(subscription, nonce=subscription.nonce + NONCE_GAP)

    def adopt(self, subscription: Subscription, now: float) -> bool:
        """Publish for this one from now on; False if there is no room for it, or it is published already."""
        if self._get(subscription.name) is not None or self._is_full(subscription.xtr_id, subscription.mark):
            return False
        self._put(subscription)
        self._bindings.on_taken_over(subscription, now)
        self._unsaved.discard(subscription.name)
        return True

    def on_registered(self, xtr_id: bytes, arrival: Arrival, now: float) -> list[SendControl | Event]:
        """A node behind a NAT has registered: send unacknowledged publications to the same binding, at once."""
        binding = arrival.source, arrival.source_port, arrival.destination
        if self._map_server.is_shared:
            self._bindings.learn(xtr_id, *binding)
        effects: list[SendControl | Event] = []
        for prefix in [*self._of_xtr.get(xtr_id, ())]:
            name = prefix, xtr_id
            subscription, opened = self._get(name), self._open.get(name)
            if subscription is None or opened is None or not subscription.places[0].is_binding:
                continue
            if (moved := subscription.by_binding(*binding)) == subscription:
                continue
            self._bindings.forget(name)
            self._replace(moved)
            opened.tries, opened.place = 0, 0
            effects += self._send(moved, opened, now)
        return effects

    def give_away(self, name: SubscriptionKey) -> None:
        """Another hub publishes for it from now on."""
        self._forget(name)
        self._unsaved.discard(name)

    def say_again(self, name: SubscriptionKey, now: float) -> list[SendControl | Event]:
        """Publish the present registration to a subscription: changes of it may have been missed."""
        if (subscription := self._get(name)) is None:
            return []
        covering = self._map_server.registrations.covering(subscription.prefix)
        prefix = covering[0][0] if covering else subscription.prefix
        waiting = self._queue.setdefault(name, [])
        if prefix not in waiting:
            waiting.append(prefix)
        return self._drain(now)

    # --- the state file

    @property
    def has_changes(self) -> bool:
        """True when there is something for `take_changes`."""
        return bool(self._unsaved) or self._associations.has_new

    def take_changes(self) -> SubscriptionChanges:
        """Changes since the previous call, for the store."""
        taken, self._unsaved = self._unsaved, set()
        new = {name: found for name in taken if (found := self._get(name)) is not None}
        return SubscriptionChanges(new, frozenset(taken - new.keys()), self._associations.take_new())

    def on_reading(self) -> None:
        """Subscriptions from before a restart are being restored: record changes meanwhile for them."""
        self._changed_meanwhile = {}

    def restore(self, subscriptions: Iterable[Subscription], now: float) -> None:
        """Restore valid ones. Newer subscriptions take precedence."""
        for subscription in subscriptions:
            name = subscription.name
            is_over = subscription.expires_at <= now or self._is_full(subscription.xtr_id, subscription.mark)
            if self._get(name) is not None:
                continue
            if is_over:
                self._unsaved.add(name)
                continue
            self._put(dataclasses.replace(subscription, nonce=subscription.nonce + NONCE_GAP))

    def restore_associations(self, rows: Iterable[tuple[bytes, float]], now: float) -> None:
        """Restore the used One-Time-Keys."""
        self._associations.restore(rows, now)

    def on_restored(self, now: float) -> list[SendControl | Event]:
        """All are restored: publish the changes meanwhile."""
        changed, self._changed_meanwhile = self._changed_meanwhile or {}, None
        self.on_sites()
        return [effect for prefix in changed for effect in self.on_changed(prefix, now)]

    # --- inside

    def _is_full(self, xtr_id: bytes, mark: bytes) -> bool:
        return len(self) >= IN_ALL or len(self._of_xtr.get(xtr_id, ())) >= PER_XTR or self._per_site[mark] >= PER_SITE

    def _has_closer(self, asked: EidPrefix, changed: EidPrefix) -> bool:
        covering = self._map_server.registrations.covering(asked)
        return bool(covering) and covering[0][0].mask_len > changed.mask_len

    def _unsubscribe(self, wish: Wish, known: Subscription | None, mark: bytes) -> list[SendControl | Event]:
        """It has ended, and a Map-Notify without locators says so; once, because a node that misses it asks again."""
        key = lisp_sec_auth.publication_key(wish.protection.otk, wish.request.nonce)
        if known is not None and known.mark == mark:
            self._forget(known.name)
            self.counters["subscription_ended"] += 1
        arrival = wish.arrival
        record = MappingRecord.of(wish.prefix, ttl_min=0)
        payload = sign(MapNotify(wish.request.nonce, (record,)), key_of(key, wish.protection.key_id))
        return [SendControl(payload, arrival.source, arrival.source_port, source=arrival.destination)]

    def _drain(self, now: float) -> list[SendControl | Event]:
        """Send queued publications, within the limit."""
        effects: list[SendControl | Event] = []
        while self._queue:
            self._held_until = self._rate.available_at(now)
            if self._held_until > now:
                break
            name = next(iter(self._queue))
            prefixes, subscription = self._queue.pop(name), self._get(name)
            if subscription is None:
                continue
            self._rate.take(now)
            records: dict[object, MappingRecord] = {}
            for prefix in prefixes:
                told = self._mapping_of(subscription, prefix)
                records.update((record.eid_prefix, record) for record in told)
            subscription = dataclasses.replace(subscription, nonce=subscription.nonce + 1)
            self._replace(subscription)
            self.last = now, subscription.prefix
            effects += self._say(subscription, tuple(records.values()), now)
        return effects

    def _say(
        self, subscription: Subscription, records: tuple[MappingRecord, ...], now: float
    ) -> list[SendControl | Event]:
        """Send it until it is acknowledged; the former open one is superseded."""
        self._close(subscription.name)
        notify = MapNotify(subscription.nonce, records)
        opened = self._open[subscription.name] = _Open(sign(notify, subscription.key), subscription.nonce)
        self._by_nonce.setdefault(subscription.nonce, []).append(subscription.name)
        return self._send(subscription, opened, now)

    def _send(self, subscription: Subscription, opened: _Open, now: float) -> list[SendControl | Event]:
        if opened.tries == len(RETRIES_S):
            opened.tries, opened.place = 0, opened.place + 1
        if opened.place >= len(subscription.places):
            if not self._bindings.is_hoped_for(subscription.name, now):
                return self._give_up(subscription)
            opened.tries, opened.place = len(RETRIES_S) - 1, 0
        place = subscription.places[opened.place]
        self._due.set(subscription.name, now + RETRIES_S[opened.tries])
        self.counters["tx_publication_again" if opened.tries else "tx_publication"] += 1
        opened.tries += 1
        return [*self._delivery.to(subscription, place, opened.payload)]

    def _give_up(self, subscription: Subscription) -> list[SendControl | Event]:
        """No address answers: the subscription ends. One Map-Notify says so, with the unacknowledged nonce."""
        self._forget(subscription.name)
        self.counters["subscription_lost"] += 1
        record = MappingRecord.of(subscription.prefix, ttl_min=REFUSED_TTL_MIN, action=Action.DROP_AUTH_FAILURE)
        payload = sign(MapNotify(subscription.nonce, (record,)), subscription.key)
        fields = {"eid": str(subscription.prefix), "subscriber": str(subscription.source)}
        return [
            *self._delivery.to(subscription, subscription.places[0], payload),
            Event("subscriber-silent", {**fields}),
        ]

    def _get(self, name: SubscriptionKey) -> Subscription | None:
        some = self._of.get(name[0])
        return None if some is None else some.get(name[1])

    def _put(self, subscription: Subscription) -> None:
        if self._get(subscription.name) is None:
            self._count += 1
            self._of_xtr[subscription.xtr_id][subscription.prefix] = None
            self._per_site[subscription.mark] += 1
        self._expiry.set(subscription.name, subscription.expires_at)
        self._replace(subscription)

    def _replace(self, subscription: Subscription) -> None:
        some = self._of.get(subscription.prefix)
        if some is None:
            some = {}
            self._of.insert(subscription.prefix, some)
        some[subscription.xtr_id] = subscription
        self._unsaved.add(subscription.name)

    def _forget(self, name: SubscriptionKey) -> None:
        some = self._of.get(name[0])
        if some is None or (subscription := some.pop(name[1], None)) is None:
            return
        self._count -= 1
        self._expiry.set(name, None)
        its = self._of_xtr[subscription.xtr_id]
        its.pop(subscription.prefix, None)
        if not its:
            del self._of_xtr[subscription.xtr_id]
        self._per_site[subscription.mark] -= 1
        if not self._per_site[subscription.mark]:
            del self._per_site[subscription.mark]
        self._bindings.forget(name)
        if not some:
            self._of.remove(name[0])
        self._close(name)
        self._queue.pop(name, None)
        self._unsaved.add(name)

    def _close(self, name: SubscriptionKey) -> None:
        opened = self._open.pop(name, None)
        if opened is not None:
            names = self._by_nonce[opened.nonce]
            names.remove(name)
            if not names:
                del self._by_nonce[opened.nonce]
        self._due.set(name, None)


def _is_signed(payload: bytes, key: Key) -> bool:
    try:
        verify(payload, key)
    except AuthenticationFailed:
        return False
    return True


def _refusal(prefix: EidPrefix, action: Action) -> MappingRecord:
    return MappingRecord.of(prefix, ttl_min=REFUSED_TTL_MIN, action=action)
