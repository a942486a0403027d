"""Signatures of referrals: made by a DDT node, verified by a Map-Resolver (RFC 8111, section 10). Pure.

A record is signed as a whole, with its original TTL and with zeros in place of all signatures. Who follows a referral
knows the keys of the next set from its locators (LCAF 11); those of the roots are configured. A signature is made once
and sent again until half of its life is over, so that a flood of questions costs no more than a flood of answers.
Referrals to delegations, to what is registered, and negative ones have limits of their own, because any host may ask
about EIDs that are not registered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeAlias

from msgspec.structs import replace

from lispmob.hub.map_server.asker_limits import Network, Rate
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.lcaf_types import SecurityKey
from lispmob.wire.map_referral import Referral, ReferralRecord, Signature
from lispmob.wire.record import Locator

RSA_SHA256: Final = 2
BACKDATED_S: Final = 3600  # ours: how far clocks may be apart
SIGNED_KEPT: Final = 1024  # ours: of each kind
# ours: new signatures a second, 100 in all; each takes a millisecond
DELEGATIONS: Final = Rate(20, 200)
REGISTERED: Final = Rate(60, 200)
NOTHING: Final = Rate(20, 100)
EACH: Final = Rate(10, 40)  # ours: for one who asks

Verify: TypeAlias = Callable[[bytes, int, bytes, bytes], bool]
"""Public key (SubjectPublicKeyInfo), algorithm, octets, signature."""


class Signs(Protocol):
    """A private key."""

    def sign(self, octets: bytes) -> bytes:
        """The signature, RSA-SHA256."""

    @property
    def octets(self) -> int:
        """The length of a signature."""


class _Share:
    """The signatures of one kind of record that are sent again, and how many are made."""

    def __init__(self, rate: Rate) -> None:
        self.kept: OrderedDict[bytes, tuple[float, ReferralRecord]] = OrderedDict()
        self.limit = TokenBucket(1 / rate.per_s, rate.burst)

    def keep(self, name: bytes, made: ReferralRecord, now: float) -> None:
        self.kept[name] = now, made
        if len(self.kept) > SIGNED_KEPT:
            self.kept.popitem(last=False)


class Signer:
    """Signs our answers as a DDT node. `wall` returns seconds since 1970."""

    def __init__(self, key: Signs, key_tag: int, valid_s: int, wall: Callable[[], float]) -> None:
        self._key, self._key_tag, self._valid_s, self._wall = key, key_tag, valid_s, wall
        delegations, self._nothing = _Share(DELEGATIONS), _Share(NOTHING)
        self._shares = {
            Referral.NODE: delegations,
            Referral.MS: delegations,
            Referral.MS_ACK: _Share(REGISTERED),
        }
        self._of_asker: KeyedBuckets[Network] = KeyedBuckets(1 / EACH.per_s, EACH.burst)

    def signed(self, record: ReferralRecord, asker: Network) -> ReferralRecord | None:
        """The record with our signature; None when too many were made just now, of its kind or for this asker."""
        now, name = self._wall(), record.encode()
        share = self._shares.get(Referral(record.referral), self._nothing)
        at, known = share.kept.get(name, (float("-inf"), record))
        if 0 <= now - at < self._valid_s / 2:
            share.kept.move_to_end(name)
            return known
        if not self._of_asker.take(asker, now) or not share.limit.take(now):
            return None
        blank = Signature(
            record.ttl_min,
            int(now) + self._valid_s,
            int(now) - BACKDATED_S,
            self._key_tag,
            RSA_SHA256,
            bytes(self._key.octets),
        )
        octets = replace(record, signatures=(blank,)).encode()
        made = replace(record, signatures=(replace(blank, signature=self._key.sign(octets)),))
        share.keep(name, made, now)
        return made


def is_signed(record: ReferralRecord, keys: Iterable[bytes], verify: Verify, now: float) -> bool:
    """True when one of these keys signed the record, and the signature is valid `now`, in seconds since 1970."""
    known = tuple(keys)
    blanks = tuple(replace(each, signature=bytes(len(each.signature))) for each in record.signatures)
    for signature in record.signatures:
        if not signature.valid_from_s <= now < signature.expires_at_s or record.ttl_min > signature.original_ttl_min:
            continue
        octets = replace(record, ttl_min=signature.original_ttl_min, signatures=blanks).encode()
        if any(verify(key, signature.algorithm_id, octets, signature.signature) for key in known):
            return True
    return False


def keys_in(locators: Iterable[Locator]) -> tuple[bytes, ...]:
    """The public keys of the next set, from the locators. A key with R is revoked, wherever it occurs."""
    found: dict[bytes, None] = {}
    revoked: set[bytes] = set()
    for locator in locators:
        if isinstance(locator.address, SecurityKey):
            (revoked.update if locator.address.is_revoked else found.update)(dict.fromkeys(locator.address.keys))
    return tuple(key for key in found if key not in revoked)
