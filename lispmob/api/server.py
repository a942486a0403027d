"""The control socket's server: newline-delimited JSON on a Unix socket, in the daemon's event loop.

No client can block the daemon or exhaust its memory: lines, clients and unread output are bounded. A client that does
not read its replies is not read from, and one that does not read its events is disconnected. Each turn of the loop
serves one client for some milliseconds, and a long answer is made and sent in pieces. A follower of mappings that does
not keep up loses events, and is informed how many.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from lispmob.api.backend import ApiError, Backend
from lispmob.api.event_kinds import KINDS
from lispmob.api.listen import Peer, file_identity, open_socket, peer_of, remove_socket
from lispmob.api.mapping.follow import Author, Reader, Signature, Signed, check_kinds, line_of
from lispmob.api.mapping.schema import MappingEvent, MappingEventsParams
from lispmob.api.methods import call, is_change, is_pending, read_params
from lispmob.api.schema import (
    API_VERSION,
    MAX_LINE_OCTETS,
    Event,
    EventLine,
    Events,
    EventsParams,
    Failure,
    Reply,
    Request,
)
from lispmob.api.turns import Pages, Turns
from lispmob.options import meant

MAX_CLIENTS: Final = 64  # ours: lispctl is one client for milliseconds, a desktop widget one for days
MAX_UNPRIVILEGED: Final = 48  # ours: so that root still gets in
MAX_OF_ONE_USER: Final = 16  # ours: so that one user without privileges does not take all places
SERVED_S: Final = 0.002  # ours: of a client's requests in one turn; a move waits no longer than for one of them
MAX_UNREAD_OCTETS: Final = 256 * 1024  # ours: some 1,000 events
RECENT_EVENTS: Final = 256
HELD_EVENTS: Final = 1024  # ours: of mappings, while their dump is being sent
CLOSE_PATIENCE_S: Final = 0.5  # ours: the time a client has to take its last reply when we stop
LEAVE_PATIENCE_S: Final = 5.0  # ours: the same for a client that is disconnected while the daemon continues

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class ControlServer:
    """Serves `backend` at `path`. `await start()`, `publish()` at will, `await close()`."""

    def __init__(self, backend: Backend, path: Path, *, group: str = "lispmob") -> None:
        self._backend = backend
        self._path = path
        self._group = group
        self._group_id: int | None = None
        self._identity: tuple[int, int] | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[_Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recent: deque[Event] = deque(maxlen=RECENT_EVENTS)
        self._waiting: dict[_Client, None] = {}  # those with requests to be done, in order
        self._is_serving = False
        self.turns = Turns()
        self.signature = Signature()

    async def start(self) -> None:
        """Listen. Raises SocketRefusedError."""
        listener, self._group_id = open_socket(self._path, self._group)
        try:
            self._identity = file_identity(self._path)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: _Client(self, self._backend), sock=listener)
        except BaseException:
            listener.close()
            raise

    async def close(self) -> None:
        """Send pending output, within half a second, close everything and remove the socket file."""
        if self._server is None or self._identity is None:
            return
        remove_socket(self._path, self._identity)
        self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_PATIENCE_S)
        clients = list(self._clients)
        for client in clients:
            client.close()
        waiting = [client.closed for client in clients]
        if waiting:
            await asyncio.wait(waiting, timeout=CLOSE_PATIENCE_S)
        for client in clients:
            client.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks or waiting:
            await asyncio.wait([*self._tasks, *waiting], timeout=CLOSE_PATIENCE_S)
        await self._server.wait_closed()
        self._server = None

    def publish(self, event: Event) -> None:
        """Store an event and send it to all followers. Never blocks."""
        self._recent.append(event)
        followers = [client for client in self._clients if client.follows(event.kind)]
        if followers:
            line = _line(EventLine(v=API_VERSION, event=event))
            for client in followers:
                client.send_event(line, event)

    @property
    def has_mapping_readers(self) -> bool:
        """True when mappings have followers."""
        return any(client.reader is not None for client in self._clients)

    def publish_mapping(self, event: MappingEvent) -> None:
        """Send an event to all followers of mappings. Never blocks."""
        author = self.signature.author
        readers = [
            reading for reading in self._clients if reading.reader is not None and reading.reader.wants(event, author)
        ]
        if readers:
            line = line_of(self.signature.put(event))
            for client in readers:
                client.send_mapping(line, event.at)

    @property
    def group(self) -> str | None:
        """The group whose members may change things; None: it does not exist."""
        return self._group if self._group_id is not None else None

    def serve(self, client: _Client) -> None:
        """The client has requests: it gets its turn."""
        self._waiting[client] = None
        if not self._is_serving:
            self._is_serving = True
            asyncio.get_running_loop().call_soon(self._serve_next)

    def _serve_next(self) -> None:
        """Serve one client for a moment; if it has more requests it queues again after the others."""
        self._is_serving = False
        if self._waiting:
            client = next(iter(self._waiting))
            del self._waiting[client]
            if client.work(SERVED_S):
                self._waiting[client] = None
        if self._waiting:
            self._is_serving = True
            asyncio.get_running_loop().call_soon(self._serve_next)

    def recent(self, params: EventsParams) -> list[Event]:
        """The latest events of the kinds asked for, oldest first."""
        found = [event for event in self._recent if not params.kinds or event.kind in params.kinds]
        return found[-params.recent :] if params.recent > 0 else []

    def admit(self, client: _Client, peer: Peer) -> str | None:
        """Take a client in; why it has to go, None when it may stay."""
        client.may_change, client.uid = peer.may_change(self._group_id), peer.uid
        admitted = [other for other in self._clients if other.is_admitted]
        unprivileged = sum(not other.may_change for other in admitted)
        of_this_user = sum(other.uid == peer.uid and not other.may_change for other in admitted)
        self._clients.add(client)
        if not client.may_change and of_this_user >= MAX_OF_ONE_USER:
            return f"this user has {of_this_user} connections already; close one of them"
        if len(admitted) >= MAX_CLIENTS or (not client.may_change and unprivileged >= MAX_UNPRIVILEGED):
            return f"{len(admitted)} clients are connected already; try again later"
        client.is_admitted = True
        return None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a request that takes time. It ends even if its client does not wait: half a reload would be worse."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def forget(self, client: _Client) -> None:
        """The connection is over."""
        self._clients.discard(client)
        self._waiting.pop(client, None)


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: ControlServer, backend: Backend) -> None:
        self._server = server
        self._backend = backend
        self._transport: asyncio.Transport | None = None
        self._unparsed = bytearray()
        self._is_unread = False  # the client does not take what we sent
        self._is_half_closed = False  # the client sends no more
        self._task: asyncio.Task[None] | None = None
        self._kinds: frozenset[str] | None = None  # None: follows nothing; empty: everything
        self._last_call: asyncio.TimerHandle | None = None
        self._pid = 0
        self._held: list[bytes] | None = None  # events that come while a long reply is being sent
        self._taken: asyncio.Future[None] | None = None  # waits until the client has read its output
        self._behind_since = ""
        self.reader: Reader | None = None  # of mapping events
        self.uid = -1
        self.may_change = False
        self.is_admitted = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_UNREAD_OCTETS // 4)
        try:
            peer = peer_of(transport.get_extra_info("socket"))
        except OSError as error:
            log.warning("control client without credentials why=%s", error.strerror)
            self.abort()
            return
        self._pid = peer.pid
        why_not = self._server.admit(self, peer)
        if why_not is not None:
            self._fail(None, ApiError("busy", why_not))
            self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.forget(self)
        if self._last_call is not None:
            self._last_call.cancel()
        self._wake()
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._unparsed += data
        self._server.serve(self)

    def eof_received(self) -> bool:
        # A pipe such as `echo ... | nc -N -U` closes its half at once, and still wants the answer.
        self._is_half_closed = True
        self._server.serve(self)
        return not self._is_closing()

    def pause_writing(self) -> None:
        self._is_unread = True
        self._apply_back_pressure()

    def resume_writing(self) -> None:
        self._is_unread = False
        self._wake()
        self._catch_up()
        self._server.serve(self)

    # --- requests

    def work(self, for_s: float) -> bool:
        """Do the complete lines at hand as long as the client takes the replies; True when time ran out before."""
        loop = asyncio.get_running_loop()
        until = loop.time() + for_s
        while not self._is_unread and self._task is None and not self._is_closing():
            end = self._unparsed.find(b"\n")
            if end > MAX_LINE_OCTETS or (end < 0 and len(self._unparsed) > MAX_LINE_OCTETS):
                self._fail(None, ApiError("too-long", f"a request has at most {MAX_LINE_OCTETS} octets"))
                self._unparsed.clear()
                self.close()
                return False
            if end < 0:
                break
            if loop.time() >= until:
                return True
            line = bytes(self._unparsed[:end])
            del self._unparsed[: end + 1]
            if line.strip():
                self._do(line)
        self._apply_back_pressure()
        return False

    def _apply_back_pressure(self) -> None:
        if self._transport is None or self._is_closing():
            return
        is_busy = self._is_unread or self._task is not None
        if self._is_half_closed:
            if not is_busy and self._kinds is None and self.reader is None:
                self.close()
        elif is_busy:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _do(self, line: bytes) -> None:
        request_id: int | None = None
        try:
            request = _read_request(line)
            request_id = request.id
            if request.v != API_VERSION:
                raise ApiError("version", f"this daemon speaks version {API_VERSION}, not {request.v}")
            if request.method == "events":
                self._start_events(request)
                return
            if request.method == "mapping-events":
                result: Any = self._follow_mappings(request)
            else:
                result = self._call(request)
            if isinstance(result, Pages):
                self._held = []
                self._task = self._server.spawn(self._send_pages(request.id, result))
            elif is_pending(result):
                self._task = self._server.spawn(self._finish(request.id, result))
            else:
                self._reply(request.id, result)
        except ApiError as error:
            self._fail(request_id, error)
        except Exception:  # the top of a request: a bug must cost one reply, not the daemon
            log.exception("control request failed")
            self._fail(request_id, ApiError("internal", "the daemon could not do this; its log says why"))

    def _call(self, request: Request) -> Any | Awaitable[Any]:
        may_change, group = self.may_change, self._server.group
        make = partial(call, self._backend, request, may_change=may_change, pid=self._pid, group=group)
        if not is_change(request):
            return make()
        author, signature = Author(self, self._pid, request.id), self._server.signature
        with signature.of(author):
            result = make()
        return Signed(result, signature, author) if is_pending(result) else result

    async def _finish(self, request_id: int, pending: Awaitable[object]) -> None:
        try:
            self._reply(request_id, await pending)
        except ApiError as error:
            self._fail(request_id, error)
        except Exception:  # the top of a task
            log.exception("control request failed")
            self._fail(request_id, ApiError("internal", "the daemon could not do this; its log says why"))
        finally:
            self._task = None
            self._server.serve(self)

    async def _send_pages(self, request_id: int, result: Pages) -> None:
        """One reply, in pieces: the client sees a line as ever."""
        try:
            self._write(b'{"v":%d,"id":%d,"result":{"entries":[' % (API_VERSION, request_id))
            between = b""
            while not self._is_closing():
                await self._server.turns.wait()
                if (page := next(result.pages, None)) is None:
                    break
                if page:
                    self._write(between + b",".join(map(_encode, page)))
                    between = b","
                if self._is_unread and not self._is_closing():
                    self._taken = asyncio.get_running_loop().create_future()
                    await self._taken
            self._write(b"]" + b"".join(b",%b:%b" % (_encode(key), _encode(each)) for key, each in result.rest.items()))
            self._write(b"}}\n")
        except Exception:  # the top of a task; half a reply is of no use to a client
            log.exception("control request failed")
            self.abort()
        finally:
            self._task = None
            held, self._held = self._held or [], None
            for line in held:
                self._write(line)
            self._catch_up()
            self._server.serve(self)

    def _wake(self) -> None:
        """The client has read its output, or is gone."""
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)

    def _reply(self, request_id: int, result: object) -> None:
        self._write(_line(Reply(v=API_VERSION, id=request_id, result=result)))

    def _fail(self, request_id: int | None, error: ApiError) -> None:
        failure = Failure(code=error.code, message=str(error), errno=error.errno)
        self._write(_line(Reply(v=API_VERSION, id=request_id, error=failure)))

    # --- events

    def _start_events(self, request: Request) -> None:
        params: EventsParams = read_params(request, EventsParams)
        for kind in params.kinds:
            if kind not in KINDS:
                like = meant(kind, sorted(KINDS))
                hint = f"; did you mean {like!r}?" if like is not None else f"; there are: {', '.join(sorted(KINDS))}"
                raise ApiError("params", f"kinds: there is no event {kind[:40]!r}{hint}")
        self._kinds = frozenset(params.kinds) if params.follow else None
        self._reply(request.id, Events(events=self._server.recent(params), is_following=params.follow))

    def follows(self, kind: str) -> bool:
        """True when this client follows events of this kind."""
        return self._kinds is not None and (not self._kinds or kind in self._kinds)

    def send_event(self, line: bytes, event: Event) -> None:
        """Queue one event; a client with too many unread ones is informed and disconnected."""
        if self._transport is None or self._is_closing():
            return
        if self._held is not None:
            if len(self._held) < RECENT_EVENTS:
                self._held.append(line)
        elif self._transport.get_write_buffer_size() + len(line) > MAX_UNREAD_OCTETS:
            self._kinds = None
            notice = Event(kind="dropped", at=event.at, fields={"reason": "events were not read in time"})
            self._write(_line(EventLine(v=API_VERSION, event=notice)))
            self.close()
        else:
            self._write(line)

    # --- mappings

    def _follow_mappings(self, request: Request) -> object:
        params: MappingEventsParams = read_params(request, MappingEventsParams)
        self.reader = Reader(self, check_kinds(params), echo=params.echo)
        if not params.dump:
            return {"is_following": True}
        dump = self._backend.mappings.mapping_dump()
        return Pages(dump.pages, {**dump.rest, "is_following": True})

    def send_mapping(self, line: bytes, at: str) -> None:
        """Queue one event; without room for it, or for one before it, it is lost and counted."""
        if self._transport is None or self.reader is None or self._is_closing():
            return
        is_held, is_late = self._held is not None, self.reader.is_behind
        if self._held is not None and len(self._held) < HELD_EVENTS and not is_late:
            self._held.append(line)
        elif is_held or is_late or self._transport.get_write_buffer_size() + len(line) > MAX_UNREAD_OCTETS:
            self._behind_since = self._behind_since or at
            self.reader.lose()
        else:
            self._write(line)

    def _catch_up(self) -> None:
        """There is room again: report how many events are missing."""
        if self._held is None and self.reader is not None and self.reader.is_behind:
            self._write(self.reader.notice(self._behind_since))
            self._behind_since = ""

    # --- the transport

    def _is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _write(self, line: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(line)

    def close(self) -> None:
        """Close once everything is sent, or when the client does not take it in time."""
        if self._transport is not None and self._last_call is None:
            self._transport.close()
            self._last_call = asyncio.get_running_loop().call_later(LEAVE_PATIENCE_S, self.abort)

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()


def _read_request(line: bytes) -> Request:
    try:
        return msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("malformed", f"not a request: {error}") from None


def _line(value: Reply | EventLine) -> bytes:
    return _encode(value) + b"\n"
