"""The screens of lisphub: eighty columns, however long a site's name is, and no control characters from outside."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from lispmob.hub.cli import screens
from lispmob.hub.ledger import Ledger
from lispmob.hub.views import node_of, pools_of, problems_of, site_of
from lispmob.protocol.effect import Event
from lispmob.terminal.text import cells
from tests.hub.exchange import HUB, eid, plane, site, xtr

LONG = "2001:db8:ffff:ffff:ffff:ffff:ffff:1/128"


def nodes(*rlocs: str, rtrs: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The registrations as the hub shows them."""
    hub, ledger = plane(site("10.1.0.0/16", "2001:db8::/32")), Ledger()
    for effect in hub.on_datagram(xtr("203.0.113.5", xtr_id=b"n" * 16).register("10.1.0.1/32", LONG, rlocs=rlocs), 0.0):
        if isinstance(effect, Event):
            ledger.on_event(effect, 1000.0)
    parts = [part for registration in hub.map_server.registrations.slices(8) for one in registration for part in one]
    return {"nodes": [node_of(part, "home", ledger, rtrs, 5.0) for part in parts]}


def status(**more: Any) -> dict[str, Any]:
    return {
        "version": "1.0",
        "started_at": 0.0,
        "uptime_s": 200.0,
        "addresses": [str(HUB), "2001:db8:ffff:ffff:ffff:ffff:ffff:1"],
        "is_rtr": True,
        "is_proxy": False,
        "domain": "home.example",
        "pools": pools_of((eid("10.99.0.0/24"),), [eid("10.99.0.1/32")]),
        "sites": 1,
        "invitations": {"joined": 1, "invited": 0, "expired": 0},
        "registered": 2,
        "sites_registered": 1,
        "behind_rtr": 1,
        "is_complete": True,
        "last_moves": [{"at": 0.0, "site": "home", "eid": LONG, "rlocs": ["203.0.113.5", "2001:db8:1::1"]}],
        "problems": [],
        **more,
    }


def widest(lines: list[str]) -> int:
    return max(cells(line) for text in lines for line in text.splitlines())


def test_a_node_is_shown_with_where_it_is_since_when_and_how_long_ago_it_was_heard() -> None:
    lines = screens.node_lines(nodes("203.0.113.5", "198.51.100.9"))

    text = "\n".join(lines)
    assert "  open, since 1970-01-01" in text
    assert "heard 5.0s ago" in text
    assert f"  EIDs  10.1.0.1/32, {LONG}\n" in text
    assert "  at    203.0.113.5 (1/100), 198.51.100.9 (1/100)" in text
    assert widest(lines) <= 80


def test_a_node_behind_a_nat_is_shown_with_its_rtr() -> None:
    shown = nodes(str(HUB), rtrs=(HUB,))

    assert {node["way"] for node in shown["nodes"]} == {"rtr"}
    assert f"behind a NAT, through the RTR {HUB}" in " ".join("\n".join(screens.node_lines(shown)).split())


@pytest.mark.parametrize("name", ["laptop", "x" * 64, "光纤" * 30])
def test_sites_fit_whatever_they_are_called(name: str) -> None:
    made = site("10.1.0.1/32", LONG, name=name)
    answer = {"sites": [site_of(made, None, [eid("10.1.0.1/32")])], "displaced": [name]}

    lines = screens.site_lines(answer)

    assert "configured" in "\n".join(lines)
    assert widest(lines) <= (80 if len(name) < 20 else 140)


def test_the_status_begins_with_what_is_wrong_and_what_to_do() -> None:
    ledger = Ledger()
    why = "two nodes register it: xTR-ID 00112233445566778899aabbccddeeff at 203.0.113.5 keeps it, the other is refused"
    ledger.on_event(Event("duplicate", {"eid": "10.1.0.1/32", "text": why}), 10.0)
    lines = screens.status_lines(status(problems=problems_of(ledger, 20.0, {"not-saved": "the disk is full"})))

    text = " ".join("\n".join(lines).split())
    assert "! the disk is full" in text
    assert "! 10.1.0.1/32: two nodes register it" in text
    assert "do: give each machine an EID of its own" in text
    assert text.index("Problems") < text.index("Serves as")
    assert widest(lines) <= 80


