"""Serves the page over HTTP. The only file that imports aiohttp (the extra `web`)."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from lispmob.errors import LispError, NotRunning
from lispmob.hub.web.guard import COOKIE, HEADERS, Guard, hosts_of
from lispmob.hub.web.visitors import PATIENCE_S, Visitors

try:
    from aiohttp import web
except ImportError:
    raise LispError(
        "the page needs the library aiohttp: apt install python3-aiohttp, or pip install 'lispmob[web]'"
    ) from None

LINE_LIMIT: Final = 2048  # ours: of a request's first line, and of one header
KEPT_S: Final = 1.0  # ours: the hub is asked once a second, however many browsers are connected
FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}

Json = dict[str, Any]
Reader = Callable[[], Json]
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer(web.Server):
    """aiohttp's server, which has no time limit for an incomplete request."""

    def __init__(self, handler: Handler, patience_s: float) -> None:
        # requests that are not HTTP are answered, and not logged
        silent = logging.getLogger(f"{__name__}.requests")
        silent.disabled = True
        super().__init__(handler, access_log=None, logger=silent, max_line_size=LINE_LIMIT, max_field_size=LINE_LIMIT)
        self._visitors: Visitors[web.RequestHandler] = Visitors(patience_s)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count a new connection."""
        super().connection_made(handler, transport)
        if (leaves := self._visitors.on_open(handler, time.monotonic())) is not None:
            _end(leaves)
        self._wait()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget the connection."""
        self._visitors.on_close(handler)
        super().connection_lost(handler, exc)

    def welcome(self, request: web.BaseRequest) -> None:
        """This request has the token."""
        self._visitors.on_token(request.protocol)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 (aiohttp's own way)
        """Stop watching visitors, and end all connections."""
        if self._timer is not None:
            self._timer.cancel()
        await super().shutdown(timeout)

    def _wait(self) -> None:
        if self._timer is None and (wake_at := self._visitors.wake_at()) is not None:
            left_s = max(0.0, wake_at - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(left_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        for handler in self._visitors.late(time.monotonic()):
            _end(handler)
        self._wait()


def _end(handler: web.RequestHandler) -> None:
    if handler.transport is not None:
        handler.transport.abort()


class Page:
    """`read` gives the content; it blocks, and raises LispError."""

    def __init__(
        self, read: Reader, token: str, names: frozenset[str] = frozenset(), patience_s: float = PATIENCE_S
    ) -> None:
        """`patience_s`: how long a connection may be open before it has shown the token."""
        self._patience_s = patience_s
        self._names = names
        self._read = read
        self._token = token
        self._guard = Guard(token, frozenset())
        self._http: HttpServer
        self._asking = asyncio.Lock()
        self._kept: tuple[float, Json] | None = None
        self._files = {
            path: (Path(__file__).with_name(name).read_text("utf-8"), kind) for path, (name, kind) in FILES.items()
        }

    async def start(self, address: str, port: int) -> tuple[web.ServerRunner, int]:
        """Serve; returns the runner, which ends it, and the port. Raises OSError."""
        self._http = HttpServer(self._answered, self._patience_s)
        runner = web.ServerRunner(self._http)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError:
            await runner.cleanup()
            raise
        bound = int(runner.addresses[0][1])
        self._guard = Guard(self._token, hosts_of(address, bound, self._names))
        return runner, bound

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request passes here before it is handled."""
        answer = await self._judged(request)
        answer.headers.update(HEADERS)
        return answer

    async def _judged(self, request: web.BaseRequest) -> web.StreamResponse:
        why = self._guard.why_refused(request.headers)
        if why is not None:
            return web.Response(status=403, text=f"refused: {why}\n")
        if request.method != "GET" or request.can_read_body:
            return web.Response(status=405, text="this page is for looking\n")
        if self._guard.is_token(request.query.get("token")):
            self._http.welcome(request)
            # redirect to known paths only: another may lead elsewhere (//host), or hold what no header may
            place = request.path if request.path in FILES else "/"
            moved = web.Response(status=303, headers={"Location": place})
            moved.set_cookie(COOKIE, request.query["token"], httponly=True, samesite="Strict", path="/")
            return moved
        if not self._guard.is_token(request.cookies.get(COOKIE)):
            return web.Response(status=401, text="open the address that `lisphub web` printed: it has the token\n")
        self._http.welcome(request)
        if request.path == "/hub.json":
            return await self._json()
        if request.path not in FILES:
            return web.Response(status=404, text="there is no such page\n")
        text, kind = self._files[request.path]
        return web.Response(text=text, content_type=kind, charset="utf-8")

    async def _json(self) -> web.Response:
        async with self._asking:
            if self._kept is None or time.monotonic() - self._kept[0] >= KEPT_S:
                try:
                    answer = await asyncio.to_thread(self._read)
                except NotRunning:
                    answer = {"error": "lisphub does not run"}
                except LispError as error:
                    answer = {"error": str(error)}
                self._kept = time.monotonic(), answer
        return web.json_response(self._kept[1])


def serve(
    address: str, port: int, token: str, read: Reader, say: Callable[[str], None], names: frozenset[str] = frozenset()
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises LispError."""

    async def main() -> None:
        try:
            runner, bound = await Page(read, token, names).start(address, port)
        except OSError as error:
            raise LispError(f"{address} port {port}: {error.strerror}") from None
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        shown = f"[{address}]" if ":" in address else address
        say(f"http://{shown}:{bound}/?token={token}")
        await ended.wait()
        await runner.cleanup()

    asyncio.run(main())
    return 0
