"""How long a connection stood still, by samples of what the kernel says of it."""

from __future__ import annotations

import socket

import pytest

from lispmob.lab.tcp_clock import NOTED_S, Acked, TcpClock


def clock_of(*seen: tuple[float, int, int]) -> TcpClock:
    """A clock that got these samples: when, segments outstanding, octets acknowledged."""
    clock = TcpClock()
    for at, outstanding, octets in seen:
        clock.take(Acked(outstanding, octets), at)
    clock.end(seen[-1][0])
    return clock


def test_a_pause_with_nothing_outstanding_is_no_gap() -> None:
    assert clock_of((0.0, 0, 100), (5.0, 0, 100), (5.1, 1, 100), (5.15, 0, 200)).longest_s == pytest.approx(0.05)


def test_a_gap_lasts_from_what_was_acknowledged_last_to_the_next() -> None:
    clock = clock_of((0.0, 1, 0), (0.1, 1, 10), (1.0, 3, 10), (3.1, 2, 20), (3.2, 0, 40))

    assert clock.longest_s == pytest.approx(3.0)
    assert [began for began, _ in clock.gaps] == [0.0, 0.1, 3.1]


def test_short_gaps_are_not_noted_one_by_one() -> None:
    seen = [(step * NOTED_S / 2, 1, step) for step in range(100)]

    assert clock_of(*seen).gaps == []


def test_what_stands_still_at_the_end_counts() -> None:
    assert clock_of((0.0, 1, 0), (2.0, 1, 0)).longest_s == pytest.approx(2.0)


def test_the_kernel_is_understood() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        with server:
            client.sendall(b"x" * 1000)
            assert len(server.recv(1000, socket.MSG_WAITALL)) == 1000
            seen = Acked.of(client)

    assert seen.octets >= 1000  # the SYN counts as one
    assert seen.outstanding == 0
