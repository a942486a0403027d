"""Claims, figures and verdicts, and the file that they are written to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.lab.report import Machine, Report, Verdict, fact, figure

MACHINE = Machine("Debian", "6.1", "x86_64", "a processor", 2, 4096, "3.11")


@pytest.fixture
def report() -> Report:
    return Report(100.0, MACHINE)


def test_a_figure_within_its_goal_is_reached() -> None:
    assert figure("gap", 1.9, "RTT", 2.1).verdict is Verdict.REACHED


def test_a_figure_beyond_its_goal_is_missed_but_it_happened() -> None:
    check = figure("gap", 2.2, "RTT", 2.1)

    assert (check.ok, check.verdict) == (False, Verdict.MISSED)


def test_a_figure_that_only_rounding_would_save_is_missed() -> None:
    assert not figure("gap", 2.1000001, "RTT", 2.1).ok


def test_a_figure_without_a_measurement_did_not_happen() -> None:
    assert figure("gap", None, "RTT", 2.1).verdict is Verdict.ABSENT


def test_a_claim_that_is_not_true_breaks_the_word(report: Report) -> None:
    report.check(fact("registered", ok=True))
    report.check(fact("ping", ok=False, value=3, unit="lost", goal=0))

    assert not report.has_succeeded


def test_a_missed_figure_does_not_break_the_word(report: Report) -> None:
    report.check(figure("gap", 2.2, "RTT", 2.1))

    assert report.has_succeeded


def test_a_report_without_any_check_keeps_no_word(report: Report) -> None:
    assert not report.has_succeeded


def test_a_claim_that_was_not_measured_is_in_the_report_as_not_ok(report: Report) -> None:
    report.check(fact("registered", ok=True))

    report.claim(["registered", "ping"])

    assert [(check.name, check.ok) for check in report.checks] == [("registered", True), ("ping", False)]


def test_the_file_has_the_documented_shape(report: Report, tmp_path: Path) -> None:
    report.check(figure("gap", 2.00049, "RTT", 2.125))
    report.event("move", 101.5, title="uplink lost")
    report.event("start", 100.25)

    report.write(tmp_path / "demo" / "report.json")

    written = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert written["version"] == 1
    assert written["machine"]["processors"] == 2
    assert written["checks"] == [{"name": "gap", "ok": True, "value": 2.0, "unit": "RTT", "goal": 2.125}]
    assert written["events"] == [
        {"at_ms": 250.0, "kind": "start"},
        {"at_ms": 1500.0, "kind": "move", "title": "uplink lost"},
    ]


def test_the_machine_names_its_kernel_and_its_processors() -> None:
    here = Machine.here()

    assert here.kernel
    assert here.processors >= 1
    assert here.memory_mb > 0


@given(value=st.floats(0, 1e6), goal=st.floats(0, 1e6))
def test_a_figure_is_ok_exactly_when_it_is_not_beyond_its_goal(value: float, goal: float) -> None:
    assert figure("any", value, "ms", goal).ok == (value <= goal)
