"""Limits of what a holder of names keeps and processes. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.flow.auth import IpAddress
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket

REQUESTS_OF_USER_S: Final = 200.0  # ours: requests beyond it wait, so that a user cannot occupy the daemon
REQUESTS_OF_USER_BURST: Final = 200


class Limits(msgspec.Struct, frozen=True):
    """The most flows and calls to keep, and the most REQUESTs a second."""

    flows: int = 1024
    flows_per_name: int = 256  # more than a peer may have: no single peer can occupy a name
    flows_per_peer: int = 64
    pending: int = 256
    pending_per_peer: int = 16
    requests_per_peer_s: float = 10.0
    requests_per_peer_burst: int = 20
    requests_s: float = 200.0
    cookies_s: float = 2000.0
    cookies_per_peer_s: float = 20.0


class RequestShare:
    """Limits the REQUESTs that are processed: for an address, and for all."""

    def __init__(self, limits: Limits) -> None:
        self._in_all = TokenBucket(1 / limits.requests_s, int(limits.requests_s))
        self._of_peer: KeyedBuckets[IpAddress] = KeyedBuckets(
            1 / limits.requests_per_peer_s, limits.requests_per_peer_burst
        )

    def take(self, peer: IpAddress, now: float) -> bool:
        """True while the rates of `peer` and of all are within the limits."""
        return self._of_peer.take(peer, now) and self._in_all.take(now)


class CookieShare:
    """Limits the cookies that are made: for an address, and for all."""

    def __init__(self, limits: Limits) -> None:
        self._in_all = TokenBucket(1 / limits.cookies_s, int(limits.cookies_s))
        self._of_peer: KeyedBuckets[IpAddress] = KeyedBuckets(
            1 / limits.cookies_per_peer_s, int(limits.cookies_per_peer_s)
        )

    def take(self, peer: IpAddress, now: float) -> bool:
        """True while `peer` may get another cookie."""
        return self._of_peer.take(peer, now) and self._in_all.take(now)


class UserShare:
    """Limits the requests of each user of this host. Root is not limited."""

    def __init__(self) -> None:
        self._of_user: KeyedBuckets[int] = KeyedBuckets(1 / REQUESTS_OF_USER_S, REQUESTS_OF_USER_BURST)

    def wait_s(self, uid: int, now: float) -> float:
        """How long the next request of this user has to wait, seconds."""
        return self._of_user.available_at(uid, now) - now if uid else 0.0

    def on_request(self, uid: int, now: float) -> None:
        """Count a request of this user."""
        self._of_user.take(uid, now)
