"""The plan of time of a run: what each part takes, and how many rounds of it fit. Pure.

    nodes       cables, nodes and tunnels are put up, and every node is pinged once
    standby     the idle nodes are put up, and rest from now on
    table       beside their rest: neither disturbs the other
    tools       likewise
    control     likewise
    counting    what is left of the rest, then the wake-ups of all of them at once
    traffic     every path in turn, round by round
    start       and what else a user waits for: the first packet, a move
    household, flood

The seconds are those of a quiet machine with two processors. A part has its least number of rounds however slow the
machine is; more are planned while they fit, and left out when the parts before them took longer than planned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lispmob.lab.bench.paths import NIC, NOSEG, RTR, SEALED_PATHS, TIERS, cable_of, kind_of

BUDGET_S: Final = 600.0
PLANNED_SHARE: Final = 0.95  # ours: the rest is for what takes longer than planned
TRAFFIC_CASES: Final = ("tcp1", "tcp4", "udp64", "udp512", "udp1400", "rtt", "rtt-loaded", "energy")
OTHER_CASES: Final = ("idle", "standby", "table", "start", "tools", "household", "control")
OWN_RUN_CASES: Final = ("flood",)  # by itself it takes as long as all else: `make flood-bench`
CASES: Final = (*TRAFFIC_CASES, *OTHER_CASES, *OWN_RUN_CASES)

REST_S: Final = 90.0  # ours: what a start and some pings leave, probes and verdicts about NATs, has its echoes
COUNT_S: Final = 60.0  # ours: registers, keepalives and probes come once a minute at the least
UDP_S: Final = 1.0
TRAFFIC_LEAST: Final = 3  # ours: a median with a spread

_CASES_OF_CABLE: Final = {
    NOSEG: ("tcp1", "udp64"),
    NIC: ("tcp1", "udp64", "udp1400"),
    RTR: ("tcp1", "udp64", "energy"),
}
_CASES_OF_SEALED: Final = ("tcp1", "udp64", "rtt")
_START_S: Final = 0.1  # of iperf3 and its server, and their end
_RTT_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Part:
    """Seconds to put it up, seconds of a round, and how many rounds make sense: at least, and at most."""

    name: str
    once_s: float
    each_s: float = 0.0
    least: int = 1
    most: int = 1

    def seconds(self, rounds: int) -> float:
        return self.once_s + rounds * self.each_s


@dataclass(frozen=True, slots=True)
class Plan:
    """Parts in their order, and the rounds of each."""

    parts: tuple[Part, ...]
    rounds: Mapping[str, int]
    budget_s: float

    @property
    def seconds(self) -> float:
        """What all of it takes on a quiet machine."""
        return sum(self.seconds_of(part.name) for part in self.parts)

    def seconds_of(self, name: str) -> float:
        """Of one part; 0 for one that is not in the plan."""
        return sum(part.seconds(self.rounds[name]) for part in self.parts if part.name == name)

    def line(self) -> str:
        """The plan in one line."""
        parts = (
            f"{part.name} {self.seconds_of(part.name):.0f} s"
            + (f" ({self.rounds[part.name]} rounds)" if part.most > 1 else "")
            for part in self.parts
        )
        return f"plan: {self.seconds:.0f} of {self.budget_s:.0f} s: {', '.join(parts)}"


def made(cases: Collection[str], paths: Collection[str], rounds: int, seconds: float, budget_s: float) -> Plan:
    """The plan for these cases and paths, `rounds` of each at most; `seconds` is the length of a TCP stream."""
    parts = _parts(frozenset(cases), tuple(paths), rounds, seconds)
    planned = {part.name: part.least for part in parts}
    spent_s = sum(part.seconds(part.least) for part in parts)
    is_growing = True
    while is_growing:
        is_growing = False
        for part in parts:
            if planned[part.name] < part.most and spent_s + part.each_s <= PLANNED_SHARE * budget_s:
                planned[part.name] += 1
                spent_s += part.each_s
                is_growing = True
    return Plan(parts, planned, budget_s)


class Turns:
    """Hands out rounds as the plan has them, and fewer when time is short."""

    def __init__(self, plan: Plan, now: Callable[[], float], say: Callable[[str], None] = print) -> None:
        """`now` is a clock in seconds; the time of the plan begins here."""
        self._plan, self._now, self._say = plan, now, say
        self._began_s = now()

    def of(self, name: str) -> Iterator[int]:
        """The numbers of the rounds of a part: its least number of them, and the others while they fit."""
        part = next((part for part in self._plan.parts if part.name == name), None)
        if part is None:
            return
        ends_s = self._began_s + self._plan.budget_s - self._seconds_after(name)
        for number in range(self._plan.rounds[name]):
            if number >= part.least and self._now() + part.each_s > ends_s:
                self._say(f"{name}: {number} of {self._plan.rounds[name]} rounds, there is no time for more")
                return
            yield number

    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self._began_s

    def _seconds_after(self, name: str) -> float:
        names = [part.name for part in self._plan.parts]
        return sum(self._plan.seconds_of(later) for later in names[names.index(name) + 1 :])


def cases_of(path: str) -> tuple[str, ...]:
    """What is measured on a path: all that is traffic on the plain ones, what tells them apart on others."""
    if path in SEALED_PATHS:
        return _CASES_OF_SEALED
    return _CASES_OF_CABLE.get(cable_of(path), TRAFFIC_CASES)


def traffic_s(path: str, cases: Collection[str], seconds: float) -> float:
    """Seconds of one round of a path."""
    return sum(_case_s(case, seconds) for case in cases_of(path) if case in cases)


def _case_s(case: str, seconds: float) -> float:
    if case == "rtt":
        return _RTT_S
    if case == "energy":
        return 2 * (seconds + _START_S)
    return (UDP_S if case.startswith("udp") else seconds) + _START_S


def _parts(cases: frozenset[str], paths: tuple[str, ...], rounds: int, seconds: float) -> tuple[Part, ...]:
    tiers = len({kind_of(path) for path in paths} & {*TIERS})
    traffic = [path for path in paths if cases & {*cases_of(path)}]
    has_nodes = bool(traffic) or "idle" in cases
    beside: list[Part] = []
    if "table" in cases:
        beside.append(Part("table", 0.0, 8.0 * tiers, 1, min(rounds, 3)))
    if "tools" in cases:
        beside.append(Part("tools", 33.0))
    if "control" in cases:
        beside.append(Part("control", 25.0, 13.0, 1, min(rounds, 2)))
    found: list[Part] = []
    if has_nodes:
        up = [path for path in paths if path not in SEALED_PATHS and cable_of(path) != RTR]
        others = len(traffic) - len([path for path in traffic if path in up])
        found.append(Part("nodes", 4.0 + 0.7 * len(up) + 2.0 * others))
    if "standby" in cases:
        found.append(Part("standby", 12.0 * tiers))
    found += beside
    if cases & {"idle", "standby"}:
        found.append(Part("counting", max(0.0, REST_S - sum(part.seconds(1) for part in beside)) + COUNT_S))
    if traffic:
        each_s = sum(traffic_s(path, cases, seconds) for path in traffic)
        found.append(Part("traffic", 0.0, each_s, min(rounds, TRAFFIC_LEAST), rounds))
    if "start" in cases:
        found.append(Part("start", 2.0 * tiers, 5.5 * tiers, min(rounds, 3), rounds))
    if "household" in cases:
        found.append(Part("household", 4.0, 1.5, min(rounds, 3), rounds))
    if "flood" in cases:
        found.append(Part("flood", 20.0, 110.0 + 52.0 * tiers, 1, rounds))
    return tuple(found)
