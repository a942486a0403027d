"""Values of the core as JSON, and back: addresses, octets, enumerations, and the core's records.

A file may come from an untrusted source. So reading one makes only values of the core's records and enumerations; it
calls nothing else.
"""

from __future__ import annotations

import dataclasses
from base64 import b64decode, b64encode
from collections.abc import Mapping
from enum import Enum
from importlib import import_module
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

import msgspec

from lispmob.errors import LispError
from lispmob.wire.address import EidPrefix

HOMES: Final = ("lispmob.wire.", "lispmob.protocol.", "lispmob.control.", "lispmob.natt.", "lispmob.node.")
DEPTH_MAX: Final = 40


class NotAValue(LispError):
    """A value in a file is invalid."""


def to_json(value: Any) -> Any:
    """A value that json.dumps takes; TypeError for types that the core does not use."""
    if isinstance(value, Enum):
        return {"enum": [_name_of(type(value)), value.name]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"octets": b64encode(value).decode()}
    if isinstance(value, IPv4Address | IPv6Address):
        return {"ip": str(value)}
    if isinstance(value, IPv4Network | IPv6Network):
        return {"net": str(value)}
    if isinstance(value, EidPrefix):
        return {"prefix": str(value)}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((to_json(item) for item in value), key=repr)}
    if isinstance(value, Mapping):
        return {"map": [[to_json(key), to_json(one)] for key, one in value.items()]}
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(field.name for field in dataclasses.fields(value) if field.init)
    else:
        raise TypeError(f"{type(value).__name__} is no value of the core")
    return {"of": _name_of(type(value)), "fields": {name: to_json(getattr(value, name)) for name in names}}


def from_json(raw: Any, depth: int = 0) -> Any:
    """The value from JSON; lists become tuples. Raises NotAValue."""
    if depth > DEPTH_MAX:
        raise NotAValue("values within values, too deep")
    if raw is None or isinstance(raw, bool | int | float | str):
        return raw
    if isinstance(raw, list):
        return tuple(from_json(item, depth + 1) for item in raw)
    try:
        return _made(raw, depth)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotAValue(f"no value: {str(raw)[:80]}: {error}") from None


def _made(raw: dict[str, Any], depth: int) -> Any:
    match raw:
        case {"octets": str(text)}:
            return b64decode(text, validate=True)
        case {"ip": str(text)}:
            return ip_address(text)
        case {"net": str(text)}:
            return ip_network(text)
        case {"prefix": str(text)}:
            return EidPrefix.parse(text)
        case {"enum": [str(name), str(member)]}:
            return _class_of(name, Enum)[member]
        case {"set": list(some)}:
            return frozenset(from_json(item, depth + 1) for item in some)
        case {"map": list(pairs)}:
            return {from_json(key, depth + 1): from_json(one, depth + 1) for key, one in pairs}
        case {"of": str(name), "fields": dict(fields)}:
            return _class_of(name, None)(**{key: from_json(one, depth + 1) for key, one in fields.items()})
    raise ValueError("its shape is none of ours")


def _name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class_of(name: str, kind: type | None) -> Any:
    """The class of a record, or with `kind` a class of that kind. ValueError for any other."""
    module, _, own = name.partition(":")
    if not module.startswith(HOMES) or not own.isidentifier():
        raise ValueError(f"{name} is no class of the core")
    try:
        found = getattr(import_module(module), own, None)
    except ImportError:
        found = None
    if not isinstance(found, type) or found.__module__ != module:
        raise ValueError(f"{name} is no class of the core")
    if kind is not None and issubclass(found, kind):
        return found
    if kind is None and (dataclasses.is_dataclass(found) or issubclass(found, msgspec.Struct)):
        return found
    raise ValueError(f"{name} is no value")
