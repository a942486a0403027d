"""One allocation over all EIDs that a name stands for: IPv6 first, the next one when the former is slow. Pure.

The first EID that accepts wins (RFC 8305 does the same for connections); the calls to the others are taken back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lispmob.flow.auth import IpAddress
from lispmob.flow.effect import AllocationFailed, Failure

HEAD_START_S: Final = 0.25

# Which failure says most about why there is no flow: a refusal is an answer, silence is none.
_TELLING: Final = (
    Failure.REFUSED,
    Failure.NO_SUCH_NAME,
    Failure.NO_MAPPING,
    Failure.NO_FLOW_DAEMON,
    Failure.TIMED_OUT,
    Failure.CANCELLED,
)


class Race:
    """Which EIDs to call, and when. Each is called once at most."""

    def __init__(self, eids: Iterable[IpAddress]) -> None:
        ordered = sorted(dict.fromkeys(eids), key=lambda eid: -eid.version)
        self._waiting = ordered
        self._running: set[IpAddress] = set()
        self._failures: list[AllocationFailed] = []
        self._next_at: float | None = None

    def start(self, now: float) -> list[IpAddress]:
        """Whom to call now."""
        return self._call_next(now)

    def wake_at(self) -> float | None:
        """When the next EID gets its chance."""
        return self._next_at if self._waiting else None

    def on_timer(self, now: float) -> list[IpAddress]:
        """Whom to call now, in addition."""
        at = self.wake_at()
        return [] if at is None or now < at else self._call_next(now)

    def on_failed(self, eid: IpAddress, failed: AllocationFailed, now: float) -> list[IpAddress]:
        """A call has failed: whom to call now. When nobody is left, `verdict` says why there is no flow."""
        self._running.discard(eid)
        self._failures.append(failed)
        return self._call_next(now) if not self._running else []

    @property
    def verdict(self) -> AllocationFailed | None:
        """The most telling failure once all calls have failed; None while there is hope."""
        if self._waiting or self._running or not self._failures:
            return None
        return min(self._failures, key=lambda failed: _TELLING.index(failed.failure))

    def _call_next(self, now: float) -> list[IpAddress]:
        if not self._waiting:
            return []
        eid = self._waiting.pop(0)
        self._running.add(eid)
        self._next_at = now + HEAD_START_S
        return [eid]
