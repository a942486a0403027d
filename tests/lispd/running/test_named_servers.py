"""A Map-Server by host name: the resolver of the C library asks a DNS server of the test."""

from __future__ import annotations

import copy
import dataclasses
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from lispmob.api.client import Client
from lispmob.lab.namespace import Namespace
from lispmob.lispd.resolving import look_up, nameservers
from tests.lispd.running.world import A, Node, World, end, wait_for

NAME = "hub.lispmob.test"
TYPES = {1: 4, 28: 6}  # of a question: A and AAAA, with the octets of an address
TTL_S = 60


def answer(question: bytes, addresses: list[str]) -> bytes:
    """A DNS server's answer to a question with one name in it (RFC 1035, 4)."""
    end = question.index(b"\0", 12) + 5
    (kind,) = struct.unpack_from("!H", question, end - 4)
    found = [address.packed for address in map(ip_address, addresses) if address.version == TYPES.get(kind)]
    records = [struct.pack("!HHHIH", 0xC00C, kind, 1, TTL_S, len(datagram)) + datagram for datagram in found]
    return question[:2] + struct.pack("!5H", 0x8180, 1, len(records), 0, 0) + question[12:end] + b"".join(records)


class Dns:
    """A DNS server that gives every name the same addresses. `asked_from`: the sources of the questions."""

    def __init__(self, socket_: socket.socket, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked_from: set[str] = set()
        self._socket = socket_
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            question, (host, port) = self._socket.recvfrom(512)
            if not question:
                return
            self.asked_from.add(host)
            self._socket.sendto(answer(question, self.addresses), (host, port))

    def stop(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()


@contextmanager
def dns(namespace: Namespace, at: str, *addresses: str) -> Iterator[Dns]:
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as open_:
        open_.bind((at, 53))
        server = Dns(open_, *addresses)
        try:
            yield server
        finally:
            server.stop()


class Resolved(Namespace):
    """A namespace whose processes ask this DNS server."""

    def __init__(self, namespace: Namespace, file: Path, nameserver: str) -> None:
        self.__dict__ = copy.copy(namespace.__dict__)
        self._file = file
        file.write_text(f"nameserver {nameserver}\noptions timeout:1 attempts:1\n")

    def argv(self, *command: str) -> list[str]:
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return super().argv("sh", "-c", script, str(self._file), *command)


def servers(node: Node) -> list[str]:
    status = node.status()
    assert status is not None
    return [registration["map_server"] for registration in status["eids"][0]["registrations"]]


@pytest.mark.netns
def test_a_start_waits_for_dns_and_says_so_and_a_name_with_another_address_is_another_map_server(
    wide_world: World, request: pytest.FixtureRequest
) -> None:
    world, at = wide_world, wide_world.address("world")
    old, old6, new = world.address("hub"), world.address("hub", version=6), world.address("hub2")
    for host in ("hub", "hub2"):
        world.start_hub(host)
    text = dataclasses.replace(world.text(A, NAME), routing="{mode: full, fallback: drop}")
    namespace = Resolved(world["a"], world.directory / "resolv.conf", at)

    node = Node(text, namespace)
    request.addfinalizer(partial(end, node.daemon))
    status = node.wait_until(lambda status: status["problems"] and status["state"] != "starting", "a problem")
    with Client(str(node.directory / "lispd.sock")) as client:
        waiting = client.call("configuration")["values"]["map-servers"]
    with dns(world["world"], at, old, old6) as server:
        node.wait_until_registered()
        both = servers(node)
        server.addresses = [new]
        world["a"].run("ip", "link", "set", "wlan0", "down")
        wait_for(lambda: servers(node) == [new], "the new address")
        node.wait_until_registered()
        known = {world.address("a", "wlan0"), world.address("a", "lte0")}

    assert [problem["key"] for problem in status["problems"]] == ["name-not-found"]
    assert (status["state"], status["headline"]) == (
        "registering",
        f"not working: the host name of Map-Server {NAME} is not found",
    )
    assert [one["address"] for one in waiting] == [NAME]
    assert sorted(both) == sorted([old, old6])
    assert server.asked_from <= known
    assert "10.1.0.1" not in server.asked_from
    assert f"no longer: the host name of Map-Server {NAME} is not found" in node.log()


def test_who_is_asked_is_read_behind_a_resolver_on_this_machine(tmp_path: Path) -> None:
    stub, real = tmp_path / "resolv.conf", tmp_path / "upstream"
    stub.write_text("# a comment\nnameserver 127.0.0.53\noptions edns0\nsearch example.net\n")
    real.write_text("nameserver 203.0.113.53\nnameserver fe80::1%eth0\nnameserver nobody\nnameserver 2001:db8::53\n")

    assert [str(nameserver) for nameserver in nameservers((stub, real))] == ["203.0.113.53", "2001:db8::53"]
    assert nameservers((stub, tmp_path / "missing")) == ()
    assert nameservers((tmp_path / "missing", real))[:1] == (ip_address("203.0.113.53"),)


@pytest.mark.parametrize("name", ["nobody.invalid", "a" * 64 + ".invalid", "127.0.0.1.invalid."])
def test_a_name_that_is_not_found_says_why(name: str) -> None:
    addresses, why_none = look_up(name)

    assert addresses == ()
    assert why_none


def test_the_name_of_this_machine_is_found_without_dns() -> None:
    assert ip_address("127.0.0.1") in look_up("localhost")[0]
