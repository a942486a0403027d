"""What is known of the Map-Servers' NAT service, for all uplinks together, so that none is asked too often.

An unknown server is asked once, and again only after a sign of life, or at the pace of an outage
(`protocol/outage.py`). A server that an Info-Request may crash (`NattConfig.is_at_risk`) gets one whose digest is cut
to 96 bits. A lispmob hub answers that, and Open Overlay Router drops it unread. A full one follows once the server is
known to have RTRs (`server_trial.py`), and never again if it fell silent after that. One of this kind that stays silent
is left alone for hours.
"""

from __future__ import annotations

from typing import Final

import msgspec

from lispmob.natt.dialect import Dialect, candidates
from lispmob.protocol.natt_settings import NattMode
from lispmob.protocol.outage import longest_wait_s
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import IpAddress

RETRY_ALIVE_S: Final = 3.0  # OOR's own retry: the server answered another message, so the Info-Request was lost
RETRY_SILENT_S: Final = 60.0  # NAT-traversal draft; doubles
ASKS_PER_DIALECT: Final = 2  # ours: then it has no NAT service
SILENT_ASKS: Final = 4  # ours: so many without any life sign count like one, since the network may be down
ASKS_FOR_PROOF: Final = 3  # ours: unanswered E19 requests after which a server speaks only lispers.net's dialect
LEFT_ALONE_S: Final = 3600.0  # ours; doubles
LEFT_ALONE_MAX_S: Final = 86400.0


class _Record(msgspec.Struct):
    dialect: Dialect | None = None
    asks: int = 0
    ignored: int = 0  # of them, those after which it answered something else
    asked_at: float | None = None
    silent_since: float = float("-inf")  # when the first of the questions since its last life sign was sent
    is_alive_since: bool = True
    silent_asks: int = 0  # in a row, without a life sign before each
    silent_wait_s: float = RETRY_SILENT_S
    absent_wait_s: float = LEFT_ALONE_S
    absent_until: float | None = None
    has_rtrs: bool = False  # learned since the last full request
    fell_silent: bool = False


