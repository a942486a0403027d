"""The methods of the control socket, all in one table: check parameters, call the Backend, return its result."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec

from lispmob.api.backend import ApiError, Backend
from lispmob.api.checked import MAX_INSTANCE_ID, read_address, read_locators, read_prefix
from lispmob.api.mapping.schema import (
    Mapping,
    MappingDeleteParams,
    MappingDone,
    MappingFlushParams,
    MappingGetParams,
    MappingParams,
)
from lispmob.api.peers.schema import NameParams, PeersParams
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
from lispmob.api.steering.schema import FlowParams, Rehearsal, RehearseParams, Run, RunParams
from lispmob.api.upkeep.schema import LogLevel
from lispmob.errors import ConfigError

NAMES_MAX: Final = 32  # ours: the datapath has no more uplinks
NAME_OCTETS_MAX: Final = 255  # RFC 1035, 2.3.4
TTL_MAX_S: Final = 24 * 3600.0  # as for an answer of the mapping system


class Method(msgspec.Struct, frozen=True):
    """One method. `is_change`: only root and the group may call it. `wants_pid`: that of the client comes as well."""

    params: type[msgspec.Struct]
    call: Callable[..., Any]
    is_change: bool = False
    wants_pid: bool = False


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


async def _rehearse(backend: Backend, params: RehearseParams) -> Rehearsal:
    if not params.lose and not params.gain:
        raise ApiError("params", "lose, gain: name an interface that is lost or gained")
    if both := sorted(set(params.lose) & set(params.gain)):
        raise ApiError("params", f"{both[0]} cannot be lost and gained at once")
    return await backend.steering.rehearse(params.lose, params.gain)


async def _run(backend: Backend, params: RunParams, pid: int) -> Run:
    if not 0 < len(params.via) <= NAMES_MAX or not all(params.via):
        raise ApiError("params", f"via: 1 to {NAMES_MAX} names or patterns of uplinks")
    return await backend.steering.run(params, pid)


def _put(backend: Backend, params: MappingParams, *, is_change: bool = False) -> MappingDone:
    prefix, locators = read_prefix(params.prefix), read_locators(params.locators)
    for index, locator in enumerate(locators):
        if any(locator.address == other.address for other in locators[:index]):
            raise ApiError("params", f"locators[{index}].address: {locator.address} is given twice", "EINVAL")
    if params.ttl_s is not None:
        if params.is_static:
            raise ApiError("params", "ttl_s: a static mapping stays until it is deleted", "EINVAL")
        if not 1.0 <= params.ttl_s <= TTL_MAX_S:
            raise ApiError("params", f"ttl_s: {params.ttl_s:g} is not 1 to {TTL_MAX_S:.0f}", "EINVAL")
    return backend.mappings.mapping_add(prefix, locators, params, is_change=is_change)


def _delete_mapping(backend: Backend, params: MappingDeleteParams) -> MappingDone:
    return backend.mappings.mapping_delete(read_prefix(params.prefix), params.table, check_only=params.check_only)


def _get(backend: Backend, params: MappingGetParams) -> Mapping:
    return backend.mappings.mapping_get(read_prefix(params.eid))


def _accept(backend: Backend, params: PrefixParams) -> Changed:
    backend.seals.accept_key(read_prefix(params.prefix))
    return Changed(count=1)


def _forget(backend: Backend, params: PrefixParams) -> Changed:
    backend.seals.forget_key(read_prefix(params.prefix))
    return Changed(count=1)


def _peers(backend: Backend, params: PeersParams) -> Any:
    peers = backend.peers
    return peers.peers() if params.peer is None else peers.peer(_checked_name("peer", params.peer))


def _checked_name(what: str, text: str) -> str:
    if not 0 < len(text) <= NAME_OCTETS_MAX or not text.isascii() or not text.isprintable():
        raise ApiError("params", f"{what}: a name of 1 to {NAME_OCTETS_MAX} printable ASCII characters, or an EID")
    return text


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
    # how flows are steered
    "why": Method(FlowParams, lambda backend, params: backend.steering.why(params)),
    "rehearse": Method(RehearseParams, _rehearse),
    "run": Method(RunParams, _run, is_change=True, wants_pid=True),
    # mappings, for programs
    "mapping-add": Method(MappingParams, _put, is_change=True),
    "mapping-change": Method(MappingParams, partial(_put, is_change=True), is_change=True),
    "mapping-delete": Method(MappingDeleteParams, _delete_mapping, is_change=True),
    "mapping-flush": Method(
        MappingFlushParams, lambda backend, params: backend.mappings.mapping_flush(params), is_change=True
    ),
    "mapping-get": Method(MappingGetParams, _get),
    "mapping-dump": Method(NoParams, lambda backend, _: backend.mappings.mapping_dump()),
    "mapstat": Method(NoParams, lambda backend, _: backend.mappings.mapstat()),
    # for administrators
    "log-level": Method(NoParams, lambda backend, _: backend.upkeep.log_level()),
    "set-log-level": Method(
        LogLevel, lambda backend, params: backend.upkeep.set_log_level(params.level), is_change=True
    ),
    "energy": Method(NoParams, lambda backend, _: backend.upkeep.energy()),
    # The next two change nothing, but not every user may read lispd.conf either.
    "recording": Method(NoParams, lambda backend, _: backend.upkeep.recording(), is_change=True),
    "configuration": Method(NoParams, lambda backend, _: backend.upkeep.configuration(), is_change=True),
    "believed": Method(NoParams, lambda backend, _: backend.upkeep.believed()),
    # sealed data
    "keys": Method(NoParams, lambda backend, _: backend.seals.keys()),
    "replace-key": Method(NoParams, lambda backend, _: backend.seals.replace_key(), is_change=True),
    "rekey": Method(NoParams, lambda backend, _: Changed(count=backend.seals.rekey()), is_change=True),
    "forget-key": Method(PrefixParams, _forget, is_change=True),
    "accept-key": Method(PrefixParams, _accept, is_change=True),
    # peers and names
    "peers": Method(PeersParams, _peers),
    "names": Method(NoParams, lambda backend, _: backend.peers.names()),
    "name": Method(NameParams, lambda backend, params: backend.peers.name(_checked_name("name", params.name))),
}
# `events` and `mapping-events` are the server's own: they need the connection.


def is_change(request: Request) -> bool:
    """Whether the request may change something."""
    method = METHODS.get(request.method)
    return method is not None and method.is_change


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
    params = read_params(request, method.params)
    return method.call(backend, params, pid) if method.wants_pid else method.call(backend, params)


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
