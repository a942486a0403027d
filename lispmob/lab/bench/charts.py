"""Draws the results of a benchmark: throughput and packets by path, cost of a packet, lookup time by table size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lispmob.lab.bench.paths import NIC, NOSEG
from lispmob.lab.bench.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS: Final = {
    "veth": "#999999",
    "vxlan": "#e69f00",
    "tun-plain": "#cc79a7",
    "tun": "#0072b2",
    "ebpf": "#009e73",
    "tun-rtr": "#56b4e9",
    "ebpf-rtr": "#d55e00",
    "auto": "#000000",
    "tun-sealed": "#003f5c",
    "tun-sealed-chacha": "#7a5195",
    "wireguard-go": "#b07d2b",
}
_PICTURES: Final = {
    "throughput": (("tcp1", "tcp4"), "Throughput, TCP"),
    "packets": (("udp64", "udp512", "udp1400"), "Packets that arrive"),
    "cost": (("cpu-per-gb", "cpu-per-mpps"), "Processor time, both ends"),
    "round-trip": (("rtt", "rtt-loaded"), "Round trip, idle and beside one TCP stream"),
}
_LOOKUP: Final = "lookup-ns-"


def draw(results: Results, directory: Path) -> None:
    """Write the pictures as SVG files. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lispmob", "font.size": 9, "axes.titlesize": 10})
    from matplotlib.figure import Figure

    directory.mkdir(parents=True, exist_ok=True)

    def one(name: str, draw_in: Callable[[Axes], None]) -> None:
        figure = Figure(figsize=(8, 4), layout="constrained")
        draw_in(figure.subplots())
        figure.savefig(directory / f"{name}.svg", format="svg", metadata={"Date": None, "Title": name})

    for name, (cases, title) in _PICTURES.items():
        if set(cases) & set(results.cases):
            one(name, partial(_draw_bars, results=results, cases=cases, title=title))
    if any(case.startswith(_LOOKUP) for case in results.cases):
        one("lookups", partial(_draw_lookups, results=results))


def _draw_bars(axes: Axes, results: Results, cases: tuple[str, ...], title: str) -> None:
    measured = [case for case in cases if case in results.cases]
    paths = [path for path in results.paths if any(results.median(case, path) is not None for case in measured)]
    width = 0.8 / max(1, len(paths))
    for number, path in enumerate(paths):
        places = [at + (number - (len(paths) - 1) / 2) * width for at in range(len(measured))]
        heights = [results.median(case, path) or 0.0 for case in measured]
        # The colour of the path, hatched.
        hatch = "///" if path.endswith(NOSEG) else "..." if path.endswith(NIC) else ""
        colour = _COLOURS[path.removesuffix(NOSEG).removesuffix(NIC)]
        axes.bar(places, heights, width, label=path, color=colour, hatch=hatch, edgecolor="white")
    axes.set_xticks(range(len(measured)), [f"{case} ({results.unit(case)})" for case in measured])
    axes.set_title(title, loc="left")
    axes.grid(visible=True, axis="y", alpha=0.3)
    if paths:
        axes.legend(fontsize=7.5, loc="upper right")  # the best place takes seconds to find


def _draw_lookups(axes: Axes, results: Results) -> None:
    cases = sorted((case for case in results.cases if case.startswith(_LOOKUP)), key=_entries)
    values = [results.median(case, "tun") or 0.0 for case in cases]
    axes.plot([_entries(case) for case in cases], values, marker="o", color=_COLOURS["tun"])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("entries of the forwarding table")
    axes.set_ylabel("ns a lookup")
    axes.set_title("Lookups in the forwarding table", loc="left")
    axes.grid(visible=True, alpha=0.3)


def _entries(case: str) -> int:
    return int(case.removeprefix(_LOOKUP))
