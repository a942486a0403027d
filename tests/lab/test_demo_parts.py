"""The parts of the demonstration that need no network: claims, tables, listings, arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from lispmob.lab import host_network
from lispmob.lab.demo.__main__ import parse, play
from lispmob.lab.demo.chapters import CHAPTERS, Chapter
from lispmob.lab.demo.screen import PlainScreen, Table, View, node_tables
from lispmob.lab.demo.stage import Stage
from lispmob.lab.demo.summary import checks_table
from lispmob.lab.demo_service import AS_A_SERVICE
from lispmob.lab.report import Machine, Report, fact, figure

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"


@pytest.mark.parametrize("unit", ["lispd.service", "lisphub.service"])
def test_the_services_run_as_the_shipped_units_have_them_run(unit: str) -> None:
    lines = (UNITS / unit).read_text().splitlines()

    assert (
        "nice",
        "-n",
        next(line.removeprefix("Nice=") for line in lines if line.startswith("Nice=")),
    ) == AS_A_SERVICE


def test_every_claim_is_made_by_one_chapter() -> None:
    claims = [claim for chapter in CHAPTERS for claim in chapter.claims]

    assert len(set(claims)) == len(claims)
    assert {
        "registered",
        "ping.both-ways",
        "first-packet.delivered",
        "make-before-break.lost",
        "make-before-break.worst-tcp-gap-ms",
        "break-before-make.gap-rtts.out",
        "break-before-make.gap-rtts.in",
        "tcp-stream.alive",
        "start-to-registered",
        "resident-memory",
        "multihoming.mark",
        "multihoming.iptables-rule",
        "multihoming.split-error",
        "multihoming.unmoved-flows.lost",
        "multihoming.flap-leaks",
        "multihoming.dead-locator.timeouts",
    } <= set(claims)


def test_the_last_chapter_is_opened_when_what_went_on_beside_the_others_has_ended() -> None:
    order: list[str] = []
    report = Report(0.0, Machine.here())
    stage = cast(Stage, SimpleNamespace(report=report, screen=PlainScreen(), check_services=lambda: None))

    def note(name: str) -> Callable[[Stage], None]:
        return lambda _: order.append(name)

    play(
        stage,
        (
            Chapter("cost", "", (), note("cost"), is_last=True),
            Chapter("losses", "", (), note("losses"), end=note("end of losses")),
            Chapter("nat", "", (), note("nat"), begin=note("begin of nat")),
        ),
    )

    assert order == ["begin of nat", "losses", "nat", "end of losses", "cost"]


def test_an_unknown_chapter_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--chapter", "teleport"])

    assert ended.value.code == 2
    assert "break-before-make" in capsys.readouterr().err


def test_a_table_is_printed_in_columns() -> None:
    table = Table("Moves", ("move", "lost"), (("a goes", "0"), ("b", "12")))

    assert table.lines() == ["Moves", "  move    lost", "  a goes     0", "  b         12"]


def test_the_checks_tell_a_missed_goal_from_a_failure() -> None:
    table = checks_table([fact("one", ok=True), figure("two", 3.0, "RTT", 2.0), fact("three", ok=False)])

    assert [row[1] for row in table.rows] == ["ok", "goal missed", "FAILED"]


def test_a_node_that_does_not_answer_is_shown_as_such() -> None:
    assert [table.title for table in node_tables(View("a"))] == ["a: starting"]
    assert [table.title for table in node_tables(View("a", is_running=False))] == ["a: not running"]


def test_uplinks_locators_and_the_map_cache_are_shown() -> None:
    status = {
        "state": "registered",
        "locator_set_version": 3,
        "uplinks": [{"name": "wlan0", "addresses": ["198.18.1.10", "198.18.1.11"]}],
        "locators": [{"address": "198.18.1.10", "priority": 1, "weight": 100}],
    }
    cache = {"entries": [{"prefix": "10.1.0.2/32", "locators": [], "action": "drop"}]}

    uplinks, cached = node_tables(View("a", status, cache))

    assert uplinks.rows == (("wlan0", "198.18.1.10", "1/100"), ("wlan0", "198.18.1.11", "-"))
    assert cached.rows == (("10.1.0.2/32", "-", "drop"),)


def test_lifetimes_and_counters_are_no_change_of_the_network() -> None:
    before = "inet 192.0.2.1/24 valid_lft 86000sec preferred_lft 86000sec\n:INPUT ACCEPT [12:345]\n"
    after = "inet 192.0.2.1/24 valid_lft 85990sec preferred_lft 85990sec\n:INPUT ACCEPT [13:400]\n"

    assert host_network.difference(host_network.settled(before), host_network.settled(after)) == ""


def test_a_route_that_was_left_behind_is_a_change() -> None:
    changed = host_network.difference("default via 192.0.2.1", "default via 192.0.2.1\n10.1.0.0/16 dev lmn0")

    assert "+10.1.0.0/16 dev lmn0" in changed
