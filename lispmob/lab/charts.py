"""Draws a demonstration: uplinks and packet gaps over its whole length, then every break packet by packet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lispmob.lab.handover import Handover
from lispmob.lab.uplink_watch import Sent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OUT: Final = "#0072b2"  # colours for all kinds of colour vision
_BACK: Final = "#d55e00"
_LOST: Final = "#cc0000"
_GREY: Final = "#555555"
_BARS: Final = ("#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#999999")
_LANES: Final = ("Map-Register", "Map-Notify", "SMR", "Map-Request", "Map-Reply")
_BEFORE_MS: Final = 150.0
_BIN_S: Final = 0.1
_SHORTEST_AFTER_MS: Final = 450.0


@dataclass(frozen=True, slots=True)
class Span:
    """An uplink was in a network from `start` to `end`, CLOCK_MONOTONIC seconds."""

    interface: str
    network: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn. `began_at` is the zero of the overview."""

    began_at: float
    ended_at: float
    spans: tuple[Span, ...]
    handovers: tuple[Handover, ...]
    sent: tuple[Sent, ...] = ()  # by which uplink, in the chapter about several uplinks at once


def draw(picture: Picture, path: Path) -> None:
    """Write `picture` as SVG. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lispmob", "font.size": 9, "axes.titlesize": 10})
    from matplotlib.figure import Figure

    breaks = [handover for handover in picture.handovers if handover.is_break]
    pairs = (len(breaks) + 1) // 2
    # Rows: uplinks, gaps, then for every two breaks a row of packets and a row of messages.
    ratios = [1.0, 2.2] + [2.0, 1.3] * pairs + [1.6] * bool(picture.sent)
    figure = Figure(figsize=(13, 1.5 * sum(ratios)), layout="constrained")
    grid = figure.add_gridspec(len(ratios), 2, height_ratios=ratios)
    uplinks = figure.add_subplot(grid[0, :])
    gaps = figure.add_subplot(grid[1, :], sharex=uplinks)
    _draw_uplinks(uplinks, picture)
    _draw_gaps(gaps, picture)
    for number, handover in enumerate(breaks):
        row, column = 2 + 2 * (number // 2), number % 2
        packets = figure.add_subplot(grid[row, column])
        messages = figure.add_subplot(grid[row + 1, column], sharex=packets)
        _draw_packets(packets, handover, _letter(picture, handover), shows_legend=number == 0)
        _draw_messages(messages, handover, shows_legend=number == 0)
    if picture.sent:
        _draw_bytes(figure.add_subplot(grid[len(ratios) - 1, :]), picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Title": "Handover timeline"})


def _letter(picture: Picture, handover: Handover) -> str:
    return chr(ord("A") + picture.handovers.index(handover))


def _draw_uplinks(axes: Axes, picture: Picture) -> None:
    interfaces = sorted({span.interface for span in picture.spans})
    networks = sorted({span.network for span in picture.spans})
    for span in picture.spans:
        start = span.start - picture.began_at
        width = span.end - span.start
        colour = _BARS[networks.index(span.network) % len(_BARS)]
        axes.broken_barh([(start, width)], (interfaces.index(span.interface) - 0.35, 0.7), color=colour, alpha=0.75)
        if width > 0.04 * (picture.ended_at - picture.began_at):
            at = start + width / 2
            axes.text(at, interfaces.index(span.interface), span.network, ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(interfaces)), interfaces)
    axes.set_ylim(-0.6, max(1, len(interfaces)) - 0.4)
    axes.set_title("Uplinks of the node that moves, and the network that each is in", loc="left")
    axes.tick_params(labelbottom=False)


def _draw_gaps(axes: Axes, picture: Picture) -> None:
    for handover in picture.handovers:
        at = handover.began_at - picture.began_at
        axes.axvline(at, color=_GREY, linewidth=0.8, linestyle=":")
        axes.annotate(
            _letter(picture, handover), (at, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom"
        )
        for log, colour, label in ((handover.out, _OUT, "out"), (handover.back, _BACK, "in")):
            marks = [(at - picture.began_at, gap * 1000) for at, gap in log.arrival_gaps()]
            axes.plot(*_columns(marks), color=colour, linewidth=0.9, label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=1)  # gaps between packets of a burst are not of interest
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("ms since the packet before")
    axes.set_xlabel("seconds since the beginning (probes run around the moves only)")
    axes.set_xlim(0, picture.ended_at - picture.began_at)
    axes.set_title("Gap between arriving probes, logarithmic", loc="left", pad=14)
    axes.grid(visible=True, axis="y", alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        axes.legend(list(unique.values()), list(unique), loc="upper right", ncols=2)


def _draw_bytes(axes: Axes, picture: Picture) -> None:
    """Octets of inner packets that each uplink has sent, in tenths of a second."""
    first = min(sent.at for sent in picture.sent)
    length = int((max(sent.at for sent in picture.sent) - first) / _BIN_S) + 1
    interfaces = sorted({sent.interface for sent in picture.sent})
    heights = {interface: [0.0] * length for interface in interfaces}
    for sent in picture.sent:
        heights[sent.interface][int((sent.at - first) / _BIN_S)] += sent.octets / 1000
    times = [first - picture.began_at + number * _BIN_S for number in range(length)]
    axes.stackplot(times, *(heights[name] for name in interfaces), labels=interfaces, colors=_BARS, alpha=0.8)
    axes.set_yscale("symlog", linthresh=1)  # so that one flow is visible beside ten thousand
    axes.set_ylabel("kB per 0.1 s")
    axes.set_xlabel("seconds since the beginning")
    axes.set_title("What left by each uplink while both were in use", loc="left")
    axes.legend(loc="upper right", ncols=len(interfaces))


def _draw_packets(axes: Axes, handover: Handover, letter: str, *, shows_legend: bool) -> None:
    zero = handover.began_at
    shown: list[tuple[float, float]] = []
    for log, colour, label, marker in ((handover.out, _OUT, "out", "o"), (handover.back, _BACK, "in", "s")):
        window = log.between(zero - _BEFORE_MS / 1000, zero + _window_ms(handover) / 1000)
        arrived = [((p.sent_at - zero) * 1000, p.delay_s * 1000) for p in window if p.delay_s is not None]
        lost = [(p.sent_at - zero) * 1000 for p in window if p.delay_s is None]
        shown += arrived
        axes.plot(*_columns(arrived), linestyle="none", marker=marker, markersize=2.5, color=colour, label=label)
        height = -4 if label == "out" else -10
        axes.plot(lost, [height] * len(lost), linestyle="none", marker="x", markersize=4, color=colour)
    axes.plot([], [], linestyle="none", marker="x", markersize=4, color=_GREY, label="lost (below 0, at its sending)")
    axes.axvline(0, color=_LOST, linewidth=1)
    out, back = handover.ways()
    axes.set_title(
        f"{letter}. {handover.title}\n"
        f"lost {out.lost} out, {back.lost} in; first packet after {_text(out.gap_s)} out, {_text(back.gap_s)} in",
        loc="left",
        fontsize=9,
    )
    axes.set_ylabel("one-way delay, ms")
    top = max((delay_ms for _, delay_ms in shown), default=0.0)
    axes.set_ylim(-15, 1.7 * top + 10)  # room for the legend above the packets
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 1.7 * top + 10])
    axes.set_xlim(-_BEFORE_MS, _window_ms(handover))
    axes.grid(visible=True, alpha=0.3)
    axes.tick_params(labelbottom=False)
    if shows_legend:
        axes.legend(loc="upper right", fontsize=7.5)


def _draw_messages(axes: Axes, handover: Handover, *, shows_legend: bool) -> None:
    hosts = sorted({message.host for message in handover.messages})
    for number, host in enumerate(hosts):
        for is_out in (True, False):
            marks = [
                (at_s * 1000, lane)
                for at_s, message in handover.steps()
                if message.host == host and message.is_out is is_out and (lane := _lane(message.kind)) is not None
            ]
            axes.plot(
                *_columns(marks),
                linestyle="none",
                marker="o^sD"[number % 4],
                fillstyle="full" if is_out else "none",
                markersize=6,
                color=_BARS[number % len(_BARS)] if number else "#000000",
                label=f"{host} {'sends' if is_out else 'receives'}",
            )
    axes.axvline(0, color=_LOST, linewidth=1)
    axes.set_yticks(range(len(_LANES)), _LANES, fontsize=8)
    axes.set_ylim(len(_LANES) - 0.5, -0.5)
    axes.set_xlabel("ms after the loss")
    axes.grid(visible=True, alpha=0.3)
    if shows_legend and hosts:
        axes.legend(loc="upper right", fontsize=7, ncols=len(hosts))


def _window_ms(handover: Handover) -> float:
    """The length of a break's picture: until both directions are open again, and a little more."""
    gaps_ms = [way.gap_s * 1000 for way in handover.ways() if way.gap_s is not None]
    return max(_SHORTEST_AFTER_MS, 1.25 * max(gaps_ms, default=0.0))


def _lane(kind: str) -> int | None:
    """The row of a message. All Map-Requests share a row, whatever their cause and their encapsulation."""
    if kind == "smr":
        return _LANES.index("SMR")
    if kind.endswith("map-request"):
        return _LANES.index("Map-Request")
    wanted = kind.removeprefix("encapsulated ")
    return next((row for row, lane in enumerate(_LANES) if lane.lower() == wanted), None)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _text(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1000:.0f} ms"
