"""The hub's control socket, for `lisphub status` and other subcommands.

A request is one line of JSON, and so is the answer: {"ask": "status"} (`operator.py` has the others). The socket
belongs to the hub's user and group; others have no access.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from lispmob.api.listen import SocketRefusedError, file_identity, listen_at, remove_socket
from lispmob.hub.asking import PATIENCE_S, REQUEST_LIMIT, Answer

log = logging.getLogger(__name__)


Answerer = Callable[[Answer], Awaitable[Answer | bytes]]
"""An answer of octets is JSON already."""


class HubSocket:
    """Listens at a path; `answer` gets the requests."""

    def __init__(self, path: Path, answer: Answerer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._identity = (0, 0)

    async def start(self) -> None:
        """Listen. On failure the hub works without it, and reports that."""
        try:
            listener = listen_at(self._path, mode=0o660, program="lisphub", setting="control-socket")
        except SocketRefusedError as refused:
            log.warning("no control socket, so lisphub status, invite and other commands do not work: %s", refused)
            return
        self._identity = file_identity(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=REQUEST_LIMIT)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
            remove_socket(self._path, self._identity)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), PATIENCE_S)
            asked = json.loads(line)
            answer = await self._answer(asked if isinstance(asked, dict) else {})
            writer.write((answer if isinstance(answer, bytes) else json.dumps(answer).encode()) + b"\n")
            await asyncio.wait_for(writer.drain(), PATIENCE_S)
        except (OSError, ValueError, RecursionError, TimeoutError) as error:
            log.debug("control socket: %s", error)
        finally:
            writer.close()
