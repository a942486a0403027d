"""The followers of mappings, and their events: never more than a follower reads, with a count of those it missed."""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from lispmob.api.backend import ApiError
from lispmob.api.mapping.schema import FOLLOWED, MappingEvent, MappingEventsParams, MappingLine
from lispmob.api.schema import API_VERSION
from lispmob.options import meant

_encode = msgspec.json.Encoder().encode


class Author(msgspec.Struct, frozen=True):
    """The request that makes a change; `connection` identifies its connection."""

    connection: object
    pid: int
    request: int


class Signature:
    """The author of the present change; None: not a client of the control socket.

    This is no context variable, because timers that are set meanwhile would inherit it.
    """

    def __init__(self) -> None:
        self.author: Author | None = None

    @contextmanager
    def of(self, author: Author) -> Iterator[None]:
        """What happens inside is this author's."""
        self.author = author
        try:
            yield
        finally:
            self.author = None

    def put(self, event: MappingEvent) -> MappingEvent:
        """The event with it."""
        author = self.author
        return event if author is None else msgspec.structs.replace(event, pid=author.pid, request=author.request)


class Signed:
    """An awaitable, each step of which is of this author."""

    def __init__(self, pending: Awaitable[object], signature: Signature, author: Author) -> None:
        self._pending = pending
        self._signature = signature
        self._author = author

    def __await__(self) -> Generator[Any, Any, object]:
        steps: Any = self._pending.__await__()
        thrown: BaseException | None = None
        while True:
            with self._signature.of(self._author):
                try:
                    waits_for = next(steps) if thrown is None else steps.throw(thrown)
                except StopIteration as done:
                    return done.value
            thrown = None
            try:
                yield waits_for
            except BaseException as error:  # what it waited for has failed, or is cancelled: that concerns the inside
                thrown = error


def check_kinds(params: MappingEventsParams) -> frozenset[str]:
    """The kinds that are followed. Raises ApiError."""
    for kind in params.kinds:
        if kind not in FOLLOWED:
            like = meant(kind, FOLLOWED)
            hint = f"; did you mean {like!r}?" if like is not None else f"; there are: {', '.join(FOLLOWED)}"
            raise ApiError("params", f"kinds: there is no mapping event {kind[:40]!r}{hint}")
    return frozenset(params.kinds or FOLLOWED)


def line_of(event: MappingEvent) -> bytes:
    """As it is sent."""
    return _encode(MappingLine(v=API_VERSION, mapping=event)) + b"\n"


class Reader:
    """The events that one connection follows, and how many it missed since the last notice."""

    def __init__(self, connection: object, kinds: frozenset[str], *, echo: bool) -> None:
        self._connection = connection
        self._kinds = kinds
        self._echo = echo
        self._lost = 0

    def wants(self, event: MappingEvent, author: Author | None) -> bool:
        """True for an event that this reader follows."""
        is_own = author is not None and author.connection is self._connection
        return event.type in self._kinds and (self._echo or not is_own)

    def lose(self) -> None:
        """There is no room for an event."""
        self._lost += 1

    @property
    def is_behind(self) -> bool:
        """True while it has missed events without a notice: later ones are missed as well."""
        return self._lost > 0

    def notice(self, at: str) -> bytes:
        """The notice of missed events; it is up to date then."""
        lost, self._lost = self._lost, 0
        return line_of(MappingEvent(type="lost", at=at, count=lost))
