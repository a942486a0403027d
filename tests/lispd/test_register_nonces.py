"""The nonces of Map-Registers only grow: over restarts, lost directories, and clocks that are set back."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from lispmob.lispd.register_nonces import BEHIND_NS, BLOCK, FILE_NAME, STEP_MAX, RegisterNonces

DAY_NS = 86_400_000_000_000
MONDAY_NS = 1_790_000_000_000_000_000


@dataclass
class Host:
    """A state directory and a clock. `start()` is one process of lispd."""

    directory: Path
    wall_ns: int = MONDAY_NS
    steps: list[int] = field(default_factory=list)

    def start(self) -> RegisterNonces:
        return RegisterNonces(self.directory, wall_ns=lambda: self.wall_ns, draw=self._draw)

    def _draw(self, limit: int) -> int:
        return self.steps.pop(0) if self.steps else limit - 1


def test_nonces_grow_within_one_life(tmp_path: Path) -> None:
    nonces = Host(tmp_path).start()

    given = [nonces() for _ in range(3 * BLOCK // STEP_MAX)]

    assert all(before < after for before, after in pairwise(given))


def test_the_next_life_goes_on_above_all_that_was_used_even_where_nothing_could_be_said_at_the_end(
    tmp_path: Path,
) -> None:
    host = Host(tmp_path)
    first = host.start()
    used = [first() for _ in range(5000)]

    host.wall_ns += 1  # crashed, and started again at once

    assert host.start()() > max(used)


@pytest.mark.parametrize("back_ns", [1, DAY_NS, 20 * 365 * DAY_NS])
def test_a_clock_that_was_set_back_does_not_set_the_nonces_back(tmp_path: Path, back_ns: int) -> None:
    host = Host(tmp_path)
    used = host.start()()

    host.wall_ns -= back_ns

    assert host.start()() > used


def test_a_lost_state_directory_leaves_the_clock_to_go_by(tmp_path: Path) -> None:
    host = Host(tmp_path)
    nonces = host.start()
    used = max(nonces() for _ in range(100))

    (tmp_path / FILE_NAME).unlink()
    host.wall_ns += 60_000_000_000

    assert host.start()() > used


def test_a_thousand_crashes_in_a_row_do_not_run_ahead_of_the_clock_for_long(tmp_path: Path) -> None:
    host = Host(tmp_path)

    for _ in range(1000):
        host.start()()
        host.wall_ns += 2_000_000_000  # systemd starts it again after 2 s

    assert host.start()() - host.wall_ns < 1000 * BLOCK - 1000 * 2_000_000_000 + BLOCK


def test_a_nonce_is_on_the_disk_before_it_is_used(tmp_path: Path) -> None:
    nonces = Host(tmp_path).start()

    for _ in range(3000):
        assert nonces() < int((tmp_path / FILE_NAME).read_text())


def test_a_count_from_an_old_snapshot_catches_up_with_the_clock(tmp_path: Path) -> None:
    host = Host(tmp_path)
    restored = host.start()
    restored()
    after_the_snapshot = MONDAY_NS + DAY_NS

    host.wall_ns = after_the_snapshot + BEHIND_NS + 1

    assert restored() > after_the_snapshot


def test_a_count_catches_up_with_the_clock_at_once_when_it_is_asked_to(tmp_path: Path) -> None:
    host = Host(tmp_path)
    nonces = host.start()
    nonces()
    host.wall_ns += 60_000_000_000

    nonces.catch_up()

    assert nonces() > host.wall_ns
    assert int((tmp_path / FILE_NAME).read_text()) > host.wall_ns


def test_a_count_that_is_ahead_of_the_clock_does_not_go_back_to_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    nonces = host.start()
    used = nonces()
    host.wall_ns -= DAY_NS

    nonces.catch_up()

    assert nonces() > used


def test_who_saw_one_nonce_cannot_name_the_next(tmp_path: Path) -> None:
    nonces = RegisterNonces(tmp_path)
    steps = [after - before for before, after in pairwise([nonces() for _ in range(50)])]

    assert len(set(steps)) > 40
    assert all(0 < step <= STEP_MAX for step in steps)


@pytest.mark.parametrize("text", ["", "tomorrow", "-5", str(1 << 64), "é"])
def test_a_damaged_file_is_reported_and_replaced(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE_NAME).write_text(text)

    with caplog.at_level(logging.WARNING):
        nonce = Host(tmp_path).start()()

    assert nonce > MONDAY_NS
    assert FILE_NAME in caplog.text
    assert int((tmp_path / FILE_NAME).read_text()) >= nonce


def test_a_directory_that_cannot_be_written_is_reported_once_and_stops_no_registration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in-the-way").write_text("")
    nonces = Host(tmp_path / "in-the-way").start()

    with caplog.at_level(logging.WARNING):
        given = [nonces() for _ in range(3 * BLOCK // STEP_MAX)]

    assert all(before < after for before, after in pairwise(given))
    assert caplog.text.count("cannot save the nonce") == 1


def test_a_crash_between_the_two_halves_of_a_write_leaves_the_old_file(tmp_path: Path) -> None:
    host = Host(tmp_path)
    used = host.start()()
    (tmp_path / FILE_NAME).with_suffix(".new").write_text("17")  # half of a number
    host.wall_ns -= DAY_NS

    assert host.start()() > used
    assert sorted(os.listdir(tmp_path)) == [FILE_NAME]


@pytest.mark.parametrize("pause_ns", [60_000_000_000, 1_000_000_000, BEHIND_NS // 2, 0])
def test_a_node_that_has_time_between_its_registers_never_writes_in_one(tmp_path: Path, pause_ns: int) -> None:
    host, file = Host(tmp_path), tmp_path / FILE_NAME
    nonces = host.start()
    last = nonces()

    for _ in range(20 if pause_ns else 3 * BLOCK // STEP_MAX):
        host.wall_ns += min(pause_ns, BEHIND_NS // 2)
        nonces.keep_ahead()
        before = file.read_text()
        given = nonces()
        assert last < given <= int(before) == int(file.read_text())
        last = given


def test_what_is_reserved_ahead_is_written_once_an_hour_at_most(tmp_path: Path) -> None:
    host, file = Host(tmp_path), tmp_path / FILE_NAME
    nonces, written = host.start(), set()
    nonces()

    for _ in range(24 * 60):
        host.wall_ns += 60_000_000_000
        nonces.keep_ahead()
        nonces()
        written.add(file.read_text())

    assert len(written) <= 27


def test_a_count_that_was_never_asked_for_is_not_reserved(tmp_path: Path) -> None:
    Host(tmp_path).start().keep_ahead()

    assert not (tmp_path / FILE_NAME).exists()
