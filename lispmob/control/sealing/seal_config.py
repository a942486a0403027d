"""What the machine of sealed data is told, and what it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from lispmob.control.sealing.noise import Ciphers, KeyPair
from lispmob.control.sealing.peer_keys import KeyMemory, PinnedKey
from lispmob.control.sealing.sealed_handshake import ALL_AEADS
from lispmob.wire.address import EidPrefix

SealMode: TypeAlias = Literal["off", "prefer", "require"]


class SealConfig(msgspec.Struct, frozen=True):
    """What the user says. `is_strict`: a new key that the Map-Server vouches for waits for somebody's yes."""

    mode: SealMode = "off"
    pinned: tuple[PinnedKey, ...] = ()
    is_strict: bool = False
    eids: tuple[EidPrefix, ...] = ()

    def own_eid(self, prefix: EidPrefix) -> EidPrefix | None:
        """The EID that peers of this family and Instance-ID know us by, as a host."""
        fitting = (eid for eid in self.eids if eid[:2] == prefix[:2])
        own = next(fitting, None)
        return None if own is None else EidPrefix.host(own.address, own.instance_id)

    def owner_of(self, host: EidPrefix) -> EidPrefix | None:
        """Our EID-Prefix that holds a host."""
        return next((eid for eid in self.eids if eid.covers(host)), None)


@dataclass(frozen=True, slots=True)
class SealTools:
    """What the machine is given: ciphers, our static key, what outlives a restart, randomness, and a clock that grows.

    `draw` gives so many unpredictable octets; `next_timestamp` nanoseconds since 1970, never one twice.
    """

    ciphers: Ciphers = dataclasses.field(repr=False)
    static: KeyPair
    memory: KeyMemory = dataclasses.field(repr=False)
    draw: Callable[[int], bytes] = dataclasses.field(repr=False)
    next_timestamp: Callable[[], int] = dataclasses.field(repr=False)
    aeads: int = ALL_AEADS
