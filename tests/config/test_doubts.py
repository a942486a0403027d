"""Warnings about a lispd.conf that is allowed and probably a mistake."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from lispmob.config.doubts import doubts, doubts_on
from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.problems.problem import Problem

BASE = """\
eids: [10.99.0.1/32]
map-servers:
  - address: 198.51.100.1
    key: s3cret
routing: {overlay-prefixes: [10.99.0.0/24]}
"""


def read(text: str) -> NodeFile:
    return read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path("/etc/lispmob"))


def keys(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.key for problem in problems]


def test_an_ordinary_file_has_nothing_odd() -> None:
    assert doubts(read(BASE)) == ()


def test_the_key_of_the_example_is_known_to_all_its_readers() -> None:
    (problem,) = doubts(read(BASE.replace("s3cret", "CHANGE-ME")))

    assert problem.key == "key-example"
    assert "s3cret" not in problem.sentence


@pytest.mark.parametrize(
    ("key", "is_reported"),
    [
        ("abc #rest", True),
        ("abc # rest", True),
        ("abc  #rest", True),
        ("abc    # a comment that stands apart", False),
        ("'abc #rest'", False),
        ('"abc #rest"', False),
        ("abc#rest", False),
        ("abc", False),
    ],
)
def test_a_key_that_a_comment_may_have_cut_is_told_without_showing_it(key: str, is_reported: bool) -> None:
    found = doubts(read(BASE.replace("s3cret", key)))

    assert keys(found) == ["key-comment"] * is_reported
    assert "abc" not in "".join(problem.sentence for problem in found)


def test_without_overlay_prefixes_an_example_for_this_node_is_given() -> None:
    (problem,) = doubts(read(BASE.replace("routing: {overlay-prefixes: [10.99.0.0/24]}\n", "")))

    assert problem.key == "no-overlay-prefixes"
    assert "overlay-prefixes: [10.99.0.0/24]" in problem.remedy


@pytest.mark.parametrize(
    "more", ["routing: {mode: full}\n", "map-resolvers: []\nrouting: {overlay-prefixes: ['::/0']}\n"]
)
def test_where_something_goes_into_the_overlay_that_is_no_problem(more: str) -> None:
    assert "no-overlay-prefixes" not in keys(
        doubts(read(BASE.replace("routing: {overlay-prefixes: [10.99.0.0/24]}\n", more)))
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("198.51.100.1", "10.99.0.200"),
        ("map-servers:", "map-resolvers: [10.99.0.7]\nmap-servers:"),
        ("[10.99.0.0/24]", "[10.99.0.0/24, 198.0.0.0/8]"),
    ],
)
def test_a_map_server_or_resolver_inside_overlay_prefixes_is_told(old: str, new: str) -> None:
    assert keys(doubts(read(BASE.replace(old, new)))) == ["map-server-in-overlay"]


def test_an_eid_that_is_a_prefix_gives_the_host_no_address_unless_one_of_it_is_listed() -> None:
    (problem,) = doubts(read(BASE.replace("[10.99.0.1/32]", "[10.99.0.0/28]")))

    assert problem.key == "eid-without-address"
    assert "10.99.0.1/32" in problem.remedy
    assert doubts(read(BASE.replace("[10.99.0.1/32]", "[10.99.0.0/28, 10.99.0.1/32]"))) == ()


@pytest.mark.parametrize(
    ("rules", "shadowed"),
    [
        ("{name: wlan0, priority: 1}, {name: wlan0, priority: 5}", "name: wlan0"),
        ("{name: '*', priority: 1}, {name: wlan0, priority: 5}", "name: wlan0"),
        ("{name: 'wlan*', priority: 1}, {name: wlan0, priority: 5}", "name: wlan0"),
        ("{type: wifi, priority: 1}, {type: wifi, name: wlan0, priority: 5}", "name: wlan0, type: wifi"),
    ],
)
def test_an_uplink_rule_behind_one_that_matches_all_of_it_never_counts(rules: str, shadowed: str) -> None:
    (problem,) = doubts(read(BASE + f"uplinks: [{rules}]\n"))

    assert problem.what == f"uplinks[1] ({shadowed}) never counts"


@pytest.mark.parametrize(
    "rules",
    [
        "{name: wlan0}, {name: 'wlan*'}",
        "{type: wifi, name: wlan0}, {name: wlan0}",
        "{type: wifi}, {type: wwan}",
        "{name: 'wlan?'}, {name: 'wlan*'}",
        "{type: wifi}, {name: '*'}",
    ],
)
def test_an_uplink_rule_that_some_interface_may_reach_is_left_alone(rules: str) -> None:
    assert doubts(read(BASE + f"uplinks: [{rules}]\n")) == ()


def steering(*rules: str) -> NodeFile:
    return read(BASE + "steering:\n  rules:\n" + "".join(f"    - {{{rule}}}\n" for rule in rules))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: all, via: [wlan0]", "name: web, protocol: [tcp], ports: [443], via: [wlan0]"),
        ("name: net, to: [10.99.0.0/24], via: [wlan0]", "name: host, to: [10.99.0.7/32], via: [wlan0]"),
        (
            "name: web, protocol: [tcp], ports: [1-1023], via: [wlan0]",
            "name: tls, protocol: [tcp], ports: [443], via: [wlan0]",
        ),
        ("name: low, user: ['1000-2000'], via: [wlan0]", "name: one, user: ['1001'], dscp: [ef], via: [wlan0]"),
    ],
)
def test_a_steering_rule_behind_a_wider_one_never_counts(earlier: str, later: str) -> None:
    (problem,) = doubts(steering(earlier, later))

    assert problem.key == "rule-never-counts"
    assert doubts(steering(later, earlier)) == ()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: a, to: [10.99.0.0/25], via: [wlan0]", "name: b, to: [10.99.0.0/24], via: [wlan0]"),
        ("name: a, user: ['1000'], via: [wlan0]", "name: b, protocol: [tcp], via: [wlan0]"),
        ("name: a, cgroup: a.slice, via: [wlan0]", "name: b, cgroup: b.slice, via: [wlan0]"),
        ("name: a, from-interface: br0, via: [wlan0]", "name: b, via: [wlan0]"),
        ("name: a, to: ['::/0'], via: [wlan0]", "name: b, to: [10.99.0.0/24], via: [wlan0]"),
    ],
)
def test_a_steering_rule_that_some_flow_may_reach_is_left_alone(earlier: str, later: str) -> None:
    assert doubts(steering(earlier, later)) == ()


def test_a_name_in_via_that_no_interface_has_is_told_with_what_was_meant() -> None:
    file = steering("name: web, protocol: [tcp], ports: [443], via: [wlna0, 'eth*']")

    (problem,) = doubts_on(file, {"wlan0", "eth0", "lo"}, {})

    assert problem.what == "rule 'web' names wlna0, and no interface has that name"
    assert problem.remedy == "did you mean wlan0?"


def test_an_uplink_rule_about_a_modem_that_is_not_plugged_in_is_meant_and_one_with_a_slip_is_told() -> None:
    file = read(BASE + "uplinks: [{name: wwan0}, {name: wlna0}]\n")

    assert [problem.subject for problem in doubts_on(file, {"wlan0", "eth0"}, {})] == ["uplinks wlna0"]


def test_a_network_inside_overlay_prefixes_is_told_and_one_that_holds_our_eid_is_worse() -> None:
    file = read(BASE.replace("[10.99.0.0/24]", "[10.0.0.0/8]"))

    inside = doubts_on(file, set(), {ip_network("10.0.1.0/24"): "wlan0"})
    worse = doubts_on(file, set(), {ip_network("10.99.0.0/24"): "wlan0"})

    assert keys((*inside, *worse)) == ["overlapping-prefix"] * 2
    assert inside[0].severity < worse[0].severity
    assert doubts_on(file, set(), {ip_network("192.168.1.0/24"): "wlan0", ip_network("fd00::/64"): "wlan0"}) == ()


@pytest.mark.parametrize(
    ("eids", "overlay", "told"),
    [
        ("10.99.0.1/32", "10.98.0.0/24", ["10.99.0.1/32"]),
        ("10.99.0.1/32, 2001:db8:e::1/128", "10.99.0.0/24, '2001:db8:f::/48'", ["2001:db8:e::1/128"]),
        ("10.99.0.0/23", "10.99.0.0/24", ["10.99.0.0/23"]),
        ("10.99.0.1/32", "'2001:db8:f::/48'", []),
        ("10.99.0.1/32, 10.7.0.1/32", "10.7.0.0/16", []),
        ("10.99.0.1/32", "0.0.0.0/0", []),
    ],
)
def test_an_own_eid_outside_of_the_overlay_prefixes_is_told(eids: str, overlay: str, told: list[str]) -> None:
    text = BASE.replace("[10.99.0.1/32]", f"[{eids}]").replace("[10.99.0.0/24]", f"[{overlay}]")

    found = [problem for problem in doubts(read(text)) if problem.key == "eid-outside-overlay"]

    assert [problem.subject for problem in found] == told


def test_in_full_mode_no_own_eid_is_outside() -> None:
    text = BASE.replace("{overlay-prefixes: [10.99.0.0/24]}", "{mode: full, overlay-prefixes: [10.98.0.0/24]}")

    assert "eid-outside-overlay" not in keys(doubts(read(text)))
