"""Signatures of referrals: made by a DDT node, verified by a Map-Resolver (RFC 8111, section 10). Pure.

A record is signed as a whole, with its original TTL and with zeros in place of all signatures. A resolver learns the
keys of the next set from the locators of a referral (LCAF 11); the keys of the roots are configured. A signature is
made once and reused for half of its life, so that a flood of requests costs no more than a flood of answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeAlias

from msgspec.structs import replace

from lispmob.protocol.rate_limit import TokenBucket
from lispmob.wire.lcaf_types import SecurityKey
from lispmob.wire.map_referral import ReferralRecord, Signature
from lispmob.wire.record import Locator

RSA_SHA256: Final = 2
BACKDATED_S: Final = 3600  # ours: tolerated difference of clocks
SIGNED_KEPT: Final = 1024
SIGNED_S: Final = 100  # ours: new signatures a second; each takes a millisecond
SIGNED_BURST: Final = 200

Verify: TypeAlias = Callable[[bytes, int, bytes, bytes], bool]
"""Public key (SubjectPublicKeyInfo), algorithm, octets, signature."""


class Signs(Protocol):
    """A private key."""

    def sign(self, octets: bytes) -> bytes:
        """The signature, RSA-SHA256."""

    @property
    def octets(self) -> int:
        """The length of a signature."""


class Signer:
    """Signs our answers as a DDT node. `wall` returns seconds since 1970."""

    def __init__(self, key: Signs, key_tag: int, valid_s: int, wall: Callable[[], float]) -> None:
        self._key, self._key_tag, self._valid_s, self._wall = key, key_tag, valid_s, wall
        self._signed: OrderedDict[bytes, tuple[float, ReferralRecord]] = OrderedDict()
        self._limit = TokenBucket(1 / SIGNED_S, SIGNED_BURST)

    def signed(self, record: ReferralRecord) -> ReferralRecord | None:
        """The record with our signature; None if the rate limit is reached."""
        now, name = self._wall(), record.encode()
        at, known = self._signed.get(name, (float("-inf"), record))
        if 0 <= now - at < self._valid_s / 2:
            self._signed.move_to_end(name)
            return known
        if not self._limit.take(now):
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
        self._signed[name] = now, made
        if len(self._signed) > SIGNED_KEPT:
            self._signed.popitem(last=False)
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
