"""The arguments of `allocate` and `register`, and the properties of an open flow; `client` and `aio` share them."""

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
    """The arguments of `allocate`. lispd gets `timeout_s`, too."""

    path: Path
    port: int
    timeout_s: float
    params: Params
    ask: Ask
    eid: IpAddress | None
    """The EID to call without lispd; None: not possible without lispd."""


class Registering(NamedTuple):
    """The arguments of `register`."""

    path: Path
    name: str
    params: Params


class OpenFlow:
    """The properties of an open flow. `socket` is a connected UDP socket between two EIDs; `peer` is the remote EID.

    `qos` is the granted quality, `max_datagram` the most octets of a datagram.
    """

    def __init__(self, fields: Params, connected: socket.socket) -> None:
        self.socket = connected
        self.number = int(fields["flow"])
        self.name = str(fields["name"])
        self.peer = str(fields["peer"])
        self.qos = packets.quality_from_json(fields.get("qos") or None)
        self.max_datagram = int(fields.get("max_datagram", 0))


def asked_with(make: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Give a function of one value the arguments of `make`, which builds the value from them."""

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
    """Set the signature that `help` shows: the arguments of `make`, and the result of `do`."""
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
    """Open a flow to the holder of `name`, for example `backup.nas` or `backup@10.99.0.2`.

    `qos` is a wish, `via` names uplinks (root and the control group), `timeout` and `lifetime` are seconds, 0 for a
    lifetime without limit. Raises FlowError: NameNotFound, Refused, TimedOut, NoFlowDaemon, NotAllowed, Busy.

    Without lispd only `NAME@EID` can be called, at `port`. With asyncio, cancelling the task cancels the call.
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
    """Hold `name` on this host. Raises NoFlowDaemon, NotAllowed, FlowError (another program holds it).

    `replace`: take it from the program that holds it (root and the control group).
    """
    return Registering(path, name, {"name": name, "backlog": backlog, "replace": replace})
