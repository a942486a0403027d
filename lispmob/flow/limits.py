"""How much a holder of names keeps and looks at. Pure."""

from __future__ import annotations

from lispmob.control.rate_limit import KeyedBuckets, TokenBucket
from lispmob.flow.auth import IpAddress
from lispmob.values import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Flows and calls that are kept at most, and REQUESTs a second."""

    flows: int = 1024
    flows_per_name: int = 64
    flows_per_peer: int = 64
    pending: int = 256
    pending_per_peer: int = 16
    requests_per_peer_s: float = 10.0
    requests_per_peer_burst: int = 20
    requests_s: float = 200.0
    cookies_s: float = 2000.0


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
