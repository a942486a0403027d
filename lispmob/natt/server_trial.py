"""Finds out by two Map-Registers whether a Map-Server has RTRs, because Open Overlay Router's may crash on an
Info-Request.

How it works. An Open Overlay Router Map-Server with RTRs accepts a register with an xTR-ID (I=1) only from an RTR;
without RTRs, from any node. It always accepts a register without an xTR-ID.

1. The plain register, without an xTR-ID, is sent first. Once it is confirmed, one with an xTR-ID is sent too: for an
   unregistered EID, the latter would crash a server with RTRs.
2. If the one with an xTR-ID is answered, there are no RTRs, and no Info-Request is sent.
3. If only the plain one is answered, several times in a row, there are RTRs, and the server handles an Info-Request.
4. Without any answer nothing is known.
5. After the Info-Request, a plain register shows whether the server is alive.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from lispmob.errors import AuthenticationFailed
from lispmob.natt.natt_config import NattConfig
from lispmob.protocol.effect import Count, SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.auth import sign, verify
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.record import Locator, MappingRecord

ROUNDS: Final = 4  # ours: with one datagram in ten lost, all four are lost once in a thousand trials
FIRST_WAIT_S: Final = 1.0  # RFC 9301, 8.2, as for every Map-Register: doubles up to LONGEST_WAIT_S
LONGEST_WAIT_S: Final = 60.0
WATCHES: Final = 3  # ours: unanswered registers that mean that the server is down: 7 s
MARGIN_S: Final = 0.05  # ours: beyond one and a half round trips of the plain register
MAX_OUTSTANDING: Final = 16


class Finding(Enum):
    """The result of a trial."""

    NO_RTRS = "no-rtrs"  # it accepts every register, so the ordinary way is as good as any
    HAS_RTRS = "has-rtrs"
    ALIVE = "alive"  # still, after the Info-Request
    SILENT = "silent"


class ServerTrial:
    """The trial of one Map-Server over one uplink. Its registers are true: they state what works now."""

    def __init__(self, locator: LocalLocator, config: NattConfig, *, next_nonce: Callable[[], int]) -> None:
        self.locator = locator
        self._config = config
        self._next_nonce = next_nonce
        self.server: MapServerPeer | None = None
        self._locators: tuple[Locator, ...] = ()
        self._outstanding: dict[int, tuple[bool, float]] = {}  # nonce -> has an xTR-ID, when it was sent
        self._refused = self._unheard = 0
        self._is_watch = False
        self._retry_at: float | None = None
        self._check_at: float | None = None
        self._wait_s = FIRST_WAIT_S
        self._finding: Finding | None = None

    def wake_at(self) -> float | None:
        """When to call on_timer."""
        return min((at for at in (self._retry_at, self._check_at) if at is not None), default=None)

    def start(self, server: MapServerPeer, locators: tuple[Locator, ...], now: float) -> list[SendControl | Count]:
        """Try this server; `locators` are those of our record now."""
        self.stop()
        self.server, self._locators = server, locators
        return self._send(now)

    def watch(self, server: MapServerPeer, now: float) -> list[SendControl | Count]:
        """It has just been asked: check that it is alive."""
        self.stop()
        self.server, self._is_watch = server, True
        return self._send(now)

    def stop(self) -> None:
        """The result is known, or not wanted any more."""
        self.server = self._finding = None
        self._outstanding.clear()
        self._refused = self._unheard = 0
        self._is_watch = False
        self._wait_s = FIRST_WAIT_S
        self._retry_at = self._check_at = None

    def on_timer(self, now: float) -> list[SendControl | Count]:
        """A deadline may have passed."""
        if self._check_at is not None and now >= self._check_at:
            self._check_at = None
            self._refused += 1
            if self._refused >= ROUNDS:
                self._finish(Finding.HAS_RTRS)
                return []
            return self._send(now)
        if self._retry_at is not None and now >= self._retry_at:
            self._unheard += 1
            if self._is_watch and self._unheard >= WATCHES:
                self._finish(Finding.SILENT)
                return []
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            return self._send(now)
        return []

    def expects(self, nonce: int) -> bool:
        """True when a Map-Notify with this nonce would confirm a Map-Register of the trial."""
        return nonce in self._outstanding

    def on_map_notify(self, notify: MapNotify, raw: bytes, now: float) -> list[SendControl | Count]:
        """A Map-Notify arrived; `raw` is the message that its MAC covers."""
        sent = self._outstanding.get(notify.nonce)
        if sent is None or self.server is None:
            return [Count("rx_nonce")]
        try:
            verify(raw, self.server.key)
        except AuthenticationFailed:
            return [Count("rx_auth")]
        has_xtr_id, sent_at = sent
        if self._is_watch:
            self._finish(Finding.ALIVE)
        elif has_xtr_id:
            self._finish(Finding.NO_RTRS)
        elif self._check_at is None:
            del self._outstanding[notify.nonce]
            self._retry_at, self._wait_s = None, FIRST_WAIT_S
            self._check_at = now + MARGIN_S + 1.5 * (now - sent_at)
            return [self._register(now, has_xtr_id=True), Count("tx_map_register")]
        return []

    def take_finding(self) -> Finding | None:
        """The result, once."""
        found, self._finding = self._finding, None
        return found

    def _finish(self, finding: Finding) -> None:
        self.stop()
        self._finding = finding

    def _send(self, now: float) -> list[SendControl | Count]:
        self._retry_at = now + self._wait_s
        return [self._register(now, has_xtr_id=False), Count("tx_map_register")]

    def _register(self, now: float, *, has_xtr_id: bool) -> SendControl:
        assert self.server is not None
        nonce = self._next_nonce()
        self._outstanding[nonce] = has_xtr_id, now
        while len(self._outstanding) > MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        record = MappingRecord.of(
            self._config.eids[0], self._locators, ttl_min=self._config.record_ttl_min, is_authoritative=True
        )
        message = MapRegister(
            nonce=nonce,
            records=(record,),
            proxy_map_reply=self.server.proxy_map_reply,
            has_lisp_sec=self.server.has_lisp_sec,
            want_map_notify=True,
            xtr_id=self._config.xtr_id if has_xtr_id else None,
            site_id=self._config.site_id if has_xtr_id else None,
        )
        payload = sign(message, self.server.key)
        own = self.locator
        return SendControl(payload, self.server.address, CONTROL_PORT, own.address, own.ifindex)
