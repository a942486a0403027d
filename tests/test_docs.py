from __future__ import annotations

from pathlib import Path

from docs.machines import page

ROOT = Path(__file__).resolve().parent.parent


def test_the_pictures_of_the_machines_are_those_of_the_code() -> None:
    assert (ROOT / "docs" / "machines.md").read_text() == page(), "stale: run `make docs`"
