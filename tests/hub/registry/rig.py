"""Hubs without sockets, on either kind of registry, for tests on the real event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.map_server.lisp_sec import HubSecurity
from lispmob.hub.map_server.site import Site
from lispmob.hub.registry import Registry
from lispmob.hub.rtr.traversal import PlaneEffect, TraversalPolicy
from lispmob.hub.store.embedded import EmbeddedRegistry
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.connection import Credentials, Server
from lispmob.hub.valkey.registry import SharedRegistry
from lispmob.lab.valkey import ValkeyCluster, ValkeyServer
from lispmob.protocol.effect import Event, SendControl
from lispmob.wire.lisp_sec_auth import KeyWrap
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_reply import MapReply
from tests.hub.exchange import HUB, Xtr, ask, eid, rlocs_of, site, xtr

PATIENCE_S: Final = 10.0
SILENCE_S: Final = 0.3  # long enough for an answer that should not come

SITES: Final = (site("10.1.0.0/16", "2001:db8:1::/48"),)
LAPTOP: Final = "10.1.9.9/32"

OPEN: Final[list[TestHub]] = []  # what `run` has to stop


class TestHub:
    """A control plane with a registry; records what it sends."""

    __test__ = False

    def __init__(self, sites: Iterable[Site] = SITES, *, is_rtr: bool = False, wrap: KeyWrap | None = None) -> None:
        """`wrap`: with LISP-SEC, and so with publish/subscribe."""
        security = HubSecurity("off" if wrap is None else "prefer", wrap)
        self.plane = ControlPlane(sites, traversal=TraversalPolicy(is_rtr=is_rtr), security=security)
        self.plane.on_addresses([HUB])
        self.plane.map_server.is_watched = is_rtr
        self.registry: Registry | None = None
        OPEN.append(self)
        self.sent: list[SendControl] = []
        self.events: list[Event] = []
        self.changes: list[RegistrationChanged] = []
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, effects: Iterable[PlaneEffect]) -> None:
        """Perform the effects as the daemon does, without sockets."""
        for effect in effects:
            if isinstance(effect, SendControl):
                self.sent.append(effect)
            elif isinstance(effect, Event):
                self.events.append(effect)
            elif isinstance(effect, RegistrationChanged):
                self.changes.append(effect)
                assert self.registry is not None
                self.registry.on_changed(effect)
        if self.registry is not None:
            self.registry.on_turn()
        loop, at = asyncio.get_running_loop(), self.plane.wake_at()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at, lambda: self.feed(self.plane.on_timer(loop.time()))) if at is not None else None

    def receive(self, arrival: Arrival) -> None:
        """Let a datagram arrive."""
        assert self.registry is not None
        loop = asyncio.get_running_loop()
        self.registry.before(arrival, lambda: self.feed(self.plane.on_datagram(arrival, loop.time())))

    async def register(self, arrival: Arrival, wait_s: float = PATIENCE_S) -> MapNotify | None:
        """Register; returns the Map-Notify, or None if there is none."""
        first = len(self.sent)
        self.receive(arrival)
        nonce = arrival.payload[4:12]
        found = await self._answer(first, 4, nonce, wait_s)
        return MapNotify.decode(found) if found is not None else None

    async def places(self, asked: str, wait_s: float = PATIENCE_S, nonce: int | None = None) -> list[str] | None:
        """Ask; returns the locators of the Map-Reply, or None if there is none."""
        first, number = len(self.sent), secrets.randbits(63) if nonce is None else nonce
        self.receive(ask(asked, nonce=number))
        found = await self._answer(first, 2, number.to_bytes(8), wait_s)
        return rlocs_of(MapReply.decode(found).records[0]) if found is not None else None

    async def _answer(self, first: int, kind: int, nonce: bytes, wait_s: float) -> bytes | None:
        found: list[bytes] = []

        def has_come() -> bool:
            payloads = (one.payload for one in self.sent[first:])
            found[:] = [one for one in payloads if one[0] >> 4 == kind and one[4:12] == nonce]
            return bool(found)

        with suppress(TimeoutError):
            await until(has_come, wait_s)
        return found[0] if found else None

    async def stop(self) -> None:
        """Stop as the daemon does. May be called twice."""
        if self not in OPEN:
            return
        OPEN.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.registry is not None:
            await self.registry.stop()
        if self._timer is not None:
            self._timer.cancel()


async def until(condition: Callable[[], object], wait_s: float = PATIENCE_S) -> None:
    """Wait for a condition. Raises TimeoutError."""
    async with asyncio.timeout(wait_s):
        while not condition():  # noqa: ASYNC110 - what others do sets no event
            await asyncio.sleep(0.005)


class Ground(Protocol):
    """The registry of the hubs of one test."""

    async def hub(self, sites: Iterable[Site] = SITES) -> TestHub:
        """Another hub, which knows what those before it have written."""


class FileGround:
    """A file, which one hub uses at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def hub(self, sites: Iterable[Site] = SITES) -> TestHub:
        """A hub with the file."""
        hub = TestHub(sites)
        hub.registry = EmbeddedRegistry(hub.plane, hub.feed, self._path / "hub.sqlite")
        await hub.registry.start()
        return hub


