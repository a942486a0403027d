"""How much a holder of names keeps and looks at. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.flow.auth import IpAddress
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket

REQUESTS_OF_USER_S: Final = 200.0  # ours: what is beyond waits, so that no user takes the daemon's time
REQUESTS_OF_USER_BURST: Final = 200


class Limits(msgspec.Struct, frozen=True):
    """Flows and calls that are kept at most, and REQUESTs a second."""

    flows: int = 1024
    flows_per_name: int = 256  # more than one peer has: nobody keeps a name from all others
    flows_per_peer: int = 64
    pending: int = 256
    pending_per_peer: int = 16
    requests_per_peer_s: float = 10.0
    requests_per_peer_burst: int = 20
    requests_s: float = 200.0
    cookies_s: float = 2000.0
    cookies_per_peer_s: float = 20.0


class RequestShare:
    """How many REQUESTs are looked at: of one address, and of all."""

    def __init__(self, limits: Limits) -> None:
        self._in_all = TokenBucket(1 / limits.requests_s, int(limits.requests_s))
        self._of_peer: KeyedBuckets[IpAddress] = KeyedBuckets(
            1 / limits.requests_per_peer_s, limits.requests_per_peer_burst
        )

    def take(self, peer: IpAddress, now: float) -> bool:
        """True while `peer`, and all together, have asked seldom enough."""
        return self._of_peer.take(peer, now) and self._in_all.take(now)


class CookieShare:
    """How many cookies are made: for one address, so that nobody uses up those of the others, and for all."""

    def __init__(self, limits: Limits) -> None:
        self._in_all = TokenBucket(1 / limits.cookies_s, int(limits.cookies_s))
        self._of_peer: KeyedBuckets[IpAddress] = KeyedBuckets(
            1 / limits.cookies_per_peer_s, int(limits.cookies_per_peer_s)
        )

    def take(self, peer: IpAddress, now: float) -> bool:
        """True while there is one more for `peer`."""
        return self._of_peer.take(peer, now) and self._in_all.take(now)


class UserShare:
    """How often the programs of one user of this host are served. Root's always are."""

    def __init__(self) -> None:
        self._of_user: KeyedBuckets[int] = KeyedBuckets(1 / REQUESTS_OF_USER_S, REQUESTS_OF_USER_BURST)

    def wait_s(self, uid: int, now: float) -> float:
        """How long the next request of this user has to wait, seconds."""
        return self._of_user.available_at(uid, now) - now if uid else 0.0

    def on_request(self, uid: int, now: float) -> None:
        """A request of this user was taken in."""
        self._of_user.take(uid, now)
