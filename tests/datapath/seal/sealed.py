"""Sessions as Python objects, without an engine: what the C seals and opens."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.model import SealedSession
from lispmob.wire.address import EidPrefix

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

SECOND_NS = 1_000_000_000
HEADER_OCTETS, HEAD_OCTETS, TAG_OCTETS = 8, 20, 16


class Verdict(IntEnum):
    """The numbers are those of enum lm_session_verdict."""

    OPENED = 0
    KEY = 1
    REPLAY = 2
    TAG = 3
    IID = 4


class Session:
    """A struct lm_session. Times are in seconds since it was made."""

    def __init__(self, wanted: SealedSession) -> None:
        spec, _sources = marshal.session(wanted)
        self._c = ffi.gc(lib.lm_session_new(spec, 0), lib.lm_session_free)
        assert self._c != ffi.NULL

    def take(self, count: int = 1) -> int | None:
        first = ffi.new("uint64_t *")
        return int(first[0]) if lib.lm_session_take(self._c, count, first) else None

    def seal(self, counter: int, *parts: bytes, header: bytes = bytes(HEADER_OCTETS), thread: int = 0) -> bytes:
        octets = HEAD_OCTETS + sum(map(len, parts)) + TAG_OCTETS
        out = ffi.new("uint8_t[]", header.ljust(octets, b"\0"))
        kept = [ffi.new("uint8_t[]", part) for part in parts]
        vectors = ffi.new("struct iovec[]", [(part, len(text)) for part, text in zip(kept, parts, strict=True)])
        assert lib.lm_session_seal(self._c, thread, counter, vectors, len(parts), out) == octets
        return bytes(ffi.buffer(out, octets))

    def open(self, datagram: bytes, at_s: float = 0.0, thread: int = 0) -> tuple[Verdict, bytes]:
        """Open a datagram. The inner packet is valid with OPENED only."""
        buffer = ffi.new("uint8_t[]", datagram)
        verdict = lib.lm_session_open(self._c, thread, buffer, len(datagram), int(at_s * SECOND_NS))
        return Verdict(verdict), bytes(ffi.buffer(buffer, len(datagram)))[HEAD_OCTETS:-TAG_OCTETS]

    def may_send(self, at_s: float) -> bool:
        return bool(lib.lm_session_may_send(self._c, int(at_s * SECOND_NS)))

    def may_receive(self, at_s: float) -> bool:
        return bool(lib.lm_session_may_receive(self._c, int(at_s * SECOND_NS)))

    def is_rekey_due(self, at_s: float) -> bool:
        return bool(lib.lm_session_is_rekey_due(self._c, int(at_s * SECOND_NS)))


class Window:
    """A struct lm_replay."""

    def __init__(self) -> None:
        self._c = ffi.new("struct lm_replay *")
        lib.lm_replay_init(self._c)

    def may(self, counter: int) -> bool:
        return bool(lib.lm_replay_may(self._c, counter))

    def mark(self, counter: int) -> bool:
        return bool(lib.lm_replay_mark(self._c, counter))


class Peers:
    """A struct lm_peers."""

    def __init__(self) -> None:
        self._c = ffi.gc(lib.lm_peers_new(ffi.new("struct lm_key *")), lib.lm_peers_free)

    def install(self, wanted: SealedSession, at_s: float = 0.0) -> int:
        """Install a session: 0, or a negative errno."""
        spec, _sources = marshal.session(wanted)
        return int(lib.lm_peers_install(self._c, spec, int(at_s * SECOND_NS)))

    def forget(self, local_index: int) -> bool:
        return bool(lib.lm_peers_forget(self._c, local_index))

    def forget_peer(self, peer: int) -> None:
        lib.lm_peers_forget_peer(self._c, peer)

    def knows(self, local_index: int) -> bool:
        return bool(lib.lm_peers_find_session(self._c, local_index) != ffi.NULL)

    def confirm(self, local_index: int) -> bool:
        return bool(lib.lm_peers_confirm(self._c, lib.lm_peers_find_session(self._c, local_index)))

    def open(self, local_index: int, datagram: bytes, at_s: float) -> Verdict:
        """Open a datagram by the session of this index, as when it arrives."""
        session, buffer = lib.lm_peers_find_session(self._c, local_index), ffi.new("uint8_t[]", datagram)
        if session == ffi.NULL:
            return Verdict.KEY
        return Verdict(lib.lm_session_open(session, 0, buffer, len(datagram), int(at_s * SECOND_NS)))

    def may_send(self, local_index: int, source: Any) -> bool:
        session = lib.lm_peers_find_session(self._c, local_index)
        return bool(lib.lm_peers_may_send(self._c, session, marshal.one_address(source)))

    def refuse(self, *prefixes: EidPrefix) -> None:
        """Drop clear text with these inner sources."""
        made, count = marshal.prefixes(prefixes)
        for number in range(count):
            assert lib.lm_table_insert(self._c.refused, ffi.addressof(made, number)) != ffi.NULL

    def sends_with(self, peer: int, local_index: int, at_s: float = 0.0) -> bool:
        """True when packets for the peer leave with this session."""
        sender = lib.lm_peers_sender(self._c, peer, int(at_s * SECOND_NS))
        return bool(sender != ffi.NULL and sender == lib.lm_peers_find_session(self._c, local_index))

    def can_send(self, peer: int, at_s: float = 0.0) -> bool:
        return bool(lib.lm_peers_sender(self._c, peer, int(at_s * SECOND_NS)) != ffi.NULL)
