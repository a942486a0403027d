"""Who owns the socket at the other end: asked of the kernel of this machine, about sockets on the loopback."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from ipaddress import ip_address

import pytest

from lispmob.netlink.socket_owner import Place, SocketOwners

NOBODY = 65534


def place(sock: socket.socket) -> Place:
    name = sock.getsockname()
    return ip_address(name[0]), name[1]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("protocol", [socket.IPPROTO_UDP, socket.IPPROTO_TCP])
def test_the_user_of_a_socket_on_this_host_is_known(address: str, protocol: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == socket.IPPROTO_UDP else socket.SOCK_STREAM
    with closing(SocketOwners()) as owners, socket.socket(family, kind) as ours:
        ours.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            ours.listen()
        with socket.socket(family, kind) as theirs:
            if os.getuid() == 0:
                os.fchown(theirs.fileno(), NOBODY, -1)
            theirs.connect(ours.getsockname())

            wanted = NOBODY if os.getuid() == 0 else os.getuid()
            assert owners.uid(protocol, place(theirs), place(ours)) == wanted


def test_an_unconnected_socket_has_a_user_too() -> None:
    with closing(SocketOwners()) as owners, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
            theirs.sendto(b"", ours.getsockname())

            there = (ip_address("127.0.0.1"), theirs.getsockname()[1])
            assert owners.uid(socket.IPPROTO_UDP, there, place(ours)) == os.getuid()


@pytest.mark.parametrize("protocol", [socket.IPPROTO_UDP, socket.IPPROTO_TCP])
def test_a_port_without_a_socket_has_no_owner(protocol: int) -> None:
    with closing(SocketOwners()) as owners:
        nowhere = ip_address("192.0.2.1")
        assert owners.uid(protocol, (nowhere, 4000), (nowhere, 53)) is None
        owners.close()
        assert owners.uid(protocol, (nowhere, 4000), (nowhere, 53)) is None
