"""The hub's control socket: `lisphub status` and its like ask the running hub, and not its files.

One line of JSON asks, one line answers: {"ask": "status"} (`operator.py` knows the others). The socket belongs to the
hub's user and group; nobody else gets in.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from lispmob.api.listen import SocketRefusedError, file_identity, listen_at, remove_socket
from lispmob.errors import LispError, NotRunning

LINE_LIMIT: Final = 4096
ANSWER_LIMIT: Final = 256 << 20  # two million registrations
PATIENCE_S: Final = 30.0  # a reload reads a file and signs nothing: far below that

log = logging.getLogger(__name__)

Answer = dict[str, Any]


class MayNotAsk(LispError):
    """The socket is for others."""


Answerer = Callable[[Answer], Awaitable[Answer | bytes]]
"""An answer as octets is JSON already."""


class HubSocket:
    """Listens at a path; `answer` is given what was asked for."""

    def __init__(self, path: Path, answer: Answerer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._identity = (0, 0)

    async def start(self) -> None:
        """Listen. A hub that cannot works all the same, and says so."""
        try:
            listener = listen_at(self._path, mode=0o660, program="lisphub", setting="control-socket")
        except SocketRefusedError as refused:
            log.warning("no control socket, so lisphub status, invite and the others cannot ask: %s", refused)
            return
        self._identity = file_identity(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=LINE_LIMIT)

    async def stop(self) -> None:
        """Listen no more."""
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


def ask(path: Path, what: str, **more: object) -> Answer:
    """Ask the running hub; `more` is what the question needs beside its name.

    Raises NotRunning when there is none, and LispError for what it cannot answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(
                f"lisphub is not running (nobody listens on {path}); start it with: systemctl start lisphub"
            ) from None
        except PermissionError:
            raise MayNotAsk(
                f"{path}: permission denied: only root and the members of the hub's group may ask it; try sudo"
            ) from None
        except OSError as error:
            raise LispError(f"{path}: {error.strerror}") from None
        try:
            client.sendall(json.dumps({"ask": what, **more}).encode() + b"\n")
            octets = bytearray()
            while not octets.endswith(b"\n") and len(octets) < ANSWER_LIMIT:
                if not (piece := client.recv(65536)):
                    break
                octets += piece
            answer = json.loads(octets)
        except (OSError, ValueError) as error:
            raise LispError(f"{path}: no answer from lisphub: {error}") from None
    if not isinstance(answer, dict):
        raise LispError(f"{path}: what answers is no lisphub")
    return answer
