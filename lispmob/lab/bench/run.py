"""A run of the benchmarks: builds the pairs, measures all paths in turn, and records the results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from lispmob.errors import LispError
from lispmob.lab.bench import control, household, idle, plan, sanity, tools, traffic
from lispmob.lab.bench.flooding import flood
from lispmob.lab.bench.flooding.flood_hub import FloodedHub
from lispmob.lab.bench.overlay import Overlay
from lispmob.lab.bench.paths import AUTO, RTR_PATHS, SEALED_PATHS, TIERS, kind_of, tier_of
from lispmob.lab.bench.plan import Turns
from lispmob.lab.bench.relayed import Relayed
from lispmob.lab.bench.results import Results
from lispmob.lab.bench.sealed import SealedPair
from lispmob.lab.bench.standby import PEERS, Standby
from lispmob.lab.bench.tiers import TierUnavailable
from lispmob.lab.bench.traffic import Figures
from lispmob.lab.bench.wire import Pair, Way, Wire

_UNLIMITED_S: Final = float("inf")


class Run:
    """Measures into `results`; a tier that cannot run here is added to its `skipped`."""

    def __init__(
        self,
        results: Results,
        directory: Path,
        cases: Collection[str],
        paths: Collection[str],
        rounds: int,
        seconds: float,
        budget_s: float = _UNLIMITED_S,
    ) -> None:
        """`directory` is for configurations, sockets and logs. `budget_s`: about the time for all rounds."""
        self._results = results
        self._directory = directory
        self._cases = frozenset(cases)
        self._paths = tuple(paths)
        self._seconds = seconds
        self._plan = plan.made(cases, paths, rounds, seconds, budget_s)
        self._turns = Turns(self._plan, time.monotonic)

    def measure(self) -> None:
        """Everything. What cannot be measured is noted, and the rest is measured all the same."""
        print(self._plan.line(), flush=True)
        with contextlib.ExitStack() as cables:
            wires: dict[str, Wire] = {}
            ways: list[tuple[Pair, Way]] = []
            self._part("nodes", lambda: ways.extend(self._put_up(cables, wires)))
            self._measure_waiting(wires)
            self._part("traffic", lambda: self._measure_traffic(ways))
        self._part("start", self._measure_start)
        self._part("household", self._measure_household)
        self._part("flood", self._measure_flood)
        print(f"took {self._turns.spent_s():.0f} s; planned were {self._plan.seconds:.0f} s", flush=True)

    def _part(self, name: str, measure: Callable[[], None]) -> None:
        """A part of the plan, if it is in it: how long it took is noted, and what went wrong."""
        if name not in self._plan.rounds:
            return
        began_s = time.monotonic()
        with self._noting_faults(name):
            measure()
        self._results.seconds[name] = time.monotonic() - began_s

    # --- paths on a cable

    def _put_up(self, stack: contextlib.ExitStack, wires: dict[str, Wire]) -> Iterator[tuple[Pair, Way]]:
        """All paths that run here, each once it was seen on the cable as it should be."""
        for tier in self._tiers(with_references=True):
            with self._skipping(tier):
                # The tun tier's cable has the references on it; those of another tier have one of their own.
                wire = Wire(self._directory / tier, tier, has_references=tier == TIERS[0])
                wires[tier] = stack.enter_context(wire)
                wire.settle(wire.path(tier))
                wire.require_tier()
        wanted = [path for path in self._paths if self._is_measured(path)]
        for path in wanted:
            if path in RTR_PATHS or path in SEALED_PATHS:
                continue
            if (tier := tier_of(path)) in wires and tier not in self._results.skipped:
                wire, way = wires[tier], wires[tier].path(path)
                wire.settle(way)
                print(f"{path}: {sanity.check(wire, way)} packets seen on the cable as they should be", flush=True)
                yield wire, way
        for path in wanted:
            if path in RTR_PATHS and tier_of(path) not in self._results.skipped:
                with self._skipping(path):
                    relayed = stack.enter_context(Relayed(self._directory / path, tier_of(path)))
                    print(f"{path}: {relayed.check()} packets seen on the cable as they should be", flush=True)
                    yield relayed, relayed.way
            elif path in SEALED_PATHS:
                with self._skipping(path):
                    pair = stack.enter_context(SealedPair(self._directory / path, path))
                    print(f"{path}: {pair.check()} packets seen on the cable, sealed", flush=True)
                    yield pair, pair.way

    def _measure_traffic(self, ways: list[tuple[Pair, Way]]) -> None:
        for number in self._turns.of("traffic"):
            self._round(number, ways)

    def _round(self, number: int, ways: list[tuple[Pair, Way]]) -> None:
        bare_us: float | None = None
        for pair, way in ways:
            self._say("traffic", number, way.name)
            with (
                self._noting_faults(way.name),
                pair.offloads(way) if isinstance(pair, Wire) else contextlib.nullcontext(),
            ):
                for case in plan.cases_of(way.name):
                    if case not in self._cases:
                        continue
                    figures = self._figures(pair, way, case)
                    self._note(way.name, figures)
                    if way.name == "veth" and "rtt" in figures:
                        bare_us = figures["rtt"][0]
                    elif bare_us is not None and "rtt" in figures and way.name not in SEALED_PATHS:
                        self._results.add("rtt-added", way.name, figures["rtt"][0] - bare_us, "us")

    def _figures(self, pair: Pair, way: Way, case: str) -> Figures:
        if case.startswith("tcp"):
            return traffic.tcp(pair, way, int(case.removeprefix("tcp")), self._seconds)
        if case.startswith("udp"):
            return traffic.udp(pair, way, int(case.removeprefix("udp")), plan.UDP_S)
        if case == "energy":
            return traffic.energy(pair, way, self._seconds)
        if case == "rtt":
            return traffic.round_trip(pair, way)
        return traffic.round_trip_under_load(pair, way, self._seconds)

    # --- idle nodes, and what can be measured while they rest

    def _measure_waiting(self, wires: dict[str, Wire]) -> None:
        with contextlib.ExitStack() as stack:
            standbys: dict[str, Standby] = {}
            self._part("standby", lambda: self._put_up_standbys(stack, standbys))
            rested_s = time.monotonic() + plan.REST_S
            self._part("table", self._measure_table)
            self._part("tools", self._measure_tools)
            self._part("control", self._measure_control)
            self._part("counting", lambda: self._count_waking(wires, standbys, rested_s))

    def _put_up_standbys(self, stack: contextlib.ExitStack, standbys: dict[str, Standby]) -> None:
        for tier in self._tiers():
            print(f"standby: {tier}: a node with {PEERS} peers, and one behind a NAT", flush=True)
            with self._skipping(tier):
                standbys[tier] = stack.enter_context(Standby(self._directory / f"{tier}-standby", tier))

    def _measure_tools(self) -> None:
        for number in self._turns.of("tools"):
            self._say("tools", number, "lispctl and lig as processes")
            self._note("ebpf", tools.sample(self._directory / "tools"))

    def _measure_control(self) -> None:
        for figures in control.samples(self._directory / "control", self._turns.of("control")):
            self._note("tun", figures)

    def _count_waking(self, wires: dict[str, Wire], standbys: dict[str, Standby], rested_s: float) -> None:
        time.sleep(max(0.0, rested_s - time.monotonic()))
        idlers = {
            (tier, number): node.daemon
            for tier, wire in wires.items()
            for number, node in enumerate(wire.nodes)
            if "idle" in self._cases and tier in TIERS
        }
        waiters = {(tier, case): node.daemon for tier, one in standbys.items() for case, node in one.nodes.items()}
        print(f"counting the wake-ups of {len(idlers) + len(waiters)} nodes for {plan.COUNT_S:g} s", flush=True)
        for one in standbys.values():
            one.start_counting()
        counted = idle.counted(idlers | waiters, plan.COUNT_S)
        for tier, number in idlers:
            self._note(tier, counted[tier, number])
        for tier, case in waiters:
            self._note(tier, standbys[tier].figures(case, counted[tier, case]))

    def _measure_table(self) -> None:
        for number in self._turns.of("table"):
            self._say("table", number, ", ".join(self._tiers()))
            self._note("tun", idle.table())
            if "ebpf" in self._tiers():
                with self._skipping("ebpf"):
                    self._note("ebpf", idle.kernel_table())

    # --- nodes with a mapping system

    def _measure_start(self) -> None:
        with contextlib.ExitStack() as stack:
            overlays: dict[str, Overlay] = {}
            for number in self._turns.of("start"):
                for tier in self._tiers():
                    with self._skipping(tier):
                        if tier not in overlays:
                            overlays[tier] = stack.enter_context(Overlay(self._directory / f"{tier}-overlay", tier))
                        self._say("start", number, f"{tier}: start, first packet, move")
                        self._note(tier, overlays[tier].sample(number))

    def _measure_household(self) -> None:
        for figures in household.samples(self._directory / "household", self._turns.of("household")):
            self._note("tun", figures)

    def _measure_flood(self) -> None:
        with contextlib.ExitStack() as stack:
            program = flood.Flood(self._directory / "flood-program")
            hub = stack.enter_context(FloodedHub(self._directory / "flood"))
            hub.settle()
            overlays: dict[str, Overlay] = {}
            for number in self._turns.of("flood"):
                self._say("flood", number, "a hub")
                for name, figures in hub.phases():
                    self._note(name, figures)
                for tier in self._tiers():
                    with self._skipping(tier):
                        if tier not in overlays:
                            overlays[tier] = stack.enter_context(Overlay(self._directory / f"{tier}-flood", tier))
                        self._say("flood", number, f"{tier}: quiet, junk, the worst question")
                        self._note(tier, flood.sample(overlays[tier], program, number))

    # --- the rest

    def _tiers(self, *, with_references: bool = False) -> tuple[str, ...]:
        """Those of the paths wanted that can run; the tun tier's cable carries the references too."""
        paths = [path for path in self._paths if path not in SEALED_PATHS]
        wanted = {tier_of(path) for path in paths if with_references or kind_of(path) in TIERS}
        known = (*TIERS, AUTO) if with_references else TIERS
        return tuple(tier for tier in known if tier in wanted and tier not in self._results.skipped)

    def _is_measured(self, path: str) -> bool:
        return bool(self._cases & {*plan.cases_of(path)})

    @contextlib.contextmanager
    def _noting_faults(self, name: str) -> Iterator[None]:
        """What cannot be measured keeps nothing else from being measured."""
        try:
            yield
        except LispError as error:
            self._results.failed[name] = str(error)
            print(f"{name} is not measured: {error}", flush=True)

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

    def _say(self, part: str, number: int, what: str) -> None:
        print(f"{part}, round {number + 1} of {self._plan.rounds[part]}: {what}", flush=True)
