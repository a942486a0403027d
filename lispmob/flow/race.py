"""An allocation over all EIDs of a name: IPv6 first, the next EID when the one before is slow. Pure.

The first EID that accepts wins (RFC 8305 does the same for connections); the calls to the others are cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from lispmob.flow.auth import IpAddress
from lispmob.flow.effect import AllocationFailed, Failure

HEAD_START_S: Final = 0.25

# Which failure explains best why there is no flow: a refusal is an answer, a timeout is not.
_TELLING: Final = (
    Failure.REFUSED,
    Failure.NO_SUCH_NAME,
    Failure.NO_MAPPING,
    Failure.NO_FLOW_DAEMON,
    Failure.TIMED_OUT,
    Failure.CANCELLED,
)


class Race:
    """Decides which EIDs to call, and when. Each is called at most once."""

    def __init__(self, eids: Iterable[IpAddress]) -> None:
        ordered = sorted(dict.fromkeys(eids), key=lambda eid: -eid.version)
        self._waiting = ordered
        self._running: set[IpAddress] = set()
        self._failures: list[AllocationFailed] = []
        self._next_at: float | None = None

    def start(self, now: float) -> list[IpAddress]:
        """The EIDs to call now."""
        return self._call_next(now)

    def wake_at(self) -> float | None:
        """When the next EID is due."""
        return self._next_at if self._waiting else None

    def on_timer(self, now: float) -> list[IpAddress]:
        """Further EIDs to call now."""
        at = self.wake_at()
        return [] if at is None or now < at else self._call_next(now)

    def on_failed(self, eid: IpAddress, failed: AllocationFailed, now: float) -> list[IpAddress]:
        """A call has failed; returns the EIDs to call now. After the last failure `verdict` is set."""
        self._running.discard(eid)
        self._failures.append(failed)
        return self._call_next(now) if not self._running else []

    @property
    def verdict(self) -> AllocationFailed | None:
        """The failure that explains most, once all calls have failed; None before."""
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
