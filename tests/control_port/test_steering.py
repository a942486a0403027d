"""Which process gets which datagram, as the kernel decides on real sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from lispmob.control_port.steering import program, steer
from lispmob.hub.map_server.effect import Arrival
from lispmob.wire.ecm import EncapsulatedControl
from tests.hub.exchange import ask, xtr

PROCESSES = 4


class Group:
    """The sockets of so many processes at one address; shows which of them gets a datagram."""

    def __init__(
        self, stack: contextlib.ExitStack, family: int, processes: int = PROCESSES, *, has_data: bool = False
    ) -> None:
        self._stack, self._family = stack, socket.AF_INET if family == 4 else socket.AF_INET6
        self.here = "127.0.0.1" if family == 4 else "::1"
        self._sockets: list[socket.socket] = []
        port = 0
        for _ in range(processes + has_data):
            one = stack.enter_context(socket.socket(self._family, socket.SOCK_DGRAM))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind((self.here, port))
            one.settimeout(1.0)
            port = one.getsockname()[1]
            self._sockets.append(one)
        steer(self._sockets[0], processes, has_data=has_data)
        self._port = port

    def who(self, payload: bytes, source: str | None = None) -> int:
        """The number of the process that gets this datagram."""
        with socket.socket(self._family, socket.SOCK_DGRAM) as sender:
            sender.bind((source or self.here, 0))
            sender.sendto(payload, (self.here, self._port))
        for number, one in enumerate(self._sockets):
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.recv(4096)
                return number
        raise AssertionError("nobody got it")


@pytest.fixture(params=[4, 6])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    with contextlib.ExitStack() as stack:
        yield Group(stack, request.param)


@pytest.mark.parametrize("prefix", ["10.1.0.{}/32", "2001:db8:1::{:x}/128", "[7]10.1.0.{}/32"])
def test_registers_of_one_eid_meet_one_process_and_many_eids_meet_all(group: Group, prefix: str) -> None:
    def who(number: int, place: str, key: bytes = b"l" * 16) -> int:
        return group.who(xtr(place, xtr_id=key).register(prefix.format(number)).payload)

    found = [who(number, "203.0.113.5") for number in range(1, 65)]

    assert found == [who(number, "198.51.100.77", b"o" * 16) for number in range(1, 65)]
    assert set(found) == set(range(PROCESSES))
    assert max(map(found.count, range(PROCESSES))) < 40


def test_questions_of_one_asker_meet_one_process(group: Group) -> None:
    found = {group.who(ask(f"10.1.0.{number}/32", nonce=number).payload) for number in range(1, 20)}

    assert len(found) == 1


def test_questions_of_many_askers_meet_all_processes() -> None:
    with contextlib.ExitStack() as stack:
        group = Group(stack, 4)

        found = [group.who(ask("10.1.0.1/32").payload, f"127.0.0.{number}") for number in range(1, 65)]

    assert set(found) == set(range(PROCESSES))


def test_what_is_for_the_rtr_or_of_another_type_meets_the_first(group: Group) -> None:
    relayed = EncapsulatedControl(
        ip_address("192.168.1.2"), 4342, ip_address("198.51.100.1"), 4342, _register().payload, to_rtr=True
    )
    others = [
        relayed.encode(),
        bytes((0x12, 0, 0, 1)) + bytes(60),  # an RLOC-probe, which may hold a handshake
        bytes((0x70, 0, 0, 0)),
        bytes((0x60, 0, 0, 0)),
        bytes((0x20, 0, 0, 0)),
        bytes((0xF0, 1)),
        b"",
        b"\x30",
        _register().payload[:20],
        _register().payload[:30],
        bytes((_register().payload[0] | 1,)) + _register().payload[1:],
    ]

    assert {group.who(payload) for payload in others} == {0}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("processes", [1, PROCESSES])
def test_data_meets_the_second_socket_and_no_message_does(family: int, processes: int) -> None:
    """Clear, with an Instance-ID, sealed, encrypted as in RFC 8061, and a question in Instance-ID 0xFFFFFF."""
    data = [bytes((first, 0, 0, 0)) + bytes(60) for first in (0x00, 0x08, 0x09, 0x0B, 0x01)]
    data.append(bytes.fromhex("08000000ffffff00") + bytes(60))
    with contextlib.ExitStack() as stack:
        group = Group(stack, family, processes, has_data=True)
        registers = [xtr("203.0.113.5", xtr_id=b"l" * 16).register(f"10.1.0.{number}/32") for number in range(1, 33)]
        others = [bytes((kind << 4, 0, 0, 1)) + bytes(60) for kind in range(1, 16)]

        assert {group.who(payload) for payload in data} == {1}
        assert {group.who(one.payload) for one in registers} == {0, *range(2, processes + 1)}
        assert 1 not in {group.who(payload) for payload in [*others, b"", b"\x30"]}


def _register() -> Arrival:
    return xtr("203.0.113.5", xtr_id=b"l" * 16).register("10.1.0.3/32")


def test_the_program_is_as_long_as_the_kernel_allows() -> None:
    assert all(len(program(64, family, has_data=True)) < 4096 for family in (4, 6))
