"""Two nodes that echo nonces, on the link: data asks in place of RLOC-probes, and data answers."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from lispmob.closing import Closing
from lispmob.lab.namespace import Namespace
from lispmob.lab.probe import Party, ProbeStream
from lispmob.protocol.effect import CONTROL_PORT, DATA_PORT
from lispmob.wire.data_header import CONTROL_INSTANCE_ID, DataHeader
from lispmob.wire.header import MessageType
from tests.mh.town.town import A, B, town

pytestmark = pytest.mark.netns

ECHOES = "probing: {interval: 2s, echo-nonce: yes}\n"
WATCHED_S = 6.0
PATIENCE_S = 20.0
ETH_P_ALL = 3  # <linux/if_ether.h>


class Tap(Closing):
    """What leaves by wlan0 over UDP: the destination, the port, and the payload."""

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind(("wlan0", ETH_P_ALL))

    def close(self) -> None:
        self._socket.close()

    def read(self) -> list[tuple[bytes, int, bytes]]:
        found: list[tuple[bytes, int, bytes]] = []
        while True:
            try:
                packet, (_, _, kind, *_) = self._socket.recvfrom(65535)
            except BlockingIOError:
                return found
            udp, to, protocol = (
                (20, packet[16:20], packet[9]) if packet[0] >> 4 == 4 else (40, packet[24:40], packet[6])
            )
            if kind == socket.PACKET_OUTGOING and protocol == socket.IPPROTO_UDP and len(packet) >= udp + 16:
                found.append((to, struct.unpack_from("!H", packet, udp + 2)[0], packet[udp + 8 :]))


def questions_in(sent: list[tuple[bytes, int, bytes]]) -> set[int | None]:
    """The nonces that data asked to be returned."""
    headers = [DataHeader.decode(payload) for _, port, payload in sent if port == DATA_PORT]
    return {header.nonce for header in headers if header.wants_echo}


def is_probe(payload: bytes) -> bool:
    return payload[0] >> 4 == MessageType.MAP_REQUEST and bool(payload[0] & 2)


def test_a_locator_that_data_goes_to_is_asked_in_data_and_the_peer_answers_in_its_own() -> None:
    with town(ECHOES, ECHOES) as here, ProbeStream(Party(here.a, A.eid4), Party(here.b, B.eid4)):
        # Both directions use one pair of locators now: an echo comes to the locator that asked.
        here.a.run("ip", "-6", "addr", "flush", "dev", "wlan0", "scope", "global")
        time.sleep(4.0)  # until all have been probed once
        with Tap(here.a) as ours, Tap(here.b) as theirs:
            time.sleep(WATCHED_S)
            sent, answered = ours.read(), theirs.read()
            deadline = time.monotonic() + PATIENCE_S
            while len(questions_in(sent)) < 2 and time.monotonic() < deadline:
                time.sleep(1.0)
                sent, answered = [*sent, *ours.read()], [*answered, *theirs.read()]

    data = [(to, DataHeader.decode(payload)) for to, port, payload in sent if port == DATA_PORT]
    back = [DataHeader.decode(payload) for _, port, payload in answered if port == DATA_PORT]
    questions = questions_in(sent)
    assert len(questions) >= 2
    assert questions <= {header.nonce for header in back if not header.wants_echo}
    probed = {to for to, port, payload in sent if port == CONTROL_PORT and is_probe(payload)}
    assert probed, "locators that no data goes to are probed as ever"
    assert not probed & {to for to, header in data if header.instance_id != CONTROL_INSTANCE_ID}
