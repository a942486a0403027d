"""Receives the changes of other hubs: a subscription for each bucket, at the server that has it (adapter).

A bucket is live from the moment that the server has confirmed its subscription until the connection ends, the slot
moves, or a number is missing. State that was read before may have changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from lispmob.hub.valkey.connection import Listener, Server, ServerAway, ServerRefused
from lispmob.hub.valkey.keys import BUCKETS, channel_of
from lispmob.hub.valkey.lane import STOP_S
from lispmob.hub.valkey.lengths import HOMES, lengths_channel
from lispmob.hub.valkey.servers import Servers

log = logging.getLogger(__name__)

AGAIN_S: Final = 0.25
_LENGTHS: Final = frozenset(map(lengths_channel, HOMES))
_BUCKET_OF: Final = {channel_of(bucket): bucket for bucket in range(BUCKETS)}


class Channels:
    """`on_change(bucket, octets)` gets changes, `on_live` and `on_channel_lost` the begin and end of a live bucket."""

    def __init__(
        self,
        servers: Servers,
        *,
        on_change: Callable[[int, bytes], None],
        on_live: Callable[[int], None],
        on_channel_lost: Callable[[int], None],
        on_length: Callable[[bytes], None],
    ) -> None:
        self._servers = servers
        self._on_change, self._on_live, self._on_channel_lost, self._on_length = (
            on_change,
            on_live,
            on_channel_lost,
            on_length,
        )
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[Server, Listener] = {}
        self._hearing: dict[Listener, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._asked: dict[int, Server] = {}  # the server of each bucket's subscription, confirmed or not
        self._live: set[int] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_over = False

    def start(self) -> None:
        """Subscribe at the servers of all buckets, from now on."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Hear no more."""
        self._is_over = True  # redis-py may swallow that a task is cancelled while it writes
        if self._task is not None:
            self._task.cancel()
            self._wake.set()
            await asyncio.wait({self._task}, timeout=STOP_S)
        for listener in [*self._listeners.values()]:
            self._end(listener)
        if self._closing:
            await asyncio.wait(self._closing, timeout=2 * STOP_S)

    def is_live(self, bucket: int) -> bool:
        """True while every change of the bucket is received."""
        return bucket in self._live

    @property
    def live(self) -> int:
        """The number of live buckets."""
        return len(self._live)

    def on_moved(self, buckets: Iterable[int]) -> None:
        """These buckets have moved to other servers."""
        for bucket in buckets:
            self._drop(bucket)
        self._wake.set()

    def _drop(self, bucket: int) -> None:
        self._asked.pop(bucket, None)
        if bucket in self._live:
            self._live.discard(bucket)
            self._on_channel_lost(bucket)

    async def _run(self) -> None:
        while not self._is_over:
            self._wake.clear()
            try:
                is_done = await self._subscribe()
            except ServerAway as error:
                log.debug("%s", error)
                is_done = False
            if is_done and not self._is_over:
                await self._wake.wait()
            else:
                await asyncio.sleep(AGAIN_S)

    async def _subscribe(self) -> bool:
        """Subscribe where it is missing; False while some servers cannot be asked."""
        is_done = True
        for server, buckets in self._servers.owners().items():
            missing = [bucket for bucket in buckets if bucket not in self._asked]
            if not missing:
                continue
            if not self._servers.is_served(missing[0]):
                is_done = False
                continue
            listener = self._listeners.get(server)
            if listener is None:
                listener = self._listeners[server] = Listener(server, self._servers.credentials)
            try:
                if listener not in self._hearing:
                    await listener.open()
                    self._hearing[listener] = asyncio.create_task(self._hear(listener))
                for bucket in missing:
                    if self._is_over:
                        return True
                    self._asked[bucket] = server
                    await listener.subscribe(channel_of(bucket))
                    if bucket in HOMES:
                        await listener.subscribe(lengths_channel(bucket))
            except ServerAway:
                self._end(listener)
                raise
        return is_done and len(self._asked) == BUCKETS

    async def _hear(self, listener: Listener) -> None:
        """Receive until the connection ends."""
        try:
            while not self._is_over:
                try:
                    self._on_message(listener.server, *await listener.next())
                # It does not say which one: the slot moved, and the servers say where to.
                except ServerRefused as refused:
                    log.debug("subscription refused server=%s why=%s", listener.server, refused)
                    self._forget(listener.server, confirmed_too=False)
                    self._servers.nudge()
        except ServerAway as error:
            log.debug("%s", error)
            if self._hearing.get(listener) is not None:
                self._end(listener)

    def _on_message(self, server: Server, kind: str, channel: bytes, octets: Any) -> None:
        if kind == "smessage" and channel in _LENGTHS:
            self._on_length(octets)
            return
        bucket = _BUCKET_OF.get(channel)
        if bucket is None or self._asked.get(bucket) != server:
            return
        if kind == "smessage":
            self._on_change(bucket, octets)
        elif kind == "ssubscribe":
            self._live.add(bucket)
            self._on_live(bucket)
        else:
            self._drop(bucket)
            self._servers.nudge()
            self._wake.set()

    def on_lost(self, server: Server) -> None:
        """A server does not answer: its channels may have ended silently."""
        if (listener := self._listeners.get(server)) is not None:
            self._end(listener)

    def _end(self, listener: Listener) -> None:
        if self._listeners.get(listener.server) is listener:
            del self._listeners[listener.server]
            self._forget(listener.server, confirmed_too=True)
            self._servers.nudge()
        closing = asyncio.create_task(self._close(listener))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, listener: Listener) -> None:
        hearing = self._hearing.pop(listener, None)
        if hearing is not None and not hearing.done():
            hearing.cancel()
            await asyncio.wait({hearing}, timeout=STOP_S)
        await listener.close()

    def _forget(self, server: Server, *, confirmed_too: bool) -> None:
        for bucket in [bucket for bucket, asked in self._asked.items() if asked == server]:
            if confirmed_too or bucket not in self._live:
                self._drop(bucket)
        self._loop.call_later(AGAIN_S, self._wake.set)
