"""The pictures of a benchmark: throughput and packets by path, cost of a packet, table size against lookup time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lispmob.lab.bench.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = ("#999999", "#e69f00", "#cc79a7", "#0072b2", "#009e73", "#56b4e9", "#d55e00", "#000000")
_PANELS: Final = (
    (("tcp1", "tcp4"), "Throughput, TCP"),
    (("udp64", "udp512", "udp1400"), "Packets that arrive"),
    (("cpu-per-gb", "cpu-per-mpps"), "Processor time, both ends"),
    (("rtt", "rtt-loaded"), "Round trip"),
)
_LOOKUP: Final = "lookup-ns-"


def draw(results: Results, path: Path) -> None:
    """Write all pictures as one SVG. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lispmob", "font.size": 9, "axes.titlesize": 10})
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 11), layout="constrained")
    grid = figure.subplots(3, 2)
    for axes, (cases, title) in zip(grid.flat, _PANELS, strict=False):
        _draw_bars(axes, results, cases, title)
    _draw_lookups(grid[2, 0], results)
    grid[2, 1].axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Title": "Benchmarks"})


def _draw_bars(axes: Axes, results: Results, cases: tuple[str, ...], title: str) -> None:
    measured = [case for case in cases if case in results.cases]
    paths = [path for path in results.paths if any(results.median(case, path) is not None for case in measured)]
    width = 0.8 / max(1, len(paths))
    for number, path in enumerate(paths):
        places = [at + (number - (len(paths) - 1) / 2) * width for at in range(len(measured))]
        heights = [results.median(case, path) or 0.0 for case in measured]
        axes.bar(places, heights, width, color=_COLOURS[number % len(_COLOURS)], label=path)
    axes.set_xticks(range(len(measured)), [f"{case} ({results.unit(case)})" for case in measured])
    axes.set_title(title, loc="left")
    axes.grid(visible=True, axis="y", alpha=0.3)
    if paths:
        axes.legend(fontsize=7.5)


def _draw_lookups(axes: Axes, results: Results) -> None:
    cases = sorted((case for case in results.cases if case.startswith(_LOOKUP)), key=_entries)
    values = [results.median(case, "tun") or 0.0 for case in cases]
    axes.plot([_entries(case) for case in cases], values, marker="o", color=_COLOURS[3])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("entries of the forwarding table")
    axes.set_ylabel("ns a lookup")
    axes.set_title("Lookups in the forwarding table", loc="left")
    axes.grid(visible=True, alpha=0.3)


def _entries(case: str) -> int:
    return int(case.removeprefix(_LOOKUP))
