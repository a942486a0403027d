"""A recording has no keys: one that everybody knows stands in, and what a real one has signed is signed with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from lispmob.control.node_config import NodeConfig
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.wire.auth import Key, signed_anew
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import MessageType

STAND_IN: Final = b"a key that everybody knows"


def without_keys(config: NodeConfig) -> NodeConfig:
    """The configuration, with the stand-in for each key; without LISP-SEC, whose secrets say nothing in its absence."""
    servers = tuple(replace(map_server, key=_stand_in(map_server.key)) for map_server in config.map_servers)
    return replace(config, map_servers=servers, lisp_sec="off", resolver_secrets=())


def keys_of(config: NodeConfig) -> tuple[Key, ...]:
    """Its keys, each once."""
    return tuple(dict.fromkeys(map_server.key for map_server in config.map_servers))


def neutral(payload: bytes, keys: Iterable[Key]) -> bytes:
    """A control message, signed with the stand-in where it was signed with one of the keys; else as it is."""
    if not payload:
        return payload
    if payload[0] >> 4 == MessageType.ENCAPSULATED_CONTROL:
        return _in_ecm(payload, keys)
    for key in keys:
        try:
            return signed_anew(payload, key, _stand_in(key))
        except (AuthenticationFailed, MalformedMessage):
            continue
    return payload


def neutral_value(value: Any, keys: Iterable[Key]) -> Any:
    """A datagram or an effect with its payload neutral; every other value as it is."""
    payload = getattr(value, "payload", None)
    if not isinstance(payload, bytes):
        return value
    made = neutral(payload, keys)
    return value if made == payload else replace(value, payload=made)


def _stand_in(key: Key) -> Key:
    return dataclasses.replace(key, secret=STAND_IN)


def _in_ecm(payload: bytes, keys: Iterable[Key]) -> bytes:
    try:
        outer = EncapsulatedControl.decode(payload)
    except MalformedMessage:
        return payload
    inner = neutral(outer.message, keys)
    return payload if inner == outer.message else replace(outer, message=inner).encode()
