"""Cookies: what a caller shows to prove that it is where it asks from, while nothing is kept for it. Pure."""

from __future__ import annotations

import hmac
from typing import Final

from lispmob.flow.auth import Way

COOKIE_EPOCH_S: Final = 30.0
COOKIE_OCTETS: Final = 8


class Cookies:
    """`secret`: 32 random octets, others after each start. A cookie is good for this epoch of 30 s and the next."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, way: Way, nonce: bytes, now: float) -> bytes:
        """The cookie of a call, of 8 octets."""
        epoch = int(now // COOKIE_EPOCH_S).to_bytes(8, signed=True)
        covered = way.source.packed + way.source_port.to_bytes(2) + nonce + epoch
        return hmac.digest(self._secret, covered, "sha256")[:COOKIE_OCTETS]

    def is_good(self, cookie: bytes | None, way: Way, nonce: bytes, now: float) -> bool:
        """True for one that we have made for this call lately."""
        if cookie is None:
            return False
        wanted = (self.make(way, nonce, now - back) for back in (0.0, COOKIE_EPOCH_S))
        return any(hmac.compare_digest(datagram, cookie) for datagram in wanted)
