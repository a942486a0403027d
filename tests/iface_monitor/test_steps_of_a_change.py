"""A network that is changed step by step is read as one change, and one that never rests keeps nothing back."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from lispmob.iface_monitor.netlink import NetlinkMonitor
from lispmob.iface_monitor.snapshot import NetworkState, UplinkPolicy
from tests.iface_monitor.test_delta import ATTACHED, OTHER_ADDRESS, ROUTE


class Scripted(NetlinkMonitor):
    """Sees these states, one at each look; events come until there are no more."""

    def __init__(self, states: list[NetworkState]) -> None:
        self.reported: list[NetworkState] = []
        super().__init__(UplinkPolicy(), lambda state, _delta, _since: self.reported.append(state))
        self.states = states
        self.has_others = False  # events about interfaces that are no uplinks come at the end

    @property
    def is_waiting(self) -> bool:
        """True when a look is due later."""
        return self._later is not None

    def wake(self) -> None:
        """What the loop calls when there are events."""

        async def turn() -> None:
            self._on_readable()

        asyncio.run(turn())

    def _read_events(self) -> bool:
        if not self.states and self.has_others:
            self._addresses = None
        return bool(self.states)

    def _look(self) -> None:
        self._links, self._addresses = [], []
        self._seen = self.states.pop(0)


GONE = replace(ATTACHED, addresses=(), default_routes=())
HALF_WAY = replace(ATTACHED, addresses=(OTHER_ADDRESS,), default_routes=())
ELSEWHERE = replace(ATTACHED, addresses=(OTHER_ADDRESS,))


@pytest.mark.parametrize(
    ("states", "reported"),
    [
        ([GONE], [GONE]),
        ([GONE, HALF_WAY, ELSEWHERE], [ELSEWHERE]),
        ([HALF_WAY, ELSEWHERE], [ELSEWHERE]),
        ([GONE, ATTACHED], [ATTACHED]),
    ],
)
def test_events_that_come_during_a_look_belong_to_the_same_change(
    states: list[NetworkState], reported: list[NetworkState]
) -> None:
    monitor = Scripted(states)

    monitor.wake()

    assert monitor.reported == reported


def test_events_without_end_are_reported_after_a_few_looks() -> None:
    endless = [replace(ATTACHED, default_routes=(replace(ROUTE, metric=metric),)) for metric in range(100)]
    monitor = Scripted(endless)

    monitor.wake()

    assert len(monitor.reported) == 1
    assert len(endless) > 90


def test_events_about_other_interfaces_that_come_during_a_look_are_looked_at_later() -> None:
    monitor = Scripted([ELSEWHERE])
    monitor.has_others = True

    monitor.wake()

    assert monitor.reported == [ELSEWHERE]
    assert monitor.is_waiting


def test_without_such_events_nothing_is_left_to_look_at() -> None:
    monitor = Scripted([ELSEWHERE])

    monitor.wake()

    assert not monitor.is_waiting
