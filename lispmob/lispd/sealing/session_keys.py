"""Passes sessions of the core to the datapath, which has a fixed key length, and converts its reports."""

from __future__ import annotations

import logging

from lispmob.datapath.dialects import DialectKey, DialectName
from lispmob.datapath.engine import Engine
from lispmob.datapath.model import SESSION_KEY_OCTETS, SealedSession
from lispmob.errors import LispError
from lispmob.protocol.effect import (
    ForgetDialect,
    ForgetPeer,
    ForgetSession,
    InstallSession,
    RefuseClear,
    SealEffect,
    SendKeepalive,
    SendSealed,
    SetSessionSources,
    UseDialect,
    UseMapVersion,
)

log = logging.getLogger("lispd")


def perform(engine: Engine, effect: SealEffect) -> None:
    """Apply it. A session that cannot be installed is reported: its peer begins another handshake without traffic."""
    match effect:
        case InstallSession():
            try:
                engine.sessions.install(to_session(effect))
            except (LispError, ValueError) as error:
                log.warning("a session cannot be used: %s", error)
        case SetSessionSources(local_index, sources):
            engine.sessions.set_sources(local_index, sources)
        case ForgetSession(local_index):
            engine.sessions.forget(local_index)
        case ForgetPeer(peer):
            engine.sessions.forget_peer(peer)
        case RefuseClear(prefixes):
            engine.sessions.set_clear_refused(prefixes)
        case SendKeepalive(peer):
            engine.sessions.send_keepalive(peer)
        case SendSealed(peer, payload, remote):
            engine.sessions.say(peer, payload, remote)
        case UseMapVersion(number):
            engine.sessions.use_map_version(number)
        case UseDialect():
            engine.sessions.use_dialect(to_dialect_key(effect))
        case ForgetDialect(locator, seals):
            engine.sessions.forget_dialect(locator, seals=seals)


def to_session(effect: InstallSession) -> SealedSession:
    """The datapath's value: keys of AES-128-GCM, with 16 octets, are at the beginning of 32."""
    return SealedSession(
        peer=effect.peer,
        local_index=effect.local_index,
        remote_index=effect.remote_index,
        send_key=effect.send_key.ljust(SESSION_KEY_OCTETS, b"\0"),
        receive_key=effect.receive_key.ljust(SESSION_KEY_OCTETS, b"\0"),
        aead=effect.aead,
        instance_id=effect.instance_id,
        sources=effect.sources,
        is_confirmed=effect.is_confirmed,
    )


def to_dialect_key(effect: UseDialect) -> DialectKey:
    """The datapath's value: a dialect with its suite."""
    name: DialectName = "rfc8061"
    if effect.dialect == "lispers-net":
        name = "lispers-net-5" if effect.suite == 5 else "lispers-net-2"
    return DialectKey(effect.locator, name, effect.key_id, effect.seals, effect.key, effect.integrity, effect.start)