class ValkeyGround:
    """Servers, which any number of hubs use."""

    def __init__(self, servers: ValkeyCluster | ValkeyServer) -> None:
        self._servers = servers

    async def hub(
        self,
        sites: Iterable[Site] = SITES,
        *,
        is_rtr: bool = False,
        is_island_allowed: bool = True,
        user: str | None = None,
        password: bytes | None = None,
        name: str = "one",
        is_ready: bool = True,
        cache_limit: int = 100_000,
        island_after_s: float = 0.5,
        wrap: KeyWrap | None = None,
    ) -> TestHub:
        """A hub that shares the servers."""
        hub = TestHub(sites, is_rtr=is_rtr, wrap=wrap)
        places = [self._servers] if isinstance(self._servers, ValkeyServer) else self._servers.servers
        registry = SharedRegistry(
            hub.plane,
            hub.feed,
            hub=secrets.randbits(63),
            name=name,
            seeds=tuple(Server(one.address, one.port) for one in places),
            credentials=Credentials(user, password),
            is_island_allowed=is_island_allowed,
            cache_limit=cache_limit,
            island_after_s=island_after_s,
        )
        hub.registry = registry
        registry.on_sites()
        await registry.start()
        if is_ready:
            await until(lambda: registry.is_ready)
        return hub


def run(work: Awaitable[None]) -> None:
    """Run on an event loop of its own, until all that it began has ended."""

    async def all_of_it() -> None:
        try:
            await work
        finally:
            for hub in [*OPEN]:
                await hub.stop()

    asyncio.run(all_of_it())


def laptop(address: str = "203.0.113.5", name: bytes = b"l" * 16) -> Xtr:
    """A node of a site at this address, with this xTR-ID."""
    return xtr(address, xtr_id=name)


def primary_of(cluster: ValkeyCluster, prefix: str = LAPTOP) -> ValkeyServer:
    """The server that takes writes for this prefix at present."""
    return cluster.owner_of(str(keys.bucket_of(eid(prefix))))


def pair_of(cluster: ValkeyCluster, prefix: str = LAPTOP) -> tuple[ValkeyServer, ValkeyServer]:
    """That server and its replica."""
    primary = primary_of(cluster, prefix)
    return primary, cluster.replica_of(primary)


async def until_put_again(hub: TestHub, other: TestHub) -> None:
    """Wait until `hub` has written again what a primary took with it, and both hubs have read everything."""
    await until(lambda: shared(hub).counters.get("registry_put_again") and shared(hub).is_ready)
    await until(lambda: shared(other).is_ready)


def problem(hub: TestHub) -> str:
    """What the hub says is wrong with its registry, "" for nothing."""
    return (hub.registry.problem or "") if hub.registry is not None else ""


def shared(hub: TestHub) -> SharedRegistry:
    """The registry of a hub on servers."""
    assert isinstance(hub.registry, SharedRegistry)
    return hub.registry
