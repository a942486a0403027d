"""The servers of the registry: which of them has which bucket, and a connection to each that has one (adapter).

A single server has all buckets. In a cluster every server is asked once a second who has what (`slots.py`), at once
after a redirection, and five times a second while one is away. A command that meets a slot on the move follows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lispmob.hub.valkey.connection import (
    Connection,
    Credentials,
    Server,
    ServerAway,
    ServerRefused,
    why_unable,
)
from lispmob.hub.valkey.keys import BUCKETS
from lispmob.hub.valkey.slots import View, owners, read_nodes

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
LOOK_IN_TROUBLE_S: Final = 0.2
RECONNECT_S: Final = 1.0  # ours: between attempts at one server
REDIRECTIONS: Final = 5
TRY_AGAIN_S: Final = 0.02
MOVING_S: Final = 1.0  # ours: how long a command waits for a slot whose keys are on the way
_HERE: Final = Path(__file__).parent


class Script:
    """A script of Lua in a file of a folder, and how many of its arguments are keys."""

    def __init__(self, name: str, keys: int, folder: Path = _HERE) -> None:
        self.text = (folder / f"{name}.lua").read_bytes()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()
        self.keys = b"%d" % keys


class Servers:
    """Runs scripts where the bucket is. `on_moved` hears of buckets that another server has now."""

    def __init__(
        self, seeds: tuple[Server, ...], credentials: Credentials, on_moved: Callable[[list[int]], None]
    ) -> None:
        self._seeds = seeds
        self.credentials = credentials
        self._on_moved = on_moved
        self._connections: dict[Server, Connection] = {}
        self._tried_at: dict[Server, float] = {}
        self._connecting: dict[Server, asyncio.Task[None]] = {}
        self._known: set[Server] = set(seeds)
        self._owners: list[Server | None] = [None] * BUCKETS
        self._is_cluster: bool | None = None
        self._looking: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self._lost_at: dict[Server, float] = {}
        self._began_at = asyncio.get_running_loop().time()
        self.problems: dict[Server, str] = {}

    async def start(self) -> None:
        """Find out who has what; what cannot be reached is tried again until `stop`."""
        await self._look()
        self._looking = asyncio.create_task(self._look_on())

    async def stop(self) -> None:
        """Close all connections."""
        tasks = [*self._connecting.values(), *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def owner(self, bucket: int) -> Server | None:
        """Which server has a bucket; None while nobody is known to."""
        return self._owners[bucket]

    def owners(self) -> dict[Server, list[int]]:
        """The buckets of each server."""
        found: dict[Server, list[int]] = {}
        for bucket, server in enumerate(self._owners):
            if server is not None:
                found.setdefault(server, []).append(bucket)
        return found

    def is_served(self, bucket: int) -> bool:
        """True when there is a connection to the server that has the bucket."""
        server = self._owners[bucket]
        connection = self._connections.get(server) if server is not None else None
        return connection is not None and connection.is_open

    def away_since(self, bucket: int) -> float | None:
        """Since when there is no connection to the server of a bucket; None while there is one."""
        if self.is_served(bucket):
            return None
        server = self._owners[bucket]
        return self._lost_at.get(server, self._began_at) if server is not None else self._began_at

    @property
    def unserved(self) -> int:
        """How many buckets nobody serves."""
        return sum(not self.is_served(bucket) for bucket in range(BUCKETS))

    async def run(self, bucket: int, script: Script, arguments: list[bytes]) -> Any:
        """A script, where the bucket is. Raises ServerAway with a sentence."""
        return await self._follow(bucket, (b"EVALSHA", script.sha, script.keys, *arguments), script)

    async def command(self, bucket: int, *words: bytes) -> Any:
        """A command, where the bucket is. Raises ServerAway with a sentence."""
        return await self._follow(bucket, words, None)

    async def everywhere(self, *words: bytes) -> dict[Server, Any]:
        """The answer of each server that has buckets. Raises ServerAway when one cannot."""
        found = {}
        for server in self.owners():
            connection = self._connections.get(server)
            if connection is None:
                raise ServerAway(self.problems.get(server, f"the registry's server {server} is away"))
            found[server] = await connection.call(*words)
        return found

    async def at(self, server: Server, *words: bytes) -> Any:
        """A command for one server. Raises ServerAway, ServerRefused."""
        connection = self._connections.get(server)
        if connection is None:
            raise ServerAway(f"the registry's server {server} is away")
        return await connection.call(*words)

    def nudge(self) -> None:
        """Somebody has seen that the servers are not what they were."""
        self._nudge.set()

    async def _follow(self, bucket: int, words: tuple[bytes, ...], script: Script | None) -> Any:
        server, asking = self._owners[bucket], False
        until = asyncio.get_running_loop().time() + MOVING_S
        for _ in range(REDIRECTIONS):
            connection = self._connections.get(server) if server is not None else None
            if connection is None or not connection.is_open:
                self._nudge.set()
                raise ServerAway(self._why_away(server))
            while True:
                if asking:
                    connection.call(b"ASKING")
                try:
                    return await connection.call(*words)
                except ServerRefused as error:
                    refused = error
                if refused.word == "NOSCRIPT" and script is not None:
                    words = (b"EVAL", script.text, *words[2:])
                    continue
                if refused.word != "TRYAGAIN" or asyncio.get_running_loop().time() > until:
                    break
                await asyncio.sleep(TRY_AGAIN_S)
            if refused.word not in ("MOVED", "ASK"):
                self._nudge.set()
                raise ServerAway(why_unable(connection.server, refused))
            host, _, port = refused.rest.split()[1].rpartition(":")
            server, asking = Server(host or connection.server.host, int(port)), refused.word == "ASK"
            if server not in self._connections:
                await self._connect(server)
            if refused.word == "MOVED":
                self._nudge.set()
        raise ServerAway("the registry's servers send us from one to the other")

    def _why_away(self, server: Server | None) -> str:
        if server is not None:
            return self.problems.get(server) or f"the registry's server {server} is away"
        return next(iter(self.problems.values()), "no server of the registry has this part of it")

    @property
    def problem(self) -> str | None:
        """What is wrong with the servers, in a sentence."""
        missing = self.unserved
        if not missing:
            return None
        why = self._why_away(next((self._owners[b] for b in range(BUCKETS) if not self.is_served(b)), None))
        if missing == BUCKETS:
            return why
        return f"{why}; it has {missing} of {BUCKETS} parts of the registry"

    async def _look_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                pause_s = LOOK_IN_TROUBLE_S if self.unserved else LOOK_S
                async with asyncio.timeout(pause_s):
                    await self._nudge.wait()
            if self._nudge.is_set():
                self._nudge.clear()
                await asyncio.sleep(TRY_AGAIN_S)  # others have the same news
            await self._look()

    async def _look(self) -> None:
        """Ask all servers that we know of who has what."""
        await asyncio.gather(*(self._connect(server) for server in self._known if server not in self._connections))
        views = [view for server in list(self._connections) if (view := await self._view(server)) is not None]
        if self._is_cluster is False:
            first = next((server for server in self._seeds if server in self._connections), self._seeds[0])
            self._take([first] * BUCKETS)
            return
        if not views:
            return
        self._is_cluster = True
        self._known = {*self._seeds, *(Server(*place) for view in views for place in view.servers)}
        self._take([Server(*place) if place is not None else None for place in owners(views)])
        for server in [server for server in self._connections if server not in self._known]:
            self._connections.pop(server).close()

    def _take(self, found: list[Server | None]) -> None:
        moved = [bucket for bucket in range(BUCKETS) if found[bucket] != self._owners[bucket]]
        self._owners = found
        if moved:
            self._on_moved(moved)

    async def _view(self, server: Server) -> View | None:
        connection = self._connections.get(server)
        if connection is None or self._is_cluster is False:
            return None
        try:
            return read_nodes((await connection.call(b"CLUSTER", b"NODES")).decode(), server.host)
        except ServerRefused as refused:
            if "cluster support disabled" in refused.rest:
                self._is_cluster = False
            else:
                self.problems[server] = why_unable(server, refused)
        except ServerAway:
            pass
        except ValueError as error:
            self.problems[server] = f"the registry's server {server} says of its cluster what cannot be read: {error}"
        return None

    async def _connect(self, server: Server) -> None:
        task = self._connecting.get(server)
        if task is None:
            now = asyncio.get_running_loop().time()
            if now - self._tried_at.get(server, float("-inf")) < RECONNECT_S and server in self.problems:
                return
            self._tried_at[server] = now
            task = self._connecting[server] = asyncio.create_task(self._open(server))
        try:
            async with asyncio.timeout(LOOK_IN_TROUBLE_S):  # one that is cut off does not keep us from the others
                await asyncio.shield(task)
        except TimeoutError:
            self.problems.setdefault(server, f"the registry's server {server} does not answer")

    async def _open(self, server: Server) -> None:
        try:
            connection = await Connection.connect(
                server, self.credentials, on_lost=lambda why: self._on_lost(server, why)
            )
        except ServerAway as error:
            if self.problems.get(server) != str(error):
                log.debug("%s", error)
            self.problems[server] = str(error)
        else:
            self.problems.pop(server, None)
            self._lost_at.pop(server, None)
            self._connections[server] = connection
            self._nudge.set()
        finally:
            self._connecting.pop(server, None)

    def _on_lost(self, server: Server, why: str) -> None:
        self._connections.pop(server, None)
        self._lost_at[server] = asyncio.get_running_loop().time()
        self.problems[server] = f"the registry's server {server} is away: {why}"
        self._nudge.set()
