"""The Map-Version Number over restarts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lispmob.control.map_version import is_newer
from lispmob.lispd.sealing.map_versions import BLOCK, FILE_NAME, MapVersions


def test_the_first_number_is_drawn_and_the_others_follow(tmp_path: Path) -> None:
    versions = MapVersions(tmp_path, draw=lambda _: 99)

    assert [versions() for _ in range(20)] == list(range(101, 121))


def test_a_restart_goes_on_with_numbers_that_no_peer_has_seen(tmp_path: Path) -> None:
    first = MapVersions(tmp_path)
    seen = [first() for _ in range(3)]

    again = MapVersions(tmp_path, draw=lambda _: 0)()

    assert is_newer(again, seen[-1])
    assert (again - seen[-1]) % 4095 <= BLOCK + 1


def test_what_is_reserved_is_on_the_disk_before_the_first_of_it_is_used(tmp_path: Path) -> None:
    versions = MapVersions(tmp_path, draw=lambda _: 0)

    assert versions() <= int((tmp_path / FILE_NAME).read_text())


def test_the_count_goes_around_and_leaves_out_the_null_version(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("4094\n")
    versions = MapVersions(tmp_path)

    assert [versions() for _ in range(3)] == [4095, 1, 2]


@pytest.mark.parametrize("text", ["", "0", "4096", "-1", "seven", "7 7"])
def test_a_damaged_file_is_reported_and_another_number_drawn(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_text(text)

    with caplog.at_level(logging.WARNING):
        assert MapVersions(tmp_path, draw=lambda _: 41)() == 43

    assert "Map-Version Number" in caplog.text


def test_a_directory_that_cannot_be_written_is_reported_once_and_the_count_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    versions = MapVersions(tmp_path / "file", draw=lambda _: 0)

    with caplog.at_level(logging.WARNING):
        assert [versions() for _ in range(20)] == list(range(2, 22))

    assert caplog.text.count("cannot keep the Map-Version Number") == 1


def test_numbers_are_reserved_between_moves_so_that_no_move_writes(tmp_path: Path) -> None:
    versions, file = MapVersions(tmp_path, draw=lambda _: 0), tmp_path / FILE_NAME
    versions()
    written_in_moves = 0

    for _ in range(5 * BLOCK):
        versions.keep_ahead()
        before = file.read_text()
        assert versions() <= int(before)
        written_in_moves += file.read_text() != before

    assert written_in_moves == 0


def test_nothing_is_reserved_ahead_of_what_was_never_used_or_is_hardly_used(tmp_path: Path) -> None:
    versions, file = MapVersions(tmp_path, draw=lambda _: 0), tmp_path / FILE_NAME
    versions.keep_ahead()
    was_there = file.exists()
    versions()
    before = file.read_text()
    versions.keep_ahead()

    assert (was_there, file.read_text()) == (False, before)


@pytest.mark.parametrize("uses", [1, 4, 5, 8, 9, 30])
def test_a_restart_goes_on_behind_what_was_reserved_ahead(tmp_path: Path, uses: int) -> None:
    first = MapVersions(tmp_path, draw=lambda _: 0)
    for _ in range(uses):
        last = first()
        first.keep_ahead()

    assert is_newer(MapVersions(tmp_path, draw=lambda _: 0)(), last)
