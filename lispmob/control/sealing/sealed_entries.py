"""Which forwarding entries are sealed for which peer, and which packets may be sent or received in clear. Pure.

| security: seal | key known | had a session | what leaves                                  | clear text from there |
|----------------|-----------|---------------|----------------------------------------------|-----------------------|
| off            |           |               | clear                                        | taken                 |
| prefer         | no        |               | clear                                        | taken                 |
| prefer         | yes       | no            | clear until there is a session, then sealed  | taken                 |
| prefer         | yes       | yes           | sealed; packets wait while there is none     | dropped               |
| require        | no        |               | nothing                                      | dropped               |
| require        | yes       |               | sealed; packets wait while there is none     | dropped               |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from msgspec.structs import replace

from lispmob.control.sealing.peer_keys import PeerKey, PeerKeys
from lispmob.control.sealing.seal_config import HubKey, SealConfig
from lispmob.control.sealing.sealed_peer import SealedPeer
from lispmob.protocol.effect import (
    ForgetPeer,
    InstallMapping,
    MachineEffect,
    RefuseClear,
    RemoveMapping,
    SetSessionSources,
    UsableLocator,
)
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress

CARRIES: Final = frozenset({"ENCAPSULATE", "TELL", "DOUBT"})
_ZEROS: Final[dict[int, IpAddress]] = {4: IPv4Address(0), 6: IPv6Address(0)}


class SealedEntries:
    """The forwarding entries of a node, and the peers that they are sealed for."""

    def __init__(self, config: SealConfig, keys: PeerKeys) -> None:
        self._config = config
        self._keys = keys
        self._peers: dict[EidPrefix, SealedPeer] = {}
        self._by_number: dict[int, SealedPeer] = {}
        self._next_number = 1
        self._installed: PrefixTable[InstallMapping] = PrefixTable()
        self._dressed: dict[EidPrefix, InstallMapping] = {}  # of those, the ones that differ in the datapath
        self._peer_by_entry: dict[EidPrefix, SealedPeer] = {}
        self._refused_clear: tuple[EidPrefix, ...] = ()
        self._returned: list[SealedPeer] = []
        self._parting: dict[int, float] = {}  # peers whose key was replaced, and until when their sessions receive
        self._narrow: dict[EidPrefix, InstallMapping] = {}  # peers' own entries, derived from a default mapping

    @property
    def peers(self) -> tuple[SealedPeer, ...]:
        """All peers with a known key and a mapping, or with a session."""
        return tuple(self._peers.values())

    @property
    def parting_at(self) -> list[float]:
        """When sessions of replaced keys end, in monotonic seconds."""
        return [*self._parting.values()]

    def part(self, now: float = float("inf")) -> list[MachineEffect]:
        """End the sessions of replaced keys that are due."""
        over = [number for number, until in self._parting.items() if now >= until]
        for number in over:
            del self._parting[number]
        return [ForgetPeer(number) for number in over]

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

    def on_installed(self, mapping: InstallMapping) -> list[InstallMapping]:
        """A forwarding entry was made: returns it with its peer; and further ones if it is a default mapping."""
        if mapping.peer or mapping.must_seal:
            return [mapping]  # it has been through here
        self._installed.insert(mapping.prefix, mapping)
        self._narrow.pop(mapping.prefix, None)
        dressed = self._dress(mapping)
        peer = self._peer_by_entry.get(mapping.prefix)
        if peer is not None:
            if peer.remotes != peer.asked_at:
                peer.is_behind = False
            if peer.is_gone:
                peer.is_gone = False
                self._returned.append(peer)
        return [dressed, *(self._narrowed(mapping, self._keys.prefixes) if not mapping.prefix.mask_len else ())]

    def on_removed(self, prefix: EidPrefix) -> list[InstallMapping | RemoveMapping]:
        """A forwarding entry was removed; returns what replaces it. Sessions stay as long as they may be used."""
        self._installed.remove(prefix)
        self._narrow.pop(prefix, None)
        if (peer := self._peer_by_entry.get(prefix)) is not None:
            peer.is_gone = True
        self._undress(prefix)
        effects: list[InstallMapping | RemoveMapping] = [RemoveMapping(prefix)]
        if not prefix.mask_len:
            gone = [eid_prefix for eid_prefix in self._narrow if eid_prefix[:2] == prefix[:2]]
            for eid_prefix in gone:
                effects += self.on_removed(eid_prefix)
            return effects
        if (default := self._default_of(prefix)) is not None:
            effects += self._narrowed(default, [prefix])
        return effects

    def take_returned(self) -> list[SealedPeer]:
        """Peers whose mapping went and came back, since the previous call."""
        taken, self._returned = self._returned, []
        return taken

    def _default_of(self, prefix: EidPrefix) -> InstallMapping | None:
        return self._installed.get(EidPrefix.make(_ZEROS[prefix.family], 0, prefix.instance_id))

    def _narrowed(self, default: InstallMapping, prefixes: Iterable[EidPrefix]) -> list[InstallMapping]:
        """Behind a NAT a default mapping sends all to the RTR: peers with known keys get entries of their own.

        They have the locators of the default; packets sealed for the peer pass the RTR unchanged.
        """
        if self._config.mode == "off" or default.disposition not in CARRIES:
            return []
        made: list[InstallMapping] = []
        for prefix in prefixes:
            is_own = any(eid.covers(prefix) for eid in self._config.eids)
            is_there = prefix in self._installed and prefix not in self._narrow
            is_wanted = prefix.mask_len and default.prefix.covers(prefix) and self._keys.of(prefix) is not None
            if not is_wanted or is_there or is_own:
                continue
            narrow = replace(default, prefix=prefix, locators=_relays(default))
            self._narrow[prefix] = narrow
            self._installed.insert(prefix, narrow)
            made.append(self._dress(narrow))
        return made

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
        peer = self.peer(PeerKey(EidPrefix.host(hub.address, prefix.instance_id), hub.key, hub.grade))
        peer.is_hub = True
        return peer

    def drop(self, peer: SealedPeer) -> None:
        """Remove a peer that has neither mappings nor sessions any more, or another key."""
        self._peers.pop(peer.known.prefix, None)
        self._by_number.pop(peer.number, None)

    def _dress(self, mapping: InstallMapping) -> InstallMapping:
        """The forwarding entry as the datapath gets it."""
        prefix = mapping.prefix
        self._undress(prefix)
        if self._config.mode == "off" or mapping.disposition not in CARRIES:
            return mapping
        is_required = self._config.mode == "require"
        known = self._keys.of(prefix)
        hub = self._config.hub_at(locator.address for locator in mapping.locators) if known is None else None
        if known is None and hub is None:
            dressed = replace(mapping, must_seal=is_required)
        else:
            peer = self._hub(hub, prefix) if known is None else self.peer(known)
            self._peer_by_entry[prefix] = peer
            peer.known = known or peer.known
            peer.entries[prefix] = mapping
            must_seal = is_required or peer.known.has_been_sealed
            dressed = replace(mapping, peer=peer.number, must_seal=must_seal)
            if peer.is_behind:
                dressed = replace(dressed, locators=_relays(mapping))
        if dressed != mapping:
            self._dressed[prefix] = dressed
        return dressed

    def on_way(self, peer: SealedPeer, *, is_behind: bool) -> list[MachineEffect]:
        """A handshake showed whether a peer's locators are its own, or those of RTRs in front of it."""
        peer.asked_at = peer.remotes
        if peer.is_behind == is_behind:
            return []
        peer.is_behind = is_behind
        return [self._dress(mapping) for mapping in [*peer.entries.values()]]

    def say_sources(self, changed: EidPrefix) -> list[MachineEffect]:
        """A node may have several EIDs. The owner of this one has become known: update the sources of its sessions."""
        known = self._keys.of(changed)
        effects: list[MachineEffect] = []
        for peer in self.peers:
            if peer.is_hub:
                continue  # a hub sends for all hosts without a key
            is_concerned = changed in peer.sources or (known is not None and known.key == peer.known.key)
            sources = self._keys.sources(peer.known) if peer.sessions and is_concerned else peer.sources
            if sources != peer.sources:
                effects += [SetSessionSources(session.local_index, sources) for session in peer.sessions]
                peer.sources = sources
        return effects

    def _undress(self, prefix: EidPrefix) -> None:
        self._dressed.pop(prefix, None)
        if (peer := self._peer_by_entry.pop(prefix, None)) is not None:
            peer.entries.pop(prefix, None)

    def reconsider(self, within: EidPrefix | None = None, until: float | None = None) -> list[MachineEffect]:
        """Keys or policy have changed, for all or within a prefix: returns the changes of the forwarding table.

        `until`: sessions of keys that are no longer known may receive until then; None: they end at once.
        """
        effects: list[MachineEffect] = []
        if self._config.mode == "off":
            effects += [RemoveMapping(prefix) for prefix in self._narrow]
        for prefix, peer in [*self._peers.items()]:
            known = self._known_of(peer)
            if known is not None and known.prefix == prefix and known.key == peer.known.key:
                peer.known = known
            else:
                if peer.sessions and until is not None:
                    self._parting[peer.number] = until
                else:
                    effects.append(ForgetPeer(peer.number))
                self.drop(peer)
        for mapping in self._within(within):
            before = self._dressed.get(mapping.prefix, mapping)
            if (dressed := self._dress(mapping)) != before:
                effects.append(dressed)
        for prefix in self._keys.prefixes if within is None else (within,):
            if prefix not in self._installed and (default := self._default_of(prefix)) is not None:
                effects += self._narrowed(default, [prefix])
        return [*effects, *self.say_refused()]

    def _known_of(self, peer: SealedPeer) -> PeerKey | None:
        """The present key of a peer; for a hub, the configured one."""
        if not peer.is_hub:
            return self._keys.of(peer.known.prefix)
        hub = self._config.hub_at((peer.known.prefix.address,))
        return replace(peer.known, key=hub.key, grade=hub.grade) if hub is not None else None

    def _within(self, prefix: EidPrefix | None) -> list[InstallMapping]:
        if prefix is None:
            return [mapping for _, mapping in self._installed]
        exact = self._installed.get(prefix)
        return [*([] if exact is None else [exact]), *(one for _, one in self._installed.covered(prefix))]

    def say_refused(self) -> list[MachineEffect]:
        """The prefixes whose clear text is refused; all of them with `require`."""
        found: tuple[EidPrefix, ...] = ()
        if self._config.mode == "prefer":
            found = self._keys.refused_clear
        elif self._config.mode == "require":
            spaces = dict.fromkeys((eid.instance_id, _ZEROS[eid.family]) for eid in self._config.eids)
            found = tuple(EidPrefix.make(zeros, 0, instance_id) for instance_id, zeros in spaces)
        if found == self._refused_clear:
            return []
        self._refused_clear = found
        return [RefuseClear(found)]


def _relays(mapping: InstallMapping) -> tuple[UsableLocator, ...]:
    return tuple(dataclasses.replace(locator, is_relay=True) for locator in mapping.locators)
