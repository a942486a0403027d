"""What a move does, and in which order."""

from __future__ import annotations

from ipaddress import ip_address

from lispmob.iface_monitor.delta import NetworkDelta, Reason, ReasonKind
from lispmob.iface_monitor.snapshot import Uplink
from lispmob.lispd.handover import (
    BeginMove,
    EndMove,
    KeepKernel,
    Linger,
    RefreshUplinks,
    ReportChange,
    Steer,
    UpdateDesktop,
    UpdateNode,
    UseUplinks,
    steps_of,
)

WLAN = Uplink("wlan0", 3, (ip_address("192.0.2.7"),), 600, 1500, 1, 100)
LTE = Uplink("lte0", 4, (ip_address("203.0.113.8"),), 700, 1500, 1, 100)
LOST = Reason(ReasonKind.LINK_LOST, "wlan0", None, "wlan0 is gone")


def test_a_move_reaches_the_datapath_then_the_peers_and_then_the_kernel() -> None:
    steps = steps_of(NetworkDelta((LOST,), (LTE,), (WLAN, LTE)), is_first=False)

    assert steps == (
        ReportChange("wlan0 is gone"),
        BeginMove(("wlan0 is gone",)),
        UseUplinks((LTE,)),
        EndMove(),
        UpdateNode(),
        Steer(),
        Linger((WLAN, LTE)),
        KeepKernel(),
        UpdateDesktop(),
    )


def test_the_first_look_at_the_network_is_no_move_but_registers() -> None:
    steps = steps_of(NetworkDelta((), (WLAN,), ()), is_first=True)

    assert steps == (UseUplinks((WLAN,)), UpdateNode(), Steer(), Linger(()), KeepKernel(), UpdateDesktop())


def test_losing_the_last_uplink_is_a_move_like_another() -> None:
    steps = steps_of(NetworkDelta((LOST,), (), (WLAN,)), is_first=False)

    assert [step for step in steps if isinstance(step, UseUplinks | UpdateNode)] == [UseUplinks(()), UpdateNode()]


def test_an_address_that_is_no_uplinks_takes_nothing_away_and_tells_no_peer() -> None:
    steps = steps_of(NetworkDelta((LOST,), (WLAN,), (WLAN,)), is_first=False)

    assert steps == (ReportChange("wlan0 is gone"), RefreshUplinks(), Linger(()), KeepKernel())
