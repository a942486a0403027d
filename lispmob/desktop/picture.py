"""What the indicator shows for the state of lispd. Pure.

`Facts` are the properties of net.lispmob.Daemon1 (docs/dbus.md) and its peers; `picture` makes icon, tooltip and menu
from them. Texts from lispd are data: control characters are removed, and long texts are truncated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

Action: TypeAlias = Literal["leave", "come-back", "notifications", "autostart", "quit"]

PEERS_SHOWN: Final = 12  # ours: a menu that fits a small screen
PROBLEMS_SHOWN: Final = 5
TEXT_MAX: Final = 80
_TYPES: Final = {
    "wifi": "Wi-Fi",
    "wwan": "LTE",
    "ethernet": "cable",
    "usb": "USB",
    "bluetooth": "Bluetooth",
    "ppp": "PPP",
}
_WAYS: Final = {"direct": "direct", "rtr": "by the RTR", "past-rtr": "past the RTR", "none": "no way"}
_ICONS: Final = {"working": "lispmob-working", "degraded": "lispmob-degraded", "not-working": "lispmob-broken"}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The known state. `properties` is empty while lispd does not run; `failure`: why the last action failed."""

    properties: Mapping[str, Any] = {}
    peers: Sequence[Mapping[str, Any]] = ()
    notifies: bool = True
    starts_with_session: bool = False
    failure: str = ""

    @property
    def is_running(self) -> bool:
        """True when lispd is on the bus."""
        return bool(self.properties)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the menu; without an action it is only text. An empty label is a separator."""

    label: str = ""
    action: Action | None = None
    is_checked: bool | None = None
    children: tuple[Item, ...] = ()


SEPARATOR: Final = Item()


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What the panel shows. `needs_attention`: the node does not work."""

    icon: str
    title: str
    tooltip: str
    needs_attention: bool
    items: tuple[Item, ...]


def picture(facts: Facts) -> Picture:
    """The picture for a state."""
    properties = facts.properties
    verdict = str(properties.get("Verdict", "")) if facts.is_running else ""
    headline = clean(properties.get("Headline", "")) if facts.is_running else "not in the overlay: lispd does not run"
    uplinks = _uplink_text(properties)
    move = move_text(properties.get("LastHandover") or {})
    tooltip = "\n".join(text for text in (headline, uplinks, move) if text)
    return Picture(
        icon=_ICONS.get(verdict, "lispmob-off"),
        title="LISP",
        tooltip=tooltip,
        needs_attention=verdict == "not-working",
        items=(*_state_items(facts, headline, uplinks, move), SEPARATOR, *_orders(facts)),
    )


def _state_items(facts: Facts, headline: str, uplinks: str, move: str) -> tuple[Item, ...]:
    lines = [headline[:1].upper() + headline[1:], uplinks, move, clean(facts.failure)]
    items = [Item(label=line) for line in lines if line]
    if facts.is_running:
        items += map(_problem_item, facts.properties.get("Problems", [])[:PROBLEMS_SHOWN])
        items.append(_peers_item(facts.peers))
    return tuple(items)


def _orders(facts: Facts) -> tuple[Item, ...]:
    turn = (
        Item(label="Leave the overlay", action="leave")
        if facts.is_running
        else Item(label="Come back", action="come-back")
    )
    return (
        turn,
        Item(label="Notify of moves and problems", action="notifications", is_checked=facts.notifies),
        Item(label="Start with the session", action="autostart", is_checked=facts.starts_with_session),
        SEPARATOR,
        Item(label="Quit", action="quit"),
    )


def _uplink_text(properties: Mapping[str, Any]) -> str:
    used = [uplink for uplink in properties.get("Uplinks", []) if uplink.get("is_used")]
    if not properties:
        return ""
    if not used:
        return "No way out"
    best = min(uplink.get("priority", 0) for uplink in used)
    first = [_uplink_name(uplink) for uplink in used if uplink.get("priority", 0) == best]
    rest = [_uplink_name(uplink) for uplink in used if uplink.get("priority", 0) != best]
    return clean(f"By {', '.join(first)}" + (f"; ready: {', '.join(rest)}" if rest else ""))


def _uplink_name(uplink: Mapping[str, Any]) -> str:
    name = uplink_word(str(uplink.get("type", "")), str(uplink.get("name", "")))
    return f"{name} ({uplink['network']})" if uplink.get("network") else name


def uplink_word(kind: str, name: str) -> str:
    """The usual name of an uplink's type, such as Wi-Fi or LTE; the interface's name for other types."""
    return _TYPES.get(kind, name)


def move_text(move: Mapping[str, Any]) -> str:
    """For example "Moved from Wi-Fi to LTE, 0 packets lost"; "" without a move."""
    if not move:
        return ""
    left, took = (_ways(move.get(key, [])) for key in ("left", "took"))
    lost = f"{move.get('lost', 0)} packet{'' if move.get('lost', 0) == 1 else 's'} lost"
    gaps = [move[key] for key in ("gap_out_ms", "gap_in_ms") if move.get(key) is not None]
    pause = f", paused for {max(gaps):.0f} ms" if gaps else ""
    if not took:
        return clean(f"Lost {left or 'the way out'}, and there is no other")
    if not left:
        return clean(f"Back by {took}")
    if left == took:
        reasons = move.get("reasons") or ["the address changed"]
        return clean(f"{took}: {reasons[0]}, {lost}{pause}")
    return clean(f"Moved from {left} to {took}, {lost}{pause}")


def _ways(ways: Sequence[str]) -> str:
    words = [uplink_word(*(str(way).partition(" ")[::2])) for way in ways]
    return ", ".join(dict.fromkeys(words))


def _problem_item(problem: Mapping[str, Any]) -> Item:
    remedy = [clean(problem[key]) for key in ("cause", "remedy") if problem.get(key)]
    return Item(label=f"\u26a0 {clean(problem.get('what', ''))}", children=tuple(Item(label=line) for line in remedy))


def _peers_item(peers: Sequence[Mapping[str, Any]]) -> Item:
    if not peers:
        return Item(label="No peers yet")
    shown = [Item(label=_peer_text(peer)) for peer in peers[:PEERS_SHOWN]]
    if len(peers) > PEERS_SHOWN:
        shown.append(Item(label=f"and {len(peers) - PEERS_SHOWN} more: lispctl peers"))
    return Item(label=f"Peers ({len(peers)})", children=tuple(shown))


def _peer_text(peer: Mapping[str, Any]) -> str:
    eid, _, _ = str(peer.get("eid", "")).partition("/")
    parts = [_WAYS.get(str(peer.get("way")), "")]
    if not peer.get("is_reachable", True):
        parts = ["does not answer"]
    elif peer.get("rtt_ms") is not None:
        parts.append(f"{peer['rtt_ms']:.0f} ms")
    parts.append("sealed" if peer.get("seal") else "in clear")
    return clean(f"{peer.get('name') or eid}: {', '.join(part for part in parts if part)}")


def problem_text(problem: Mapping[str, Any]) -> tuple[str, str]:
    """Title and body of a notification: the problem, and its cause and remedy."""
    remedy = " ".join(clean(problem[key]) for key in ("cause", "remedy") if problem.get(key))
    return clean(problem.get("what", "")), remedy


def clean(text: object) -> str:
    """Replace control characters, and truncate the text to a line."""
    printable = "".join(sign if sign.isprintable() else "?" for sign in str(text))
    return printable if len(printable) <= TEXT_MAX * 2 else f"{printable[: TEXT_MAX * 2 - 1]}\u2026"
