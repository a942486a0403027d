"""When a registration fails, the hub is asked for its settings, and rarely."""

from __future__ import annotations

from pathlib import Path

import pytest

from lispmob.api.schema import Event
from lispmob.lispd.tasks.refreshing import EVERY_S, Refreshing


def event(kind: str) -> Event:
    return Event(kind=kind, at="2026-11-28T20:00:00Z", fields={})


@pytest.mark.parametrize(("kind", "is_wanted"), [("register-timeout", True), ("auth-failed", True), ("moved", False)])
def test_what_fails_is_asked_for_and_nothing_else(tmp_path: Path, kind: str, is_wanted: bool) -> None:
    Refreshing(tmp_path, lambda: 5.0).on_event(event(kind))

    assert (tmp_path / "refresh-wanted").exists() is is_wanted


def test_it_is_asked_for_once_a_minute_at_most_and_does_no_harm_where_it_cannot_be(tmp_path: Path) -> None:
    now = [0.0]
    refreshing = Refreshing(tmp_path, lambda: now[0])
    times = []
    for now[0] in (0.0, 1.0, EVERY_S - 1, EVERY_S, EVERY_S + 1):
        (tmp_path / "refresh-wanted").unlink(missing_ok=True)
        refreshing.on_event(event("register-timeout"))
        times += [now[0]] if (tmp_path / "refresh-wanted").exists() else []

    assert times == [0.0, EVERY_S]
    Refreshing(tmp_path / "nowhere", lambda: 0.0).on_event(event("register-timeout"))
