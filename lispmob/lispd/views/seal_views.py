"""The part of the control socket's Backend for sealed data, and the sealing columns of other views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from lispmob.api.backend import ApiError
from lispmob.api.sealing.schema import Keys, KnownPeer, Seal, WaitingKey
from lispmob.control.sealing.dialect_keys import DialectName
from lispmob.control.sealing.peer_keys import fingerprint
from lispmob.control.sealing.sealed_entries import SealedPeer
from lispmob.datapath.model import SessionUse
from lispmob.datapath.sealing import libraries
from lispmob.errors import KernelRefused
from lispmob.lispd.parts import Parts
from lispmob.lispd.views.shown import Shown
from lispmob.node.sealed_node import SealedNode

if TYPE_CHECKING:
    from lispmob.node.node import Node
    from lispmob.wire.address import EidPrefix, IpAddress

_WHOSE: Final = {
    "pinned": "its key stands in lispd.conf",
    "vouched": "the Map-Server vouches for its key",
    "remembered": "the Map-Server vouched for its key before",
}


DIALECTS: Final[
    dict[DialectName, Literal["obfuscated (lispers.net)", "encrypted, peer unauthenticated (RFC 8061)"]]
] = {
    "lispers-net": "obfuscated (lispers.net)",
    "rfc8061": "encrypted, peer unauthenticated (RFC 8061)",
}
"""What people are told of data that a dialect has encrypted."""


class SealViews:
    """Keys."""

    def __init__(self, parts: Shown) -> None:
        self._parts = parts

    def keys(self) -> Keys:
        """Our static key, and those of peers."""
        parts = self._parts
        node = parts.node
        if not isinstance(node, SealedNode):
            return Keys(mode="off", why_not=why_nothing(parts))
        own = node.sealing.public_key
        known = sorted(node.sealing.entries.peers, key=lambda peer: str(peer.known.prefix))
        return Keys(
            mode=node.sealing.mode,
            public_key=own.hex(),
            fingerprint=fingerprint(own),
            libraries={str(cipher): library for cipher, library in libraries().items()},
            peers=[KnownPeer(prefix=str(peer.known.prefix), seal=_of_peer(parts, peer)) for peer in known],
            waiting=[
                WaitingKey(prefix=str(prefix), fingerprint=fingerprint(key), public_key=key.hex())
                for prefix, key in node.sealing.waiting.items()
            ],
        )

    def replace_key(self) -> Keys:
        """Replace our static key, and inform all peers."""
        self._sealed_node()
        try:
            self._parts.replace_static_key()
        except KernelRefused as refused:
            raise ApiError("refused", str(refused)) from None
        return self.keys()

    def rekey(self) -> int:
        """Make new keys for all sessions now; returns how many there are."""
        node = self._sealed_node()
        count = sum(bool(peer.sessions) for peer in node.sealing.entries.peers)
        self._parts.perform(node.on_rekey(self._parts.now()))
        return count

    def forget_key(self, prefix: EidPrefix) -> None:
        """Forget the key of this EID-Prefix: its clear text is accepted."""
        try:
            self._parts.perform(self._sealed_node().on_key_forgotten(prefix, self._parts.now()))
        except ValueError:
            raise ApiError("not-found", f"no key of {prefix} is kept; see: lispctl key") from None

    def _sealed_node(self) -> SealedNode:
        node = self._parts.node
        if not isinstance(node, SealedNode) or node.sealing.mode == "off":
            why = "security: seal is off" if isinstance(node, SealedNode) else why_nothing(self._parts)
            raise ApiError("refused", f"nothing is sealed here: {why}")
        return node

    def accept_key(self, prefix: EidPrefix) -> None:
        """Use the new key of this EID-Prefix from now on."""
        node = self._parts.node
        try:
            if isinstance(node, SealedNode):
                self._parts.perform(node.on_key_accepted(prefix, self._parts.now()))
                return
        except ValueError:
            pass
        raise ApiError("not-found", f"no new key of {prefix} waits; see: lispctl key")


def why_nothing(parts: Parts) -> str:
    """Why this lispd does not seal."""
    if parts.file.log.record:
        return "lispd makes a recording, which has no keys"
    return "this build has no libcrypto (libssl-dev), or the datapath cannot seal"


def mapping_of(node: Node, prefix: EidPrefix) -> EidPrefix:
    """The EID-Prefix of the mapping behind a forwarding entry: an EID with a key has an entry inside of a wider one."""
    return node.sealing.entries.origin_of(prefix) if isinstance(node, SealedNode) else prefix


def seal_of(parts: Parts, prefix: EidPrefix, sessions: Sequence[SessionUse] | None = None) -> Seal:
    """How packets of a forwarding entry are sent. `sessions`: those of the datapath, for calls about many entries."""
    node = parts.node
    if not isinstance(node, SealedNode):
        return Seal(state="clear", why=why_nothing(parts))
    is_off = node.config.seal == "off"
    peer = None if is_off else node.sealing.entries.by_prefix(prefix)
    if peer is not None:
        return _of_peer(parts, peer, sessions)
    if node.config.seal == "require":
        return Seal(state="waiting", why="its key is not known, and security: seal is 'require'")
    entry = node.map_cache.get(mapping_of(node, prefix))
    dialects = () if entry is None else tuple(ip for locator in entry.locators for ip in locator.ips)
    if (seal := next(filter(None, (_of_dialect(parts, node, remote) for remote in dialects)), None)) is not None:
        return seal
    if is_off:
        return Seal(state="clear", why=f"security: seal is off{_no_dialect(node)}")
    if entry is not None and entry.source == "reply" and not entry.is_genuine:
        return Seal(state="clear", why="its mapping is not proved by LISP-SEC, so no key in it counts")
    return Seal(state="clear", why=f"its key is not known{_no_dialect(node)}")


def _no_dialect(node: SealedNode) -> str:
    """Why a dialect that the user wants is of no use: an RTR reads the inner header, and packets name no receiver."""
    is_behind_rtr = bool(node.plan.uplinks) and not node.plan.asks_mapping_system
    return "; dialects do not work through an RTR" if node.dialects.wanted and is_behind_rtr else ""


def _of_dialect(parts: Parts, node: SealedNode, remote: IpAddress) -> Seal | None:
    """How packets to a locator leave that has a key of a dialect; None: it has none."""
    dialect = node.dialects.dialect_of(remote)
    if dialect is None:
        return None
    used = parts.engine.sessions.dialect_use(remote)
    why = "the key is not authenticated: an eavesdropper reads nothing, but an attacker on the path may take part"
    return Seal(state=DIALECTS[dialect], why=why, packets_out=used.sent_packets, packets_in=used.opened_packets)


def seals_by_locator(parts: Parts) -> dict[str, str]:
    """For `lispctl paths`, the state of each remote locator: sealed, or clear and why, or both where EIDs differ."""
    node = parts.node
    if not isinstance(node, SealedNode):
        return {}
    found: dict[str, dict[str, None]] = {}
    for peer in node.sealing.entries.peers:
        seal = _of_peer(parts, peer)
        text = seal.state if seal.state.startswith("sealed") else f"{seal.state} ({seal.why})"
        for remote in peer.remotes:
            found.setdefault(str(remote), {})[text] = None
    for locator in node.dialects.locators:
        if (dialect := node.dialects.dialect_of(locator)) is not None:
            found.setdefault(str(locator), {})[DIALECTS[dialect]] = None
    return {remote: " and ".join(texts) for remote, texts in found.items()}


def summary(parts: Parts) -> str:
    """One line for `lispctl status`."""
    node = parts.node
    if not isinstance(node, SealedNode):
        return f"nothing: {why_nothing(parts)}"
    mode = node.sealing.mode
    dialects = [name for locator in node.dialects.locators if (name := node.dialects.dialect_of(locator)) is not None]
    others = "".join(f"; {dialects.count(name)} {DIALECTS[name]}" for name in DIALECTS if name in dialects)
    others += _no_dialect(node)
    if mode == "off":
        return f"nothing: security: seal is off{others}"
    peers = node.sealing.entries.peers
    sealed = sum(peer.is_sealed(parts.now()) for peer in peers)
    if not peers:
        return f"no peer's key is known yet ({mode}){others}"
    return f"{sealed} of {len(peers)} peers with known keys ({mode}){others}"


def _of_peer(parts: Parts, peer: SealedPeer, sessions: Sequence[SessionUse] | None = None) -> Seal:
    now = parts.now()
    known = peer.known
    whose = _WHOSE[known.grade]
    printed = fingerprint(known.key)
    standing = peer.confirmed
    if standing is not None and peer.is_sealed(now):
        known_sessions = parts.engine.sessions.all() if sessions is None else sessions
        used = [session for session in known_sessions if session.peer == peer.number]
        return Seal(
            state="sealed to the hub, clear beyond" if peer.is_hub else "sealed",
            why=whose,
            grade=known.grade,
            fingerprint=printed,
            age_s=round(now - standing.at, 3),
            packets_out=sum(use.sent_packets for use in used),
            packets_in=sum(use.opened_packets for use in used),
        )
    must_seal = known.has_been_sealed or parts.node.config.seal == "require"
    what = peer.why_unsealed or (
        "a handshake is under way" if peer.next_at is not None else "no packet has wanted it yet"
    )
    if standing is not None and not peer.why_unsealed and peer.next_at is None:
        what = "the last session has ended; the next packet begins another one"
    return Seal(
        state="waiting" if must_seal else "clear", why=f"{what}; {whose}", grade=known.grade, fingerprint=printed
    )