class ServerKnowledge:
    """Which server may be asked when, and in which dialect."""

    def __init__(self, mode: NattMode = "auto") -> None:
        self._mode = mode
        self._records: dict[IpAddress, _Record] = {}

    def dialect_of(self, server: MapServerPeer) -> Dialect | None:
        """The dialect of its answers; None: none yet."""
        return self._of(server).dialect

    def is_absent(self, server: MapServerPeer, now: float) -> bool:
        """True for a server that answers everything but Info-Requests."""
        until = self._of(server).absent_until
        return until is not None and now < until

    def is_alive(self, server: MapServerPeer) -> bool:
        """True when it has answered something since it was last asked."""
        record = self._of(server)
        return record.asked_at is not None and record.is_alive_since

    def may_ask_at(self, server: MapServerPeer, now: float, *, is_harmless: bool = False) -> float:
        """When the next Info-Request may be sent: now, or later. `is_harmless`: it cannot crash this server."""
        record = self._of(server)
        if record.dialect is not None or self._is_safe:
            return now
        if record.absent_until is not None:
            return max(now, record.absent_until)
        if record.asked_at is None:
            return now
        if record.is_alive_since:
            # What it confirms is a private address, which peers must not learn if there is an RTR.
            wait_s = 0.0 if is_harmless else RETRY_ALIVE_S
        elif is_harmless:  # its silence may be the network's
            wait_s = longest_wait_s(record.asked_at - record.silent_since, RETRY_SILENT_S)
        else:
            wait_s = record.silent_wait_s
        return max(now, record.asked_at + wait_s)

    def takes_whole_question(self, server: MapServerPeer) -> bool:
        """True when a full Info-Request, as Open Overlay Router reads it, does not crash this server."""
        record = self._of(server)
        return record.dialect is not None or (record.has_rtrs and not record.fell_silent)

    def on_rtrs_found(self, server: MapServerPeer) -> None:
        """It has RTRs: it may be asked now."""
        record = self._of(server)
        record.has_rtrs = True
        record.asked_at = record.absent_until = None

    def on_asked_whole(self, server: MapServerPeer) -> None:
        """A full Info-Request was sent; the next one needs a new trial."""
        self._of(server).has_rtrs = False

    def on_silent(self, server: MapServerPeer) -> None:
        """It answers nothing after a full request: do not repeat that."""
        self._of(server).fell_silent = True

    def next_dialect(self, server: MapServerPeer) -> Dialect:
        """The dialect of the next Info-Request: the known one, else each candidate twice.

        The lispers.net dialect is unauthenticated. A server that supports E19 is asked in that first, several times: a
        lost datagram must not cost the authentication.
        """
        record = self._of(server)
        choices = candidates(self._mode, server.key)
        if record.dialect is None and not record.is_alive_since:  # it may have heard none of them
            asks = record.asks + record.silent_asks // SILENT_ASKS
            return choices[asks // ASKS_PER_DIALECT % len(choices)]
        if record.dialect is Dialect.E19 or len(choices) == 1:
            return record.dialect or choices[0]
        if record.dialect is Dialect.LISPERS:
            return Dialect.E19 if record.asks < ASKS_FOR_PROOF else choices[record.asks % len(choices)]
        return choices[record.asks // ASKS_PER_DIALECT % len(choices)]

    def wants_proof(self, server: MapServerPeer) -> bool:
        """True when it answered without authentication, and may still support authentication."""
        record = self._of(server)
        is_unproven = record.dialect is Dialect.LISPERS and record.asks < ASKS_FOR_PROOF
        return is_unproven and Dialect.E19 in candidates(self._mode, server.key)

    def on_asked(self, server: MapServerPeer, now: float) -> None:
        """An Info-Request was sent."""
        record = self._of(server)
        if record.dialect is not None:
            record.asks += 1
            return
        if record.asked_at is not None and not record.is_alive_since:
            record.silent_wait_s = min(2 * record.silent_wait_s, LEFT_ALONE_S)
        record.absent_until = None
        if record.is_alive_since:
            record.asks, record.silent_asks, record.silent_since = record.asks + 1, 0, now
        else:
            record.silent_asks += 1
        record.asked_at = now
        record.is_alive_since = False

    def was_long_silent(self, server: MapServerPeer) -> bool:
        """True when it has not answered several questions in a row, or anything else."""
        record = self._of(server)
        return not record.is_alive_since and record.silent_asks > 0

    def on_alive(self, server: MapServerPeer, now: float, *, is_clear: bool) -> bool:
        """It answered another message; True when this completes the proof that it has no NAT service.

        `is_clear`: at once. Otherwise the network loses packets, and may have lost the Info-Request, too.
        """
        record = self._of(server)
        if record.dialect is not None or record.absent_until is not None or self._is_safe:
            return False
        is_news = not record.is_alive_since
        record.is_alive_since = True
        record.ignored += is_news and is_clear
        if not is_news or record.ignored < ASKS_PER_DIALECT * len(candidates(self._mode, server.key)):
            return False
        record.absent_until = now + record.absent_wait_s
        record.absent_wait_s = min(2 * record.absent_wait_s, LEFT_ALONE_MAX_S)
        record.asks = record.ignored = 0
        record.asked_at = None
        return True

    def on_answered(self, server: MapServerPeer, dialect: Dialect) -> bool:
        """An Info-Reply came; True when it is the first one."""
        record = self._of(server)
        is_first = record.dialect is None
        if record.dialect is not dialect:
            self._records[server.address] = _Record(dialect=dialect)
        return is_first

    @property
    def _is_safe(self) -> bool:
        """True when the configuration says that no server can be harmed by an Info-Request."""
        return self._mode == Dialect.LISPERS.value

    def _of(self, server: MapServerPeer) -> _Record:
        return self._records.setdefault(server.address, _Record())
