"""The servers of a registry through redis-py: one server, or a cluster whose slots the library follows (adapter).

The library connects, logs in, speaks the protocol, and knows which server has which slot. It retries nothing: the
waiting node does that, perhaps at another hub. Its exceptions become sentences here.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lispmob.errors import LispError

SILENT_S: Final = 1.0  # ours: nodes retry after 1, 2 and 4 s, perhaps at another hub
CONNECT_S: Final = 2.0
LANES: Final = 4  # ours: pipelines to one server at once
_CONNECTIONS: Final = 16  # to one server: lanes, the search for slots, and those still closing
_NO_RESP3: Final = 2
_MUCH_LONGER: Final = 2.0


class ServerAway(LispError):
    """A server does not answer, or cannot do the request now."""


class ServerRefused(LispError):
    """A server's error. `word`: its first word, such as MOVED; `place`: the redirection, host and port."""

    def __init__(self, text: str, word: str, place: tuple[str, int] | None = None) -> None:
        super().__init__(text)
        self.word, self.place = word, place


class Credentials(msgspec.Struct, frozen=True):
    """The credentials, and how long to wait."""

    user: str | None = None
    password: bytes | None = None
    tls: bool = False
    tls_ca: Path | None = None
    """The authority of the servers' certificates; None: those that this machine trusts."""
    patience_s: float = SILENT_S
    """How long a server may be silent."""

    def settings(self) -> dict[str, Any]:
        """The arguments for redis-py."""
        found: dict[str, Any] = {
            "username": self.user,
            "password": self.password,
            "socket_timeout": _MUCH_LONGER * self.patience_s,  # `lane.py` looks at the time, and can tell who is slow
            "socket_connect_timeout": CONNECT_S,
            "protocol": _NO_RESP3,
            "driver_info": None,
            "retry": Retry(NoBackoff(), 0, supported_errors=()),
        }
        if self.tls:
            ca = str(self.tls_ca) if self.tls_ca is not None else None
            found |= {"ssl": True, "ssl_ca_certs": ca, "ssl_check_hostname": True}
        return found


class Server(msgspec.Struct, frozen=True):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Words = Sequence[str | bytes]
"""A command and its arguments. The answer has redis-py's type: a dictionary for HGETALL, a set for SMEMBERS."""


class Engine(Protocol):
    """One server or a cluster. `replaces`: a server that dies is replaced by another one."""

    replaces: bool

    @property
    def servers(self) -> list[Server]:
        """All that are known."""

    def owner(self, bucket_key: str) -> Server | None:
        """The server with the slot of a key; None: none."""

    async def find(self, suspect: Server | None) -> None:
        """Find the servers of all slots, asking `suspect` last. Raises ServerAway."""

    async def send(self, server: Server, commands: Sequence[Words]) -> list[Any]:
        """The result of each command: an answer, or ServerRefused. All go in one pipeline. Raises ServerAway."""

    async def on_moved(self, slot: int, server: Server) -> None:
        """A server says that another one has this slot."""

    async def close(self) -> None:
        """Close all connections."""


class SingleServer:
    """Servers without a cluster: one of them has all registrations."""

    replaces = False

    def __init__(self, seeds: tuple[Server, ...], credentials: Credentials) -> None:
        self.servers = list(seeds)
        self._clients = {
            server: Redis(host=server.host, port=server.port, max_connections=_CONNECTIONS, **credentials.settings())
            for server in seeds
        }
        self._first = seeds[0]

    def owner(self, bucket_key: str) -> Server | None:  # noqa: ARG002 - all are there
        """See Engine."""
        return self._first

    async def find(self, suspect: Server | None) -> None:  # noqa: ARG002 - the order is hub.conf's
        """See Engine: the first that answers, in the order of hub.conf."""
        problem: ServerAway | None = None
        for server in self.servers:
            try:
                await self.send(server, [("PING",)])
            except ServerAway as error:
                problem = problem or error
            else:
                self._first = server
                return
        if problem is not None:
            raise problem

    async def send(self, server: Server, commands: Sequence[Words]) -> list[Any]:
        """See Engine."""
        try:
            async with self._clients[server].pipeline(transaction=False) as pipeline:
                for words in commands:
                    pipeline.execute_command(*words)
                answers = await pipeline.execute(raise_on_error=False)
        except (exceptions.RedisError, OSError) as error:
            raise _away(server, error) from None
        return _sorted(server, answers)

    async def on_moved(self, slot: int, server: Server) -> None:
        """See Engine: no server can redirect us."""

    async def close(self) -> None:
        """See Engine."""
        for client in self._clients.values():
            await client.aclose()


