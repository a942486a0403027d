"""What goes over the connection: values for programs, lines for the socket. Neither sockets nor a clock in here."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from collections.abc import Mapping as Fields
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from lispmob.errors import LispError

DEFAULT_SOCKET: Final = "/run/lispmob/lispd.sock"
VERSION: Final = 1  # of the control socket (api/schema.py); a test keeps the two equal
QUEUE_MAX: Final = 4096  # ours: events that a program has not taken yet; those beyond are counted, not kept


class MappingError(LispError):
    """lispd says no. `errno`: "EEXIST", "ESRCH", "EINVAL", "ENOBUFS" or None; `code`: as in api/schema.py."""

    def __init__(self, code: str, message: str, errno: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.errno = errno


class NoDaemon(LispError):
    """lispd does not run, or has ended."""


@dataclass(frozen=True, slots=True)
class Locator:
    """An RLOC: the lowest priority is used, 255 never; weights share among equal priorities.

    `is_local`: an address of this node.
    """

    address: str
    priority: int = 1
    weight: int = 100
    is_reachable: bool = True
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """An entry of the "cache", or of the "database": one of our own. See Mapping in api/mapping/schema.py."""

    prefix: str
    locators: tuple[Locator, ...] = ()
    table: str = "cache"
    source: str = ""
    action: str = ""
    expires_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: MappingEvent in api/mapping/schema.py, and "entry" for what a dump shows.

    `type` is "miss", "badreach", "reach", "add", "change", "delete", "lost" or "entry".
    """

    type: str
    at: str | None = None
    mapping: Mapping | None = None
    eid: str = ""
    instance_id: int = 0
    source_eid: str | None = None
    rloc: str = ""
    why: str | None = None
    tries: int = 0
    count: int = 0
    pid: int = 0
    request: int | None = None

    @property
    def prefix(self) -> str:
        """The EID-Prefix that this is about, its Instance-ID in brackets."""
        if self.mapping is not None:
            return self.mapping.prefix
        return f"[{self.instance_id}]{self.eid}" if self.instance_id else self.eid


class Reply:
    """The answer to one request."""

    def __init__(self, request: int | None, result: Any, error: MappingError | None) -> None:
        self.request = request
        self._result = result
        self._error = error

    def result(self) -> Any:
        """What was asked for. Raises MappingError."""
        if self._error is not None:
            raise self._error
        return self._result


class Session:
    """Numbers requests and reads lines."""

    def __init__(self) -> None:
        self._next = 1

    def request(self, method: str, **params: object) -> tuple[int, bytes]:
        """A request, and its number."""
        number, self._next = self._next, self._next + 1
        fields = {"v": VERSION, "id": number, "method": method, "params": params}
        return number, json.dumps(fields).encode() + b"\n"

    def read(self, line: bytes) -> Event | Reply:
        """What a line says. Raises MappingError for one that is none of ours."""
        try:
            fields = json.loads(line)
            if "mapping" in fields:
                return event_of(fields["mapping"])
            if (failure := fields.get("error")) is not None:
                error = MappingError(str(failure["code"]), str(failure["message"]), failure.get("errno"))
                return Reply(fields.get("id"), None, error)
            return Reply(fields.get("id"), fields["result"], None)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise MappingError("protocol", "lispd sent something that is no reply; is it another version?") from None


class Queue:
    """Events that wait to be taken; when there are too many, the later ones are lost, and a "lost" says how many."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._lost = 0

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._lost > 0

    def put(self, event: Event) -> None:
        """Keep it, if there is room."""
        if self._lost or len(self._waiting) >= QUEUE_MAX:
            self._lost += event.count if event.type == "lost" else 1
        else:
            self._waiting.append(event)

    def take(self) -> Event:
        """The next one. IndexError when there is none."""
        if not self._waiting and self._lost:
            lost, self._lost = self._lost, 0
            return Event("lost", count=lost)
        return self._waiting.popleft()


def event_of(fields: Fields[str, Any]) -> Event:
    """An event as a value; fields that are not known are left out."""
    known = {name: fields[name] for name in Event.__slots__ if name in fields and name != "mapping"}
    mapping = fields.get("mapping")
    return Event(**known, mapping=None if mapping is None else mapping_of(mapping))


def mapping_of(fields: Fields[str, Any]) -> Mapping:
    """A mapping as a value."""
    locators = tuple(
        Locator(
            field["address"],
            field["priority"],
            field["weight"],
            field.get("is_reachable", True),
            field.get("is_local", False),
        )
        for field in fields["locators"]
    )
    return Mapping(
        fields["prefix"], locators, fields["table"], fields["source"], fields["action"], fields.get("expires_in_s")
    )


class Terms(TypedDict, total=False):
    """On what terms a mapping is added or changed; what is left out is as said here.

    `action` ("drop"): the treatment of its packets without locators, "drop" or "native". `table` ("cache"): that, or
    "database", our own. `is_static` (False): it stays until it is deleted; others give way when they are unused.
    `ttl_s` (None, no end): there is a "miss" for it again when this is nearly over.
    """

    action: str
    table: str
    is_static: bool
    ttl_s: float | None


def put_params(prefix: str, locators: Iterable[Locator], terms: Terms, *, replaces: bool = False) -> dict[str, object]:
    """The parameters of mapping-add and mapping-change. Raises TypeError for a term that there is not."""
    if unknown := terms.keys() - Terms.__annotations__.keys():
        raise TypeError(f"no such term: {', '.join(sorted(unknown))}")
    rlocs = [
        {
            "address": locator.address,
            "priority": locator.priority,
            "weight": locator.weight,
            "is_reachable": locator.is_reachable,
        }
        for locator in locators
    ]
    return {
        "prefix": prefix,
        "locators": rlocs,
        "action": terms.get("action", "drop"),
        "table": terms.get("table", "cache"),
        "is_static": terms.get("is_static", False),
        "ttl_s": terms.get("ttl_s"),
        "replaces": replaces,
    }
