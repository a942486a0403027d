"""The client of the control socket, blocking and on the standard library alone: `lispctl` has to start in no time."""

from __future__ import annotations

import codecs
import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from lispmob.closing import Closing
from lispmob.errors import LispError, NotRunning

API_VERSION: Final = 1  # as in schema.py, which costs 20 ms to import; a test keeps the two equal
DEFAULT_SOCKET: Final = "/run/lispmob/lispd.sock"
TIMEOUT_S: Final = 10.0  # ours: the daemon answers in milliseconds, and a reload may take seconds
PATIENT_S: Final = 120.0  # ours: to flush a million mappings, beside the daemon's other work
_ENTRIES: Final = b'"result":{"entries":['
_CHUNK: Final = 1 << 16
Json: TypeAlias = Any  # whatever json.loads gives: the schema is in schema.py


class ReplyError(LispError):
    """The daemon answered, and the answer is no. `code` is one of schema.ErrorCode, or "protocol".

    `errno`: "EEXIST" and the like, for changes of mappings.
    """

    def __init__(self, code: str, message: str, errno: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.errno = errno


class Entries(NamedTuple):  # no dataclass: importing that module costs a fifth of the start
    """Entries as they arrive, and the other fields of the result, which are complete after the last entry."""

    entries: Iterator[Json]
    rest: Mapping[str, Json]


class Client(Closing):
    """One connection; a context manager. Raises NotRunning without a daemon, ReplyError for later failures."""

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
                f"lispd is not running (no process listens on {path}); start it with: systemctl start lispd"
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

    def allow_slow_answers(self) -> None:
        """Wait longer for answers from now on: the next request may concern very many mappings."""
        self._socket.settimeout(PATIENT_S)

    def call(self, method: str, **params: object) -> Json:
        """The result of one method. Raises ReplyError."""
        number = self._request(method, params)
        return self._result(number, self._read_line())

    def stream(self, method: str, **params: object) -> Entries:
        """A result with many `entries`, yielded while others are in transit. Raises ReplyError."""
        number = self._request(method, params)
        try:
            head = self._reader.peek(len(_ENTRIES) + 64)
        except OSError:
            head = b""  # the ordinary way of reading says what it is
        if not head.startswith(b'{"v":') or _ENTRIES not in head:  # an error, or another lispd's way of writing it
            result = self._result(number, self._read_line())
            return Entries(iter(result["entries"]), {key: each for key, each in result.items() if key != "entries"})
        rest: dict[str, Json] = {}
        return Entries(self._entries(rest), rest)

    def _entries(self, rest: dict[str, Json]) -> Iterator[Json]:
        """The entries of one reply as they arrive; the fields after them go into `rest`."""
        decoder, utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")()
        text, at = self._chunk(utf8), 0
        at = text.index(_ENTRIES.decode()) + len(_ENTRIES)
        while True:
            at += text.startswith(",", at)
            if text.startswith("]", at):
                break
            try:
                entry, at = decoder.raw_decode(text, at)
            except ValueError:
                text, at = text[at:] + self._chunk(utf8), 0
                continue
            yield entry
        while not text.endswith("\n"):
            text, at = text[at:] + self._chunk(utf8), 0
        rest.update(json.loads('{"entries":[' + text[at:].rstrip("\n")[:-1]))
        del rest["entries"]

    def _chunk(self, utf8: codecs.IncrementalDecoder) -> str:
        try:
            octets = self._reader.read1(_CHUNK)
        except TimeoutError:
            raise ReplyError("protocol", "the daemon does not answer; see its log: journalctl -u lispd") from None
        except ConnectionResetError:
            octets = b""
        if not octets:
            raise ReplyError("protocol", "the daemon closed the connection")
        return utf8.decode(octets)

    def _request(self, method: str, params: dict[str, object]) -> int:
        number, self._next_id = self._next_id, self._next_id + 1
        request = {"v": API_VERSION, "id": number, "method": method, "params": params}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # sent away: the reason may be waiting to be read
        except OSError as error:
            raise ReplyError("protocol", f"the daemon does not take the request: {error}") from None
        return number

    def _result(self, number: int, reply: dict[str, Json] | None) -> Json:
        if reply is None:
            raise ReplyError("protocol", "the daemon closed the connection")
        if "error" in reply:
            failure = reply["error"]
            raise ReplyError(str(failure.get("code")), str(failure.get("message")), failure.get("errno"))
        if reply.get("id") != number:
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
            raise ReplyError("protocol", "the daemon does not answer; see its log: journalctl -u lispd") from None
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
