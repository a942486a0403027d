"""Rate limits for requests that are unauthenticated and whose source may be forged. Pure.

A registered node has its own bucket, apart from the one that all strangers share: a flood from forged addresses takes
nothing from the nodes of this hub. A /64 of IPv6 counts as one asker, because its owner has all of its addresses.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple, TypeAlias

from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket
from lispmob.wire.address import IpAddress

_IPV6_HOST_BITS: Final = 64

Network: TypeAlias = tuple[int, int]
"""The key of a bucket: the family, and the address or its first 64 bits."""


def network_of(address: IpAddress) -> Network:
    """The addresses that one asker may own: an IPv4 address, or the /64 of an IPv6 address."""
    number = int(address)
    return (4, number) if address.version == 4 else (6, number >> _IPV6_HOST_BITS)


class Rate(NamedTuple):
    """This many a second in the long run, and this many at once."""

    per_s: float
    burst: int


class AskerLimits:
    """`each` for a stranger, `strangers` for all of them together, `registered` for each registered node."""

    def __init__(self, each: Rate, strangers: Rate, registered: Rate, limit: int = 4096) -> None:
        self._each: KeyedBuckets[Network] = KeyedBuckets(1 / each.per_s, each.burst, limit)
        self._strangers = TokenBucket(1 / strangers.per_s, strangers.burst)
        self._registered: KeyedBuckets[IpAddress] = KeyedBuckets(1 / registered.per_s, registered.burst, 4 * limit)

    def take(self, asker: IpAddress, now: float, *, is_registered: bool) -> bool:
        """True when the asker may ask now; a refusal uses up nothing."""
        if is_registered and self._registered.take(asker, now):
            return True
        network = network_of(asker)
        if self._each.available_at(network, now) > now or not self._strangers.take(now):
            return False
        return self._each.take(network, now)


class OctetBudget:
    """How many octets more than received may be sent to each: prevents amplification.

    A registered node has a budget of its own; all others share the one of their network. What others have sent to an
    address uses up nothing of what it asks for itself.
    """

    def __init__(self, per_s: float, burst: int, limit: int = 4096) -> None:
        self._per_s = per_s
        self._ahead_s = burst / per_s
        self._limit = limit
        self._full_at: OrderedDict[tuple[IpAddress | Network, bool], float] = OrderedDict()

    def take(
        self, to: IpAddress, octets: int, now: float, *, is_registered: bool = False, is_asker: bool = True
    ) -> bool:
        """Take that many octets if available; an answer no longer than its request takes none.

        `is_asker`: the request came from this address.
        """
        if octets <= 0:
            return True
        budget = (to if is_registered else network_of(to)), is_asker
        full_at = max(self._full_at.get(budget, now), now)
        if full_at - now >= self._ahead_s:
            return False
        self._full_at[budget] = full_at + octets / self._per_s
        self._full_at.move_to_end(budget)
        if len(self._full_at) > self._limit:
            self._full_at.popitem(last=False)
        return True
