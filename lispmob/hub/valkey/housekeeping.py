"""Work once a second: leases of buckets, expiry in them, versions, and the other hubs (adapter).

A bucket has one keeper at a time, which holds its lease for `LEASE_MS` and renews it each second. If it dies, the next
hub takes the lease. The server does the actual work by `sweep.lua`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from lispmob.hub.map_server.nonces import owner_of
from lispmob.hub.map_server.site import SiteTable
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.connection import ServerAway
from lispmob.hub.valkey.lengths import HOMES, Lengths
from lispmob.hub.valkey.orphans import Orphans
from lispmob.hub.valkey.servers import Script, Servers

log = logging.getLogger(__name__)

SWEEP: Final = Script("sweep", 4)
EVERY_S: Final = 1.0
LEASE_MS: Final = 3000
ENDED_AT_ONCE: Final = 500
TRY_OTHERS: Final = 3  # ours: turns between two attempts at buckets that others keep
AT_ONCE: Final = 32  # ours: two milliseconds of the loop
HUBS: Final = b"hubs{0}"
GONE_S: Final = 10.0  # ours: a hub that was silent for this long is ignored in comparisons


class Presence(msgspec.Struct, frozen=True):
    """A hub's announcement: its name, a digest of its sites, and when, by the server's clock."""

    name: str
    sites: str
    at: float
    version: int = keys.VERSION


class Housekeeping:
    """`on_second` is called at the end of each turn."""

    def __init__(self, servers: Servers, hub: int, name: str, lengths: Lengths, on_second: Callable[[], None]) -> None:
        self._servers, self._hub, self._name, self._lengths = servers, hub, name, lengths
        self._on_second = on_second
        self._kept: set[int] = set()
        self._orphans = Orphans(hub)
        self._turn = 0
        self._sites = ""
        self._others: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None
        self._known_version: int | None = None
        self.counters: Counter[str] = Counter()

    @property
    def problem(self) -> str | None:
        """Why this hub must not use the registry; None: it may."""
        if self._known_version is None or self._known_version <= keys.VERSION:
            return None
        return (
            f"the registry is of version {self._known_version}, and this lisphub knows {keys.VERSION}: upgrade it; "
            "until then it leaves the registry alone"
        )

    @property
    def kept(self) -> int:
        """The number of buckets that this hub keeps."""
        return len(self._kept)

    @property
    def present(self) -> frozenset[int]:
        """The present hubs, including this one."""
        return self._orphans.present

    def take_orphaned(self) -> frozenset[int]:
        """The buckets to search in this turn for the state of a hub that is gone."""
        return self._orphans.take(self._kept, self._turn)

    async def start(self) -> None:
        """Check the version, and continue once a second."""
        with contextlib.suppress(ServerAway):
            await self._look_at_version()
            await self._lengths.read()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(ServerAway, TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await self._servers.command(0, "HDEL", HUBS, b"%d" % self._hub)

    def on_sites(self, sites: SiteTable) -> None:
        """Our sites."""
        digest = hashlib.sha256()
        for text in sorted(
            repr((site.name, sorted(map(str, site.eids)), sorted({owner_of(key) for key in site.keys}),
                  site.accept_more_specifics, site.strict_nonces))
            for site in sites
            if site.keys
        ):  # fmt: skip
            digest.update(text.encode())
        self._sites = digest.hexdigest()[:16]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began_at = loop.time()
            try:
                await self._look_at_version()
                if self.problem is None:
                    await self._lengths.read()
                    await self._compare()
                    await self._sweep()
            except ServerAway as error:
                log.debug("%s", error)
                with contextlib.suppress(ServerAway):
                    if self.problem is None:
                        await self._sweep()
            self._on_second()
            await asyncio.sleep(max(0.05, EVERY_S - (loop.time() - began_at)))

    async def _look_at_version(self) -> None:
        versions = await asyncio.gather(*map(self._version_at, HOMES), return_exceptions=True)
        found = [version for version in versions if isinstance(version, int)]
        if not found:
            raise ServerAway("no server says which version the registry is of")
        self._known_version = max(found)

    async def _version_at(self, home: int) -> int:
        key = keys.key(keys.VERSION_KEY, home)
        await self._servers.command(home, "SETNX", key, b"%d" % keys.VERSION)
        text = await self._servers.command(home, "GET", key)
        return int(text) if text is not None and text.isdigit() else keys.VERSION

    async def _sweep(self) -> None:
        """Renew our leases, and now and then try for those of others. Each bucket is independent."""
        self._turn += 1
        tries = set(range(keys.BUCKETS)) if self._turn % TRY_OTHERS == 1 else set(self._kept)
        wanted = [bucket for bucket in sorted(tries) if self._servers.is_served(bucket)]
        self._kept &= set(wanted)
        for first in range(0, len(wanted), AT_ONCE):
            some = wanted[first : first + AT_ONCE]
            work = (
                self._servers.run(b, SWEEP, keys.sweep_arguments(b, self._hub, LEASE_MS, ENDED_AT_ONCE)) for b in some
            )
            for bucket, answer in zip(some, await asyncio.gather(*work, return_exceptions=True), strict=True):
                if isinstance(answer, BaseException):
                    self._kept.discard(bucket)
                    continue
                is_ours, ended, _ = answer
                if is_ours and bucket not in self._kept:
                    self._orphans.on_gained(bucket)
                (self._kept.add if is_ours else self._kept.discard)(bucket)
                self.counters["ended"] += ended

    async def _compare(self) -> None:
        """Find hubs with other sites than ours: a node may be accepted here, and refused there."""
        now = float((await self._servers.command(0, "TIME"))[0])
        own = msgspec.json.encode(Presence(self._name, self._sites, now))
        await self._servers.command(0, "HSET", HUBS, b"%d" % self._hub, own)
        said = await self._servers.command(0, "HGETALL", HUBS)
        others: set[str] = set()
        present: set[int] = set()
        for hub, text in said.items():
            with contextlib.suppress(msgspec.MsgspecError, ValueError):
                presence = msgspec.json.decode(text, type=Presence)
                if now - presence.at >= GONE_S:
                    await self._servers.command(0, "HDEL", HUBS, hub)
                    continue
                present.add(int(hub))
                if presence.sites != self._sites and int(hub) != self._hub:
                    others.add(presence.name)
        self._others = frozenset(others)
        self._orphans.on_present(present)

    @property
    def differing(self) -> frozenset[str]:
        """The names of hubs with other sites than ours."""
        return self._others

    @property
    def difference(self) -> str | None:
        """The problem if hubs have other sites than ours, in a sentence."""
        if not self._others:
            return None
        names = ", ".join(sorted(self._others))
        return (
            f"other sites than here has {names}: a node may be let in there and refused here; compare 'sites' of both"
        )
