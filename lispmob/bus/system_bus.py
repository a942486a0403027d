"""The system's D-Bus: one connection, made again when it is lost, shared by all that listen or serve on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from lispmob.bus.connection import BusClient, BusError, BusServer, Connection, libraries

DEFAULT_ADDRESS: Final = "unix:path=/run/dbus/system_bus_socket"  # D-Bus specification, "System message bus"

_PROBE_S: Final = 5.0  # ours: a socket on the same machine answers at once, or its queue is full
_RETRY_FIRST_S: Final = 0.5  # ours: a bus that is restarted is back by then
_RETRY_LAST_S: Final = 60.0  # ours: a machine without a bus is asked once a minute, which costs no battery

log = logging.getLogger(__name__)


def system_bus_address() -> str:
    """The address of the system bus."""
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or DEFAULT_ADDRESS


class SystemBus:
    """Keeps a connection for those that listen and the one that serves; a missing bus is no error."""

    def __init__(
        self,
        clients: Sequence[BusClient],
        server: BusServer | None = None,
        *,
        address: str | None = None,
        library: str | None = None,
    ) -> None:
        self._clients = (*clients, server) if server is not None else tuple(clients)
        self._server = server
        self._address = address or system_bus_address()
        self._library = library or next(iter(libraries()), "")
        self._task: asyncio.Task[None] | None = None
        self._has_complained = False
        self.is_connected = False

    async def start(self) -> None:
        """Begin; returns at once, and whether there is a bus shows later."""
        if not self._library:
            log.info("no D-Bus library is installed: NetworkManager is not listened to")
            return
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Close the connection. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep(self) -> None:
        pause_s = _RETRY_FIRST_S
        while True:
            try:
                await _probe(self._address)
                connection = Connection(self._library, self._address, self._clients, self._server)
                await connection.open()
            except (BusError, OSError) as error:
                self._complain(error)
            else:
                self._has_complained, pause_s = False, _RETRY_FIRST_S
                await self._live(connection)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_LAST_S)

    async def _live(self, connection: Connection) -> None:
        """One connection from its beginning to its end."""
        self.is_connected = True
        greetings = [asyncio.create_task(_greet(client, connection)) for client in self._clients]
        try:
            await connection.until_lost()
            log.info("the system bus is gone; trying again")
        finally:
            self.is_connected = False
            for greeting in greetings:
                greeting.cancel()
            await asyncio.gather(*greetings, return_exceptions=True)
            await connection.close()
            for client in self._clients:
                client.on_bus_lost()

    def _complain(self, error: Exception) -> None:
        """Once for each time that it is missing: many machines have no bus and need none."""
        if not self._has_complained:
            self._has_complained = True
            log.info("no system bus at %s (%s): going by netlink alone", self._address, error)


async def _greet(client: BusClient, connection: Connection) -> None:
    try:
        await client.on_bus(connection)
    except BusError as error:
        log.warning("D-Bus: %s: %s", type(client).__name__, error)


async def _probe(address: str) -> None:
    """Raise OSError when no bus listens: dbus-next would leak the socket of a connection that failed, and block."""
    transport, _, options = address.partition(";")[0].partition(":")
    values = dict(option.split("=", 1) for option in options.split(",") if "=" in option)
    name = unquote(values["path"]) if "path" in values else "\0" + unquote(values.get("abstract", ""))
    if transport != "unix":
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, name), _PROBE_S)
