"""Probe streams and the TCP stream, between two hosts and across a break."""

from __future__ import annotations

import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lispmob.lab import link
from lispmob.lab.build import Lab
from lispmob.lab.line import Impairment
from lispmob.lab.probe import Party, ProbeStream
from lispmob.lab.process import Daemon, ProcessFailed, Tool, module
from lispmob.lab.tcp_stream import Checked, TcpStream, pattern


@pytest.fixture
def parties(lab: Lab) -> tuple[Party, Party]:
    return (
        Party(lab["a"], lab.topology.address("a", "wlan0")),
        Party(lab["b"], lab.topology.address("b", "wlan0")),
    )


@pytest.mark.netns
def test_a_stream_over_an_open_way_loses_nothing_and_knows_its_delay(parties: tuple[Party, Party]) -> None:
    with ProbeStream(*parties) as probes:
        time.sleep(0.5)
        logs = probes.finish()

    for log in logs:
        assert len(log.packets) >= 40
        assert log.lost(float("-inf"), float("inf")) == 0
        assert min(packet.delay_s or 0 for packet in log.packets) >= 2 * 0.02  # of two links


@pytest.mark.netns
def test_a_break_is_seen_by_both_directions_and_tcp_lives_on(lab: Lab, parties: tuple[Party, Party]) -> None:
    line = lab.topology.network("home").line
    with TcpStream(*parties) as tcp, ProbeStream(*parties) as probes:
        time.sleep(0.3)
        broken_at = time.monotonic()
        lab.impair("home", Impairment(line.delay_s, is_cut=True))
        time.sleep(0.3)
        lab.impair("home", line)
        time.sleep(0.5)
        logs = probes.finish()
        result = tcp.finish()

    for log in logs:
        reopened_at = log.reopened_at(broken_at, broken_at + 0.1)
        assert reopened_at is not None
        assert 0.25 < reopened_at - broken_at < 0.6
        assert log.lost(float("-inf"), float("inf")) >= 20
    assert result.is_alive
    assert result.longest_stall_s > 0.25


@pytest.mark.netns
def test_super_packets_in_a_tunnel_cross_the_lines_and_none_is_refused(lab: Lab, parties: tuple[Party, Party]) -> None:
    inside = [ip_address("10.9.0.1"), ip_address("10.9.0.2")]
    for (near, far), own in zip((parties, parties[::-1]), inside, strict=True):
        tunnel = f"link add vx0 type vxlan id 7 dstport 4789 local {near.address} remote {far.address}"
        link.apply(near.namespace, [tunnel, f"addr add {own}/24 dev vx0", "link set vx0 mtu 1400 up"])

    with TcpStream(*(Party(one.namespace, own) for one, own in zip(parties, inside, strict=True))) as tcp:
        time.sleep(0.5)
        result = tcp.finish()

    assert result.is_alive
    assert [way["refused"] for ways in lab.relay_counters().values() for way in ways] == [0] * 2 * len(
        lab.topology.networks
    )


@given(offset=st.integers(0, 1 << 40), size=st.integers(1, 60_000), cut=st.integers(0, 60_000))
def test_the_pattern_is_the_same_however_it_is_cut(offset: int, size: int, cut: int) -> None:
    cut = min(cut, size)

    assert pattern(offset, size) == pattern(offset, cut) + pattern(offset + cut, size - cut)


@given(start=st.integers(0, 100_000), missing=st.integers(1, 60_000))
@example(start=0, missing=7 * 256)
def test_a_hole_in_the_stream_is_noticed(start: int, missing: int) -> None:
    checked = Checked(octets=start)

    checked.take(pattern(start + missing, 4096), now=1.0)

    assert not checked.is_intact


def test_the_longest_stall_is_the_longest_silence_between_octets() -> None:
    checked = Checked()
    for now in (1.0, 1.1, 3.1, 3.2):
        checked.take(pattern(checked.octets, 10), now)

    assert (checked.longest_stall_s, checked.stalled_at) == (2.0, 1.1)
    assert checked.is_intact


@pytest.mark.netns
def test_a_tool_that_cannot_start_tells_its_last_words(lab: Lab) -> None:
    with pytest.raises(ProcessFailed, match="Cannot assign requested address"):
        Tool(lab["a"], "lispmob.lab.probe", {"local": "192.0.2.250", "remote": "192.0.2.251", "port": 5, "rate_hz": 1})


@pytest.mark.netns
def test_a_daemon_that_dies_is_reported_with_the_end_of_its_log(lab: Lab, tmp_path: Path) -> None:

    with Daemon("broken", lab["a"], module("lispmob.lab.nosuch"), tmp_path / "log") as daemon:
        deadline = time.monotonic() + 5
        while daemon.is_running and time.monotonic() < deadline:
            time.sleep(0.01)

        with pytest.raises(ProcessFailed, match=r"broken ended with code 1\n  broken\| .*No module named"):
            daemon.check()
