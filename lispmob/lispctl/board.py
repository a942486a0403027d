"""The screen of `lispctl watch`: turns snapshots of a node into lines. It uses neither a socket nor a clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from lispmob.lispctl.show.uplinks import uplink_lines
from lispmob.terminal.text import WIDTH, clean, duration, fold, milliseconds, moment, paint, plural, table

KEPT: Final = 24  # measurements of a path
PEERS_SHOWN: Final = 8
MOVES_SHOWN: Final = 3
PATHS_SHOWN: Final = 12
LATELY_S: Final = 60.0
_BARS: Final = "▁▂▃▄▅▆▇█"
_COLOURS: Final = {"working": "good", "degraded": "warn", "not-working": "bad"}
_STATES: Final = {"up": "good", "down": "bad"}


def sparkline(values: Sequence[float]) -> str:
    """A bar for each value, scaled from the lowest to the highest; equal values are in the middle."""
    if not values:
        return ""
    low, high = min(values), max(values)
    if high - low < 0.02 * max(high, 1e-9):  # so small a difference is noise
        return _BARS[3] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)


def rate(per_s: float, unit: str) -> str:
    """ "12 packets/s", "3.4 Mbit/s": powers of 1000."""
    for prefix in ("", "k", "M", "G"):
        if per_s < 999.5 or prefix == "G":
            return f"{per_s:.0f} {prefix}{unit}/s" if per_s >= 9.95 or not prefix else f"{per_s:.1f} {prefix}{unit}/s"
        per_s /= 1000
    raise AssertionError(per_s)


class Board:
    """The node as last seen, and what has changed since."""

    def __init__(self) -> None:
        self._status: dict[str, Any] | None = None
        self._paths: list[dict[str, Any]] = []
        self._peers: list[dict[str, Any]] = []
        self._moves: list[dict[str, Any]] = []
        self._trips: dict[tuple[str, str], deque[float]] = {}
        self._rates: dict[str, float] = {}
        self._seen_at: float | None = None
        self._gone: str | None = None

    def on_status(self, status: dict[str, Any], now: float) -> None:
        """Take the status; rates are those since the last one."""
        old, self._gone = self._status, None
        if old is not None and self._seen_at is not None and now > self._seen_at and old["pid"] == status["pid"]:
            took_s, was, now_is = now - self._seen_at, old["datapath"], status["datapath"]
            self._rates = {
                name: max(0.0, (now_is[name] - was[name]) / took_s)
                for name in ("packets_out", "packets_in", "octets_out", "octets_in", "drops")
            }
        self._status, self._seen_at = status, now

    def on_paths(self, paths: list[dict[str, Any]]) -> None:
        """Take the paths; a changed round-trip time counts as a new measurement."""
        self._paths = paths
        known = {(path["local"], path["remote"]) for path in paths}
        self._trips = {key: trips for key, trips in self._trips.items() if key in known}
        for path in paths:
            trips = self._trips.setdefault((path["local"], path["remote"]), deque(maxlen=KEPT))
            if path["rtt_ms"] is not None and (not trips or trips[-1] != path["rtt_ms"]):
                trips.append(path["rtt_ms"])

    def on_peers(self, entries: list[dict[str, Any]]) -> None:
        """Take the map-cache; the mappings with recent packets are shown."""
        used = [entry for entry in entries if entry["unused_s"] is not None and entry["unused_s"] <= LATELY_S]
        self._peers = sorted(used, key=lambda one: one["unused_s"])

    def on_moves(self, moves: list[dict[str, Any]]) -> None:
        """Take the moves, oldest first."""
        self._moves = moves

    def on_gone(self, why: str) -> None:
        """Show that lispd does not answer."""
        self._gone, self._seen_at, self._rates = why, None, {}

    def view(self) -> dict[str, Any]:
        """The same as data for programs."""
        status = self._status or {}
        return {
            "state": status.get("state"),
            "verdict": status.get("verdict"),
            "headline": status.get("headline"),
            "gone": self._gone,
            "rates": {name: round(value, 3) for name, value in self._rates.items()},
            "uplinks": status.get("uplinks", []),
            "paths": [path | {"rtts_ms": list(self._trips[path["local"], path["remote"]])} for path in self._paths],
            "peers": self._peers[:PEERS_SHOWN],
            "moves": self._moves[-MOVES_SHOWN:],
        }

    def lines(self, height: int | None = None) -> list[str]:
        """The screen, cut to its height."""
        made = self._lines()
        return made if height is None or len(made) <= height else [*made[: height - 1], paint("...", "dim")]

    def _lines(self) -> list[str]:
        if self._gone is not None:
            return fold(clean(self._gone))
        status = self._status
        if status is None:
            return ["..."]
        verdict = status.get("verdict", "working")
        headline = [paint(line, _COLOURS.get(verdict, "warn")) for line in fold(clean(status.get("headline", verdict)))]
        up = f"lispd {clean(status['version'])}, {clean(status['state'])}, up {duration(status['uptime_s'])}"
        tier = clean(status["datapath"]["tier"])
        return [
            *headline,
            f"{up}, {tier} tier, {plural(status['map_cache_size'], 'mapping')}",
            "",
            *self._traffic(),
            "",
            paint("Uplinks", "bold"),
            *(f"  {line}" for line in uplink_lines(status["uplinks"], WIDTH - 2)),
            "",
            *self._path_lines(),
            "",
            *self._peer_lines(),
            "",
            *self._move_lines(),
        ]

    def _traffic(self) -> list[str]:
        if not self._rates:
            return [f"{paint('Out', 'bold')}  -", f"{paint('In', 'bold')}   -"]
        lines = []
        for title, way in (("Out", "out"), ("In ", "in")):
            packets, octets = self._rates[f"packets_{way}"], self._rates[f"octets_{way}"]
            lines.append(f"{paint(title, 'bold')}  {rate(8 * octets, 'bit')}, {rate(packets, 'packets')}")
        if self._rates["drops"] >= 0.5:
            lines[0] += paint(f", {rate(self._rates['drops'], 'packets')} dropped", "bad")
        return lines

    def _path_lines(self) -> list[str]:
        if not self._paths:
            return [f"{paint('Paths', 'bold')}  no locator of others is in use"]
        rows = []
        for path in self._paths[:PATHS_SHOWN]:
            trips = self._trips[path["local"], path["remote"]]
            loss = "-" if path["loss"] is None else f"{path['loss'] * 100:.0f}%"
            way = f"{path['interface']} {path['remote']}"
            rows.append((way, path["state"], milliseconds(path["rtt_ms"]), loss, sparkline(trips)))
        more = len(self._paths) - PATHS_SHOWN
        lines = table(("PATH", "STATE", "ROUND TRIP", "LOSS", "LATELY"), rows, right=("ROUND TRIP", "LOSS"))
        coloured = [lines[0], *(_of_state(line, path) for line, path in zip(lines[1:], self._paths, strict=False))]
        shown = coloured if len(lines) == len(rows) + 1 else lines
        return [paint("Paths", "bold"), *(f"  {line}" for line in shown), *([f"  and {more} more"] if more > 0 else [])]

    def _peer_lines(self) -> list[str]:
        if not self._peers:
            return [f"{paint('Peers', 'bold')}  none in the last minute"]
        lines = [paint("Peers", "bold")]
        for peer in self._peers[:PEERS_SHOWN]:
            rlocs = ", ".join(clean(rloc["address"]) for rloc in peer["locators"]) or clean(peer["action"])
            lines += fold(f"{clean(peer['prefix'])}  {rlocs}", first="  ", rest="    ")
        more = len(self._peers) - PEERS_SHOWN
        return [*lines, *([f"  and {more} more"] if more > 0 else [])]

    def _move_lines(self) -> list[str]:
        if not self._moves:
            return [f"{paint('Moves', 'bold')}  none since lispd started"]
        lines = [paint("Moves", "bold")]
        for move in reversed(self._moves[-MOVES_SHOWN:]):
            gaps = f"gap out {milliseconds(move['gap_out_ms'])}, in {milliseconds(move['gap_in_ms'])}"
            reasons = "; ".join(clean(reason) for reason in move["reasons"])
            lines += fold(f"{moment(move['started_at'])}  {reasons}: {gaps}", first="  ", rest="    ")
        return lines


def _of_state(line: str, path: dict[str, Any]) -> str:
    return paint(line, _STATES[path["state"]]) if path["state"] in _STATES else line
