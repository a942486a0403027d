"""Subscriptions (RFC 9437) of hubs that share a registry: which hub publishes to a node, and which one takes over.

The hub that a node has asked publishes to it, since a NAT lets no other one in. Subscriptions are kept on the servers,
with the hub's number. When that hub is gone, the keeper of the bucket takes its subscriptions over, with nonces greater
than any that were sent, and publishes the current registrations again. When a node subscribes at another hub, the
former one drops its subscription. A One-Time-Key used at one hub is invalid at all of them.

The key of a subscription is wrapped with a secret of its site, which the servers do not have (RFC 3394).
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.publishing.subscription import LIFETIME_S, Subscription, SubscriptionKey
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.hub.store import stored_rows, stored_subscriptions
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.connection import ServerAway
from lispmob.hub.valkey.servers import Script, Servers
from lispmob.wire import lisp_sec_auth
from lispmob.wire.address import EidPrefix
from lispmob.wire.lisp_sec_auth import KeyWrap

SUBSCRIBE: Final = Script("subscribe", 1)
TAKEN: Final = b"\xff" * 7 + b"\xfe"  # the begin of a message about a subscription's new owner
LIFETIME_MS: Final = int(1000 * LIFETIME_S)
AT_ONCE: Final = 128
_HUB_OCTETS: Final = 8
_XTR_OCTETS: Final = 16
_KEY_OCTETS: Final = 16
_SALT: Final = b"lispmob subscription"


class SharedSubscriptions:
    """`read` loads into memory what an answer about EID-Prefixes depends on; it raises ServerAway."""

    def __init__(
        self,
        plane: ControlPlane,
        servers: Servers,
        hub: int,
        *,
        read: Callable[[Iterable[EidPrefix]], Awaitable[None]],
        feed: Callable[[Iterable[PlaneEffect]], None],
    ) -> None:
        self._plane, self._publisher, self._servers = plane, plane.publisher, servers
        self._hub = hub.to_bytes(_HUB_OCTETS)
        self._read, self._feed = read, feed
        self._loop = asyncio.get_running_loop()
        self._written: dict[SubscriptionKey, bytes] = {}  # the secret of each that the servers have as ours
        self._unwritten: dict[SubscriptionKey, None] = {}
        self._writing = asyncio.Lock()  # keeps writes in order
        self._orphaned: set[int] = set()  # buckets that may have subscriptions of a hub that is gone
        self._changed: dict[EidPrefix, None] = {}  # could not be read when it changed
        self._unsaid: dict[SubscriptionKey, None] = {}  # subscribers whose changes were missed
        self.counters: Counter[str] = Counter()

    def note(self) -> bool:
        """Collect what has changed since the previous call; True when there is something to write."""
        if not self._publisher.has_changes:
            return False
        changes = self._publisher.take_changes()
        self._unwritten.update(dict.fromkeys([*changes.new, *changes.gone]))
        return bool(self._unwritten)

    async def write(self) -> None:
        """Write the changes to the servers; failed ones are retried next time."""
        async with self._writing:
            for name in [*self._unwritten]:
                if name not in self._unwritten:
                    continue
                del self._unwritten[name]
                try:
                    await self._write(name)
                except ServerAway:
                    self._unwritten[name] = None
                    return

    async def _write(self, name: SubscriptionKey) -> None:
        subscription = self._publisher.find(name)
        known = self._written.get(name)
        if subscription is None:
            if known is not None:
                del self._written[name]
                await self._put(name, b"", self._hub)
            return
        value = self._value(subscription, await self._ahead_s(keys.bucket_of(name[0])))
        if value is None:
            return
        if subscription.secret == known:
            if not await self._put(name, value, self._hub):
                self._give_away(name, subscription.secret)
            return
        if not await self._claim(subscription.secret):
            self.counters["subscription_replays"] += 1
            self._give_away(name, subscription.secret)
            return
        await self._put(name, value, b"", publishes=True)
        self._written[name] = subscription.secret

    async def _claim(self, secret: bytes) -> bool:
        """Use up the One-Time-Key at all hubs; False when another one has seen it."""
        digest = hashlib.sha256(_SALT + secret).digest()[:_KEY_OCTETS]
        bucket = keys.bucket_named(digest)
        key = keys.key(b"a", bucket, digest)
        life = b"%d" % LIFETIME_MS
        if await self._servers.command(bucket, "SET", key, self._hub, b"NX", b"PX", life) is not None:
            return True
        return bool(await self._servers.command(bucket, "GET", key) == self._hub)

    async def _put(
        self, name: SubscriptionKey, value: bytes, owner: bytes, *, publishes: bool = False, is_there: bool = False
    ) -> bool:
        """Write a subscription to its bucket, unless another hub owns it; `is_there`: unless it has ended."""
        bucket, field = keys.bucket_of(name[0]), _field(name)
        message = TAKEN + self._hub + field if publishes else b""
        arguments = [
            keys.key(b"s", bucket),
            field,
            owner,
            value,
            b"%d" % LIFETIME_MS,
            keys.channel_of(bucket),
            message,
            b"1" if is_there else b"0",
        ]
        return bool(await self._servers.run(bucket, SUBSCRIBE, arguments))

    def _give_away(self, name: SubscriptionKey, secret: bytes) -> None:
        """Drop it: another hub has it, unless the node has subscribed here again since."""
        current = self._publisher.find(name)
        if current is not None and current.secret == secret:
            self._publisher.give_away(name)
            self._written.pop(name, None)
            self._unwritten.pop(name, None)
            self.counters["subscriptions_given"] += 1

    # --- Changes of other hubs

    def on_message(self, octets: bytes) -> None:
        """Take a message that a hub, or this one, owns a subscription now. ValueError for an invalid one."""
        hub, field = octets[len(TAKEN) :][:_HUB_OCTETS], octets[len(TAKEN) + _HUB_OCTETS :]
        name = _name(field)
        if hub != self._hub and name in self._written:
            self._give_away(name, self._written[name])

    async def on_second(self, orphaned: Iterable[int], present: frozenset[int]) -> None:
        """Take over subscriptions of gone hubs in these buckets, and retry what the servers refused before.

        `present`: the hubs that are not gone.
        """
        self._orphaned |= set(orphaned)
        if self._unwritten:
            await self.write()
        if self._changed:
            await self.changed([])
        if self._unsaid:
            await self.missed([])
        await self.take_over([], present)

    async def changed(self, prefixes: Iterable[EidPrefix]) -> None:
        """Publish changed registrations to subscribers, once everything the answer depends on is in memory."""
        self._changed.update(dict.fromkeys(prefix for prefix in prefixes if self._publisher.cares_for(prefix)))
        wanted, self._changed = self._changed, {}
        try:
            await self._read(concerned for prefix in wanted for concerned in self._publisher.concerned(prefix))
        except ServerAway:
            self._changed = wanted | self._changed
            return
        now = self._loop.time()
        self._feed([effect for prefix in wanted for effect in self._publisher.on_changed(prefix, now)])

    async def missed(self, buckets: Iterable[int]) -> None:
        """Unknown changes of these buckets were missed: publish the current state.

        A server that has lost its memory receives our subscriptions again.
        """
        lost = set(buckets)
        names = [one.name for one in self._publisher.subscriptions if keys.bucket_of(one.prefix) in lost]
        self._unsaid.update(dict.fromkeys(names))
        self._unwritten.update(dict.fromkeys(names))
        for name in [*self._unsaid]:
            try:
                await self._read([name[0]])
            except ServerAway:
                return
            self._unsaid.pop(name, None)
            self._feed(self._publisher.say_again(name, self._loop.time()))

    async def take_over(self, buckets: Iterable[int], present: frozenset[int]) -> None:
        """Publish from now on to subscribers in these buckets whose hub is gone. `present`: the hubs that are not."""
        self._orphaned |= set(buckets)
        wanted = sorted(self._orphaned)
        for first in range(0, len(wanted), AT_ONCE):
            await asyncio.gather(*(self._take_over(bucket, present) for bucket in wanted[first : first + AT_ONCE]))

    async def _take_over(self, bucket: int, present: frozenset[int]) -> None:
        self._orphaned.discard(bucket)
        try:
            found = await self._servers.command(bucket, "HGETALL", keys.key(b"s", bucket))
            ahead_s = await self._ahead_s(bucket) if found else 0.0
            for field, value in found.items():
                owner = value[:_HUB_OCTETS]
                if int.from_bytes(owner) in present or owner == self._hub:
                    continue
                subscription = self._subscription(field, value, ahead_s)
                if subscription is None:
                    continue  # of a site that we do not have, or damaged
                if subscription.expires_at <= self._loop.time():
                    await self._put(subscription.name, b"", owner)
                    continue
                await self._adopt(subscription, owner, ahead_s)
        except ServerAway:
            self._orphaned.add(bucket)

    async def _adopt(self, subscription: Subscription, owner: bytes, ahead_s: float) -> None:
        name = subscription.name
        await self._read([subscription.prefix])
        if self._publisher.find(name) is not None:
            return
        # the next hub would continue from the written nonce, should this one die at once
        taken = self._publisher.taken_over(subscription, self._plane.addresses)
        value = self._value(taken, ahead_s)
        if value is None or not await self._put(name, value, owner, publishes=True, is_there=True):
            return
        if self._publisher.find(name) is None and self._publisher.adopt(taken, self._loop.time()):
            self._written[name] = taken.secret
            self.counters["subscriptions_taken_over"] += 1
            self._feed(self._publisher.say_again(name, self._loop.time()))

    # --- Values

    async def _ahead_s(self, bucket: int) -> float:
        """How far the server's clock is ahead of ours, which is monotonic: hubs' wall clocks do not matter."""
        seconds, micros = await self._servers.command(bucket, "TIME")
        return int(seconds) + int(micros) / 1e6 - self._loop.time()

    def _value(self, subscription: Subscription, ahead_s: float) -> bytes | None:
        """The stored form; None where there is no secret to wrap its key with."""
        wrap, key = self._wrapping(subscription)
        if wrap is None or key is None:
            return None
        wrapped = dataclasses.replace(subscription, secret=wrap.wrap(key, subscription.secret))
        return self._hub + stored_subscriptions.pack(wrapped, ahead_s)

    def _subscription(self, field: bytes, value: bytes, ahead_s: float) -> Subscription | None:
        try:
            eid, xtr_id = field[:-_XTR_OCTETS], field[-_XTR_OCTETS:]
            latest = self._loop.time() + LIFETIME_S
            found = stored_subscriptions.unpack(eid, xtr_id, value[_HUB_OCTETS:], -ahead_s, latest)
        except ValueError:
            self.counters["damaged"] += 1
            return None
        wrap, key = self._wrapping(found)
        secret = wrap.unwrap(key, found.secret) if wrap is not None and key is not None else None
        return None if secret is None else dataclasses.replace(found, secret=secret)

    def _wrapping(self, subscription: Subscription) -> tuple[KeyWrap | None, bytes | None]:
        proof = self._publisher.proof_of(subscription)
        if proof is None:
            return None, None
        return self._plane.security.wrap, lisp_sec_auth.hkdf(proof, _KEY_OCTETS, salt=_SALT)


def _field(name: SubscriptionKey) -> bytes:
    return stored_rows.key_of(name[0]) + name[1]


def _name(field: bytes) -> SubscriptionKey:
    return stored_rows.prefix_of(field[:-_XTR_OCTETS]), field[-_XTR_OCTETS:]
