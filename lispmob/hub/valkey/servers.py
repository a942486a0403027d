"""The servers of the registry: which has which bucket, and which answer (adapter).

A single server has all buckets. In a cluster redis-py knows the server of each slot; this makes it search again when a
server is away, refuses, or redirects. Requests to a server that does not answer fail at once until it answers a PING. A
command that meets a moving slot follows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from lispmob.hub.valkey.connection import (
    Credentials,
    Engine,
    Server,
    ServerAway,
    ServerRefused,
    Words,
    engine_of,
    why_unable,
)
from lispmob.hub.valkey.keys import BUCKETS, slot_of
from lispmob.hub.valkey.lane import STOP_S, Lane

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
LOOK_WHEN_DOWN_S: Final = 0.2
FIND_S: Final = 30.0  # ours: servers are replaced one by one, and that may go unnoticed for days
PROBE_S: Final = 0.5  # ours: between attempts at a server that is away
START_S: Final = 1.0  # ours: servers not found by then are found later
REDIRECTIONS: Final = 5
TRY_AGAIN_S: Final = 0.02
MOVING_S: Final = 1.0  # ours: how long a command waits for a slot whose keys are being moved, or for a long script
_SHORTLY: Final = frozenset({"TRYAGAIN", "BUSY"})
"""Refusals of a server that will serve soon: half of a slot has moved, or a script has run there for seconds."""
_HERE: Final = Path(__file__).parent
_BUCKET_KEYS: Final = tuple(f"{{{bucket}}}" for bucket in range(BUCKETS))


class Script:
    """A Lua script in a file of a folder, and how many of its arguments are keys."""

    def __init__(self, name: str, keys: int, folder: Path = _HERE) -> None:
        self.text = (folder / f"{name}.lua").read_bytes()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()
        self.keys = b"%d" % keys


class Servers:
    """Runs scripts on the server of a bucket.

    `on_moved` is called with buckets that another server has now, `on_lost` with a server that does not answer.
    """

    def __init__(
        self,
        seeds: tuple[Server, ...],
        credentials: Credentials,
        on_moved: Callable[[list[int]], None],
        connect: Callable[[tuple[Server, ...], Credentials], Awaitable[Engine]] = engine_of,
    ) -> None:
        self._seeds, self.credentials, self._on_moved, self._connect = seeds, credentials, on_moved, connect
        self._loop = asyncio.get_running_loop()
        self._engine: Engine | None = None
        self._lanes: dict[Server, Lane] = {}
        self._owners: list[Server | None] = [None] * BUCKETS
        self._answering: set[Server] = set()
        self._lost_at: dict[Server, float] = {}
        self._why: dict[Server, str] = {}
        self._no_server: str | None = None
        self._probes: dict[Server, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._is_over = False
        self._nudge = asyncio.Event()
        self._suspect: Server | None = None
        self._change = asyncio.Event()  # of who serves what
        self._began_at, self._found_at = self._loop.time(), float("-inf")
        self.on_lost: Callable[[Server], None] = lambda _: None

    async def start(self) -> None:
        """Find the servers of all buckets; unreachable ones are retried until `stop`."""
        self._looking = asyncio.create_task(self._look_on())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while self.unserved and self._no_server is None and not self._why:  # noqa: ASYNC110 - many may end it
                    await asyncio.sleep(TRY_AGAIN_S)

    async def stop(self) -> None:
        """Close all connections."""
        self._is_over = True  # redis-py may swallow the cancellation of a task while it closes a connection
        tasks = [*self._probes.values(), *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        self._nudge.set()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_S)
        for lane in self._lanes.values():
            await lane.stop()
        if self._engine is not None:
            await self._engine.close()

    def owner(self, bucket: int) -> Server | None:
        """The server of a bucket; None while none is known."""
        return self._owners[bucket]

    def owners(self) -> dict[Server, list[int]]:
        """The buckets of each server."""
        found: dict[Server, list[int]] = {}
        for bucket, server in enumerate(self._owners):
            if server is not None:
                found.setdefault(server, []).append(bucket)
        return found

    def is_served(self, bucket: int) -> bool:
        """True while the server of the bucket answers."""
        return self._owners[bucket] in self._answering

    def away_since(self, bucket: int) -> float | None:
        """Since when the server of a bucket does not answer; None while it does."""
        if self.is_served(bucket):
            return None
        server = self._owners[bucket]
        return self._lost_at.get(server, self._began_at) if server is not None else self._began_at

    async def until_replaced(self, bucket: int, within_s: float) -> bool:
        """Wait while a server may be replaced, so long after it was lost; False where no server has the bucket then."""
        since = self.away_since(bucket)
        if self._engine is None or not self._engine.replaces or since is None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(since + within_s):
                while not self.is_served(bucket):
                    await self._change.wait()
        return self.is_served(bucket)

    @property
    def unserved(self) -> int:
        """The number of buckets without a server."""
        return sum(server not in self._answering for server in self._owners)

    @property
    def problem(self) -> str | None:
        """The problem with the servers, as a sentence."""
        missing = self.unserved
        if not missing:
            return None
        why = self._why_away(next((server for server in self._owners if server not in self._answering), None))
        if missing == BUCKETS:
            return why
        return f"{why}; it has {missing} of {BUCKETS} parts of the registry"

    async def run(self, bucket: int, script: Script, arguments: list[bytes]) -> Any:
        """Run a script on the server of a bucket. Raises ServerAway with a sentence."""
        return await self._follow(bucket, ("EVALSHA", script.sha, script.keys, *arguments), script)

    async def command(self, bucket: int, *words: str | bytes) -> Any:
        """Run a command on the server of a bucket; returns redis-py's answer. Raises ServerAway with a sentence."""
        return await self._follow(bucket, words, None)

    async def everywhere(self, *words: str | bytes) -> dict[Server, Any]:
        """The answer of each server that has buckets. Raises ServerAway when one does not answer."""
        found = {}
        for server in self.owners():
            try:
                found[server] = await self._ask(server, words)
            except ServerRefused as refused:
                raise ServerAway(why_unable(server, refused)) from None
        return found

    def nudge(self) -> None:
        """Search again: the servers have changed."""
        self._nudge.set()

    async def _follow(self, bucket: int, words: Words, script: Script | None) -> Any:
        server, is_asking = self._owners[bucket], False
        until = self._loop.time() + MOVING_S
        for _ in range(REDIRECTIONS):
            if server is None:
                self._nudge.set()
                raise ServerAway(self._why_away(None))
            while True:
                try:
                    return await self._ask(server, words, is_asking=is_asking)
                except ServerRefused as error:
                    refused = error
                if refused.word == "NOSCRIPT" and script is not None:
                    words = ("EVAL", script.text, *words[2:])
                    continue
                if refused.word not in _SHORTLY or self._loop.time() > until:
                    break
                await asyncio.sleep(TRY_AGAIN_S)
            if refused.place is None:
                self._suspect = server
                self._nudge.set()
                raise ServerAway(why_unable(server, refused))
            server, is_asking = Server(refused.place[0] or server.host, refused.place[1]), refused.word == "ASK"
            if not is_asking and self._engine is not None:
                await self._engine.on_moved(slot_of(bucket), server)
                self._nudge.set()
        raise ServerAway("the registry's servers send us from one to the other")

    def _ask(self, server: Server, words: Words, *, is_asking: bool = False) -> asyncio.Future[Any]:
        if self._engine is None or server in self._why:
            self._nudge.set()
            raise ServerAway(self._why_away(server))
        lane = self._lanes.get(server)
        if lane is None:
            lane = self._lanes[server] = Lane(self._engine, server, self._on_lost, self.credentials.patience_s)
        return lane.ask(words, is_asking=is_asking)

    def _why_away(self, server: Server | None) -> str:
        if server is not None and server in self._why:
            return self._why[server]
        known = self._no_server or next(iter(self._why.values()), None)
        return known or "no server of the registry has this part of it"

    # --- Finding servers
    # ------------------------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        while not self._is_over:
            if self._nudge.is_set() or self.unserved or self._loop.time() - self._found_at > FIND_S:
                self._nudge.clear()
                await self._find()
                await asyncio.sleep(LOOK_WHEN_DOWN_S)  # many commands meet the same failure at once
            self._note_owners()
            if not self.unserved and not self._is_over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._nudge.wait()

    async def _find(self) -> None:
        try:
            if self._engine is None:
                self._engine = await self._connect(self._seeds, self.credentials)
            await self._engine.find(self._suspect)
        except ServerAway as error:
            self._no_server = str(error)
        else:
            self._no_server, self._suspect, self._found_at = None, None, self._loop.time()
        self._note_owners()

    def _note_owners(self) -> None:
        if self._engine is None:
            return
        found = [self._engine.owner(bucket_key) for bucket_key in _BUCKET_KEYS]
        moved = [bucket for bucket in range(BUCKETS) if found[bucket] != self._owners[bucket]]
        self._owners = found
        for server in {server for server in found if server is not None} - self._answering:
            self._probe_soon(server)
        if moved:
            self._on_moved(moved)
            self._changed()

    # --- Failures
    # -------------------------------------------------------------------------------------------------------

    def _on_lost(self, server: Server, error: ServerAway) -> None:
        self._answering.discard(server)
        if server not in self._why:
            log.debug("%s", error)
            self._lost_at[server] = self._loop.time()
        self._why[server], self._suspect = str(error), server
        self._nudge.set()
        self._probe_soon(server)
        self.on_lost(server)

    def _probe_soon(self, server: Server) -> None:
        if server not in self._probes:
            task = self._probes[server] = asyncio.create_task(self._probe(server))
            task.add_done_callback(lambda _: self._probes.pop(server, None))

    async def _probe(self, server: Server) -> None:
        """Send PINGs until the server answers, or is not needed any more."""
        assert self._engine is not None
        while not self._is_over and (server in self._owners or server in self._engine.servers):
            try:
                (answer,) = await self._engine.send(server, [("PING",)])
            except ServerAway as error:
                why = str(error)
            else:
                if not isinstance(answer, ServerRefused):
                    self._answering.add(server)
                    break
                why = why_unable(server, answer)
            self._lost_at.setdefault(server, self._loop.time())
            self._why[server] = why
            await asyncio.sleep(PROBE_S)
        self._why.pop(server, None)
        self._lost_at.pop(server, None)
        self._nudge.set()
        self._changed()

    def _changed(self) -> None:
        self._change.set()
        self._change = asyncio.Event()
