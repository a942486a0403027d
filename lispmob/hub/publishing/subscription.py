"""A subscription: the subscriber, its EID-Prefix, its addresses, and its key (RFC 9437, 5). Pure."""

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
LIFETIME_S: Final = 86400.0  # ours: lispmob subscribes again in half of that, and with each move

SubscriptionKey: TypeAlias = tuple[EidPrefix, bytes]
"""The EID-Prefix, and the xTR-ID of the subscriber: at most one subscription for each."""


class Place(NamedTuple):
    """A destination of publications. `is_binding`: outside of a NAT, the source of the Map-Request."""

    address: IpAddress
    port: int = CONTROL_PORT
    is_binding: bool = False


@dataclass(frozen=True, slots=True)
class Subscription:
    """The authenticated contents of the request. `own`: our address that it was sent to; unspecified: any.

    `nonce` is that of the last Map-Notify. `mark` identifies the secret of the subscriber, without revealing it.
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
    """The subscriber has answered: its address and its key are confirmed."""

    @property
    def name(self) -> SubscriptionKey:
        """The key for lookups."""
        return self.prefix, self.xtr_id

    @property
    def key(self) -> Key:
        """The key that signs its messages."""
        return key_of(self.secret, self.key_id)

    def by_binding(self, address: IpAddress, port: int, own: IpAddress) -> Subscription:
        """The same, with this NAT binding first, and then the former addresses."""
        place = Place(address, port, is_binding=True)
        former = [known for known in self.places if known != place]
        places = self.places if place == self.places[0] else (place, *former[:1])
        return dataclasses.replace(self, places=places, own=own)


class SubscriptionChanges(msgspec.Struct, frozen=True):
    """Changes for the store."""

    new: dict[SubscriptionKey, Subscription]
    gone: frozenset[SubscriptionKey]
    associations: dict[bytes, float]
    """New security associations, and until when their One-Time-Keys must not be reused."""


def mark_of(secret: bytes) -> bytes:
    """Identifies a secret of a site or a hub, here and in the state file."""
    return hashlib.sha256(b"lispmob subscriber" + secret).digest()[:MARK_OCTETS]


def key_of(secret: bytes, key_id: int) -> Key:
    """A subscription's secret as a key: RFC 9437 leaves the algorithm open; ours is 2, with all of the digest."""
    return Key(secret, key_id, Algorithm.HMAC_SHA_256_128)
