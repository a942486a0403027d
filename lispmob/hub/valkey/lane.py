"""Sends commands to one server: those of one turn of the loop go in one pipeline (adapter).

A hub has hundreds of commands under way, and redis-py uses a connection for each call. So commands that come while a
pipeline is being made go with it, and at most `LANES` pipelines are under way. `on_lost` is called once for each
pipeline that the server has not answered; all waiting commands fail then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from lispmob.hub.valkey.connection import LANES, Engine, Server, ServerAway, ServerRefused, Words

PIPELINE: Final = 128  # ours: commands in one pipeline; a server takes about 15 us for each
ASKING: Final = ("ASKING",)
SUSPECT_S: Final = 0.1
STOP_S: Final = 1.0  # ours: longer than redis-py takes to close a connection
_OVER: Final = "this hub ends"


class Lane:
    """`server`: the destination of the commands."""

    def __init__(
        self, engine: Engine, server: Server, on_lost: Callable[[Server, ServerAway], None], patience_s: float
    ) -> None:
        self._engine, self._server, self._on_lost, self._patience_s = engine, server, on_lost, patience_s
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Words, bool, asyncio.Future[Any]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_due = self._is_over = False

    def ask(self, words: Words, *, is_asking: bool = False) -> asyncio.Future[Any]:
        """The future answer; ServerAway or ServerRefused. `is_asking`: the slot is moving to this server."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((words, is_asking, future))
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._leave)
        return future

    async def stop(self) -> None:
        """Stop waiting for answers."""
        self._is_over = True
        under_way = [*self._under_way]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=STOP_S)
        self._fail(ServerAway(_OVER))

    def _leave(self) -> None:
        self._is_due = False
        while self._waiting and len(self._under_way) < LANES:
            some = [self._waiting.popleft() for _ in range(min(PIPELINE, len(self._waiting)))]
            task = self._loop.create_task(self._send(some))
            self._under_way.add(task)
            task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting and not self._is_over:
            self._leave()

    async def _send(self, some: list[tuple[Words, bool, asyncio.Future[Any]]]) -> None:
        commands: list[Words] = []
        for words, is_asking, _ in some:
            commands += [ASKING, words] if is_asking else [words]
        try:
            answers = iter(await self._patiently(commands))
        except ServerAway as error:
            self._waiting.extendleft(reversed(some))
            self._fail(error)
            self._on_lost(self._server, error)
            return
        except asyncio.CancelledError:
            self._waiting.extendleft(reversed(some))
            self._fail(ServerAway(_OVER))
            raise
        for _, is_asking, future in some:
            if is_asking:
                next(answers)
            answer = next(answers)
            if future.done():
                continue
            if isinstance(answer, ServerRefused):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _patiently(self, commands: list[Words]) -> list[Any]:
        """The server's answers, within the time limit. Raises ServerAway."""
        answering = self._loop.create_task(self._engine.send(self._server, commands))
        try:
            await asyncio.wait({answering}, timeout=self._patience_s)
            if not answering.done():  # this process may have been busy: read first what has arrived meanwhile
                await asyncio.wait({answering}, timeout=SUSPECT_S)
            if answering.done():
                return answering.result()
            raise ServerAway(f"the registry's server {self._server} does not answer")
        finally:
            answering.cancel()

    def _fail(self, error: ServerAway) -> None:
        waiting, self._waiting = self._waiting, deque()
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(ServerAway(str(error)))
                future.exception()  # the caller may have stopped waiting
