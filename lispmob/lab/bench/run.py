"""A run of the benchmarks: builds the pairs, measures all paths in turn, and records the results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from lispmob.lab.bench import control, household, idle, sanity, standby, tools, traffic
from lispmob.lab.bench.flooding import flood
from lispmob.lab.bench.flooding.flood_hub import FloodedHub
from lispmob.lab.bench.overlay import Overlay
from lispmob.lab.bench.relayed import Relayed
from lispmob.lab.bench.results import Results
from lispmob.lab.bench.sealed import SEALED_PATHS, SealedPair
from lispmob.lab.bench.tiers import TIERS, TierUnavailable
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.bench.wire import AUTO, NIC, NOSEG, SUFFIX, Pair, Way, Wire, kind_of

TRAFFIC_CASES: Final = ("tcp1", "tcp4", "udp64", "udp512", "udp1400", "rtt", "rtt-loaded", "energy")
OTHER_CASES: Final = ("idle", "standby", "table", "start", "flood", "control", "tools", "household")
_CABLE_CASES: Final = {
    NOSEG: ("tcp1", "udp64"),
    NIC: ("tcp1", "udp64", "udp1400"),
    SUFFIX: ("tcp1", "udp64", "energy"),
}
"""The cases of paths with these suffixes; all other paths have all cases."""
_SEALED_CASES: Final = tuple(case for case in TRAFFIC_CASES if case != "energy")
_UDP_S: Final = 1
_REST_S: Final = 20.0  # ours: time for late effects of the start: probes, NAT verdicts
_CONTROL_ROUNDS: Final = 2  # ours: it takes long, and varies little
_IDLE_S: Final = 30.0
_IDLE_WINDOWS: Final = 2


class Run:
    """Measures into `results`; a tier that cannot run here is added to its `skipped`."""

    def __init__(
        self,
        results: Results,
        directory: Path,
        cases: Collection[str],
        paths: Collection[str],
        rounds: int,
        seconds: int,
        budget_s: float | None = None,
    ) -> None:
        """`directory` is for configurations, sockets and logs. `budget_s`: about the time for all rounds."""
        self._results = results
        self._directory = directory
        self._cases = frozenset(cases)
        self._paths = tuple(paths)
        self._rounds = rounds
        self._seconds = seconds
        self._budget_s = budget_s

    def measure(self) -> None:
        """Measure all cases. Raises LispError when a measurement fails; earlier results are kept."""
        if self._cases & {*TRAFFIC_CASES, "idle"}:
            self._measure_cables()
        if "table" in self._cases:
            for number in self._share(0.1):
                self._say(number, "table")
                self._note("tun", idle.table())
                if "ebpf" in self._tiers():
                    with self._skipping("ebpf"):
                        self._note("ebpf", idle.kernel_table())
        if "standby" in self._cases:
            for tier in self._tiers():
                self._measure_standby(tier)
        if "start" in self._cases:
            for tier in self._tiers():
                self._measure_overlay(tier)
        if "flood" in self._cases:
            self._measure_flooded_hub()
            for tier in self._tiers():
                self._measure_flood(tier)
        if "tools" in self._cases:
            print("tools: lispctl and lig as processes", flush=True)
            for figures in tools.samples(self._directory / "tools"):
                self._note("ebpf", figures)
        if "household" in self._cases:
            print(f"household: {self._rounds} machines join, and ask for names", flush=True)
            for figures in household.samples(self._directory / "household", self._rounds):
                self._note("tun", figures)
        if "control" in self._cases:
            print(f"control: {control.ENTRIES} mappings, {self._rounds} rounds of readers", flush=True)
            for figures in control.samples(self._directory / "control", min(self._rounds, _CONTROL_ROUNDS)):
                self._note("tun", figures)

    def _share(self, share: float) -> Iterator[int]:
        """The numbers of the rounds: as many as wanted, or as fit into this share of the time; at least one."""
        began_at = time.monotonic()
        for number in range(self._rounds):
            spent_s = time.monotonic() - began_at
            if number and self._budget_s is not None and spent_s * (number + 1) / number > share * self._budget_s:
                print(f"{number} of {self._rounds} rounds: there is no time for more", flush=True)
                return
            yield number

    # --- paths on a cable

    def _measure_cables(self) -> None:
        with contextlib.ExitStack() as stack:
            wires: dict[str, Wire] = {}
            pairs: list[SealedPair] = []
            for tier in self._tiers(with_references=True):
                with self._skipping(tier):
                    # The references share the tun tier's cable; other tiers have cables of their own.
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
                daemons = {tier: wire.nodes[0].daemon for tier, wire in wires.items() if tier in TIERS}
                windows = min(self._rounds, _IDLE_WINDOWS)
                print(f"idle: {windows} times {_IDLE_S:g} s, after {_REST_S:g} s of rest", flush=True)
                time.sleep(_REST_S)
                for tier, figures in idle.idle(daemons, _IDLE_S, windows):
                    self._note(tier, figures)
            measured: list[tuple[Wire | Relayed | SealedPair, Way]] = [*ways, *self._relayed(stack)]
            measured += [(pair, pair.way) for pair in pairs]
            for number in self._share(0.5):
                self._round(number, measured)

    def _relayed(self, stack: contextlib.ExitStack) -> Iterator[tuple[Relayed, Way]]:
        """The paths through an RTR, for the tiers that run here."""
        for tier in TIERS:
            name = f"{tier}{SUFFIX}"
            if name not in self._paths or not self._cases & {*_CABLE_CASES[SUFFIX]} or tier in self._results.skipped:
                continue
            with self._skipping(name):
                relayed = stack.enter_context(Relayed(self._directory / name, tier))
                print(f"{name}: {relayed.check()} packets seen on the cable as they should be", flush=True)
                yield relayed, relayed.way

    def _round(self, number: int, ways: list[tuple[Wire | Relayed | SealedPair, Way]]) -> None:
        bare_us: float | None = None
        for pair, way in ways:
            self._say(number, way.name)
            wanted = _CABLE_CASES.get(way.name.removeprefix(way.kind), TRAFFIC_CASES)
            if way.name in SEALED_PATHS:
                wanted = _SEALED_CASES
            with pair.offloads(way) if isinstance(pair, Wire) else contextlib.nullcontext():
                for case in wanted:
                    if case not in self._cases:
                        continue
                    figures = self._figures(pair, way, case)
                    self._note(way.name, figures)
                    if way.name == "veth" and "rtt" in figures:
                        bare_us = figures["rtt"][0]
                    elif bare_us is not None and "rtt" in figures:
                        self._results.add("rtt-added", way.name, figures["rtt"][0] - bare_us, "us")

    def _figures(self, pair: Pair, way: Way, case: str) -> Figures:
        if case.startswith("tcp"):
            return traffic.tcp(pair, way, int(case.removeprefix("tcp")), self._seconds)
        if case.startswith("udp"):
            return traffic.udp(pair, way, int(case.removeprefix("udp")), _UDP_S)
        if case == "energy":
            return traffic.energy(pair, way, self._seconds)
        if case == "rtt":
            return traffic.round_trip(pair, way)
        return traffic.round_trip_under_load(pair, way, max(2, self._seconds))

    # --- nodes with a mapping system

    def _measure_overlay(self, tier: str) -> None:
        with self._skipping(tier), Overlay(self._directory / f"{tier}-overlay", tier) as overlay:
            for number in self._share(0.1):
                self._say(number, f"{tier}: start, first packet, move")
                self._note(tier, overlay.sample(number))

    def _measure_standby(self, tier: str) -> None:
        print(f"{tier}: standby, {self._rounds} times {_IDLE_S:g} s", flush=True)
        with self._skipping(tier):
            for _, figures in standby.samples(self._directory / f"{tier}-standby", tier, _IDLE_S, self._rounds):
                self._note(tier, figures)

    def _measure_flood(self, tier: str) -> None:
        directory = self._directory / f"{tier}-flood"
        with self._skipping(tier), Overlay(directory, tier) as overlay:
            program = flood.Flood(directory)
            for number in self._share(0.08):
                self._say(number, f"{tier}: quiet, a flood of junk, the worst question")
                self._note(tier, flood.sample(overlay, program, number))

    def _measure_flooded_hub(self) -> None:
        with FloodedHub(self._directory / "flood") as flooded:
            flooded.settle()
            for number in self._share(0.08):
                self._say(number, "flood: a hub")
                for name, figures in flooded.phases():
                    self._note(name, figures)

    # --- the rest

    def _tiers(self, *, with_references: bool = False) -> tuple[str, ...]:
        """The tiers of the wanted paths that can run; the tun tier's cable carries the references too."""
        paths = [name for name in self._paths if name not in SEALED_PATHS]
        wanted = {_tier_of(name) for name in paths if with_references or kind_of(name) in TIERS}
        known = (*TIERS, AUTO) if with_references else TIERS
        return tuple(tier for tier in known if tier in wanted and tier not in self._results.skipped)

    @contextlib.contextmanager
    def _skipping(self, name: str) -> Iterator[None]:
        """Skip the measurements of a tier that cannot run here."""
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
    """The tier whose cable has the path."""
    kind = kind_of(path)
    return kind if kind in (*TIERS, AUTO) else TIERS[0]
