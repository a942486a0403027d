"""Publish/subscribe (RFC 9437) in a hub of several processes, with a real server and real sockets."""

from __future__ import annotations

import json
import select
import socket
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lispmob.hub.dispatch import ControlPlane
from lispmob.lab import link
from lispmob.lab.cluster.fleet import KEY
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Daemon, module
from lispmob.lab.valkey import ValkeyServer, program
from lispmob.wire.auth import Key, sign, verify
from lispmob.wire.map_notify import MapNotify, MapNotifyAck
from tests.crypto.support import needs_libcrypto
from tests.hub.exchange import Xtr
from tests.hub.publishing.subscriber import Subscriber, rlocs
from tests.hub.registry.test_workers_netns import HUB as LOOPBACK
from tests.hub.registry.test_workers_netns import configuration, wait_for

pytestmark = [pytest.mark.netns, needs_libcrypto]

HUB = "203.0.113.200"
MOVER = "10.9.0.7/32"
LISTENERS = 12
PATIENCE_S = 10.0
LONGER_THAN_A_REPEAT_S = 4.0


class Place:
    """An address that exchanges messages with the hub."""

    def __init__(self, space: Namespace, address: str) -> None:
        self.address = address
        self._socket = space.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 4342))

    def send(self, payload: bytes) -> None:
        self._socket.sendto(payload, (HUB, 4342))

    def receive(self, wait_s: float = PATIENCE_S) -> bytes | None:
        return self._socket.recv(2048) if select.select([self._socket], [], [], wait_s)[0] else None

    def close(self) -> None:
        self._socket.close()


class Listener:
    """A node that registers, subscribes, and acknowledges publications."""

    def __init__(self, space: Namespace, number: int) -> None:
        self.place = Place(space, f"203.0.113.{number}")
        self._xtr_id = number.to_bytes(16)
        own, plane = f"10.9.1.{number}/32", ControlPlane(())
        self._node = Subscriber(plane, address=self.place.address, own=own, key=KEY, xtr_id=self._xtr_id)

    def register(self) -> None:
        node = Xtr(ip_address(self.place.address), KEY, xtr_id=self._xtr_id)
        self.place.send(node.register(self._node.own).payload)
        assert self.place.receive() is not None

    def subscribe(self) -> list[str]:
        self.place.send(self._node.arrival(self._node.request(MOVER)).payload)
        return self.hear()

    def hear(self) -> list[str]:
        """The locators of the mover in the next publication."""
        payload = self.place.receive()
        assert payload is not None
        key = Key(self._node.secret, KEY.key_id)
        verify(payload, key)
        notify = MapNotify.decode(payload)
        self.place.send(sign(MapNotifyAck(notify.nonce, notify.records), key))
        return rlocs(notify)


def counters(directory: Path) -> dict[str, int]:
    """The counters of all processes together."""
    found: dict[str, int] = asked(directory, "counters")["counters"]
    return found


def asked(directory: Path, what: str) -> dict[str, Any]:
    """The answer of the hub's control socket."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(PATIENCE_S)
        control.connect(str(directory / "hub.sock"))
        control.sendall(json.dumps({"ask": what}).encode() + b"\n")
        with control.makefile() as answers:
            found: dict[str, Any] = json.loads(answers.readline())
            return found


def configured(directory: Path, processes: int) -> Path:
    path = configuration(directory, processes)
    path.write_text(path.read_text().replace(LOOPBACK, HUB))
    return path


def test_what_one_process_publishes_is_acknowledged_to_it(namespaces: NamespaceSet, tmp_path: Path) -> None:
    """A Map-Request reaches a process by its source, an acknowledgement the first one, which hands it to the others."""
    if program() is None:
        pytest.skip("no Valkey or Redis server is installed: apt-get install redis-tools")
    space = namespaces.make("cell")
    addresses = (HUB, "203.0.113.100", *(f"203.0.113.{number}" for number in range(1, LISTENERS + 1)))
    link.apply(space, ["link set lo up", *(f"addr add {address}/32 dev lo" for address in addresses)])
    server = ValkeyServer(tmp_path / "server", "127.0.0.11", 7100, (), space).start()
    server.wait()
    mover, moved = Place(space, "203.0.113.100"), Xtr(ip_address("203.0.113.100"), KEY, xtr_id=b"m" * 16)
    command = module("lispmob.hub.daemon", "-c", str(configured(tmp_path, 3)))
    with Daemon("hub", space, command, tmp_path / "hub.log") as daemon:
        wait_for(daemon, lambda: daemon.log_text().count("ready sites") == 3)
        mover.send(moved.register(MOVER, rlocs=["192.0.2.1"]).payload)
        assert mover.receive() is not None
        listeners = [Listener(space, number) for number in range(1, LISTENERS + 1)]
        for listener in listeners:
            listener.register()
            assert listener.subscribe() == ["192.0.2.1"]

        mover.send(moved.register(MOVER, rlocs=["192.0.2.2"]).payload)

        for listener in listeners:
            assert listener.hear() == ["192.0.2.2"]
        wait_for(daemon, lambda: counters(tmp_path).get("rx_map_notify_ack", 0) == 2 * LISTENERS)
        quiet_at = time.monotonic() + LONGER_THAN_A_REPEAT_S
        while (rest := quiet_at - time.monotonic()) > 0:
            select.select([listener.place._socket for listener in listeners], [], [], rest)
            assert all(listener.place.receive(0.0) is None for listener in listeners)
        found = counters(tmp_path)
        status = asked(tmp_path, "status")
        for place in (mover, *(listener.place for listener in listeners)):
            place.close()
    server.kill()

    assert status["subscriptions"] == LISTENERS
    assert found["tx_publication"] == 2 * LISTENERS
    assert found.get("tx_publication_again", 0) == 0
    assert found["registry_heard"] > 0, "they were subscriptions of several processes"
