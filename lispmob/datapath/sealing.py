"""The typed face of engine/sealing.c: sessions of peers, their keys, and which cipher is the quicker one here."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.model import AeadName, SealedSession, SessionUse
from lispmob.errors import LispError
from lispmob.wire.address import EidPrefix

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

MISSING: Final = (
    "sealed packets are not in this build: libcrypto's headers (libssl-dev) were missing when it was compiled"
)
_FIRST_ROOM: Final = 64


class SealingMissingError(LispError):
    """This build has no libcrypto."""


def can_seal() -> bool:
    """False in a build without libcrypto."""
    return bool(lib.lm_aead_is_built())


@cache
def quickest_aead() -> AeadName:
    """The cipher that this processor is quicker with; times both once, which takes a millisecond."""
    return min(marshal.AEADS, key=lambda name: int(lib.lm_aead_time(marshal.AEADS[name])))


def install(engine: Any, session: SealedSession) -> None:
    """Give a struct lm_engine one more session. ValueError: the index is in use; SealingMissingError: no libcrypto."""
    spec, _sources = marshal.session(session)
    error = lib.lm_engine_install_session(engine, spec)
    ffi.memmove(spec, bytes(ffi.sizeof(spec[0])), ffi.sizeof(spec[0]))  # the keys are in the engine alone from now on
    if error == -errno.EEXIST:
        raise ValueError(f"local index {session.local_index:#x} is in use")
    if error == -errno.ENOTSUP:
        raise SealingMissingError(MISSING)
    if error:
        raise MemoryError("datapath")


def set_sources(engine: Any, local_index: int, sources: Iterable[EidPrefix]) -> bool:
    """False: there is no such session, or no memory."""
    prefixes, count = marshal.prefixes(sources)
    return bool(lib.lm_engine_set_sources(engine, local_index, prefixes, count))


def forget(engine: Any, local_index: int) -> bool:
    """False: there was no such session."""
    return bool(lib.lm_engine_forget_session(engine, local_index))


def forget_peer(engine: Any, peer: int) -> None:
    """All sessions of a peer."""
    lib.lm_engine_forget_peer(engine, peer)


def set_clear_refused(engine: Any, sources: Iterable[EidPrefix]) -> int:
    """0, or a negative errno."""
    prefixes, count = marshal.prefixes(sources)
    return int(lib.lm_engine_set_clear_refused(engine, prefixes, count))


def sessions(engine: Any) -> list[SessionUse]:
    """All of them, in no order."""
    room = _FIRST_ROOM
    while (count := lib.lm_engine_sessions(engine, found := ffi.new("struct lm_session_use[]", room), room)) == room:
        room *= 4
    return [marshal.session_use(found[i]) for i in range(count)]


def say(engine: Any, peer: int, payload: bytes) -> bool:
    """A control message for a peer, sealed, from EID to EID. False: no key, no way, or the uplinks refuse."""
    return bool(lib.lm_engine_say(engine, peer, payload, len(payload)))


def send_keepalive(engine: Any, peer: int) -> bool:
    """False: there is no key, no way, or the uplinks refuse."""
    return bool(lib.lm_engine_send_keepalive(engine, peer))
