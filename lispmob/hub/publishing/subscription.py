"""A subscription: who hears of the changes of which EID-Prefix, where, and by which key (RFC 9437, 5). Pure."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import msgspec

from lispmob.protocol.effect import CONTROL_PORT
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key

MARK_OCTETS: Final = 8
LIFETIME_S: Final = 86400.0  # ours: a subscriber of our kind subscribes again in half of that, and with each move

SubscriptionKey: TypeAlias = tuple[EidPrefix, bytes]
"""The EID-Prefix, and the xTR-ID of the subscriber: one subscription, the latest, for each."""


class Place(NamedTuple):
    """Where publications go. `is_binding`: outside of a NAT, as the Map-Request came from there."""

    address: IpAddress
    port: int = CONTROL_PORT
    is_binding: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """What the subscriber said, as it was authenticated. `own`: the address of ours that it asked; unspecified: any.

    `nonce` is that of the last Map-Notify. `mark` names the secret that proved the subscriber, without telling it.
    """

    prefix: EidPrefix
    xtr_id: bytes
    source: EidPrefix
    places: tuple[Place, ...]
    own: IpAddress
    families: tuple[int, ...]
    nonce: int
    secret: bytes = dataclasses.field(repr=False)
    key_id: int
    mark: bytes
    expires_at: float
    is_acknowledged: bool = False
    """It has answered: so what it named is where it is, and the key is the one that it has."""

    @property
    def name(self) -> SubscriptionKey:
        """What it is found by."""
        return self.prefix, self.xtr_id

    @property
    def key(self) -> Key:
        """What its messages are signed with."""
        return key_of(self.secret, self.key_id)

    def by_binding(self, address: IpAddress, port: int, own: IpAddress) -> Subscription:
        """The same, written to outside of its NAT there first, and then where it was written to before."""
        place = Place(address, port, is_binding=True)
        former = [known for known in self.places if known != place]
        places = self.places if place == self.places[0] else (place, *former[:1])
        return dataclasses.replace(self, places=places, own=own)


class SubscriptionChanges(msgspec.Struct, frozen=True):
    """What the store has to write."""

    new: dict[SubscriptionKey, Subscription]
    gone: frozenset[SubscriptionKey]
    associations: dict[bytes, float]
    """Security associations that were made, and until when none is made of the same One-Time-Key."""


def mark_of(secret: bytes) -> bytes:
    """What stands for a secret of a site or a hub, here and in the state file."""
    return hashlib.sha256(b"lispmob subscriber" + secret).digest()[:MARK_OCTETS]


def key_of(secret: bytes, key_id: int) -> Key:
    """A subscription's secret as a key: RFC 9437 leaves the algorithm open; ours is 2, with all of the digest."""
    return Key(secret, key_id, Algorithm.HMAC_SHA_256_128)
