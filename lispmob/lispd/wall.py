"""Times of day for people and programs."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def iso_utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with milliseconds: 2026-01-31T12:00:00.123Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def suspended_s() -> float:
    """How long this machine was suspended since boot: CLOCK_MONOTONIC stops then, CLOCK_BOOTTIME does not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
