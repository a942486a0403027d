"""Probes whether packets with a UDP checksum of zero reach an uplink's RTR.

RFC 9300, section 5.3, wants outer checksums to be zero, and the BPF programs cannot send large segments otherwise. Most
NATs pass them; one that translates to IPv6 (RFC 7915, section 4.5) may drop them. So the RTR is probed with such a
packet. Without an answer after several tries, checksums are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lispmob.natt.rtr import probe_of
from lispmob.protocol.effect import Count, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import IpAddress
from lispmob.wire.map_reply import MapReply

ANSWER_S: Final = 1.0  # ours: then the probe is repeated, twice
TRIES: Final = 3


class ChecksumProbe:
    """The verdict about one uplink and RTR; it holds until a later one replaces it."""

    def __init__(self, locator: LocalLocator, *, new_nonce: Callable[[], int]) -> None:
        self._locator = locator
        self._new_nonce = new_nonce
        self._rtr: IpAddress | None = None
        self._passes: bool | None = None
        self._nonces: list[int] = []  # of the unanswered probes
        self._wake_at: float | None = None

    def passes_to(self, rtr: IpAddress) -> bool | None:
        """Whether packets without a checksum reach this RTR; None: unknown."""
        return self._passes if rtr == self._rtr else None

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return self._wake_at

    def on_rtr(self, rtr: IpAddress, now: float) -> list[SendControl | Count]:
        """Data now goes through this RTR. IPv6 is not probed: it forbids zero checksums (RFC 8200, section 8.1)."""
        if rtr == self._rtr:
            return []
        self.stop()
        self._rtr = rtr
        return self._ask(now) if rtr.version == 4 else []

    def on_doubt(self, now: float) -> list[SendControl | Count]:
        """The path may have changed. A positive verdict holds until the new probes have failed too."""
        if not self._passes or self._wake_at is not None:
            return []
        return self._ask(now)

    def on_timer(self, now: float) -> list[SendControl | Count]:
        """A deadline may have passed."""
        if self._wake_at is None or now < self._wake_at:
            return []
        if len(self._nonces) < TRIES:
            return self._ask(now)
        self._passes, self._wake_at = False, None
        return []

    def on_map_reply(self, reply: MapReply) -> bool:
        """True when this answers a probe, even a late one."""
        if not reply.is_probe or reply.nonce not in self._nonces:
            return False
        self._passes, self._wake_at = True, None
        self._nonces.clear()
        return True

    def stop(self) -> None:
        """The uplink has no RTR any more."""
        self._rtr, self._passes, self._wake_at = None, None, None
        self._nonces.clear()

    def _ask(self, now: float) -> list[SendControl | Count]:
        assert self._rtr is not None
        if self._wake_at is None:
            self._nonces.clear()
        self._nonces.append(self._new_nonce())
        self._wake_at = now + ANSWER_S
        probe = probe_of(self._locator, self._rtr, self._nonces[-1], has_checksum=False)
        return [probe, Count("tx_rtr_probe")]
