"""The peers of the sealed data plane, and which forwarding entries are sealed for which of them. Pure.

A peer has a key, perhaps an open handshake, and its sessions. The table says which packets are clear or sealed:

| security: seal | key known | had a session | what leaves                                  | clear text from there |
|----------------|-----------|---------------|----------------------------------------------|-----------------------|
| off            |           |               | clear                                        | taken                 |
| prefer         | no        |               | clear                                        | taken                 |
| prefer         | yes       | no            | clear until there is a session, then sealed  | taken                 |
| prefer         | yes       | yes           | sealed; packets wait while there is none     | dropped               |
| require        | no        |               | nothing                                      | dropped               |
| require        | yes       |               | sealed; packets wait while there is none     | dropped               |

Where a mapping says "natively forward", packets are refused in the rows that allow no clear text.
"""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.control.sealing.peer_keys import PeerKey, PeerKeys
from lispmob.control.sealing.seal_config import HubKey, SealConfig
from lispmob.control.sealing.sealed_handshake import OpenHandshake
from lispmob.protocol.effect import (
    ForgetPeer,
    InstallMapping,
    MachineEffect,
    RefuseClear,
    RemoveMapping,
    SetSessionSources,
    UsableLocator,
)
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress

CARRIES: Final = frozenset({"ENCAPSULATE", "ENCAPSULATE_AND_REPORT", "DOUBT"})
_ZEROS: Final[dict[int, IpAddress]] = {4: IPv4Address(0), 6: IPv6Address(0)}

RETRY_S: Final = (1.0, 2.0, 4.0, 5.0)  # ours: between tries of a handshake; the last value repeats
GIVE_UP_S: Final = 90.0  # ours: after that only traffic keeps a handshake going
REKEY_RESPONDER_S: Final = 165.0  # ours: the initiator begins at 120 s, so the responder is second
SESSION_S: Final = 180.0  # ours: the datapath neither sends nor receives with an older key
FORGET_S: Final = 540.0  # ours: then its keys are overwritten
SETTLED_S: Final = 3.0  # ours: after the very first session, how long clear packets may be in flight
PARTING_S: Final = 3.0  # ours: packets sealed with a replaced key may still be in flight
CONFIRMED_MAX: Final = 3  # sessions of one peer: as many as the datapath has places for
UNCONFIRMED_MAX: Final = 2  # and of those that it answered, and has sent nothing with yet


