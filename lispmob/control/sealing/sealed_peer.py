"""One peer of the sealed data plane: its key, its open handshake, and its sessions. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.control.sealing.peer_keys import PeerKey
from lispmob.control.sealing.sealed_handshake import OpenHandshake
from lispmob.protocol.effect import InstallMapping
from lispmob.wire.address import EidPrefix, IpAddress

RETRY_S: Final = (1.0, 2.0, 4.0, 5.0)  # ours: between tries of a handshake; the last value repeats
GIVE_UP_S: Final = 90.0  # ours: after that only traffic keeps a handshake going
REKEY_RESPONDER_S: Final = 165.0  # ours: the initiator begins at 120 s, so the responder is second
SESSION_S: Final = 180.0  # ours: the datapath neither sends nor receives with an older key
FORGET_S: Final = 540.0  # ours: then its keys are overwritten
SETTLED_S: Final = 3.0  # ours: after the very first session, how long clear packets may be in flight
PARTING_S: Final = 3.0  # ours: packets sealed with a replaced key may still be in flight
SESSIONS_MAX: Final = 4  # of one peer: as many as the datapath has places for


class Standing(msgspec.Struct):
    """A session. `at`: when its handshake ended, in monotonic seconds."""

    local_index: int
    at: float
    is_initiator: bool
    is_confirmed: bool


class Asking(msgspec.Struct, eq=False):
    """A first message that may still be answered."""

    peer: SealedPeer
    handshake: OpenHandshake
    sent_at: float
    is_nested: bool
    """It was sent from EID to EID."""


class SealedPeer(msgspec.Struct, eq=False):
    """The state of a peer. `number` identifies it in the datapath."""

    number: int
    known: PeerKey
    entries: dict[EidPrefix, InstallMapping] = msgspec.field(default_factory=dict)
    sessions: list[Standing] = msgspec.field(default_factory=list)
    sources: tuple[EidPrefix, ...] = ()
    """The permitted sources of its sessions, as last installed in the datapath."""
    tries: int = 0
    begun_at: float = 0.0
    next_at: float | None = None
    """When the open handshake is tried again; None: none is open."""
    last_try_at: float = float("-inf")
    wanted_at: float = float("-inf")
    settled_at: float | None = None
    """When its clear text begins to be refused; None: already so, or there was no session yet."""
    trouble: str = ""
    is_behind: bool = False
    """One of its locators answers probes without a handshake: an RTR, so handshakes are sent as data."""
    asked_at: tuple[IpAddress, ...] = ()
    """Its locators at that time."""
    is_hub: bool = False
    """It has no EID: it opens packets for hosts without LISP, and sends for all that have no key."""
    is_gone: bool = False
    """It had a mapping, and has none now."""
    is_told: bool = False
    """An event has reported that packets are sealed."""

    @property
    def confirmed(self) -> Standing | None:
        """The latest session that both sides are known to have."""
        return next((session for session in reversed(self.sessions) if session.is_confirmed), None)

    @property
    def remotes(self) -> tuple[IpAddress, ...]:
        """The locators of its mappings, in their order."""
        places = (locator.address for mapping in self.entries.values() for locator in mapping.locators)
        return tuple(dict.fromkeys(places))

    @property
    def eid(self) -> EidPrefix | None:
        """An EID of the peer, to name in a handshake; None without a mapping."""
        prefix = next(iter(self.entries), None)
        return None if prefix is None or self.is_hub else EidPrefix.host(prefix.address, prefix.instance_id)

    def is_sealed(self, now: float) -> bool:
        """True while there is a session to send with."""
        standing = self.confirmed
        return standing is not None and now - standing.at < SESSION_S

    def take_old(self, now: float) -> list[Standing]:
        """Remove and return the sessions whose keys must be overwritten."""
        old = [session for session in self.sessions if now - session.at >= FORGET_S]
        self.sessions = [session for session in self.sessions if now - session.at < FORGET_S]
        return old

    def wants_rekey(self, now: float) -> bool:
        """Whether a request of traffic for new keys is followed: a responder leaves it to the initiator."""
        standing = self.confirmed
        return standing is None or standing.is_initiator or now - standing.at >= REKEY_RESPONDER_S

    def wait(self, now: float) -> None:
        """A try was made: set the time of the next one."""
        self.next_at = now + RETRY_S[min(self.tries, len(RETRY_S)) - 1]
        self.last_try_at = now

    def rest(self) -> None:
        """No handshake is open any more."""
        self.next_at = None
        self.tries = 0
