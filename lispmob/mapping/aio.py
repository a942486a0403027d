"""The connection for asyncio: the same names as in lispmob.mapping, to be awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from lispmob.mapping import requests
from lispmob.mapping.messages import DEFAULT_SOCKET, Event, MappingError, NoDaemon, Queue, Reply, Session
from lispmob.mapping.requests import Request

LINE_MAX: Final = 1 << 30  # a dump is one line: 200 octets for each of at most a million mappings

P = ParamSpec("P")
T = TypeVar("T")


async def connect(path: str = DEFAULT_SOCKET, *, timeout_s: float = 10.0) -> Mappings:
    """A connection to lispd; `timeout_s` is how long it may take to answer. Raises NoDaemon."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_MAX)
    except (OSError, ValueError) as error:
        raise NoDaemon(f"lispd is not running: {path}: {getattr(error, 'strerror', None) or error}") from None
    return Mappings(reader, writer, timeout_s)


def _awaited(make: Callable[P, Request[T]]) -> Callable[Concatenate[Mappings, P], Coroutine[Any, Any, T]]:
    """The coroutine method that makes this request and awaits its answer."""

    @wraps(make)
    async def method(self: Mappings, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.ask(make(*args, **kwargs))

    return requests.shown(method, make)


class Mappings:
    """One connection; an asynchronous context manager, and an iterator of events that ends with NoDaemon.

    Tasks may call it at the same time. Events that no task takes are kept up to QUEUE_MAX; a "lost" counts the rest.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout_s: float) -> None:
        self._session = Session()
        self._queue = Queue()
        self._timeout_s = timeout_s
        self._writer = writer
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        self._news = asyncio.Event()
        self._is_over = False
        self._task = asyncio.get_running_loop().create_task(self._read(reader))

    async def __aenter__(self) -> Mappings:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. May be called twice."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    follow = _awaited(requests.follow)
    dump = _awaited(requests.dump)
    get = _awaited(requests.get)
    add = _awaited(requests.add)
    put = _awaited(requests.put)
    change = _awaited(requests.change)
    delete = _awaited(requests.delete)
    flush = _awaited(requests.flush)

    async def next_event(self) -> Event:
        """The next event. Raises NoDaemon when lispd ends."""
        while not self._queue:
            if self._is_over:
                raise NoDaemon("lispd has ended")
            self._news.clear()
            await self._news.wait()
        return self._queue.take()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event."""
        return await self.next_event()

    async def ask(self, request: Request[T]) -> T:
        """Send a request and await its answer. Raises MappingError, NoDaemon."""
        number, line = self._session.request(request.method, **request.params)
        if self._is_over:
            raise NoDaemon("lispd has ended")
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(line)
            return request.answer(await asyncio.wait_for(answer, self._timeout_s))
        except TimeoutError:
            raise MappingError("protocol", "lispd does not answer; its log may say why") from None
        finally:
            self._asked.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                got = self._session.read(line)
                if isinstance(got, Event):
                    self._queue.put(got)
                    self._news.set()
                elif got.request is None:  # why we are sent away
                    self._answer_all(got)
                elif (waiting := self._asked.get(got.request)) is not None and not waiting.done():
                    waiting.set_result(got)
        except (OSError, ValueError, MappingError):
            pass  # of no use from here on
        finally:
            self._is_over = True
            self._news.set()
            for waiting in self._asked.values():
                if not waiting.done():
                    waiting.set_exception(NoDaemon("lispd has ended"))

    def _answer_all(self, reply: Reply) -> None:
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_result(reply)
