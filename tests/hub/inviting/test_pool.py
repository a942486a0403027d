"""How many EIDs of a pool are left."""

from __future__ import annotations

import pytest

from lispmob.hub.inviting.pool import numbers_left
from tests.hub.exchange import eid


@pytest.mark.parametrize(
    ("pool", "taken", "left"),
    [
        ("10.99.0.0/29", (), 6),  # neither the first nor the last address
        ("10.99.0.0/29", ("10.99.0.1/32", "10.99.0.6/32"), 4),
        ("10.99.0.0/29", ("10.99.0.6/32", "10.99.0.1/32", "10.99.0.1/32"), 4),
        ("10.99.0.0/29", ("10.99.0.0/30",), 3),
        ("10.99.0.0/29", ("10.99.0.4/30",), 3),
        ("10.99.0.0/29", ("10.99.0.0/29",), 0),
        ("10.99.0.0/29", ("10.0.0.0/8",), 0),
        ("10.99.0.0/29", ("10.98.0.0/16", "10.99.0.8/29"), 6),
        ("fd00::/125", (), 7),  # IPv6 has no broadcast
        ("fd00::/125", ("fd00::7/128", "fd00::2/127"), 4),
    ],
)
def test_what_is_left_of_a_pool_is_what_nobody_has(pool: str, taken: tuple[str, ...], left: int) -> None:
    assert numbers_left(eid(pool), map(eid, taken)) == left
