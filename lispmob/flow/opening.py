"""How a program asks for a flow or for a name, and what an open flow is known by: once, for `client` and for `aio`."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

from lispmob.flow import packets
from lispmob.flow.auth import IpAddress
from lispmob.flow.caller import FLOW_PORT, Ask
from lispmob.flow.direct import literal_eid
from lispmob.flow.quality import Quality

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])
Params: TypeAlias = dict[str, Any]


class Allocation(NamedTuple):
    """What `allocate` was given. `timeout_s` is told lispd, too."""

    path: Path
    port: int
    timeout_s: float
    params: Params
    ask: Ask
    eid: IpAddress | None
    """Whom to call without lispd; None: that takes lispd."""


class Registering(NamedTuple):
    """What `register` was given."""

    path: Path
    name: str
    params: Params


class OpenFlow:
    """What an open flow is known by. `socket` is a connected UDP socket between two EIDs; `peer` the other one.

    `qos` is what was granted, `max_datagram` the octets that a datagram may have.
    """

    def __init__(self, fields: Params, connected: socket.socket) -> None:
        self.socket = connected
        self.number = int(fields["flow"])
        self.name = str(fields["name"])
        self.peer = str(fields["peer"])
        self.qos = packets.quality_from_json(fields.get("qos") or None)
        self.max_datagram = int(fields.get("max_datagram", 0))


def asked_with(make: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """For a function of one value: its arguments, and what they mean, are those of `make`."""

    def around(do: Callable[[T], R]) -> Callable[P, R]:
        @wraps(make)
        def function(*args: P.args, **kwargs: P.kwargs) -> R:
            return do(make(*args, **kwargs))

        return _shown(function, make, do)

    return around


def awaited_with(
    make: Callable[P, T],
) -> Callable[[Callable[[T], Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
    """The same for a coroutine function."""

    def around(do: Callable[[T], Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        @wraps(make)
        async def function(*args: P.args, **kwargs: P.kwargs) -> R:
            return await do(make(*args, **kwargs))

        return _shown(function, make, do)

    return around


def _shown(function: F, make: Callable[..., object], do: Callable[..., object]) -> F:
    """With the signature that `help` is to show: what `make` takes, and what `do` returns."""
    result = inspect.signature(do).return_annotation
    vars(function)["__signature__"] = inspect.signature(make).replace(return_annotation=result)
    return function


def allocate(
    name: str,
    *,
    qos: Quality | None = None,
    via: Sequence[str] = (),
    timeout: float = 10.0,
    lifetime: int = 600,
    caller: str = "",
    protocol: int = 1,
    path: Path = packets.DEFAULT_SOCKET,
    port: int = FLOW_PORT,
) -> Allocation:
    """A flow to whoever holds `name`, for example `backup.nas` or `backup@10.99.0.2`.

    `qos` is a wish, `via` names uplinks (root and the control group), `timeout` and `lifetime` are seconds, 0 for a
    lifetime without limit. Raises FlowError: NameNotFound, Refused, TimedOut, NoFlowDaemon, NotAllowed, Busy.

    Without lispd `NAME@EID` is called all the same, at `port`, and other names are not found. With asyncio,
    cancelling takes the call back.
    """
    params = {
        "name": name,
        "qos": None if qos is None else packets.quality_to_json(qos),
        "via": list(via),
        "timeout_s": timeout,
        "lifetime_s": lifetime,
        "caller": caller,
        "protocol": protocol,
    }
    place = None if via else literal_eid(name)
    full, eid = place if place is not None else (name, None)
    ask = Ask(full, qos or Quality(), caller, timeout, lifetime, is_legacy=protocol == 0)
    return Allocation(path, port, timeout, params, ask, eid)


def register(
    name: str, *, backlog: int = 16, replace: bool = False, path: Path = packets.DEFAULT_SOCKET
) -> Registering:
    """Hold `name` on this host. Raises NoFlowDaemon, NotAllowed, FlowError (somebody holds it already).

    `replace`: take it from whoever holds it (root and the control group).
    """
    return Registering(path, name, {"name": name, "backlog": backlog, "replace": replace})
