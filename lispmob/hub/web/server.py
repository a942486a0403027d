"""Serves the page over HTTP. The only file that imports aiohttp (the extra `web`)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from lispmob.errors import LispError, NotRunning
from lispmob.hub.web.guard import COOKIE, HEADERS, Guard, hosts_of

try:
    from aiohttp import web
except ImportError:
    raise LispError(
        "the page needs the library aiohttp: apt install python3-aiohttp, or pip install 'lispmob[web]'"
    ) from None

BODY_LIMIT: Final = 1024  # ours: octets of a request's body; nothing here takes one
LINE_LIMIT: Final = 2048  # ours: of a request's first line, and of one header
KEPT_S: Final = 1.0  # ours: however many look, the hub is asked once a second
FILES: Final = {
    "/": ("page.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}

Json = dict[str, Any]
Reader = Callable[[], Json]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """`read` gives what is shown; it blocks, and raises LispError."""

    def __init__(self, read: Reader, token: str, names: frozenset[str] = frozenset()) -> None:
        self._names = names
        self._read = read
        self._token = token
        self._guard = Guard(token, frozenset())
        self._asking = asyncio.Lock()
        self._kept: tuple[float, Json] | None = None
        self._files = {
            path: (Path(__file__).with_name(name).read_text("utf-8"), kind) for path, (name, kind) in FILES.items()
        }

    async def start(self, address: str, port: int) -> tuple[web.AppRunner, int]:
        """Serve; what ends it, and the port. Raises OSError."""
        application = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._guarded])
        for path in FILES:
            application.router.add_get(path, self._file)
        application.router.add_get("/hub.json", self._json)
        runner = web.AppRunner(application, access_log=None, max_line_size=LINE_LIMIT, max_field_size=LINE_LIMIT)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port).start()
        except OSError:
            await runner.cleanup()
            raise
        bound = int(runner.addresses[0][1])
        self._guard = Guard(self._token, hosts_of(address, bound, self._names))
        return runner, bound

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every request comes by here, before anything of it is looked at."""
        answer = await self._judged(request, handler)
        answer.headers.update(HEADERS)
        return answer

    async def _judged(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        why = self._guard.why_refused(request.headers)
        if why is not None:
            return web.Response(status=403, text=f"refused: {why}\n")
        if request.method != "GET" or request.can_read_body:
            return web.Response(status=405, text="this page is for looking\n")
        if self._guard.is_token(request.query.get("token")):
            # Of the paths that there are: any other may lead elsewhere (//host), or hold what no header may.
            place = request.path if request.path in FILES else "/"
            moved = web.Response(status=303, headers={"Location": place})
            moved.set_cookie(COOKIE, request.query["token"], httponly=True, samesite="Strict", path="/")
            return moved
        if not self._guard.is_token(request.cookies.get(COOKIE)):
            return web.Response(status=401, text="open the address that `lisphub web` printed: it has the token\n")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status, text=f"{error.reason}\n")

    async def _file(self, request: web.Request) -> web.Response:
        text, kind = self._files[request.path]
        return web.Response(text=text, content_type=kind, charset="utf-8")

    async def _json(self, _: web.Request) -> web.Response:
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
    """Serve until SIGTERM or SIGINT; the exit code. Raises LispError."""

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