class InstalledSession(msgspec.Struct):
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
    sessions: list[InstalledSession] = msgspec.field(default_factory=list)
    """Of those that both sides have, the one confirmed last is the last one."""
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
    why_unsealed: str = ""
    is_behind: bool = False
    """One of its locators answers probes without a handshake: an RTR, so handshakes are sent as data."""
    asked_at: tuple[IpAddress, ...] = ()
    """Its locators at that time."""
    is_hub: bool = False
    """It has no EID: it opens packets for hosts without LISP, and sends for all that have no key."""
    is_gone: bool = False
    """It had a mapping, and has none now."""
    is_reported: bool = False
    """An event has reported that packets are sealed."""

    @property
    def confirmed(self) -> InstalledSession | None:
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

    def way(self, own: LocatorSet) -> tuple[IpAddress, LocalLocator] | None:
        """Where this try of a handshake goes, and from where; None: send it as data.

        Each locator of the peer takes its turn, from our best one, then from the next. Every second try is sent as
        data; at once if a locator has answered without a handshake, as RTRs do.
        """
        if self.tries % 2 == 0 and not self.is_hub:
            return None
        remotes = self.remotes
        places = max((len(own.for_family(remote.version)) for remote in remotes), default=0)
        ways = [
            (remote, uplinks[place])
            for place in range(places)
            for remote in remotes
            if place < len(uplinks := own.for_family(remote.version))
        ]
        return ways[self.tries // 2 % len(ways)] if ways else None

    def is_sealed(self, now: float) -> bool:
        """True while there is a session to send with."""
        standing = self.confirmed
        return standing is not None and now - standing.at < SESSION_S

    def take_spare(self) -> list[InstalledSession]:
        """Remove and return the sessions beyond the datapath's places. A new one that the peer may never have heard of
        takes no place of one that it sends with.
        """
        confirmed = [session for session in self.sessions if session.is_confirmed]
        others = [session for session in self.sessions if not session.is_confirmed]
        spare = [*confirmed[:-CONFIRMED_MAX], *others[:-UNCONFIRMED_MAX]]
        self.sessions = [session for session in self.sessions if session not in spare]
        return spare

    def take_old(self, now: float) -> list[InstalledSession]:
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


class SealedEntries:
    """The forwarding entries of a node, and the peers that they are sealed for."""

    def __init__(self, config: SealConfig, keys: PeerKeys) -> None:
        self._config = config
        self._keys = keys
        self._peers: dict[EidPrefix, SealedPeer] = {}
        self._by_number: dict[int, SealedPeer] = {}
        self._next_number = 1
        self._installed: PrefixTable[InstallMapping] = PrefixTable()
        self._changed: dict[EidPrefix, InstallMapping] = {}  # of those, the ones that differ in the datapath
        self._peer_by_entry: dict[EidPrefix, SealedPeer] = {}
        self._refused_clear: tuple[EidPrefix, ...] = ()
        self._returned: list[SealedPeer] = []
        # Peers whose key was replaced: until when their sessions receive, and the indices of these.
        self._parting: dict[int, tuple[float, frozenset[int]]] = {}
        self._narrow: PrefixTable[InstallMapping] = PrefixTable()  # entries of peers that a wider mapping holds for

    @property
    def peers(self) -> tuple[SealedPeer, ...]:
        """All peers with a known key and a mapping, or with a session."""
        return tuple(self._peers.values())

    @property
    def parting_at(self) -> list[float]:
        """When sessions of replaced keys end, in monotonic seconds."""
        return [until for until, _ in self._parting.values()]

    def part(self, now: float = float("inf")) -> list[MachineEffect]:
        """End the sessions of replaced keys that are due."""
        over = [number for number, (until, _) in self._parting.items() if now >= until]
        for number in over:
            del self._parting[number]
        return [ForgetPeer(number) for number in over]

    @property
    def indices(self) -> set[int]:
        """The index of every session that the datapath may have."""
        taken = {session.local_index for peer in self.peers for session in peer.sessions}
        return taken.union(*(indices for _, indices in self._parting.values()))

    def by_number(self, number: int) -> SealedPeer | None:
        """The peer with this number in the datapath."""
        return self._by_number.get(number)

    def by_prefix(self, prefix: EidPrefix) -> SealedPeer | None:
        """The peer of a forwarding entry."""
        known = self._keys.of(prefix)
        return self._peer_by_entry.get(prefix) if known is None else self._peers.get(known.prefix)

    def on_config(self, config: SealConfig) -> list[MachineEffect]:
        """The configuration was reloaded."""
        self._config = config
        return self.reconsider()

    def on_installed(self, mapping: InstallMapping) -> list[InstallMapping | RemoveMapping]:
        """A forwarding entry was made: returns it with its peer, and changes for peers inside of its prefix."""
        if mapping.peer or mapping.must_seal:
            return [mapping]  # it has been through here
        self._installed.insert(mapping.prefix, mapping)
        self._narrow.remove(mapping.prefix)
        changed = self._for_datapath(mapping)
        peer = self._peer_by_entry.get(mapping.prefix)
        if peer is not None:
            if peer.remotes != peer.asked_at:
                peer.is_behind = False
            if peer.is_gone:
                peer.is_gone = False
                self._returned.append(peer)
        effects: list[InstallMapping | RemoveMapping] = [changed]
        for inside in self._narrow_within(mapping.prefix):
            effects += self._renew(inside)
        return effects

    def on_removed(self, prefix: EidPrefix) -> list[InstallMapping | RemoveMapping]:
        """A forwarding entry was removed; returns what replaces it. Sessions stay as long as they may be used."""
        self._installed.remove(prefix)
        self._narrow.remove(prefix)
        if (peer := self._peer_by_entry.get(prefix)) is not None:
            peer.is_gone = True
        self._forget_entry(prefix)
        effects: list[InstallMapping | RemoveMapping] = [RemoveMapping(prefix)]
        for inside in (*self._narrow_within(prefix), prefix):
            effects += self._renew(inside)
        return effects

    def take_returned(self) -> list[SealedPeer]:
        """Peers whose mapping went and came back, since the previous call."""
        taken, self._returned = self._returned, []
        return taken

    def as_installed(self, mapping: InstallMapping) -> InstallMapping:
        """A forwarding entry as the datapath has it."""
        return self._changed.get(mapping.prefix, mapping)

    def origin_of(self, prefix: EidPrefix) -> EidPrefix:
        """The EID-Prefix of the mapping that a forwarding entry was made of."""
        mapping = self._wider(prefix) if prefix in self._narrow else None
        return prefix if mapping is None else mapping.prefix

    def _wider(self, prefix: EidPrefix) -> InstallMapping | None:
        """The mapping that would hold for a prefix without one of its own."""
        covering = self._installed.covering(prefix)
        return next((mapping for at, mapping in covering if at != prefix and at not in self._narrow), None)

    def _narrow_within(self, prefix: EidPrefix) -> tuple[EidPrefix, ...]:
        """The prefixes inside of this one that may need an entry of their own."""
        found = (*self._keys.within(prefix), *(at for at, _ in self._narrow.covered(prefix)))
        return tuple(dict.fromkeys(found))

    def _renew(self, prefix: EidPrefix) -> list[InstallMapping | RemoveMapping]:
        """Give a prefix with a key an entry of its own where a wider mapping holds for it; returns what has changed.

        Otherwise the key of the wider mapping, or none, would be used: a hub could answer with a wider prefix, and so
        get around a key that is pinned, or that waits for a yes. Behind a NAT the wider one is a default mapping, which
        leads to the RTR; packets sealed for the peer pass it unchanged.
        """
        if prefix in self._installed and prefix not in self._narrow:
            return []
        mapping, before = self._wider(prefix), self._changed.get(prefix)
        if mapping is None or not self._needs_entry(prefix, mapping):
            if self._narrow.remove(prefix) is None:
                return []
            self._installed.remove(prefix)
            if (peer := self._peer_by_entry.get(prefix)) is not None:
                peer.is_gone = True
            self._forget_entry(prefix)
            return [RemoveMapping(prefix)]
        locators = mapping.locators if mapping.prefix.mask_len else _relays(mapping)
        narrow = replace(mapping, prefix=prefix, locators=locators)
        self._narrow.insert(prefix, narrow)
        self._installed.insert(prefix, narrow)
        changed = self._for_datapath(narrow)
        return [changed] if changed != before else []

    def _needs_entry(self, prefix: EidPrefix, mapping: InstallMapping) -> bool:
        known, wider = self._keys.of(prefix), self._keys.of(mapping.prefix)
        is_own = any(eid.covers(prefix) for eid in self._config.eids)
        if self._config.mode == "off" or is_own or known is None:
            return False
        if mapping.disposition not in CARRIES:
            return mapping.disposition == "NATIVE" and known.has_been_sealed
        return wider is None or (wider.key, wider.has_been_sealed) != (known.key, known.has_been_sealed)

    def peer(self, known: PeerKey) -> SealedPeer:
        """The peer with this key, created if necessary."""
        peer = self._peers.get(known.prefix)
        if peer is None:
            peer = self._peers[known.prefix] = SealedPeer(self._next_number, known)
            self._by_number[peer.number] = peer
            self._next_number += 1
        return peer

    def _hub(self, hub: HubKey | None, prefix: EidPrefix) -> SealedPeer:
        """The peer for a hub, in the Instance-ID of an entry that leads there."""
        assert hub is not None
        known = PeerKey(EidPrefix.host(hub.address, prefix.instance_id), hub.key, hub.grade, hub.has_been_sealed)
        peer = self.peer(known)
        peer.known, peer.is_hub = known, True
        return peer

    def drop(self, peer: SealedPeer) -> None:
        """Remove a peer that has neither mappings nor sessions any more, or another key."""
        self._peers.pop(peer.known.prefix, None)
        self._by_number.pop(peer.number, None)

    def _for_datapath(self, mapping: InstallMapping) -> InstallMapping:
        """The forwarding entry as the datapath gets it."""
        prefix = mapping.prefix
        self._forget_entry(prefix)
        if self._config.mode == "off" or mapping.disposition not in (*CARRIES, "NATIVE"):
            return mapping
        is_required = self._config.mode == "require"
        known = self._keys.of(prefix)
        if mapping.disposition == "NATIVE":
            if not is_required and not (known is not None and known.has_been_sealed):
                return mapping
            self._changed[prefix] = refused = replace(mapping, disposition="PROHIBIT")
            return refused
        hub = self._config.hub_at(locator.address for locator in mapping.locators) if known is None else None
        if known is None and hub is None:
            changed = replace(mapping, must_seal=is_required)
        else:
            peer = self._hub(hub, prefix) if known is None else self.peer(known)
            self._peer_by_entry[prefix] = peer
            peer.known = known or peer.known
            peer.entries[prefix] = mapping
            must_seal = is_required or peer.known.has_been_sealed
            changed = replace(mapping, peer=peer.number, must_seal=must_seal)
            if peer.is_behind:
                changed = replace(changed, locators=_relays(mapping))
        if changed != mapping:
            self._changed[prefix] = changed
        return changed

    def on_way(self, peer: SealedPeer, *, is_behind: bool) -> list[MachineEffect]:
        """A handshake showed whether a peer's locators are its own, or those of RTRs in front of it."""
        peer.asked_at = peer.remotes
        if peer.is_behind == is_behind:
            return []
        peer.is_behind = is_behind
        return [self._for_datapath(mapping) for mapping in [*peer.entries.values()]]

    def say_sources(self, changed: EidPrefix | None = None) -> list[MachineEffect]:
        """A node may have several EIDs. The owner of this one, or of any, has become known: update its sessions."""
        effects: list[MachineEffect] = []
        for peer in self.peers:
            if peer.is_hub:
                continue  # a hub sends for all hosts without a key
            is_concerned = changed is None or self._keys.is_of(changed, peer.known.key)
            if changed is not None and not is_concerned:
                is_concerned = any(one.covers(changed) or changed.covers(one) for one in peer.sources)
            sources = self._keys.sources(peer.known) if peer.sessions and is_concerned else peer.sources
            if sources != peer.sources:
                effects += [SetSessionSources(session.local_index, sources) for session in peer.sessions]
                peer.sources = sources
        return effects

    def _forget_entry(self, prefix: EidPrefix) -> None:
        self._changed.pop(prefix, None)
        if (peer := self._peer_by_entry.pop(prefix, None)) is not None:
            peer.entries.pop(prefix, None)

    def reconsider(self, within: EidPrefix | None = None, until: float | None = None) -> list[MachineEffect]:
        """Keys or policy have changed, for all or within a prefix: returns the changes of the forwarding table.

        `until`: sessions of keys that are no longer known may receive until then; None: they end at once.
        """
        effects: list[MachineEffect] = []
        for prefix, peer in [*self._peers.items()]:
            known = self._known_of(peer)
            if known is not None and known.prefix == prefix and known.key == peer.known.key:
                peer.known = known
            else:
                if peer.sessions and until is not None:
                    indices = frozenset(session.local_index for session in peer.sessions)
                    self._parting[peer.number] = until, indices
                else:
                    effects.append(ForgetPeer(peer.number))
                self.drop(peer)
        for mapping in self._within(within):
            if mapping.prefix in self._narrow:
                continue
            before = self._changed.get(mapping.prefix, mapping)
            if (changed := self._for_datapath(mapping)) != before:
                effects.append(changed)
        concerned = (*self._keys.prefixes, *(at for at, _ in self._narrow)) if within is None else (within,)
        for prefix in dict.fromkeys((*concerned, *(() if within is None else self._narrow_within(within)))):
            effects += self._renew(prefix)
        return [*effects, *self.say_refused()]

    def _known_of(self, peer: SealedPeer) -> PeerKey | None:
        """The present key of a peer."""
        if not peer.is_hub:
            return self._keys.of(peer.known.prefix)
        hub = self._config.hub_at((peer.known.prefix.address,))
        if hub is None:
            return None
        return replace(peer.known, key=hub.key, grade=hub.grade, has_been_sealed=hub.has_been_sealed)

    def _within(self, prefix: EidPrefix | None) -> list[InstallMapping]:
        if prefix is None:
            return [mapping for _, mapping in self._installed]
        exact = self._installed.get(prefix)
        return [*([] if exact is None else [exact]), *(one for _, one in self._installed.covered(prefix))]

    def say_refused(self) -> list[MachineEffect]:
        """The prefixes whose clear text is refused; all of them with `require`.

        No hub speaks for those that are named, also while they have no session.
        """
        found: tuple[EidPrefix, ...] = ()
        if self._config.mode == "prefer":
            found = self._keys.refused_clear
        elif self._config.mode == "require":
            spaces = dict.fromkeys((eid.instance_id, _ZEROS[eid.family]) for eid in self._config.eids)
            whole = (EidPrefix.make(zeros, 0, instance_id) for instance_id, zeros in spaces)
            found = tuple(dict.fromkeys((*whole, *self._keys.prefixes)))
        if found == self._refused_clear:
            return []
        self._refused_clear = found
        return [RefuseClear(found)]


def _relays(mapping: InstallMapping) -> tuple[UsableLocator, ...]:
    return tuple(dataclasses.replace(locator, is_relay=True) for locator in mapping.locators)
