"""One connection to a Valkey or Redis server: commands go out together, answers come back in order (adapter).

Commands of one turn of the loop leave in one write. A server that answers nothing for `SILENT_S` is given up: all that
waits fails, and whoever asked goes on elsewhere. Messages of channels go to `on_told`. The answers are read by hiredis.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import hiredis
import msgspec

from lispmob.errors import LispError

SILENT_S: Final = 1.0  # ours: nodes try again after 1, 2 and 4 s, at another hub perhaps
CONNECT_S: Final = 2.0
_WATCH_S: Final = 0.25
_SUSPECT_S: Final = 0.02
_CHANNEL_WORDS: Final = frozenset({b"smessage", b"ssubscribe", b"sunsubscribe"})


class ServerAway(LispError):
    """A server that does not answer, or that cannot do what is asked of it now."""


class ServerRefused(LispError):
    """A server's error. `word`: its first word, such as MOVED."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.word, _, self.rest = text.partition(" ")


class Credentials(msgspec.Struct, frozen=True):
    """How to be let in, and how long to wait. `tls`: None for none."""

    user: str | None = None
    password: bytes | None = None
    tls: ssl.SSLContext | None = None
    patience_s: float = SILENT_S
    """How long a server may be silent."""


class Server(msgspec.Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Refusal(Exception):
    """What hiredis makes of an error."""


class Connection(asyncio.Protocol):
    """Open it with `connect`. `on_told` gets what channels say, `on_lost` hears of the end once, with the reason."""

    def __init__(
        self,
        server: Server,
        *,
        on_told: Callable[[Sequence[Any]], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        patience_s: float = SILENT_S,
    ) -> None:
        self.server, self._patience_s = server, patience_s
        self._on_told, self._on_lost = on_told, on_lost
        self._reader = hiredis.Reader(replyError=_Refusal)
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.is_open = False
        self._heard_at, self._is_suspect = 0.0, False

    @classmethod
    async def connect(
        cls,
        server: Server,
        credentials: Credentials,
        *,
        on_told: Callable[[Sequence[Any]], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> Connection:
        """Connect and log in. Raises ServerAway with a sentence."""
        loop = asyncio.get_running_loop()
        one = cls(server, on_told=on_told, on_lost=None, patience_s=credentials.patience_s)
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: one, server.host, server.port, ssl=credentials.tls)
                if credentials.password is not None:
                    user = [credentials.user.encode()] if credentials.user is not None else []
                    await one.call(b"AUTH", *user, credentials.password)
                await one.call(b"PING")
        except ServerRefused as refused:
            one.close()
            raise ServerAway(_why_refused(server, refused)) from None
        except (OSError, TimeoutError, ServerAway, ssl.SSLError) as error:
            one.close()
            raise ServerAway(f"the registry's server {server} cannot be reached: {_reason(error)}") from None
        except BaseException:  # nobody wants it any more
            one.close()
            raise
        one._on_lost = on_lost
        return one

    def call(self, *words: bytes) -> asyncio.Future[Any]:
        """Send a command. The future has the answer, or fails with ServerRefused or ServerAway."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self.is_open:
            future.set_exception(ServerAway(f"the registry's server {self.server} is not connected"))
            return future
        self._waiting.append((self._loop.time(), future))
        self.tell(*words)
        if self._watch is None:
            self._watch = self._loop.call_later(_WATCH_S, self._on_watch)
        return future

    def tell(self, *words: bytes) -> None:
        """Send a command whose answer comes as a message of a channel."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(
            b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
        )

    def close(self) -> None:
        """Close it; what waits fails. Nobody is told."""
        self._on_lost = None
        self._end("closed")

    def _flush(self) -> None:
        octets, self._unsent = b"".join(self._unsent), []
        if self._transport is not None and self.is_open:
            self._transport.write(octets)

    def _on_watch(self) -> None:
        self._watch = None
        if not self._waiting:
            return
        now = self._loop.time()
        if now - max(self._waiting[0][0], self._heard_at) <= self._patience_s:
            self._is_suspect = False
        elif not self._is_suspect:
            # It may be we who were busy: what has come meanwhile is read before the next look
            self._is_suspect = True
        else:
            self._end(f"it answered nothing for {self._patience_s:.0f} s")
            return
        self._watch = self._loop.call_later(_WATCH_S if not self._is_suspect else _SUSPECT_S, self._on_watch)

    def _end(self, why: str) -> None:
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        waiting, self._waiting = self._waiting, deque()
        for _, future in waiting:
            if not future.done():
                future.set_exception(ServerAway(f"the registry's server {self.server} is away: {why}"))
                future.exception()  # it may be that nobody waits for it any more
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.Protocol."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport, self.is_open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio.Protocol."""
        self._end(_reason(exc) if exc is not None else "it closed the connection")

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol."""
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                self._on_answer(answer)
        except hiredis.ProtocolError as error:
            self._end(f"it does not speak the protocol of Redis: {error}")

    def _on_answer(self, answer: Any) -> None:
        if self._on_told is not None and isinstance(answer, list) and answer and answer[0] in _CHANNEL_WORDS:
            self._on_told(answer)
            return
        if not self._waiting:
            if self._on_told is not None and isinstance(answer, _Refusal):
                self._on_told([b"refused", str(answer).encode()])
            return
        _, future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(answer, _Refusal):
            future.set_exception(ServerRefused(str(answer)))
            future.exception()
        else:
            future.set_result(answer)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer for {CONNECT_S:.0f} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _why_refused(server: Server, refused: ServerRefused) -> str:
    if refused.word in ("WRONGPASS", "NOAUTH", "ERR") and ("password" in refused.rest.lower() or refused.word != "ERR"):
        return (
            f"the registry's server {server} does not let us in ({refused.word}): compare user and password-file of "
            "'registry' in hub.conf with the server's"
        )
    return why_unable(server, refused)


def why_unable(server: Server, refused: ServerRefused) -> str:
    """A server's refusal as a sentence."""
    advice = {
        "CLUSTERDOWN": "the cluster has lost a part of its servers; see 'redis-cli cluster info' there",
        "MISCONF": "it cannot write to its disk; is that full?",
        "OOM": "it has no memory left; see its maxmemory",
        "READONLY": "it is a replica; the primary is being replaced",
        "LOADING": "it is still reading its file",
        "MASTERDOWN": "its primary is away",
        "NOREPLICAS": "too few replicas follow it",
        "NOAUTH": "it wants a password; give password-file in 'registry'",
        "NOPERM": "its ACL does not let this user do that",
    }.get(refused.word)
    return f"the registry's server {server} refuses: {advice or refused}"
