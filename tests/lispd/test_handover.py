"""What a move does, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import takewhile

import pytest

from lispmob.iface_monitor.delta import NetworkDelta, Reason, ReasonKind
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd.handover import (
    BeginMove,
    EndMove,
    KeepKernel,
    Linger,
    NoteMove,
    RefreshUplinks,
    ReportChanges,
    Steer,
    UpdateDesktop,
    UpdateNode,
    UseUplinks,
    steps_of,
)

WLAN = Uplink("wlan0", 3, (ip_address("192.0.2.7"),), 600, 1500, 1, 100)
LTE = Uplink("lte0", 4, (ip_address("203.0.113.8"),), 700, 1500, 1, 100)
LOST = Reason(ReasonKind.LINK_LOST, "wlan0", None, "wlan0 is gone")


def test_a_move_reaches_the_datapath_then_the_peers_then_people_and_then_the_kernel() -> None:
    steps = tuple(steps_of(NetworkDelta((LOST,), (LTE,), (WLAN, LTE)), is_first=False))

    assert steps == (
        BeginMove(),
        UseUplinks((LTE,)),
        EndMove(),
        UpdateNode(),
        ReportChanges(("wlan0 is gone",)),
        NoteMove(("wlan0 is gone",)),
        Steer(),
        Linger((WLAN, LTE)),
        KeepKernel(),
        UpdateDesktop(),
    )


def test_the_first_look_at_the_network_is_no_move_but_registers() -> None:
    steps = tuple(steps_of(NetworkDelta((), (WLAN,), ()), is_first=True))

    assert steps == (
        UseUplinks((WLAN,)),
        UpdateNode(),
        ReportChanges(()),
        Steer(),
        Linger(()),
        KeepKernel(),
        UpdateDesktop(),
    )


def test_losing_the_last_uplink_is_a_move_like_another() -> None:
    steps = steps_of(NetworkDelta((LOST,), (), (WLAN,)), is_first=False)

    assert [step for step in steps if isinstance(step, UseUplinks | UpdateNode)] == [UseUplinks(()), UpdateNode()]


def test_an_address_that_is_no_uplinks_takes_nothing_away_and_tells_no_peer() -> None:
    steps = tuple(steps_of(NetworkDelta((LOST,), (WLAN,), (WLAN,)), is_first=False))

    assert steps == (ReportChanges(("wlan0 is gone",)), RefreshUplinks(), Linger(()), KeepKernel())


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("uplinks", [(LTE,), (), (LTE, WLAN)])
def test_reasons_are_put_into_words_only_when_the_messages_of_the_move_have_left(
    uplinks: tuple[Uplink, ...], is_first: bool
) -> None:
    found: list[Reason] = []

    def reasons() -> Iterator[Reason]:
        found.append(LOST)
        yield LOST

    steps = steps_of(NetworkDelta(reasons(), uplinks, (WLAN,)), is_first=is_first)
    until_sent = list(takewhile(lambda step: not isinstance(step, UpdateNode), steps))

    assert (found, until_sent[-1:] != []) == ([], True)
    assert next(steps) == ReportChanges(("wlan0 is gone",))
