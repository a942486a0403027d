"""The methods of the control socket about mappings."""

from __future__ import annotations

from typing import Final

from lispmob.api.backend import ApiError, Backend
from lispmob.api.checked import read_locators, read_prefix
from lispmob.api.mapping.schema import (
    Mapping,
    MappingDeleteParams,
    MappingDone,
    MappingFlushParams,
    MappingGetParams,
    MappingParams,
)
from lispmob.api.method import Method
from lispmob.api.schema import NoParams

TTL_MAX_S: Final = 24 * 3600.0  # as for an answer of the mapping system


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
    return backend.mapping_add(prefix, locators, params, is_change=is_change)


def _delete(backend: Backend, params: MappingDeleteParams) -> MappingDone:
    return backend.mapping_delete(read_prefix(params.prefix), params.table, check_only=params.check_only)


def _get(backend: Backend, params: MappingGetParams) -> Mapping:
    return backend.mapping_get(read_prefix(params.eid))


MAPPING_METHODS: Final[dict[str, Method]] = {
    "mapping-add": Method(MappingParams, _put, is_change=True),
    "mapping-change": Method(
        MappingParams, lambda backend, params: _put(backend, params, is_change=True), is_change=True
    ),
    "mapping-delete": Method(MappingDeleteParams, _delete, is_change=True),
    "mapping-flush": Method(MappingFlushParams, lambda backend, params: backend.mapping_flush(params), is_change=True),
    "mapping-get": Method(MappingGetParams, _get),
    "mapping-dump": Method(NoParams, lambda backend, _: backend.mapping_dump()),
    "mapstat": Method(NoParams, lambda backend, _: backend.mapstat()),
}
