"""The connection for programs that wait: blocking, and on the standard library alone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from lispmob.closing import Closing
from lispmob.mapping import requests
from lispmob.mapping.messages import Event, MappingError, NoDaemon, Queue, Reply, Session
from lispmob.mapping.requests import Request

P = ParamSpec("P")
T = TypeVar("T")


def _waiting(make: Callable[P, Request[T]]) -> Callable[Concatenate[Mappings, P], T]:
    """The method that makes this request and waits for its answer."""

    @wraps(make)
    def method(self: Mappings, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.ask(make(*args, **kwargs))

    return requests.shown(method, make)


class Mappings(Closing):
    """One connection; a context manager, and an iterator of events until lispd ends (NoDaemon).

    Not for several threads at once. `fileno()` is readable when something came; `next_event(0)` takes it.
    """

    def __init__(self, path: str, *, timeout_s: float) -> None:
        self._session = Session()
        self._queue = Queue()
        self._unread = bytearray()
        self._timeout_s = timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except (OSError, ValueError) as error:
            self._socket.close()
            raise NoDaemon(f"lispd is not running: {path}: {getattr(error, 'strerror', None) or error}") from None

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._socket.close()

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    follow = _waiting(requests.follow)
    dump = _waiting(requests.dump)
    get = _waiting(requests.get)
    add = _waiting(requests.add)
    put = _waiting(requests.put)
    change = _waiting(requests.change)
    delete = _waiting(requests.delete)
    flush = _waiting(requests.flush)

    def next_event(self, timeout_s: float | None = None) -> Event | None:
        """The next event; None when none comes in time. Raises NoDaemon when lispd ends."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._queue:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            if (line := self._line(left_s)) is None:
                return None
            self._sort(self._session.read(line))
        return self._queue.take()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event, however long it takes."""
        while (event := self.next_event()) is None:
            pass
        return event

    def ask(self, request: Request[T]) -> T:
        """Send a request and wait for its answer. Raises MappingError, NoDaemon."""
        number, line = self._session.request(request.method, **request.params)
        self._socket.settimeout(self._timeout_s)
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise NoDaemon(f"lispd does not take the request: {error.strerror or error}") from None
        until = time.monotonic() + self._timeout_s
        while (answer := self._line(max(0.0, until - time.monotonic()))) is not None:
            got = self._session.read(answer)
            if isinstance(got, Reply) and got.request in (number, None):
                return request.answer(got)
            self._sort(got)
        raise MappingError("protocol", "lispd does not answer; its log may say why")

    def _sort(self, got: Event | Reply) -> None:
        if isinstance(got, Event):
            self._queue.put(got)

    def _line(self, timeout_s: float | None) -> bytes | None:
        """The next line; None when there is no whole one in time. Raises NoDaemon at the end."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        searched = 0
        while (end := self._unread.find(b"\n", searched)) < 0:
            searched = len(self._unread)
            # 0 would mean another thing: what has come is to be taken.
            self._socket.settimeout(None if until is None else max(1e-6, until - time.monotonic()))
            try:
                some = self._socket.recv(1 << 18)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError:
                some = b""
            if not some:
                raise NoDaemon("lispd has ended")
            self._unread += some
        line = bytes(self._unread[:end])
        del self._unread[: end + 1]
        return line