class Cluster:
    """A cluster. Redirections of single slots are followed one by one, all slots with `find`."""

    replaces = True

    def __init__(self, seeds: tuple[Server, ...], credentials: Credentials) -> None:
        self._seeds = [(server.host, server.port) for server in seeds]
        self._client = RedisCluster(
            startup_nodes=[ClusterNode(*place) for place in self._seeds],
            require_full_coverage=False,
            reinitialize_steps=0,
            max_connections=_CONNECTIONS,
            **credentials.settings(),
        )

    @property
    def servers(self) -> list[Server]:
        """See Engine."""
        return [Server(node.host, int(node.port)) for node in self._client.get_nodes()]

    def owner(self, bucket_key: str) -> Server | None:
        """See Engine."""
        try:
            node = self._client.get_node_from_key(bucket_key)
        except exceptions.SlotNotCoveredError:
            return None
        return Server(node.host, int(node.port)) if node is not None else None

    async def find(self, suspect: Server | None) -> None:
        """See Engine."""
        name = f"{suspect.host}:{suspect.port}" if suspect is not None else None
        try:
            await self._client.initialize()
            await self._client.nodes_manager.initialize(self._seeds, name)
        except (exceptions.RedisError, OSError, IndexError) as error:
            raise ServerAway(f"the servers of the registry do not say who has what: {error}") from None

    async def send(self, server: Server, commands: Sequence[Words]) -> list[Any]:
        """See Engine."""
        pipeline, node = self._client.pipeline(), self._node(server)
        for words in commands:
            pipeline.execute_command(*words, target_nodes=node)
        try:
            answers = await pipeline.execute(raise_on_error=False, allow_redirections=False)
        except (exceptions.RedisError, OSError) as error:
            raise _away(server, error) from None
        return _sorted(server, answers)

    async def on_moved(self, slot: int, server: Server) -> None:
        """See Engine."""
        moved = exceptions.MovedError(f"{slot} {server.host}:{server.port}")
        if slot in self._client.nodes_manager.slots_cache:
            await self._client.nodes_manager.move_slot(moved)

    async def close(self) -> None:
        """See Engine."""
        await self._client.aclose()

    def _node(self, server: Server) -> ClusterNode:
        """The library's node; one that only a redirection has named is new to it."""
        node = self._client.get_node(server.host, server.port)
        if node is None:
            settings: dict[str, Any] = self._client.get_connection_kwargs()
            node = ClusterNode(server.host, server.port, **settings)
            self._client.nodes_manager.set_nodes(self._client.nodes_manager.nodes_cache, {node.name: node})
        return node


async def engine_of(seeds: tuple[Server, ...], credentials: Credentials) -> Engine:
    """The kind of the servers, from the first that answers. Raises ServerAway with the first server's problem."""
    single = SingleServer(seeds, credentials)
    asking = [asyncio.create_task(single.send(server, [("INFO", "cluster")])) for server in seeds]
    problems: list[ServerAway] = []
    is_single = False
    try:
        for server, task in zip(seeds, asking, strict=True):
            try:
                (told,) = await task
            except ServerAway as error:
                problems.append(error)
                continue
            if isinstance(told, ServerRefused):
                problems.append(ServerAway(why_unable(server, told)))
                continue
            is_single = not told["cluster_enabled"]
            return single if is_single else Cluster(seeds, credentials)
        raise problems[0]
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        if not is_single:
            await single.close()


