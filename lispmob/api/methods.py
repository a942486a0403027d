"""The methods of the control socket: decode parameters, call the Backend, hand back what is to be encoded."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable
from ipaddress import ip_address
from typing import Any, Final

import msgspec

from lispmob.api.backend import ApiError, Backend, StaticLocator
from lispmob.api.method import Method
from lispmob.api.schema import (
    Changed,
    Lookup,
    LookupParams,
    MapCacheAddParams,
    NoParams,
    Nudged,
    PrefixParams,
    Request,
    Version,
)
from lispmob.api.steering_methods import STEERING_METHODS
from lispmob.errors import ConfigError
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc

MAX_INSTANCE_ID: Final = (1 << 24) - 1  # RFC 9300: what a data header can carry


async def _reload(backend: Backend) -> Any:
    try:
        return await backend.reload()
    except ConfigError as error:
        raise ApiError("refused", str(error)) from None


def _lookup(backend: Backend, params: LookupParams) -> Lookup:
    if not 0 <= params.instance_id <= MAX_INSTANCE_ID:
        raise ApiError("params", f"instance_id: {params.instance_id} is not 0 to {MAX_INSTANCE_ID}")
    return backend.lookup(_read_address("eid", params.eid), params.instance_id)


def _add(backend: Backend, params: MapCacheAddParams) -> Changed:
    locators = []
    for index, locator in enumerate(params.locators):
        address = _read_address(f"locators[{index}].address", locator.address)
        if not may_be_rloc(address):
            raise ApiError("params", f"locators[{index}].address: {address} is not the address of one host")
        for name, value in (("priority", locator.priority), ("weight", locator.weight)):
            if not 0 <= value <= 255:
                raise ApiError("params", f"locators[{index}].{name}: {value} is not 0 to 255")
        locators.append(StaticLocator(address, locator.priority, locator.weight))
    if len(locators) > 32:
        raise ApiError("params", "locators: a mapping has at most 32")
    backend.map_cache_add(_read_prefix(params.prefix), tuple(locators), params.action)
    return Changed(count=1)


def _delete(backend: Backend, params: PrefixParams) -> Changed:
    prefix = _read_prefix(params.prefix)
    if not backend.map_cache_delete(prefix):
        raise ApiError("not-found", f"the map-cache has no entry {prefix}")
    return Changed(count=1)


async def _flush(backend: Backend) -> Changed:
    return Changed(count=await backend.map_cache_flush())


METHODS: Final[dict[str, Method]] = {
    "version": Method(NoParams, lambda backend, _: Version(version=backend.version())),
    "status": Method(NoParams, lambda backend, _: backend.status()),
    "uplinks": Method(NoParams, lambda backend, _: backend.uplinks()),
    "netcheck": Method(NoParams, lambda backend, _: backend.netcheck()),
    "map-cache": Method(NoParams, lambda backend, _: backend.map_cache()),
    "database": Method(NoParams, lambda backend, _: backend.database()),
    "paths": Method(NoParams, lambda backend, _: backend.paths()),
    "handovers": Method(NoParams, lambda backend, _: backend.handovers()),
    "counters": Method(NoParams, lambda backend, _: backend.counters()),
    "lookup": Method(LookupParams, _lookup),
    "map-cache-add": Method(MapCacheAddParams, _add, is_change=True),
    "map-cache-delete": Method(PrefixParams, _delete, is_change=True),
    "map-cache-flush": Method(NoParams, lambda backend, _: _flush(backend), is_change=True),
    "nudge": Method(NoParams, lambda backend, _: Nudged(is_now=backend.nudge())),
    "reload": Method(NoParams, lambda backend, _: _reload(backend), is_change=True),
    **STEERING_METHODS,
}
# `events` is the server's own: it needs the connection.


def call(
    backend: Backend, request: Request, *, may_change: bool, pid: int = 0, group: str | None = "lispmob"
) -> Any | Awaitable[Any]:
    """Do one request of the client `pid`; an awaitable for the few methods that take time. Raises ApiError.

    `group`: whose members may change things; None where there is no such group.
    """
    method = METHODS.get(request.method)
    if method is None:
        raise ApiError("method", f"no method {request.method[:40]!r}; known: events, {', '.join(sorted(METHODS))}")
    if method.is_change and not may_change:
        raise ApiError("denied", f"{request.method}: {_who_may(group)}")
    return method.apply(backend, read_params(request, method.params), pid)


def _who_may(group: str | None) -> str:
    if group is None:
        return "only root may do this (there is no group whose members may, too: control.group)"
    return f"only root and the members of the group {group} may do this; join it: sudo usermod -aG {group} $USER"


def is_pending(result: Any) -> bool:
    """True for a result that has to be awaited."""
    return inspect.isawaitable(result)


def read_params(request: Request, kind: type[msgspec.Struct]) -> Any:
    """The parameters of a request as a struct. Raises ApiError."""
    try:
        return msgspec.json.decode(request.params, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ApiError("params", f"{request.method}: {error}") from None


def _read_address(name: str, text: str) -> IpAddress:
    with contextlib.suppress(ValueError):
        if "%" not in text:  # an EID or an RLOC has no zone
            return ip_address(text)
    raise ApiError("params", f"{name}: {text[:60]!r} is not an IPv4 or IPv6 address")


def _read_prefix(text: str) -> EidPrefix:
    try:
        prefix = EidPrefix.parse(text)
        written = ip_address(text.rpartition("]")[2].partition("/")[0])
    except ValueError:
        raise ApiError("params", f"prefix: {text[:60]!r} is not an EID-Prefix such as 192.0.2.0/24") from None
    if written != prefix.address:
        iid = f"[{prefix.instance_id}]" if prefix.instance_id else ""
        raise ApiError(
            "params",
            f"prefix: {text[:60]} has bits beyond the prefix length; write {prefix}, or {iid}{written} for that host",
        )
    if prefix.instance_id > MAX_INSTANCE_ID:
        raise ApiError("params", f"prefix: the Instance-ID {prefix.instance_id} is not 0 to {MAX_INSTANCE_ID}")
    return prefix
