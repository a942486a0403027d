"""Profiles: how often a node may send without traffic; pure.

A profile is a lower bound of intervals: longer values in lispd.conf take precedence.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Profile(msgspec.Struct, frozen=True):
    """The shortest intervals, in seconds. `may_measure`: probe paths that data proves, for their round trips."""

    probe_interval_s: float = 0.0
    probe_backoff_s: float = 0.0
    register_interval_s: float = 0.0
    may_measure: bool = True


PROFILES: Final = {
    "normal": Profile(),
    # Two minutes are below the three after which a Map-Server forgets a registration (RFC 9301, 8.2).
    "battery": Profile(probe_interval_s=120.0, probe_backoff_s=600.0, register_interval_s=120.0, may_measure=False),
}
