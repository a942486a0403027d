"""The client of the hub's control socket. Only the standard library, because `lisphub status` has to start fast."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

from lispmob.errors import LispError, NotRunning

VALID_S: Final = (60.0, 366 * 86400.0)  # ours: how long an invitation may be valid
REQUEST_LIMIT: Final = 4096  # ours: octets; a request is a command and a name
ANSWER_LIMIT: Final = 256 << 20  # two million registrations
LOG: Final = "sudo journalctl -u lisphub -n 20"
PATIENCE_S: Final = 30.0  # a reload reads a file and signs nothing: it takes far less

Answer = dict[str, Any]


class MayNotAsk(LispError):
    """This user may not use the socket."""


def ask(path: Path, what: str, **more: object) -> Answer:
    """Send a request to the running hub; `more` has its parameters.

    Raises NotRunning if there is none, and LispError for a refusal.
    """
    request = json.dumps({"ask": what, **more}).encode() + b"\n"
    if len(request) > REQUEST_LIMIT:
        raise LispError(f"lisphub takes no request of {len(request)} octets: {REQUEST_LIMIT} at most")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(
                f"lisphub is not running (no process listens on {path}); start it with: systemctl start lisphub"
            ) from None
        except PermissionError:
            raise MayNotAsk(
                f"{path}: permission denied: only root and the members of the hub's group may ask it; try sudo"
            ) from None
        except OSError as error:
            raise LispError(f"{path}: {error.strerror}") from None
        try:
            client.sendall(request)
            octets = bytearray()
            while not octets.endswith(b"\n") and len(octets) < ANSWER_LIMIT:
                if not (piece := client.recv(65536)):
                    break
                octets += piece
            if not octets:
                raise LispError(f"{path}: lisphub ended the connection without an answer; why: {LOG}")
            answer = json.loads(octets)
        except (OSError, ValueError) as error:
            raise LispError(f"{path}: no answer from lisphub: {error}") from None
    if not isinstance(answer, dict):
        raise LispError(f"{path}: what answers is no lisphub")
    return answer
