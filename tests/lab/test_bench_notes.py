"""What a run of the benchmarks records about itself: other programs, its commit, its spread, another revision."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from lispmob.lab.bench import compare, history, page
from lispmob.lab.bench.quiet import Quiet
from lispmob.lab.bench.results import GOALS, Results
from lispmob.lab.report import Machine

MACHINE = Machine("system", "6.0", "x86_64", "processor", 2, 4096, "3.11")


def stat(*moments: tuple[int, int, int]) -> Callable[[], str]:
    """/proc/stat at one moment after the other, each with busy, idle and stolen ticks."""
    left = iter(moments)

    def read() -> str:
        busy, idle, steal = next(left)
        return f"cpu  {busy} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2 3 4\n"

    return read


def warned(*moments: tuple[int, int, int]) -> list[str]:
    return Quiet(stat(*moments), lambda _: None).warnings()


def test_a_quiet_machine_is_nothing_to_be_warned_of() -> None:
    assert warned((0, 0, 0), (1, 99, 0), (1, 99, 0), (901, 199, 0), (901, 199, 0), (902, 299, 0)) == []


def test_what_others_do_before_and_after_and_what_the_host_takes_away_is_told() -> None:
    before, after, stolen = warned((0, 0, 0), (50, 50, 0), (50, 50, 0), (850, 50, 200), (850, 50, 200), (860, 140, 200))

    assert before == "before the run other programs kept 50 % of the processors busy"
    assert after == "after the run other programs kept 10 % of the processors busy"
    assert stolen == "the host took away 20 % of the processors' time during the run"


def test_a_run_adds_a_line_with_its_commit_and_medians_to_the_history(tmp_path: Path) -> None:
    results = Results(MACHINE)
    for value in (1.0, 3.0):
        results.add("tcp1", "tun", value, "Gbit/s")
    file = tmp_path / "new" / "history.jsonl"

    for commit in ("abc", "abd"):
        history.append(file, history.entry(results, commit, datetime(2026, 5, 4, 3, 2, tzinfo=UTC), ["busy"]))

    first, second = (json.loads(line) for line in file.read_text().splitlines())
    assert first == {
        "commit": "abc",
        "at": "2026-05-04 03:02",
        "machine": "2 x processor, Linux 6.0",
        "warnings": ["busy"],
        "medians": {"tcp1": {"tun": 2.0}},
    }
    assert second["commit"] == "abd"


def test_a_tree_outside_of_git_has_no_commit(tmp_path: Path) -> None:
    assert history.commit_of(tmp_path) == "unknown"


def test_a_ratio_comes_with_its_smallest_and_largest_round() -> None:
    results = Results(MACHINE)
    for tun, vxlan in ((1.0, 2.0), (2.0, 2.0), (3.0, 2.0)):
        results.add("tcp1", "tun", tun, "Gbit/s")
        results.add("tcp1", "vxlan", vxlan, "Gbit/s")
    goal = next(goal for goal in GOALS if (goal.case, goal.path, goal.other) == ("tcp1", "tun", "vxlan"))

    assert (results.ratio(goal), results.spread(goal)) == (1.0, (0.5, 1.5))
    assert ("0.50 to 1.50") in results.goals_table().rows[0]


def test_two_revisions_are_compared_round_by_round_and_what_only_one_has_is_left_out() -> None:
    key, new = ("udp64", "ebpf"), ("udp64", "ebpf-rtr")

    table = compare.table("v1", [{key: 100.0}, {key: 50.0}], [{key: 110.0, new: 1.0}, {key: 60.0, new: 1.0}])

    assert table.rows == (("udp64", "ebpf", "1.13", "1.10", "1.20", "2"),)


def test_what_could_not_be_measured_is_in_the_report_beside_what_was() -> None:
    results = Results(MACHINE)
    results.add("tcp1", "tun", 2.0, "Gbit/s")
    results.failed["household"] = "no answer"
    results.seconds["traffic"] = 12.34

    told = results.to_json()

    assert told["failed"] == {"household": "no answer"}
    assert told["seconds"] == {"traffic": 12.3}
    assert [result["case"] for result in told["results"]] == ["tcp1"]


def test_the_page_of_a_run_has_its_commit_warnings_goals_and_ratios_as_tables() -> None:
    results = Results(MACHINE)
    for path, value in (("vxlan", 2.0), ("ebpf", 3.0)):
        results.add("tcp1", path, value, "Gbit/s")
    results.warnings = ["before the run other programs kept 50 % of the processors busy"]
    results.skipped["wireguard-go"] = "it is not installed"

    lines = page.text(results, "abc", datetime(2026, 5, 4, 3, 2, tzinfo=UTC)).splitlines()

    assert "Commit abc, 2026-05-04 03:02 UTC, 2 x processor, Linux 6.0." in lines[2]
    assert "**Warning**: before the run other programs kept 50 % of the processors busy." in lines
    assert "**Not measured**: wireguard-go: it is not installed." in lines
    assert "| tcp1: ebpf / vxlan | 1.50 | 1.50 to 1.50 | 1.03 | reached |" in lines
    assert "| case | good is | ebpf |" in lines
    assert lines[lines.index("| case | good is | ebpf |") + 1] == "| --- | --: | --: |"
