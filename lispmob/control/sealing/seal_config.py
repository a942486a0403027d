"""The configuration of the sealing machine, and the tools that it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from lispmob.control.sealing.noise import Ciphers, KeyPair
from lispmob.control.sealing.peer_keys import KeyGrade, KeyMemory, NoKeyMemory, PinnedKey
from lispmob.control.sealing.sealed_handshake import ALL_AEADS
from lispmob.wire.address import EidPrefix, IpAddress

SealMode: TypeAlias = Literal["off", "prefer", "require"]


class HubKey(msgspec.Struct, frozen=True):
    """The address of a proxy, and its key. `has_been_sealed`: there was a session, so nothing goes there in clear."""

    address: IpAddress
    key: bytes
    grade: KeyGrade = "pinned"
    has_been_sealed: bool = False


class SealConfig(msgspec.Struct, frozen=True):
    """The configuration. `is_strict`: a new key that the Map-Server vouches for waits for a client's acceptance."""

    mode: SealMode = "off"
    pinned: tuple[PinnedKey, ...] = ()
    is_strict: bool = False
    eids: tuple[EidPrefix, ...] = ()
    hubs: tuple[HubKey, ...] = ()
    proxies: tuple[IpAddress, ...] = ()
    """Where packets to hosts without LISP go: a Map-Resolver may vouch for keys of these, too."""

    def hub_at(self, addresses: Iterable[IpAddress]) -> HubKey | None:
        """The hub that has all of these addresses; None: its key is unknown, or not all are a hub's."""
        keys = {hub.address: hub for hub in self.hubs}
        found = [keys.get(address) for address in addresses]
        is_one = bool(found) and all(hub is not None and hub.key == found[0].key for hub in found if found[0])
        return found[0] if is_one and None not in found else None

    def own_eid(self, prefix: EidPrefix) -> EidPrefix | None:
        """Our EID towards peers of this family and Instance-ID, as a host."""
        fitting = (eid for eid in self.eids if eid[:2] == prefix[:2])
        own = next(fitting, None)
        return None if own is None else EidPrefix.host(own.address, own.instance_id)

    def owner_of(self, host: EidPrefix) -> EidPrefix | None:
        """The local EID-Prefix that holds a host."""
        return next((eid for eid in self.eids if eid.covers(host)), None)


@dataclass(frozen=True, slots=True)
class SealTools:
    """What the machine is given: ciphers, our static key, the stored state, randomness, and an increasing clock.

    `memory` is about peers, `hub_memory` about hubs.

    `draw` returns that many unpredictable octets; `next_timestamp` nanoseconds since 1970, never the same twice;
    `next_map_version` the next Map-Version Number, over restarts too (RFC 9302); None: our mappings have none.
    `reserve` stores ahead what the next of both need, so that no move waits for the disk.
    """

    ciphers: Ciphers = dataclasses.field(repr=False)
    static: KeyPair
    memory: KeyMemory = dataclasses.field(repr=False)
    draw: Callable[[int], bytes] = dataclasses.field(repr=False)
    next_timestamp: Callable[[], int] = dataclasses.field(repr=False)
    aeads: int = ALL_AEADS
    next_map_version: Callable[[], int] | None = dataclasses.field(default=None, repr=False)
    hub_memory: KeyMemory = dataclasses.field(default_factory=NoKeyMemory, repr=False)
    reserve: Callable[[], None] = dataclasses.field(default=lambda: None, repr=False)
