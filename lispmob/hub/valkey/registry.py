"""A registry that several hubs share: the adapter for Valkey and Redis, alone or as a cluster.

A verified Map-Register is committed by one script on the server of its bucket, and then stored in memory and
acknowledged. A Map-Request waits until the prefixes that it concerns have been read, and is answered from memory while
all changes are received. When the servers do not answer in time, neither does this hub: nodes ask again, perhaps at
another hub.

After `ISLAND_AFTER_S` without the servers this hub is an island, where that is allowed: it serves the nodes that reach
it from memory, and commits the accepted messages when the servers are back. The newest nonce wins then.

When another server takes over a slot, the last writes of the former one may be lost. So messages accepted in the last
`KEPT_S` (`writing.py`) are committed again, which changes nothing for those that are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Final

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.commit import Committed, Prepared, Put, Verdict
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.registration import Registration
from lispmob.hub.rtr.traversal import PlaneEffect
from lispmob.hub.store import stored_rows
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.cache import REGISTERED_LIMIT, Cache
from lispmob.hub.valkey.channels import Channels
from lispmob.hub.valkey.connection import Credentials, Server, ServerAway
from lispmob.hub.valkey.housekeeping import Housekeeping
from lispmob.hub.valkey.lengths import Lengths
from lispmob.hub.valkey.looking import Looking
from lispmob.hub.valkey.servers import Servers
from lispmob.hub.valkey.shared_names import MARK, SharedNames
from lispmob.hub.valkey.shared_subscriptions import TAKEN, SharedSubscriptions
from lispmob.hub.valkey.writing import Writer
from lispmob.wire.address import EidPrefix

log = logging.getLogger(__name__)

ISLAND_AFTER_S: Final = 5.0  # ours: longer than a primary takes to be replaced
WAITING_LIMIT: Final = 2048  # ours: the other half is for what the other servers have
IN_FLIGHT_LIMIT: Final = 4096  # ours: datagrams that wait for the servers
ISLAND_LIMIT: Final = 100_000  # ours: registers that wait for the servers to return
READ_AT_ONCE: Final = 512


class SharedRegistry:
    """`feed` is given the effects of other hubs' changes."""

    def __init__(
        self,
        plane: ControlPlane,
        feed: Callable[[Iterable[PlaneEffect]], None],
        *,
        hub: int,
        name: str,
        seeds: tuple[Server, ...],
        credentials: Credentials,
        is_island_allowed: bool = True,
        cache_limit: int = REGISTERED_LIMIT,
        island_after_s: float = ISLAND_AFTER_S,
    ) -> None:
        """`hub` is a unique number, `name` its name for people."""
        self._plane, self._feed, self._hub = plane, feed, hub
        self._server = plane.map_server
        self._server.is_shared = True
        self._is_island_allowed, self._island_after_s = is_island_allowed, island_after_s
        self._counters: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        # a proxy or RTR forwards by the registrations, so it needs all of them
        self._cache = Cache(None if self._server.is_watched else cache_limit)
        self._servers = Servers(seeds, credentials, self._on_moved)
        self._channels = Channels(
            self._servers,
            on_change=self._on_change,
            on_live=self._on_live,
            on_channel_lost=self._on_channel_lost,
            on_length=lambda member: self._lengths.learn(member),
        )
        self._servers.on_lost = self._channels.on_lost
        self._lengths = Lengths(self._servers)
        self._housekeeping = Housekeeping(self._servers, hub, name, self._lengths, self._on_second)
        self._writer = Writer(self._servers, hub, self._lengths, lambda: self._housekeeping.problem)
        self._names = SharedNames(self._servers, hub, self._on_names)
        self._current: set[int] = set()  # buckets of which every change has been received
        self._early: dict[int, int | None] = {}  # what was read of others, and at which of their changes
        self._in_flight: Counter[EidPrefix] = Counter()
        self._later: dict[EidPrefix, list[keys.Change]] = {}
        self._island: OrderedDict[tuple[EidPrefix, bytes], Put] = OrderedDict()
        self._refusing_since: dict[Server | None, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reported: str | None = None
        self._refusal: str | None = None
        self._looking = Looking(self._servers, self._counters)
        self._subscriptions = SharedSubscriptions(plane, self._servers, hub, read=self._read, feed=feed)

    @property
    def problem(self) -> str | None:
        """The problem with the servers, as a sentence."""
        return self._housekeeping.problem or self._servers.problem or self._refusal or self._housekeeping.difference

    @property
    def counters(self) -> dict[str, int]:
        """The counters, with `registry_` before each name."""
        counted = self._counters + self._housekeeping.counters + self._subscriptions.counters
        found = {f"registry_{name}": count for name, count in counted.items()}
        return {**found, "registry_island": len(self._island), "registry_subscriptions": len(self._plane.publisher)}

    @property
    def differing(self) -> frozenset[str]:
        """The names of hubs with other sites than ours."""
        return self._housekeeping.differing

    @property
    def is_ready(self) -> bool:
        """True when the whole registry is served, and every change of it is received."""
        return not self._servers.unserved and len(self._current) == keys.BUCKETS and not self._housekeeping.problem

    async def start(self) -> None:
        """Connect. Servers that are away are retried, and nodes are served as far as possible."""
        await self._servers.start()
        self._channels.start()
        await self._housekeeping.start()
        self._tell_problem()

    async def stop(self) -> None:
        """Close all connections. Leases expire."""
        await self._housekeeping.stop()
        await self._channels.stop()
        tasks = [*self._tasks, *self._looking.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._servers.stop()

    async def settle(self) -> None:
        """Wait until the requests to the servers are done."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def before(self, arrival: Arrival, deliver: Callable[[], None]) -> bool:
        """Commit or look up what the datagram needs, then deliver it."""
        wanted = self._plane.prepare(arrival, self._loop.time())
        is_register = isinstance(wanted, Prepared)
        if not is_register and not wanted:
            deliver()
            return False
        if len(self._tasks) >= IN_FLIGHT_LIMIT:
            self._counters["busy"] += 1
        elif isinstance(wanted, Prepared):
            self._begin(self._commit(wanted, deliver))
        elif not self._lengths.is_known or self._missing(wanted):
            self._begin(self._look_up(wanted, deliver))
        else:
            deliver()
        return is_register

    def on_changed(self, change: RegistrationChanged) -> None:
        """Notify subscribers of another hub's change; our own changes were written before."""
        if not change.is_refresh and not change.is_stored and self._plane.publisher.cares_for(change.prefix):
            self._begin(self._subscriptions.changed([change.prefix]))

    def on_turn(self) -> None:
        """Handle entries that expired in memory. The servers keep the last nonces."""
        if self._server.has_new_nonces:
            self._server.take_new_nonces()
        if self._plane.askers.has_changes:
            self._plane.askers.take_changes()
        if self._subscriptions.note():
            self._begin(self._subscriptions.write())
        for arrival in self._server.take_named():
            self._begin(self._names.share(arrival))
        lapsed = self._server.take_lapsed()
        for prefix in lapsed:
            self._cache.drop(prefix)
            if not self._server.is_watched or not self._servers.is_served(keys.bucket_of(prefix)):
                self._server.forget(prefix)
        if lapsed and self._server.is_watched:
            self._begin(self._read_again([prefix for prefix in lapsed if self._server.registrations.get(prefix)]))

    def on_sites(self) -> None:
        """Publish our sites, which other hubs compare with theirs."""
        self._housekeeping.on_sites(self._server.sites)

    async def slices(self, count: int) -> AsyncIterator[list[Registration]]:
        """All registrations, from the servers; from memory where they are away."""
        found: list[Registration] = []
        for bucket in range(keys.BUCKETS):
            try:
                names = await self._servers.command(bucket, "ZRANGE", keys.key(b"x", bucket), b"0", b"-1")
                answers = await asyncio.gather(*(self._looking.look(stored_rows.prefix_of(name)) for name in names))
            except ServerAway:
                for some in self._server.registrations.slices(count):
                    alive = [one for one in some if keys.bucket_of(one.prefix) == bucket]
                    if alive:
                        yield alive
                continue
            now = self._loop.time()
            for name, answer in zip(names, answers, strict=True):
                registration = Registration(stored_rows.prefix_of(name))
                registration.restore(self._writer.parts(answer))
                registration.expire(now)
                if not registration.is_empty:
                    found.append(registration)
            if len(found) >= count:
                yield found
                found = []
        if found:
            yield found

    # --- Registers ----------------------------------------------------------------------------------------------------

    async def _commit(self, prepared: Prepared, deliver: Callable[[], None]) -> None:
        """Let the servers decide, then store the message."""
        puts = prepared.puts
        for put in puts:
            self._in_flight[put.prefix] += 1
        try:
            outcomes = await self._writer.put_all(puts, may_wait=len(self._tasks) <= WAITING_LIMIT)
        except ServerAway as error:
            self._refusal = str(error) if self._servers.problem is None else None
            self._on_away(puts, deliver)
        else:
            self._refusal = None
            is_old = False
            now = self._loop.time()
            for put, (verdict, answer) in zip(puts, outcomes, strict=True):
                self._refusing_since.pop(self._servers.owner(keys.bucket_of(put.prefix)), None)
                is_old = is_old or verdict is Verdict.OLD
                self._adopt_former(put, answer, now)
                self._counters[f"put_{verdict.name.lower()}"] += 1
            self._server.on_committed(Committed(prepared, is_old))
            deliver()
            self._server.on_committed(None)
            for put, (_, answer) in zip(puts, outcomes, strict=True):
                self._know(put.prefix, answer.count)
        finally:
            for put in puts:
                self._in_flight[put.prefix] -= 1
                if not self._in_flight[put.prefix]:
                    del self._in_flight[put.prefix]
                    for change in self._later.pop(put.prefix, ()):
                        self._take(change)

    def _adopt_former(self, put: Put, answer: keys.Answer, now: float) -> None:
        """Correct memory where it differed from the servers."""
        former = self._writer.parts(answer)
        registration = self._server.registrations.get(put.prefix)
        own = registration.parts if registration is not None else ()
        if [part[24:26] + part[35:] for part in own] != [part[24:26] + part[35:] for part in former]:
            self._feed(self._plane.adopt(put.prefix, former, now))
        elif former:
            registration = self._server.registrations.get(put.prefix)
            assert registration is not None
            registration.restore(former)

    def _on_away(self, puts: tuple[Put, ...], deliver: Callable[[], None]) -> None:
        """The servers have not answered."""
        now = self._loop.time()
        since = min(self._away_since(keys.bucket_of(put.prefix), now) for put in puts)
        self._tell_problem()
        if not self._is_island_allowed or now - since < self._island_after_s:
            self._counters["silent"] += 1
            return
        if len(self._island) + len(puts) > ISLAND_LIMIT:
            self._counters["island_full"] += 1
            return
        for put in puts:
            self._island[put.prefix, put.part.xtr] = put
            self._island.move_to_end((put.prefix, put.part.xtr))
        self._counters["island_taken"] += 1
        deliver()

    def _away_since(self, bucket: int, now: float) -> float:
        """Since when the server of a bucket is away, or refuses requests."""
        refusing = self._refusing_since.setdefault(self._servers.owner(bucket), now)
        return min(refusing, self._servers.away_since(bucket) or now)

    # --- Requests -----------------------------------------------------------------------------------------------------

    def looked_up_for(self, host: EidPrefix) -> list[EidPrefix]:
        """The prefixes that an answer about a host may depend on, the longest first."""
        return self._lengths.prefixes_of(host, self._server.sites)

    def _missing(self, hosts: Iterable[EidPrefix]) -> list[EidPrefix]:
        """The prefixes to read for an answer about these hosts."""
        wanted = {prefix: keys.bucket_of(prefix) for host in hosts for prefix in self.looked_up_for(host)}
        unheard = {*wanted.values()} - self._current
        for bucket in unheard:
            self._early.setdefault(bucket, None)
        return [prefix for prefix, bucket in wanted.items() if bucket in unheard or not self._cache.is_known(prefix)]

    async def _read(self, prefixes: Iterable[EidPrefix]) -> None:
        """Load into memory what an answer about these depends on. Raises ServerAway."""
        missing = self._missing(EidPrefix.host(prefix.address, prefix.instance_id) for prefix in prefixes)
        for prefix, answer in zip(missing, await asyncio.gather(*map(self._looking.look, missing)), strict=True):
            self._on_read(prefix, answer)

    async def _look_up(self, hosts: tuple[EidPrefix, ...], deliver: Callable[[], None]) -> None:
        try:
            self._writer.check_version()
            if not self._lengths.is_known:
                await self._lengths.read()
            await self._read(hosts)
        except ServerAway:
            self._tell_problem()
            if not all(self._server.registrations.covering(host) for host in hosts):
                self._counters["unanswered"] += 1  # no answer is better than a wrong "there is no such EID"
                return
            self._counters["answered_alone"] += 1
        deliver()

    def _on_read(self, prefix: EidPrefix, answer: keys.Answer) -> None:
        """Take the servers' state, unless a later change has been received meanwhile."""
        if self._in_flight[prefix] or (self._cache.has(prefix) and not self._cache.is_newer(prefix, answer.count - 1)):
            return
        self._feed(self._plane.adopt(prefix, self._writer.parts(answer), self._loop.time()))
        self._know(prefix, answer.count)

    def forget(self, prefix: EidPrefix) -> None:
        """Remove it from memory: it is read again when needed."""
        self._cache.drop(prefix)
        self._server.forget(prefix)

    def _know(self, prefix: EidPrefix, count: int) -> None:
        if (bucket := keys.bucket_of(prefix)) not in self._current:
            before = self._early.get(bucket)
            self._early[bucket] = count if before is None else min(before, count)
            return
        is_registered = self._server.registrations.get(prefix) is not None
        for evicted in self._cache.on_read(prefix, count, is_registered=is_registered):
            self._server.forget(evicted)

    # --- Changes of other hubs
    # ------------------------------------------------------------------------------------------

    def _on_change(self, bucket: int, octets: bytes) -> None:
        try:
            if octets.startswith(MARK):
                self._names.on_message(octets)
                return
            if octets.startswith(TAKEN):
                self._subscriptions.on_message(octets)
                return
            change = keys.read_change(octets)
        except ValueError:
            self._counters["unread"] += 1
            return
        if not self._cache.on_change(bucket, change.count) and bucket in self._current:
            self._counters["gaps"] += 1
            self._on_channel_lost(bucket)
            self._begin(self._catch_up(bucket, keys.read_change(octets).count))
        if change.prefix in self._in_flight:
            self._later.setdefault(change.prefix, []).append(change)
        else:
            self._take(change)

    def _take(self, change: keys.Change) -> None:
        """Take a change of another hub, or an expiry by a bucket's keeper, where it matters here."""
        known = self._cache.has(change.prefix)
        if known and not self._cache.is_newer(change.prefix, change.count):
            return
        is_here = self._server.registrations.get(change.prefix) is not None
        is_wanted = known or self._plane.cares_for(change.prefix)
        if not (is_here or is_wanted):
            return
        self._counters["heard"] += 1
        now = self._loop.time()
        try:
            parts = keys.parts_of(change.value, change.at - now)
        except ValueError:
            self._counters["damaged"] += 1
            return
        self._feed(self._plane.adopt(change.prefix, parts, now, is_announced=change.kind == "m"))
        if is_wanted:
            self._know(change.prefix, change.count)
        if self._plane.publisher.cares_for(change.prefix):
            self._begin(self._subscriptions.changed([change.prefix]))

    def _on_names(self, arrival: Arrival, age_s: float) -> None:
        """Take names that another hub has accepted."""
        self._counters["names_heard"] += 1
        self._feed(self._plane.on_shared_names(arrival, self._loop.time() - age_s))

    def _on_live(self, bucket: int) -> None:
        self._begin(self._names.read(bucket))
        if self._server.is_watched or bucket in self._early or self._cache.last(bucket) >= 0:
            self._begin(self._catch_up(bucket, self._cache.last(bucket)))
        else:
            self._current.add(bucket)

    def _on_channel_lost(self, bucket: int) -> None:
        self._current.discard(bucket)

    async def _catch_up(self, bucket: int, last: int) -> None:
        """Get the missed changes of a bucket from its log; read all of it where the log does not go back far enough.

        What was read before the channel was live may have changed in between, and a subscriber may have it.
        """
        with contextlib.suppress(ServerAway):
            count = int(await self._servers.command(bucket, "GET", keys.key(b"q", bucket)) or 0)
            early = self._early.pop(bucket, None)  # such reads have been answered by now: requests are in order
            last = last if early is None else early if last < 0 else min(last, early)
            missed: set[EidPrefix] | None = None
            if 0 <= last <= count:
                first = b"%d-0" % (last + 1)
                log_ = await self._servers.command(bucket, "XRANGE", keys.key(b"l", bucket), first, b"+")
                if last == count or (log_ and log_[0][0] == b"%d-1" % (last + 1)):
                    missed = {stored_rows.prefix_of(fields[b"E"]) for _, fields in log_}
            if missed is None:
                self._cache.drop_bucket(bucket)
            for prefix in missed or ():
                self._cache.drop(prefix)
            self._cache.on_change(bucket, count)
            if self._servers.is_served(bucket) and self._channels.is_live(bucket):
                self._current.add(bucket)
            if self._server.is_watched:
                await self._read_bucket(bucket, missed)
            if missed is None:
                await self._subscriptions.missed([bucket])
            elif concerned := [prefix for prefix in missed if self._plane.publisher.cares_for(prefix)]:
                await self._read_again(concerned)
                await self._subscriptions.changed(concerned)

    async def _read_bucket(self, bucket: int, only: set[EidPrefix] | None) -> None:
        wanted = only
        if wanted is None:
            names = await self._servers.command(bucket, "ZRANGE", keys.key(b"x", bucket), b"0", b"-1")
            wanted = set(map(stored_rows.prefix_of, names))
            for some in self._server.registrations.slices(READ_AT_ONCE):
                wanted |= {one.prefix for one in some if keys.bucket_of(one.prefix) == bucket}
        await self._read_again(list(wanted))

    async def _read_again(self, prefixes: list[EidPrefix]) -> None:
        with contextlib.suppress(ServerAway):
            for first in range(0, len(prefixes), READ_AT_ONCE):
                some = prefixes[first : first + READ_AT_ONCE]
                for prefix, answer in zip(some, await asyncio.gather(*map(self._looking.look, some)), strict=True):
                    self._on_read(prefix, answer)

    # --- Moving servers
    # -------------------------------------------------------------------------------------------------

    def _on_moved(self, buckets: list[int]) -> None:
        """Other servers have these buckets: the last writes of the former ones may be lost."""
        for bucket in buckets:
            self._cache.drop_bucket(bucket)
        self._channels.on_moved(buckets)
        again = self._writer.accepted_of(set(buckets))
        if again:
            self._begin(self._put_again(again))

    async def _put_again(self, puts: list[Put]) -> None:
        for put in puts:
            with contextlib.suppress(ServerAway):
                await self._writer.put(put)
                self._counters["put_again"] += 1

    def _on_second(self) -> None:
        """Once a second: commit what an island has accepted."""
        self._tell_problem()
        self._begin(self._subscriptions.on_second(self._housekeeping.take_orphaned(), self._housekeeping.present))
        home = [put for put in self._island.values() if self._servers.is_served(keys.bucket_of(put.prefix))]
        if home and self._housekeeping.problem is None:
            self._begin(self._write_back(home[:READ_AT_ONCE]))

    async def _write_back(self, puts: list[Put]) -> None:
        """Commit messages accepted while the servers were away. Newer ones on the servers win."""
        for put in puts:
            try:
                await self._writer.put(put)
            except ServerAway:
                return
            if self._island.get((put.prefix, put.part.xtr)) is put:
                del self._island[put.prefix, put.part.xtr]
            self._counters["brought_home"] += 1
            self._cache.drop(put.prefix)
            await self._read_again([put.prefix])

    def _tell_problem(self) -> None:
        """Log a problem once, and its end once."""
        problem = self.problem
        if problem == self._reported:
            return
        if problem is not None:
            log.warning("registry: %s", problem)
        else:
            log.info("registry: all parts are served again")
        self._reported = problem

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
