"""Events as people read them."""

from __future__ import annotations

import pytest

from lispmob.control.effect import Event
from lispmob.service.narration import line_of, step_of


def test_a_line_of_the_log_has_lists_as_words() -> None:
    event = Event("moved", {"version": 2, "rlocs": ["192.0.2.1", "192.0.2.2"], "previous": []})

    assert line_of(event) == "moved version=2 rlocs=192.0.2.1,192.0.2.2 previous=none"


@pytest.mark.parametrize(
    ("event", "step"),
    [
        (Event("register-sent", {"map_server": "192.0.2.1", "rlocs": ["192.0.2.9"]}), ("register", "192.0.2.1")),
        (Event("registered", {"map_server": "192.0.2.1"}), ("notify", "192.0.2.1")),
        (Event("smr-sent", {"rlocs": ["192.0.2.3"]}), ("smr", "192.0.2.3")),
        (Event("smr-sent", {"rlocs": list("abcde")}), ("smr", "a, b, c and 2 more")),
        (Event("miss", {"eid": "10.1.0.1/32"}), None),
    ],
)
def test_a_step_of_a_handover_says_whom_it_went_to(event: Event, step: tuple[str, str] | None) -> None:
    assert step_of(event) == step
