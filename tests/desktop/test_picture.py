"""What the indicator shows of lispd's state, and the menu as panels read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.desktop.menu import Menu
from lispmob.desktop.picture import PEERS_SHOWN, SEPARATOR, Facts, Item, move_text, picture

WORKING: dict[str, Any] = {
    "Verdict": "working",
    "Headline": "working: 10.99.0.1/32 is registered",
    "Uplinks": [
        {"name": "wlan0", "type": "wifi", "is_used": True, "priority": 1, "network": "Home"},
        {"name": "wwan0", "type": "wwan", "is_used": True, "priority": 2},
        {"name": "eth0", "type": "ethernet", "is_used": False},
    ],
}


def lines(facts: Facts) -> list[str]:
    return [item.label for item in picture(facts).items]


@pytest.mark.parametrize(
    ("verdict", "icon"),
    [("working", "lispmob-working"), ("degraded", "lispmob-degraded"), ("not-working", "lispmob-broken")],
)
def test_the_icon_says_how_it_is_and_asks_for_attention_when_nothing_works(verdict: str, icon: str) -> None:
    shown = picture(Facts(properties={**WORKING, "Verdict": verdict}))

    assert shown.icon == icon
    assert shown.needs_attention is (verdict == "not-working")


def test_without_lispd_there_is_a_way_back_and_no_list_of_peers() -> None:
    shown = picture(Facts())

    assert shown.icon == "lispmob-off"
    assert [item.action for item in shown.items if item.action] == ["come-back", "notifications", "autostart", "quit"]
    assert not any("eers" in line for line in lines(Facts()))


def test_uplinks_in_use_come_before_those_that_are_ready() -> None:
    assert "By Wi-Fi (Home); ready: LTE" in lines(Facts(properties=WORKING))
    assert "No way out" in lines(Facts(properties={**WORKING, "Uplinks": []}))


@pytest.mark.parametrize(
    ("move", "text"),
    [
        ({}, ""),
        ({"left": ["wifi wlan0"], "took": ["wwan wwan0"], "lost": 0}, "Moved from Wi-Fi to LTE, 0 packets lost"),
        (
            {"left": ["wwan wwan0"], "took": ["wifi wlan0", "ethernet eth0"], "lost": 1, "gap_in_ms": 30.4},
            "Moved from LTE to Wi-Fi, cable, 1 packet lost, paused for 30 ms",
        ),
        ({"left": ["wifi wlan0"], "took": []}, "Lost Wi-Fi, and there is no other"),
        ({"left": [], "took": ["veth w0"]}, "Back by w0"),
        (
            {"left": ["wifi wlan0"], "took": ["wifi wlan0"], "reasons": ["wlan0: address lost"], "lost": 2},
            "Wi-Fi: wlan0: address lost, 2 packets lost",
        ),
    ],
)
def test_a_move_is_told_as_people_would(move: dict[str, Any], text: str) -> None:
    assert move_text(move) == text


def test_very_many_peers_leave_room_for_the_rest() -> None:
    peers = [{"eid": f"10.0.0.{number}/32", "way": "direct"} for number in range(40)]

    (item,) = [item for item in picture(Facts(properties=WORKING, peers=peers)).items if item.label == "Peers (40)"]

    assert len(item.children) == PEERS_SHOWN + 1
    assert item.children[-1].label == "and 28 more: lispctl peers"


@given(st.text(max_size=400))
def test_whatever_lispd_says_is_a_line_of_its_own(text: str) -> None:
    shown = picture(Facts(properties={**WORKING, "Headline": text, "Problems": [{"what": text, "remedy": text}]}))

    labels = [item.label for item in shown.items] + [child.label for item in shown.items for child in item.children]
    assert all(label.isprintable() and len(label) <= 165 for label in labels)


def variant(signature: str, value: Any) -> Any:
    return (signature, value)


def test_a_number_never_becomes_a_line_of_another_kind() -> None:
    menu, kinds = Menu(), dict[int, str]()
    status, peers = Item(label="Working"), Item(label="Peers (1)", children=(Item(label="nas"),))
    away, notify = Item(label="Leave", action="leave"), Item(label="Notify", action="notifications", is_checked=True)
    menus = (
        [status, SEPARATOR, away, notify],
        [status, Item(label="By Wi-Fi"), peers, SEPARATOR, away, notify],
        [status, Item(label="Moved"), Item(label="By LTE"), peers, SEPARATOR, notify],
        [Item(label="lispd does not run"), SEPARATOR, notify],
    )

    for items in menus:
        menu.show(items)
        for number in menu.numbers():
            shown = menu.properties(number, variant)
            kind = str(shown.get("toggle-type") or shown.get("children-display") or shown.get("type") or "text")
            assert kinds.setdefault(number, kind) == kind


def test_a_click_on_a_menu_that_has_changed_is_for_what_was_seen_or_for_nothing() -> None:
    menu = Menu()
    leave, leave_too = Item(label="Leave", action="leave"), Item(label="Quit", action="quit")
    menu.show([Item(label="Working"), leave, leave_too])
    seen = {action: number for number in menu.numbers() if (action := menu.action(number)) is not None}

    menu.show([Item(label="Working"), Item(label="By LTE"), SEPARATOR, leave_too])

    assert menu.action(seen["quit"]) == "quit"
    assert menu.action(seen["leave"]) is None


def test_a_menu_keeps_its_revision_until_a_line_changes() -> None:
    menu = Menu()
    items = (Item(label="a", children=(Item(label="b", action="quit"),)), SEPARATOR, Item(label="c_d", is_checked=True))

    assert menu.show(items)
    assert not menu.show(items)
    assert menu.revision == 1
    assert menu.action(2) == "quit"
    assert menu.action(99) is None
    number, properties, children = menu.layout(0, -1, variant)
    assert (number, properties) == (0, {"children-display": ("s", "submenu")})
    assert [child[1][0] for child in children] == [1, 3, 4]
    assert children[0][1][2][0][1][1]["label"] == ("s", "b")
    assert children[1][1][1] == {"type": ("s", "separator")}
    assert children[2][1][1]["label"] == ("s", "c__d")
    assert children[2][1][1]["toggle-state"] == ("i", 1)
    assert menu.layout(0, 1, variant)[2][0][1][2] == [], "no deeper than asked for"
