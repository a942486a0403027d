"""The table of the uplink's states."""

from __future__ import annotations

from lispmob.natt.state import TRANSITIONS, State
from tests.control.support import reachable


def test_every_state_can_be_reached_and_left_for_good() -> None:
    assert reachable(TRANSITIONS, State.IDLE) == set(TRANSITIONS) == set(State)
    assert all(State.IDLE in TRANSITIONS[state] for state in State if state is not State.IDLE)
