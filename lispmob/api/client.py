"""The client of the control socket, blocking and on the standard library alone: `lispctl` has to start in no time."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from lispmob.closing import Closing
from lispmob.errors import LispError, NotRunning

API_VERSION: Final = 1  # as in schema.py, which costs 20 ms to import; a test keeps the two equal
DEFAULT_SOCKET: Final = "/run/lispmob/lispd.sock"
TIMEOUT_S: Final = 10.0  # ours: the daemon answers in milliseconds, and a reload may take seconds
Json: TypeAlias = Any  # whatever json.loads gives: the schema is in schema.py


class ReplyError(LispError):
    """The daemon answered, and the answer is no. `code` is one of schema.ErrorCode, or "protocol".

    `errno`: "EEXIST" and the like, for changes of mappings.
    """

    def __init__(self, code: str, message: str, errno: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.errno = errno


class Client(Closing):
    """One connection; a context manager. Raises NotRunning when nobody listens, ReplyError for whatever fails later."""

    def __init__(self, path: str = DEFAULT_SOCKET, *, timeout_s: float | None = TIMEOUT_S) -> None:
        self._next_id = 1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            self._socket.close()
            if _is_no_socket(path):
                raise ReplyError("protocol", f"{path} is no socket; lispd's is {DEFAULT_SOCKET}") from None
            raise NotRunning(
                f"lispd is not running (nobody listens on {path}); start it with: systemctl start lispd"
            ) from None
        except PermissionError:
            self._socket.close()
            why = f"{path}: permission denied; its mode, or that of a directory above it, forbids it"
            raise ReplyError("denied", f"you may not talk to lispd: {why}") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            self._socket.close()
            raise ReplyError("protocol", f"{path!r}: {getattr(error, 'strerror', None) or error}") from None
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._reader.close()
        self._socket.close()

    def call(self, method: str, **params: object) -> Json:
        """The result of one method. Raises ReplyError."""
        request = {"v": API_VERSION, "id": self._next_id, "method": method, "params": params}
        self._next_id += 1
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # sent away: the reason may be waiting to be read
        except OSError as error:
            raise ReplyError("protocol", f"the daemon does not take the request: {error}") from None
        reply = self._read_line()
        if reply is None:
            raise ReplyError("protocol", "the daemon closed the connection")
        if "error" in reply:
            failure = reply["error"]
            raise ReplyError(str(failure.get("code")), str(failure.get("message")), failure.get("errno"))
        if reply.get("id") != request["id"]:
            raise ReplyError("protocol", "the daemon answered something else; is it another version?")
        return reply.get("result")

    def follow(self, *kinds: str, recent: int = 0) -> Iterator[Json]:
        """Events as they happen, after up to `recent` past ones; ends when the daemon does."""
        past = self.call("events", kinds=kinds, follow=True, recent=recent)
        yield from past["events"]
        self._socket.settimeout(None)
        while (line := self._read_line()) is not None:
            if "event" in line:
                yield line["event"]

    def follow_mappings(self, *kinds: str, dump: bool = False, echo: bool = True) -> Iterator[Json]:
        """What happens to mappings; ends when the daemon does. `dump`: each that there is comes first, as "entry"."""
        started = self.call("mapping-events", kinds=kinds, dump=dump, echo=echo)
        for entry in started.get("entries", ()):
            yield {"type": "entry", "at": None, "mapping": entry}
        self._socket.settimeout(None)
        while (line := self._read_line()) is not None:
            if "mapping" in line:
                yield line["mapping"]

    def _read_line(self) -> dict[str, Json] | None:
        try:
            line = self._reader.readline()
        except TimeoutError:
            raise ReplyError("protocol", "the daemon does not answer; its log may say why") from None
        except ConnectionResetError:
            return None
        if not line.endswith(b"\n"):
            return None
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ReplyError("protocol", "the daemon sent something that is no reply; is it another version?")
        return value


def _is_no_socket(path: str) -> bool:
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
