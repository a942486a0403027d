"""The methods of the control socket: decode parameters, call the Backend, hand back what is to be encoded."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, Final

import msgspec

from lispmob.api.backend import ApiError, Backend
from lispmob.api.checked import MAX_INSTANCE_ID, read_address, read_locators, read_prefix
from lispmob.api.mapping.methods import MAPPING_METHODS
from lispmob.api.method import Method
from lispmob.api.peers.methods import PEER_METHODS
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
from lispmob.api.sealing.methods import SEAL_METHODS
from lispmob.api.steering.methods import STEERING_METHODS
from lispmob.api.upkeep.methods import UPKEEP_METHODS
from lispmob.errors import ConfigError


async def _reload(backend: Backend) -> Any:
    try:
        return await backend.reload()
    except ConfigError as error:
        raise ApiError("refused", str(error)) from None


def _lookup(backend: Backend, params: LookupParams) -> Lookup:
    if not 0 <= params.instance_id <= MAX_INSTANCE_ID:
        raise ApiError("params", f"instance_id: {params.instance_id} is not 0 to {MAX_INSTANCE_ID}")
    return backend.lookup(read_address("eid", params.eid), params.instance_id)


def _add(backend: Backend, params: MapCacheAddParams) -> Changed:
    locators = read_locators(params.locators)
    backend.map_cache_add(read_prefix(params.prefix), locators, params.action)
    return Changed(count=1)


def _delete(backend: Backend, params: PrefixParams) -> Changed:
    prefix = read_prefix(params.prefix)
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
    **MAPPING_METHODS,
    **UPKEEP_METHODS,
    **SEAL_METHODS,
    **PEER_METHODS,
}
# `events` and `mapping-events` are the server's own: they need the connection.


def call(
    backend: Backend, request: Request, *, may_change: bool, pid: int = 0, group: str | None = "lispmob"
) -> Any | Awaitable[Any]:
    """Do one request of the client `pid`; an awaitable for the few methods that take time. Raises ApiError.

    `group`: whose members may change things; None where there is no such group.
    """
    method = METHODS.get(request.method)
    if method is None:
        known = sorted([*METHODS, "events", "mapping-events"])
        raise ApiError("method", f"no method {request.method[:40]!r}; known: {', '.join(known)}")
    if method.is_change and not may_change:
        raise ApiError("denied", f"{request.method}: {_who_may(group)}")
    return method.apply(backend, read_params(request, method.params), pid)


def _who_may(group: str | None) -> str:
    if group == "root":
        return "only root may do this (control.group is root: name a group whose members may, too)"
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
