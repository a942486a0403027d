"""A program's flow when ICMP says that the peer's port is closed: any host can forge that, so it ends nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from lispmob.flow import PeerGone, TimedOut, aio, client, packets


@pytest.fixture
def refused() -> Iterator[socket.socket]:
    """A connected UDP socket whose peer is closed, with the error of one datagram waiting in it."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
    ):
        peer.bind(("127.0.0.1", 0))
        one.connect(peer.getsockname())
        peer.close()
        one.send(b"first")
        yield one


@pytest.fixture
def lispd() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of the local socket: a program's, and lispd's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


FIELDS = {"flow": 1, "name": "absent", "peer": "127.0.0.1"}
ENDED = {"event": {"kind": "closed", "fields": {"flow": 1, "reason": "no-answer"}}}


def test_a_closed_port_is_lost_datagrams_and_not_an_error_of_send(
    refused: socket.socket, lispd: tuple[socket.socket, socket.socket]
) -> None:
    flow = client.Flow(client.Connection(lispd[0]), FIELDS, refused, owns=True)

    assert [flow.send(b"again") for _ in range(3)] == [5, 5, 5]


def test_a_closed_port_leaves_a_receiver_waiting_for_its_time(
    refused: socket.socket, lispd: tuple[socket.socket, socket.socket]
) -> None:
    flow = client.Flow(client.Connection(lispd[0]), FIELDS, refused, owns=True)
    begun = time.monotonic()

    with pytest.raises(TimedOut):
        flow.recv(timeout=0.2)

    assert time.monotonic() - begun >= 0.2


def test_after_a_closed_port_the_word_of_lispd_ends_the_flow(
    refused: socket.socket, lispd: tuple[socket.socket, socket.socket]
) -> None:
    flow = client.Flow(client.Connection(lispd[0]), FIELDS, refused, owns=True)
    packets.send(lispd[1], ENDED)

    with pytest.raises(PeerGone) as gone:
        flow.recv(timeout=5)

    assert gone.value.reason == "no-answer"


def test_a_closed_port_ends_nothing_for_a_program_with_asyncio(
    refused: socket.socket, lispd: tuple[socket.socket, socket.socket]
) -> None:
    async def use() -> str:
        connection = aio.Connection(lispd[0])
        flow = aio.Flow(connection, FIELDS, refused, owns=True)
        await flow.send(b"again")
        packets.send(lispd[1], ENDED)
        try:
            await asyncio.wait_for(flow.recv(), 5)
        except PeerGone as gone:
            return gone.reason
        return "received"

    assert asyncio.run(use()) == "no-answer"


def test_a_program_with_asyncio_hears_an_end_that_comes_before_its_flow(
    refused: socket.socket, lispd: tuple[socket.socket, socket.socket]
) -> None:
    async def use() -> str:
        connection = aio.Connection(lispd[0])
        packets.send(lispd[1], ENDED)
        while 1 not in connection.ended:  # noqa: ASYNC110 - nothing tells of it but this
            await asyncio.sleep(0.01)
        with pytest.raises(PeerGone) as gone:
            await asyncio.wait_for(aio.Flow(connection, FIELDS, refused, owns=True).recv(), 5)
        return gone.value.reason

    assert asyncio.run(asyncio.wait_for(use(), 10)) == "no-answer"
