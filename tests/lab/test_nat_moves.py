"""A node that moves between NATs of every kind, while NATs and RTRs change and fail, on real packets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from lispmob.lab import move as moves
from lispmob.lab.behind_nats import FAR_NODE, HOME, HOTEL, ROAMER, ROUND_TRIP_S
from lispmob.lab.demo.idle_stage import FORGETS_S, IdleStage
from lispmob.lab.demo.nat_stage import NatStage
from lispmob.lab.move import Kind, Move
from lispmob.lab.probe import ProbeStream
from lispmob.lab.process import ProcessFailed
from lispmob.lab.tcp_stream import TcpStream

pytestmark = pytest.mark.netns

PATIENCE_S = 15.0
IN_THE_CAFE = {"has_nat": False, "state": "direct", "rtr": None, "keepalive_s": None, "seen_address": "198.18.31.10"}
AT_HOME = {"has_nat": True, "state": "relayed", "seen_address": "203.0.113.22"}
IN_THE_HOTEL = {"has_nat": True, "state": "relayed", "seen_address": "203.0.113.108"}  # of two NATs, the outer one
RENUMBERED = {"has_nat": True, "state": "relayed", "seen_address": "203.0.113.222"}


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdleStage]:
    """Starts first and ends last: its measurement takes a minute."""
    with IdleStage(tmp_path_factory.mktemp("idle")) as stage:
        yield stage


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory, idle: IdleStage) -> Iterator[NatStage]:
    with NatStage(tmp_path_factory.mktemp("nats"), kinds=()) as stage:
        stage.wait_until_registered()
        yield stage


@pytest.fixture
def stream(nats: NatStage) -> Iterator[TcpStream]:
    with TcpStream(nats.party(ROAMER), nats.party(FAR_NODE)) as tcp:
        yield tcp


def is_seen(nats: NatStage, wanted: dict[str, Any], address: str | None = None) -> dict[str, Any]:
    """The answer of netcheck about the roamer once it is `wanted`; the last answer if it never is."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found: dict[str, Any] = {}  # an address that was just added is not known yet
        with contextlib.suppress(ProcessFailed):
            seen = nats.netcheck(ROAMER, None if address is None else ip_address(address))
            found = {key: seen[key] for key in wanted}
        if found == wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def go(nats: NatStage, network: str, leaves: str) -> None:
    moves.perform(nats.lab, Move(Kind.NETWORK_CHANGED, ROAMER, "wlan0", network, leaves))
    time.sleep(0.3)  # netcheck still shows the old state in the first moments


def test_a_tcp_stream_and_netcheck_follow_the_node_between_nats_and_the_open(nats: NatStage, stream: TcpStream) -> None:
    seen = [is_seen(nats, AT_HOME)]
    for network, leaves, wanted in (
        ("cafe", HOME.name, IN_THE_CAFE),
        (HOTEL.name, "cafe", IN_THE_HOTEL),
        (HOME.name, HOTEL.name, AT_HOME),
    ):
        go(nats, network, leaves)
        seen.append(is_seen(nats, wanted))

    assert seen == [AT_HOME, IN_THE_CAFE, IN_THE_HOTEL, AT_HOME]
    assert (result := stream.finish()).is_alive, result


def test_a_tcp_stream_lives_through_a_nat_that_forgets_or_gets_another_address(
    nats: NatStage, stream: TcpStream
) -> None:
    nats.gateways[HOME.name].reboot()
    time.sleep(1.0)
    nats.gateways[HOME.name].renumber(IPv4Address(RENUMBERED["seen_address"]))
    renumbered = opened_after(nats, lambda: None)
    go(nats, "cafe", HOME.name)  # a new request shows the new address
    go(nats, HOME.name, "cafe")

    assert is_seen(nats, RENUMBERED) == RENUMBERED
    assert renumbered is not None
    assert (result := stream.finish()).is_alive, result


def test_a_change_of_uplink_between_nats_with_another_one_up_loses_no_packet(nats: NatStage) -> None:
    def restore(interface: str, network: str) -> None:
        moves.perform(nats.lab, Move(Kind.RESTORED, ROAMER, interface, network))

    restore("lte0", HOTEL.name)
    assert is_seen(nats, IN_THE_HOTEL, "192.168.23.10") == IN_THE_HOTEL
    with ProbeStream(nats.party(ROAMER), nats.party(FAR_NODE), rate_hz=100.0) as probes:
        for loss in (Kind.ROUTE_REMOVED, Kind.ADDRESS_REMOVED):
            time.sleep(1.0)
            moves.perform(nats.lab, Move(loss, ROAMER, "wlan0"))
            time.sleep(1.0)
            restore("wlan0", HOME.name)
            assert is_seen(nats, {"state": "relayed"}, "192.168.22.10") == {"state": "relayed"}
        time.sleep(0.5)
        out, back = probes.finish()
    moves.perform(nats.lab, Move(Kind.LINK_DOWN, ROAMER, "lte0"))
    ends = float("-inf"), out.packets[-1].sent_at - 0.2

    assert len(out.packets) > 300
    assert (out.lost(*ends), back.lost(*ends)) == (0, 0)


def test_an_rtr_that_restarts_empty_costs_no_stream(nats: NatStage, stream: TcpStream) -> None:
    used = nats.rtr_of(ROAMER)

    assert opened_after(nats, lambda: nats.restart_server(used)) is not None
    assert (result := stream.finish()).is_alive, result


def test_an_rtr_that_dies_costs_no_stream(nats: NatStage, stream: TcpStream) -> None:
    used = nats.rtr_of(ROAMER)

    assert opened_after(nats, lambda: nats.servers[used].daemon.kill()) is not None
    assert nats.rtr_of(ROAMER) != used
    assert (result := stream.finish()).is_alive, result


def test_a_sleeping_node_is_kept_reachable_with_as_few_packets_as_its_nat_allows(idle: IdleStage) -> None:
    seen = idle.keepalives()

    assert seen is not None
    assert seen.at_least_s <= FORGETS_S < seen.below_s + 1  # conntrack checks once a second
    assert 2 <= seen.count <= seen.allowed
    assert idle.sent_without_nat() == 0
    assert idle.lost_towards_sleeper() == 0
    told = idle.netcheck("sleeper"), idle.netcheck("open")
    assert [(one["has_nat"], one["keepalive_s"]) for one in told] == [(True, seen.interval_s), (False, None)]


def test_a_sleeping_node_is_back_after_its_nat_got_another_address(idle: IdleStage) -> None:
    took = idle.renumbered_recovery_s(within_s=30.0)

    interval_s = idle.netcheck("sleeper")["keepalive_s"]
    print(f"\nreached again {took} s after the change, asleep; a keepalive every {interval_s} s")  # noqa: T201 - a figure
    assert took is not None


def opened_after(nats: NatStage, what: Callable[[], object]) -> float | None:
    """Seconds from an event until packets flow both ways again; None: too late. They are printed, not asserted."""
    with ProbeStream(nats.party(ROAMER), nats.party(FAR_NODE), rate_hz=100.0) as probes:
        time.sleep(0.3)
        at = time.monotonic()
        what()
        deadline = at + PATIENCE_S
        before = probes.received()
        while min(new - old for new, old in zip(probes.received(), before, strict=True)) < 50:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
        opened = [log.reopened_at(at, at) for log in probes.finish()]
    took = None if None in opened else max(one for one in opened if one is not None) - at
    print(f"\nopen both ways after {took} s; a round trip takes {ROUND_TRIP_S} s")  # noqa: T201 - a figure
    return took
