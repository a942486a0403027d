"""The keys of peers, for sealing and opening."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.dialects import DialectKey, DialectUse
from lispmob.datapath.marshal import Handle, check
from lispmob.datapath.model import SealedSession, SessionUse
from lispmob.datapath.sealing import MISSING, SealingMissingError
from lispmob.wire.address import EidPrefix, IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

_FIRST_ROOM = 64


class Sessions:
    """The sessions of all peers, and which prefixes must be sealed."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def install(self, session: SealedSession) -> None:
        """Use this key pair: at once if it is confirmed, otherwise from the first packet that it opens.

        The former session stays for receiving, and packets that waited for a key of the peer are sent. Raises
        ValueError if the local index is in use, SealingMissingError in a build without libcrypto.
        """
        spec, _sources = marshal.session(session)
        error = lib.lm_engine_install_session(self._handle.c, spec)
        octets = ffi.sizeof(spec[0])
        ffi.memmove(spec, bytes(octets), octets)  # from now on only the engine has the keys
        if error == -errno.EEXIST:
            raise ValueError(f"local index {session.local_index:#x} is in use")
        if error == -errno.ENOTSUP:
            raise SealingMissingError(MISSING)
        if error:
            raise MemoryError("datapath")

    def set_sources(self, local_index: int, sources: Iterable[EidPrefix]) -> bool:
        """The inner sources that the session's peer may send from now on; False: there is no such session."""
        prefixes, count = marshal.prefixes(sources)
        return bool(lib.lm_engine_set_sources(self._handle.c, local_index, prefixes, count))

    def forget(self, local_index: int) -> bool:
        """Overwrite the keys of a session and stop using it; False if there was none."""
        return bool(lib.lm_engine_forget_session(self._handle.c, local_index))

    def forget_peer(self, peer: int) -> None:
        """The same for all sessions of a peer."""
        lib.lm_engine_forget_peer(self._handle.c, peer)

    def set_clear_refused(self, sources: Iterable[EidPrefix]) -> None:
        """Drop clear packets with these inner sources from now on, and with no others."""
        prefixes, count = marshal.prefixes(sources)
        check(lib.lm_engine_set_clear_refused(self._handle.c, prefixes, count))

    def use_dialect(self, key: DialectKey) -> None:
        """Encrypt what may leave in clear to a locator with this key, or open what comes from it.

        It takes the place of the key before. Raises SealingMissingError in a build without libcrypto.
        """
        spec = marshal.dialect_key(key)
        error = lib.lm_dialect_install(self._handle.c, spec)
        octets = ffi.sizeof(spec[0])
        ffi.memmove(spec, bytes(octets), octets)  # the key is in the engine alone from now on
        if error == -errno.ENOTSUP:
            raise SealingMissingError(MISSING)
        if error:
            raise MemoryError("datapath")

    def forget_dialect(self, locator: IpAddress, *, seals: bool) -> None:
        """Overwrite the keys for packets to a locator, or from it."""
        lib.lm_dialect_forget(self._handle.c, marshal.one_address(locator), seals)

    def dialect_use(self, locator: IpAddress) -> DialectUse:
        """What is encrypted with a locator, and how much so far."""
        return marshal.dialect_use(lib.lm_dialect_used(self._handle.c, marshal.one_address(locator)))

    def use_map_version(self, version: int) -> None:
        """The Map-Version Number of our own mappings (RFC 9302), 12 bits, for sealed packets; 0: say and heed none."""
        lib.lm_map_version_use(self._handle.c, version)

    def all(self) -> list[SessionUse]:
        """All sessions, with their use so far."""
        room = count = _FIRST_ROOM // 4
        while count == room:
            room *= 4
            found = ffi.new("struct lm_session_use[]", room)
            count = lib.lm_engine_sessions(self._handle.c, found, room)
        return [marshal.session_use(found[i]) for i in range(count)]

    def say(self, peer: int, payload: bytes, remote: IpAddress | None = None) -> bool:
        """Send a sealed control message to a peer; False if it could not be sent.

        It goes to the locator `remote`, or by the path of the peer's packets.
        """
        to = ffi.NULL if remote is None else marshal.one_address(remote)
        return bool(lib.lm_engine_say(self._handle.c, peer, to, payload, len(payload)))

    def send_keepalive(self, peer: int) -> bool:
        """Send an empty sealed packet to a peer, by the path of its packets; False if it could not be sent."""
        return bool(lib.lm_engine_send_keepalive(self._handle.c, peer))
