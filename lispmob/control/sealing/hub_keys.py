"""The static keys of the hubs that carry packets to hosts without LISP, with the grades of `peer_keys.py`. Pure.

A hub has no EID: its key belongs to its address. The key is configured there, or its Map-Resolver vouches for it under
LISP-SEC. Once there was a session, nothing more leaves for the hub in clear, over restarts too. Otherwise an attacker
in the access network could drop all handshakes, and have the node send in clear again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from lispmob.control.sealing.peer_keys import KeyMemory, PeerKey, PeerKeys, PinnedKey
from lispmob.control.sealing.seal_config import HubKey, SealConfig
from lispmob.protocol.effect import MachineEffect
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.key_record import KeyRecord


class HubKeys:
    """The keys of all configured proxies. Clients name a hub by its address, as a host prefix."""

    def __init__(self, given: SealConfig, memory: KeyMemory) -> None:
        self._given = given
        self._keys = PeerKeys(_pinned(given.hubs), memory, is_strict=given.is_strict)

    @property
    def waiting(self) -> Mapping[EidPrefix, bytes]:
        """Keys that wait for a client's acceptance."""
        return self._keys.waiting

    def config(self) -> SealConfig:
        """The given configuration with all known keys of its proxies."""
        addresses = dict.fromkeys((*(hub.address for hub in self._given.hubs), *self._given.proxies))
        known = ((address, self._keys.of_host(address, 0)) for address in addresses)
        hubs = (HubKey(address, key.key, key.grade, key.has_been_sealed) for address, key in known if key is not None)
        return replace(self._given, hubs=tuple(hubs))

    def on_config(self, given: SealConfig) -> bool:
        """The configuration was reloaded; False: nothing in it has changed."""
        if given == self._given:
            return False
        self._given = given
        self._keys.on_config(_pinned(given.hubs), is_strict=given.is_strict)
        return True

    def on_vouched(self, address: IpAddress, record: KeyRecord | None) -> list[MachineEffect]:
        """A Map-Resolver vouches, under LISP-SEC, for the key of this proxy. A configured key takes precedence."""
        return self._keys.on_vouched(EidPrefix.host(address), record)

    def on_session(self, known: PeerKey) -> bool:
        """A session with this hub was made; True for the first one. Its prefix may be in any Instance-ID."""
        return self._keys.on_session(replace(known, prefix=EidPrefix.host(known.prefix.address)))

    def knows(self, prefix: EidPrefix) -> bool:
        """Whether this names a hub with a known key."""
        return prefix in self._keys.prefixes

    def accept(self, prefix: EidPrefix) -> list[MachineEffect]:
        """A client accepts the new key of this hub, which waits."""
        return self._keys.accept(prefix)

    def forget(self, prefix: EidPrefix) -> None:
        """A client says that this hub no longer seals. ValueError if its key is only configured."""
        self._keys.forget(prefix)


def _pinned(hubs: Iterable[HubKey]) -> tuple[PinnedKey, ...]:
    return tuple(PinnedKey(EidPrefix.host(hub.address), hub.key) for hub in hubs)
