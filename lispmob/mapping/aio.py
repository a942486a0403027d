"""The connection for asyncio: the same names as in lispmob.mapping, to be awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Final, Unpack

from lispmob.mapping.messages import (
    DEFAULT_SOCKET,
    Event,
    Locator,
    Mapping,
    MappingError,
    NoDaemon,
    Queue,
    Reply,
    Session,
    Terms,
    mapping_of,
    put_params,
)

LINE_MAX: Final = 1 << 30  # a dump is one line: 200 octets for each of at most a million mappings


async def connect(path: str = DEFAULT_SOCKET, *, timeout_s: float = 10.0) -> Mappings:
    """A connection to lispd; `timeout_s` is how long it may take to answer. Raises NoDaemon."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_MAX)
    except (OSError, ValueError) as error:
        raise NoDaemon(f"lispd is not running: {path}: {getattr(error, 'strerror', None) or error}") from None
    return Mappings(reader, writer, timeout_s)


class Mappings:
    """One connection; an asynchronous context manager, and an iterator of events that ends with NoDaemon.

    Tasks may call it at the same time. Events that nobody takes are kept up to QUEUE_MAX; a "lost" counts the rest.
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

    async def follow(self, *kinds: str, dump: bool = False, echo: bool = True) -> list[Mapping]:
        """As Mappings.follow."""
        result = await self._call("mapping-events", kinds=list(kinds), dump=dump, echo=echo)
        return [mapping_of(entry) for entry in result.get("entries", ())]

    async def dump(self) -> list[Mapping]:
        """As Mappings.dump."""
        return [mapping_of(entry) for entry in (await self._call("mapping-dump"))["entries"]]

    async def get(self, eid: str) -> Mapping | None:
        """As Mappings.get."""
        try:
            return mapping_of(await self._call("mapping-get", eid=eid))
        except MappingError as error:
            if error.errno != "ESRCH":
                raise
            return None

    async def add(self, prefix: str, locators: Iterable[Locator] = (), **terms: Unpack[Terms]) -> None:
        """As Mappings.add."""
        await self._call("mapping-add", **put_params(prefix, locators, terms))

    async def put(self, prefix: str, locators: Iterable[Locator] = (), **terms: Unpack[Terms]) -> None:
        """As Mappings.put."""
        await self._call("mapping-add", **put_params(prefix, locators, terms, replaces=True))

    async def change(self, prefix: str, locators: Iterable[Locator] = (), **terms: Unpack[Terms]) -> None:
        """As Mappings.change."""
        await self._call("mapping-change", **put_params(prefix, locators, terms))

    async def delete(self, prefix: str, *, table: str = "cache") -> None:
        """As Mappings.delete."""
        await self._call("mapping-delete", prefix=prefix, table=table)

    async def flush(self, table: str = "cache") -> int:
        """As Mappings.flush."""
        return int((await self._call("mapping-flush", table=table))["count"])

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

    async def _call(self, method: str, **params: object) -> Any:
        number, line = self._session.request(method, **params)
        if self._is_over:
            raise NoDaemon("lispd has ended")
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(line)
            return (await asyncio.wait_for(answer, self._timeout_s)).result()
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
