"""Cookies: a caller proves its address with a cookie, so that the holder keeps no state for it before. Pure."""

from __future__ import annotations

import hmac
from typing import Final

from lispmob.flow.auth import Way

COOKIE_EPOCH_S: Final = 30.0
COOKIE_OCTETS: Final = 8


class Cookies:
    """`secret`: 32 random octets, new at each start. A cookie is valid in its epoch of 30 s and in the next."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, way: Way, nonce: bytes, now: float) -> bytes:
        """The cookie for a call, 8 octets."""
        epoch = int(now // COOKIE_EPOCH_S).to_bytes(8, signed=True)
        covered = way.source.packed + way.source_port.to_bytes(2) + nonce + epoch
        return hmac.digest(self._secret, covered, "sha256")[:COOKIE_OCTETS]

    def is_good(self, cookie: bytes | None, way: Way, nonce: bytes, now: float) -> bool:
        """True for a valid cookie for this call."""
        if cookie is None:
            return False
        wanted = (self.make(way, nonce, now - back) for back in (0.0, COOKIE_EPOCH_S))
        return any(hmac.compare_digest(datagram, cookie) for datagram in wanted)
