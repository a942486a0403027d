"""One run of the benchmarks: puts up what is wanted, lets all paths take turns, and notes what was measured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from lispmob.lab.bench import flood, idle, sanity, traffic
from lispmob.lab.bench.flood_hub import FloodedHub
from lispmob.lab.bench.overlay import Overlay
from lispmob.lab.bench.relayed import SUFFIX, Relayed
from lispmob.lab.bench.results import Results
from lispmob.lab.bench.sealed import SEALED_PATHS, SealedPair
from lispmob.lab.bench.tiers import TIERS, TierUnavailable
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.bench.wire import NOSEG, Pair, Way, Wire

TRAFFIC_CASES: Final = ("tcp1", "tcp4", "udp64", "udp512", "udp1400", "rtt", "rtt-loaded")
OTHER_CASES: Final = ("idle", "table", "start", "flood")
_NOSEG_CASES: Final = ("tcp1", "udp64")
_RELAYED_CASES: Final = ("tcp1", "udp64")
_UDP_S: Final = 1
_REST_S: Final = 20.0  # ours: what was settled has its echoes: probes, NAT verdicts
_IDLE_S: Final = 30.0


class Run:
    """What is measured goes into `results`; a tier that cannot run here into its `skipped`."""

    def __init__(
        self,
        results: Results,
        directory: Path,
        cases: Collection[str],
        paths: Collection[str],
        rounds: int,
        seconds: int,
    ) -> None:
        """`directory` is for configurations, sockets and logs."""
        self._results = results
        self._directory = directory
        self._cases = frozenset(cases)
        self._paths = tuple(paths)
        self._rounds = rounds
        self._seconds = seconds

    def measure(self) -> None:
        """Everything. Raises LispError when something could not be measured; what was before it is kept."""
        if self._cases & {*TRAFFIC_CASES, "idle"}:
            self._measure_cables()
        if "table" in self._cases:
            for number in range(self._rounds):
                self._say(number, "table")
                self._note("tun", idle.table())
                if "ebpf" in self._tiers():
                    with self._skipping("ebpf"):
                        self._note("ebpf", idle.kernel_table())
        if "start" in self._cases:
            for tier in self._tiers():
                self._measure_overlay(tier)
        if "flood" in self._cases:
            self._measure_flooded_hub()
            for tier in self._tiers():
                self._measure_flood(tier)
        for tier in TIERS:
            if f"{tier}{SUFFIX}" in self._paths and self._cases & {*_RELAYED_CASES}:
                self._measure_relayed(tier)

    # --- paths on a cable

    def _measure_cables(self) -> None:
        with contextlib.ExitStack() as stack:
            wires: dict[str, Wire] = {}
            pairs: list[SealedPair] = []
            for tier in self._tiers(with_references=True):
                with self._skipping(tier):
                    # The tun tier's cable has the references on it; those of another tier have one of their own.
                    wire = Wire(self._directory / tier, tier, has_references=tier == TIERS[0])
                    wires[tier] = stack.enter_context(wire)
                    wire.settle(wire.path(tier))
                    wire.require_tier()
            ways = [
                (wires[tier], wires[tier].path(name))
                for name in self._paths
                if not name.endswith(SUFFIX) and name not in SEALED_PATHS
                if (tier := _tier_of(name)) in wires and tier not in self._results.skipped
            ]
            for wire, way in ways:
                wire.settle(way)
                print(f"{way.name}: {sanity.check(wire, way)} packets seen on the cable as they should be", flush=True)
            for name in SEALED_PATHS if self._cases & {*TRAFFIC_CASES} else ():
                if name in self._paths:
                    with self._skipping(name):
                        pairs.append(stack.enter_context(SealedPair(self._directory / name, name)))
                        print(f"{name}: {pairs[-1].check()} packets seen on the cable, sealed", flush=True)
            if "idle" in self._cases:
                daemons = {tier: wire.nodes[0].daemon for tier, wire in wires.items()}
                print(f"idle: {self._rounds} times {_IDLE_S:g} s, after {_REST_S:g} s of rest", flush=True)
                time.sleep(_REST_S)
                for tier, figures in idle.idle(daemons, _IDLE_S, self._rounds):
                    self._note(tier, figures)
            for number in range(self._rounds):
                bare_us = self._round(number, ways)
                for pair in pairs:
                    self._round_of_pair(number, pair, bare_us)

    def _round(self, number: int, ways: list[tuple[Wire, Way]]) -> float | None:
        """The bare cable's round trip (us), when it was measured."""
        bare_us: float | None = None
        for wire, way in ways:
            self._say(number, way.name)
            wanted = _NOSEG_CASES if way.name.endswith(NOSEG) else TRAFFIC_CASES
            with wire.offloads(way):
                for case in wanted:
                    if case not in self._cases:
                        continue
                    figures = self._figures(wire, way, case)
                    self._note(way.name, figures)
                    if way.name == "veth" and "rtt" in figures:
                        bare_us = figures["rtt"][0]
                    elif bare_us is not None and "rtt" in figures:
                        self._results.add("rtt-added", way.name, figures["rtt"][0] - bare_us, "us")
        return bare_us

    def _figures(self, pair: Pair, way: Way, case: str) -> Figures:
        if case.startswith("tcp"):
            return traffic.tcp(pair, way, int(case.removeprefix("tcp")), self._seconds)
        if case.startswith("udp"):
            return traffic.udp(pair, way, int(case.removeprefix("udp")), _UDP_S)
        if case == "rtt":
            return traffic.round_trip(pair, way)
        return traffic.round_trip_under_load(pair, way, max(2, self._seconds))

    # --- nodes with a mapping system

    def _measure_overlay(self, tier: str) -> None:
        with self._skipping(tier), Overlay(self._directory / f"{tier}-overlay", tier) as overlay:
            for number in range(self._rounds):
                self._say(number, f"{tier}: start, first packet, move")
                self._note(tier, overlay.sample(number))

    def _round_of_pair(self, number: int, pair: SealedPair, bare_us: float | None) -> None:
        self._say(number, pair.way.name)
        for case in TRAFFIC_CASES:
            if case not in self._cases:
                continue
            figures = self._figures(pair, pair.way, case)
            self._note(pair.way.name, figures)
            if bare_us is not None and "rtt" in figures:
                self._results.add("rtt-added", pair.way.name, figures["rtt"][0] - bare_us, "us")

    def _measure_flood(self, tier: str) -> None:
        directory = self._directory / f"{tier}-flood"
        with self._skipping(tier), Overlay(directory, tier) as overlay:
            program = flood.Flood(directory)
            for number in range(self._rounds):
                self._say(number, f"{tier}: quiet, a flood of junk, the worst question")
                self._note(tier, flood.sample(overlay, program, number))

    def _measure_relayed(self, tier: str) -> None:
        name = f"{tier}{SUFFIX}"
        if tier in self._results.skipped:
            return
        with self._skipping(name), Relayed(self._directory / name, tier) as relayed:
            print(f"{name}: {relayed.check()} packets seen on the cable as they should be", flush=True)
            for number in range(self._rounds):
                self._say(number, name)
                for case in _RELAYED_CASES:
                    if case in self._cases:
                        self._note(name, self._figures(relayed, relayed.way, case))

    def _measure_flooded_hub(self) -> None:
        with FloodedHub(self._directory / "flood") as flooded:
            flooded.settle()
            for number in range(self._rounds):
                self._say(number, "flood: a hub")
                for name, figures in flooded.phases():
                    self._note(name, figures)

    # --- the rest

    def _tiers(self, *, with_references: bool = False) -> tuple[str, ...]:
        """Those of the paths wanted that can run; the tun tier's cable carries the references too."""
        paths = (name for name in self._paths if name not in SEALED_PATHS)
        wanted = {_tier_of(name) for name in paths if with_references or name.removesuffix(NOSEG) in TIERS}
        return tuple(tier for tier in TIERS if tier in wanted and tier not in self._results.skipped)

    @contextlib.contextmanager
    def _skipping(self, name: str) -> Iterator[None]:
        """Leave out what a tier that cannot run here would have measured."""
        try:
            yield
        except TierUnavailable as reason:
            self._results.skipped[name] = str(reason)
            print(f"{name} is left out: {reason}", flush=True)

    def _note(self, path: str, figures: Figures) -> None:
        for case, (value, unit) in figures.items():
            self._results.add(case, path, value, unit)

    def _say(self, number: int, what: str) -> None:
        print(f"round {number + 1} of {self._rounds}: {what}", flush=True)


def _tier_of(path: str) -> str:
    """The tier whose cable a path is on."""
    kind = path.removesuffix(NOSEG).removesuffix(SUFFIX)
    return kind if kind in TIERS else TIERS[0]
