"""Passes sessions of nodes with the proxy to the datapath, which has a fixed key length (adapter)."""

from __future__ import annotations

import logging

from lispmob.datapath.engine import Engine
from lispmob.datapath.model import SESSION_KEY_OCTETS, SealedSession
from lispmob.errors import LispError
from lispmob.hub.sealing import SealEffect
from lispmob.protocol.effect import ForgetSession

log = logging.getLogger(__name__)


def perform(engine: Engine, effect: SealEffect) -> None:
    """Apply it. A session that cannot be installed is reported: its node begins another handshake."""
    if isinstance(effect, ForgetSession):
        engine.sessions.forget(effect.local_index)
        return
    session = SealedSession(
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
    try:
        engine.sessions.install(session)
    except (LispError, ValueError) as error:
        log.warning("a session cannot be used: %s", error)
