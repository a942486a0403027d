"""Removes keys from recordings: a fixed key replaces each, and messages are signed with it instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from lispmob.control.node_config import NodeConfig
from lispmob.errors import AuthenticationFailed, MalformedMessage
from lispmob.wire.auth import Key, sign_again
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import MessageType

STAND_IN: Final = b"a key that is public"


def without_keys(config: NodeConfig) -> NodeConfig:
    """The configuration with the fixed key for each key; without LISP-SEC, whose secrets have no effect then."""
    servers = tuple(replace(map_server, key=_stand_in(map_server.key)) for map_server in config.map_servers)
    return replace(config, map_servers=servers, lisp_sec="off", resolver_secrets=())


def keys_of(config: NodeConfig) -> tuple[Key, ...]:
    """Its keys, without duplicates."""
    return tuple(dict.fromkeys(map_server.key for map_server in config.map_servers))


def neutral(payload: bytes, keys: Iterable[Key]) -> bytes:
    """A control message, signed with the fixed key where it was signed with one of the keys; else unchanged."""
    if not payload:
        return payload
    if payload[0] >> 4 == MessageType.ENCAPSULATED_CONTROL:
        return _in_ecm(payload, keys)
    for key in keys:
        try:
            return sign_again(payload, key, _stand_in(key))
        except (AuthenticationFailed, MalformedMessage):
            continue
    return payload


def neutral_value(value: Any, keys: Iterable[Key]) -> Any:
    """A datagram or an effect with its payload neutral; every other value unchanged."""
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
