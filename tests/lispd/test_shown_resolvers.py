"""The Map-Resolvers that have shown LISP-SEC, in the state directory."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lispmob.lispd.shown_resolvers import FILE_NAME, MARKS_KEPT, ShownResolvers

MARK, OTHER = "0123456789abcdef" * 2, "f" * 32


def test_what_is_kept_is_there_after_a_restart_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    ShownResolvers(tmp_path / "state").save({MARK, OTHER})

    assert ShownResolvers(tmp_path / "state").load() == {MARK, OTHER}
    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o077 == 0
    ShownResolvers(tmp_path / "state").save(())
    assert ShownResolvers(tmp_path / "state").load() == frozenset()


@pytest.mark.parametrize("text", ["", "no mark\n", MARK[:-1] + "\n", MARK.upper() + "\n"])
def test_what_is_no_mark_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text + OTHER + "\n")

    assert ShownResolvers(tmp_path).load() == {OTHER}


def test_only_so_many_are_read_and_written(tmp_path: Path) -> None:
    ShownResolvers(tmp_path).save(f"{number:032x}" for number in range(10 * MARKS_KEPT))

    assert len(ShownResolvers(tmp_path).load()) == MARKS_KEPT


@pytest.mark.parametrize("octets", [b"\xff\xfe", None])
def test_what_cannot_be_read_or_written_is_said_and_stops_nothing(
    tmp_path: Path, octets: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / FILE_NAME
    if octets is None:
        place.mkdir()
    else:
        place.write_bytes(octets)

    with caplog.at_level(logging.WARNING):
        assert ShownResolvers(tmp_path).load() == frozenset()
        if octets is None:
            ShownResolvers(tmp_path).save({MARK})

    assert "LISP-SEC" in caplog.text
