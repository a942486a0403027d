"""Two nodes and a hub that all require LISP-SEC, and an attacker on the path who reads nonces and answers first."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, MessageType
from lispmob.wire.lisp_sec import AuthorizedEid, EidAuthentication
from lispmob.wire.lisp_sec_auth import sign_eids, sign_reply
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.crypto.support import needs_libcrypto
from tests.lispd.running.world import SECRET, A, B, Node, World, wait_for

pytestmark = [pytest.mark.netns, needs_libcrypto]

REQUIRE = "{lisp-sec: require}"
_ETH_P_IP = 0x0800
_HEADERS_OCTETS = 14 + 20 + 8  # Ethernet, IPv4 without options, UDP


class Attacker:
    """On the hub's link: sees what goes to the hub, and sends from any address."""

    def __init__(self, world: World) -> None:
        self._victim = world.address("a", "wlan0")
        self._line = world["hub"].socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._line.bind(("eth0", _ETH_P_IP))
        self._line.settimeout(10.0)
        self._out = world["hub"].socket(socket.AF_INET, socket.SOCK_DGRAM)

    def close(self) -> None:
        self._line.close()
        self._out.close()

    def read_question(self) -> MapRequest:
        """The next Map-Request of the victim for b's EID."""
        for _ in range(200):
            payload = self._line.recv(2000)[_HEADERS_OCTETS:]
            try:
                if not payload or payload[0] >> 4 != MessageType.ENCAPSULATED_CONTROL:
                    continue
                request = MapRequest.decode(EncapsulatedControl.decode(payload).message)
            except MalformedMessage:
                continue
            if request.records[0].eid_prefix == EidPrefix.host(B.eid4):
                return request
        raise AssertionError("the victim never asked")

    def forge(self, nonce: int) -> None:
        """Send two answers that would direct the victim's packets here: without LISP-SEC, and with a guessed key."""
        here = MappingRecord.of(EidPrefix.host(B.eid4), (Locator(ip_address("198.51.100.10")),))
        reply = MapReply(nonce, (here,))
        guessed = bytes(16)
        eids = sign_eids(EidAuthentication(2, 2, (AuthorizedEid(B.eid4, 32),)), guessed)
        for payload in (reply.encode(), sign_reply(reply, eids.encode(), 2, guessed)):
            self._out.sendto(payload, (self._victim, CONTROL_PORT))


@contextmanager
def held(pid: int) -> Iterator[None]:
    """Stop the process for the duration; datagrams for it wait."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def send_something(node: Node) -> None:
    with node.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"?", (str(B.eid4), 9))


def pings(node: Node) -> bool:
    return "bytes from" in node.namespace.run("sh", "-c", f"ping -n -c 1 -W 1 {B.eid4} || true")


def problem_keys(node: Node) -> set[str]:
    status = node.status()
    return set() if status is None else {problem["key"] for problem in status["problems"]}


def test_forged_map_replies_are_dropped_and_told_of_and_packets_flow_by_the_genuine_one(world: World) -> None:
    """b answers for itself, so that hub and ETR both sign. At last the hub stops signing."""
    hub = world.start_hub(more=f"security: {REQUIRE}\n")
    server = world.address("hub")
    nodes = [
        world.start_node(dataclasses.replace(world.text(A), keys={"security": REQUIRE}), is_awaited=False),
        world.start_node(
            dataclasses.replace(
                world.text(B),
                keys={
                    "security": REQUIRE,
                    "map-servers": f'[{{address: "{server}", key: {SECRET}, proxy-reply: no}}]',
                },
            ),
            is_awaited=False,
        ),
    ]
    for node in nodes:
        node.wait_until_registered()
    a = nodes[0]
    attacker = Attacker(world)

    with held(hub.daemon.pid):
        send_something(a)
        attacker.forge(attacker.read_question().nonce)
        wait_for(lambda: "lisp-sec-forged" in problem_keys(a), "the forgeries are read, and told of")
        dropped = a.counters("control")
        looked_up = a.say("lookup", str(B.eid4))
        entries = a.ctl("map-cache")["entries"]

    attacker.close()
    assert (dropped["sec_missing"], dropped["sec_hmac"]) == (1, 1)
    assert not any(one["prefix"] == f"{B.eid4}/32" for one in entries)
    assert "are forged" in " ".join(looked_up.split())
    wait_for(lambda: pings(a), "packets flow")
    (entry,) = [one for one in a.ctl("map-cache")["entries"] if one["prefix"] == f"{B.eid4}/32"]
    assert entry["is_genuine"]
    assert entry["locators"][0]["address"] == world.address("b", "wlan0")
    assert "genuine by LISP-SEC" in a.say("why", str(B.eid4))

    configuration = world.directory / "hub" / "hub.conf"
    configuration.write_text(configuration.read_text().replace(REQUIRE, "{lisp-sec: off}"))
    os.kill(hub.daemon.pid, signal.SIGHUP)
    wait_for(lambda: "reloaded" in hub.daemon.log_text(), "the hub has read it")
    a.ctl("map-cache", "flush")
    send_something(a)

    wait_for(lambda: "no-lisp-sec" in problem_keys(a), "the problem is told")
    assert "have no LISP-SEC" in " ".join(a.say("lookup", str(B.eid4)).split())