class Listener:
    """The publications of one server, on a separate connection."""

    def __init__(self, server: Server, credentials: Credentials) -> None:
        self.server = server
        self._client = Redis(host=server.host, port=server.port, **credentials.settings())
        self._pubsub = self._client.pubsub()
        self._writing = asyncio.Lock()  # what is written to must not be closed meanwhile
        self._is_closed = False

    async def open(self) -> None:
        """Connect. Raises ServerAway."""
        try:
            await self._pubsub.connect()  # type: ignore[no-untyped-call]
        except (exceptions.RedisError, OSError) as error:
            raise _away(self.server, error) from None

    async def subscribe(self, channel: bytes) -> None:
        """Ask for a channel; that it is heard comes as a message. Raises ServerAway."""
        async with self._writing:
            if self._is_closed:
                raise ServerAway(f"the registry's server {self.server} is not heard any more")
            try:
                await self._pubsub.ssubscribe(channel)
            except (exceptions.RedisError, OSError) as error:
                raise _away(self.server, error) from None

    async def next(self) -> tuple[str, bytes, Any]:
        """Kind, channel and contents of the next message. Raises ServerAway, ServerRefused."""
        while True:
            try:
                message = await self._pubsub.get_message(timeout=None)
            except exceptions.ResponseError as error:
                raise _refused(error) from None
            except (exceptions.RedisError, OSError) as error:
                raise _away(self.server, error) from None
            if message is not None:
                return message["type"], message["channel"], message["data"]

    async def close(self) -> None:
        """Hear no more."""
        async with self._writing:
            self._is_closed = True
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
            await self._client.aclose()


def _sorted(server: Server, answers: list[Any]) -> list[Any]:
    """Answers and refusals. Raises ServerAway if the connection ended among them."""
    found = []
    for answer in answers:
        if isinstance(answer, exceptions.ResponseError | exceptions.BusyLoadingError):
            found.append(_refused(answer))
        elif isinstance(answer, exceptions.RedisError | OSError):
            raise _away(server, answer)
        else:
            found.append(answer)
    return found


def _refused(error: exceptions.RedisError) -> ServerRefused:
    text = str(error)
    place = (error.host, int(error.port)) if isinstance(error, exceptions.AskError) else None
    return ServerRefused(text, error.status_code or text.partition(" ")[0], place)


def _away(server: Server, error: Exception) -> ServerAway:
    if isinstance(error, exceptions.AuthenticationError):
        return ServerAway(
            f"the registry's server {server} does not let us in ({error}): compare user and password-file of "
            "'registry' in hub.conf with the server's"
        )
    if isinstance(error, exceptions.ResponseError | exceptions.BusyLoadingError):
        return ServerAway(why_unable(server, _refused(error)))
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return ServerAway(f"the registry's server {server} does not answer")
    return ServerAway(f"the registry's server {server} cannot be reached: {_reason(error)}")


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror if isinstance(cause, ssl.SSLError) or not cause.errno else os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def why_unable(server: Server, refused: ServerRefused) -> str:
    """A server's refusal as a sentence."""
    advice = {
        "CLUSTERDOWN": "the cluster has lost a part of its servers; see 'redis-cli cluster info' there",
        "MISCONF": "it cannot write to its disk; is that full?",
        "OOM": "it has no memory left; see its maxmemory",
        "BUSY": "a script keeps it busy; see 'redis-cli slowlog get' there",
        "READONLY": "it is a replica; the primary is being replaced",
        "LOADING": "it is still reading its file",
        "MASTERDOWN": "its primary is away",
        "NOREPLICAS": "too few replicas follow it",
        "NOAUTH": "it wants a password; compare password-file in 'registry'",
        "NOPERM": "its ACL does not let this user do that",
    }.get(refused.word)
    return f"the registry's server {server} refuses: {advice or refused}"
