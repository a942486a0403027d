"""The table of the uplink's states."""

from __future__ import annotations

from lispmob.natt.state import TRANSITIONS, State


def test_every_state_can_be_reached_and_left_for_good() -> None:
    reached: set[State] = set()
    waiting = [State.IDLE]
    while waiting:
        state = waiting.pop()
        if state not in reached:
            reached.add(state)
            waiting += TRANSITIONS[state]

    assert reached == set(TRANSITIONS) == set(State)
    assert all(State.IDLE in TRANSITIONS[state] for state in State if state is not State.IDLE)