@pytest.mark.parametrize(("often", "said"), [(1, "(once, "), (3, "(3 times, last ")])
def test_a_problem_says_how_often_it_was_seen(often: int, said: str) -> None:
    ledger = Ledger()
    for number in range(often):
        ledger.on_event(Event("auth-failed", {"source": "192.0.2.5", "site": "laptop", "why": "no key"}), float(number))

    shown = screens.status_lines(status(problems=problems_of(ledger, 20.0, {})))

    assert said in " ".join("\n".join(shown).split())


def test_a_status_without_a_problem_says_who_is_there_and_what_is_left() -> None:
    lines = screens.status_lines(status())

    text = " ".join("\n".join(lines).split())
    assert text.startswith("lisphub 1.0: 1 of 1 site registered, up 3m 20s")
    assert "10.99.0.0/24, 253 EIDs left" in text
    assert "2 EID-Prefixes, 1 of them through an RTR" in text
    assert widest(lines) <= 80


def test_a_pool_without_an_eid_left_says_what_that_means() -> None:
    pools = [{"prefix": "10.99.0.0/30", "left": 0}, {"prefix": "fd00:99::/64", "left": 1}]

    text = " ".join("\n".join(screens.status_lines(status(pools=pools))).split())

    assert "10.99.0.0/30, used up: no further node can be invited" in text
    assert "fd00:99::/64, 1 EID left" in text


def test_what_a_stranger_sent_does_not_reach_the_terminal_as_it_is() -> None:
    shown = screens.event_line({"number": 1, "at": 0.0, "type": "refused", "why": "\x1b[2Jbad\nline"})

    assert "\x1b" not in shown
    assert "\nline" not in shown


def test_every_kind_of_event_is_a_line_of_at_most_eighty_columns() -> None:
    numbers = count(1)
    for kind in ("registered", "moved", "changed", "duplicate", "auth-failed", "joined", "invited", "revoked"):
        event = {"number": next(numbers), "at": 0.0, "type": kind, "eid": LONG, "site": "home", "rlocs": [LONG] * 4}
        assert widest([screens.event_line(event)]) <= 80


def test_nothing_to_show_is_a_sentence() -> None:
    assert screens.node_lines({"nodes": []}) == ["no node is registered"]
    assert screens.site_lines({"sites": [], "displaced": []}) == ["no sites; make one with: lisphub invite NAME"]
    assert screens.counter_lines({"counters": {}}) == ["every counter stands at 0"]


def test_a_node_that_was_there_before_the_hub_started_has_not_moved_since() -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5", xtr_id=b"n" * 16).register("10.1.0.1/32", rlocs=["203.0.113.5"]), 0.0)
    (registration,) = next(iter(hub.map_server.registrations.slices(8)))
    (part,) = registration
    shown = node_of(part, "home", Ledger(), (), 5.0)

    assert (shown["since"], shown["moves"], shown["moved_at"]) == (None, 0, None)
    assert (shown["heard_s"], shown["left_s"], shown["way"]) == (5.0, 175.0, "open")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "none"),
        ({"subscriptions": 1, "published": None}, "1 subscription"),
        ({"subscriptions": 2, "published": {"at": 0.0, "eid": "10.1.0.1/32"}}, "2 subscriptions; last published"),
    ],
)
def test_the_status_says_who_is_told_of_changes(more: dict[str, object], line: str) -> None:
    shown = next(text for text in screens.status_lines(status(**more)) if "Subscriptions" in text)

    assert line in shown


@pytest.mark.parametrize(
    ("prefixes", "line"),
    [
        ([], ""),
        (["10.1.0.7/32"], "hears changes of 10.1.0.7/32"),
        ([f"10.1.0.{number}/32" for number in range(10, 30)], "10.1.0.17/32 and 12 more"),
    ],
)
def test_a_node_is_shown_with_what_is_published_to_it(prefixes: list[str], line: str) -> None:
    hub = plane(site("10.1.0.0/16"))
    hub.on_datagram(xtr("203.0.113.5", xtr_id=b"n" * 16).register("10.1.0.1/32"), 0.0)
    (registration,) = next(iter(hub.map_server.registrations.slices(8)))
    (part,) = registration

    lines = screens.node_lines({"nodes": [node_of(part, "home", Ledger(), (), 5.0, prefixes)]})

    assert line in " ".join(" ".join(lines).split())
    assert ("hears" in " ".join(lines)) == bool(prefixes)
    assert widest(lines) <= 80
