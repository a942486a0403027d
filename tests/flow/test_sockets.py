"""The sockets of flows, on the loopback interface: what a program sees of them, and what it does not."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from lispmob.flow import sockets
from lispmob.flow.message import Kind, Message, encode
from lispmob.flow.quality import FlowClass, Quality

OWN = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
CONTROL = encode(Message(Kind.ACCEPT, b"12345678", b"12345678", flow_port=1))


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> int:
    version = int(request.param)
    with contextlib.closing(socket.socket(sockets.family_of(OWN[version]), socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind((str(OWN[version]), 0))
        except OSError:
            pytest.skip(f"this machine has no IPv{version}")
    return version


@pytest.fixture
def ends(family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The caller's socket, and the holder's, connected to it."""
    caller = sockets.new_socket(OWN[family])
    holder = sockets.holder_socket(OWN[family], OWN[family], caller.getsockname()[1])
    sockets.connect(caller, OWN[family], holder.getsockname()[1])
    with caller, holder:
        yield caller, holder


def read(one: socket.socket) -> bytes:
    one.settimeout(2)
    return one.recv(2048)


@pytest.mark.parametrize("octets", [b"", b"h", b"\0LF", b"\0LF\2 later", b"hello", b"\0" * 4])
def test_a_program_gets_every_datagram_of_its_peer_that_is_no_flow_message(
    ends: tuple[socket.socket, socket.socket], octets: bytes
) -> None:
    caller, holder = ends

    caller.send(octets)
    assert read(holder) == octets

    holder.send(octets)
    assert read(caller) == octets


def test_flow_messages_never_reach_a_program(ends: tuple[socket.socket, socket.socket]) -> None:
    caller, holder = ends

    caller.send(CONTROL)
    caller.send(b"data")

    assert read(holder) == b"data"


def test_the_filter_cannot_be_taken_off(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(OSError, match="not permitted"):
        ends[0].setsockopt(socket.SOL_SOCKET, 27, 0)  # SO_DETACH_FILTER


def test_what_a_stranger_sent_before_the_socket_was_connected_is_thrown_away(family: int) -> None:
    with sockets.new_socket(OWN[family]) as one, sockets.new_socket(OWN[family]) as stranger:
        stranger.sendto(b"forged", one.getsockname())
        sockets.connect(one, OWN[family], stranger.getsockname()[1] ^ 1)

        with pytest.raises(BlockingIOError):
            one.recv(10)


def test_a_holder_takes_a_port_of_its_range_and_says_when_all_are_in_use(family: int) -> None:
    with contextlib.ExitStack() as stack:
        ports = range(33590, 33592)
        taken = [stack.enter_context(sockets.holder_socket(OWN[family], OWN[family], 9, ports)) for _ in ports]

        assert {sock.getsockname()[1] for sock in taken} == set(ports)
        with pytest.raises(OSError, match="every port") as caught:
            sockets.holder_socket(OWN[family], OWN[family], 9, ports)
        assert caught.value.errno == errno.EADDRINUSE


def test_a_port_without_a_listener_is_heard_of(family: int) -> None:
    with sockets.new_socket(OWN[family]) as one, sockets.new_socket(OWN[family]) as gone:
        place = gone.getsockname()
        gone.close()
        one.sendto(b"anybody?", place)
        wait_for_error(one)
        count, errors = sockets.read_errors(one)

    assert count == 1
    assert [(error.destination, error.port, error.reason) for error in errors] == [(OWN[family], place[1], "port")]


def test_what_icmp_says_of_one_datagram_costs_the_next_one_nothing(family: int) -> None:
    with (
        sockets.new_socket(OWN[family]) as one,
        sockets.new_socket(OWN[family]) as gone,
        sockets.new_socket(OWN[family]) as there,
    ):
        place = gone.getsockname()
        gone.close()
        one.sendto(b"anybody?", place)
        wait_for_error(one)
        errors = sockets.send(one, b"next", OWN[family], there.getsockname()[1])
        there.settimeout(2)

        assert there.recv(100) == b"next"
        assert [error.port for error in errors] == [place[1]]
        assert sockets.send(one, b"third", OWN[family], there.getsockname()[1]) == []


def wait_for_error(one: socket.socket) -> None:
    waiting = select.poll()
    waiting.register(one, select.POLLERR)
    assert waiting.poll(2000), "ICMP answers"


def test_a_class_becomes_a_code_point_on_the_socket(ends: tuple[socket.socket, socket.socket]) -> None:
    one = ends[0]
    sockets.set_quality(one, Quality(FlowClass.VOICE))

    option = (socket.IPPROTO_IP, 1) if one.family == socket.AF_INET else (socket.IPPROTO_IPV6, 67)
    assert one.getsockopt(*option) == 46 << 2


def test_the_largest_datagram_fits_the_path(ends: tuple[socket.socket, socket.socket]) -> None:
    assert sockets.max_datagram(ends[0]) > 1000
