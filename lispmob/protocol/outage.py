"""How long to wait for the next try while nothing answers; pure.

A network may come back without any sign on this host: a user logs in at the portal of a hotel, a provider repairs its
line, a router has started again. Only a message that is answered shows it. So tries go on at a steady pace while an
outage is young, and become rarer with its age: what lasts for hours must not keep a radio awake.
"""

from __future__ import annotations

from typing import Final

RETURN_S: Final = 4.0  # ours: packets flow again within 5 s, including the registration
SHARE: Final = 0.05  # ours, of the age of the outage: an hour without an answer is followed by one minute more at most


def longest_wait_s(outage_s: float, limit_s: float) -> float:
    """The longest pause between two tries when nothing has answered for `outage_s`; `limit_s` is never exceeded."""
    return min(max(RETURN_S, SHARE * outage_s), limit_s)
