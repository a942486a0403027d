"""Two nodes behind NATs, who have pinned each other's keys: the RTR between them passes on what it cannot read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lispmob.control.sealing.noise import KeyPair
from lispmob.lab import behind_nats
from lispmob.lab.behind_nats import FAR_NODE, ROAMER
from lispmob.lab.demo.nat_stage import OVERLAY, NatStage
from lispmob.lab.demo_service import Identity, Node, node_configuration
from tests.crypto.support import ciphers, needs_libcrypto
from tests.lab.capture import Capture
from tests.lispd.world import wait_for

pytestmark = [pytest.mark.netns, needs_libcrypto]

MARK = b"no RTR shall read this"
KEYS = {ROAMER: bytes(range(1, 33)), FAR_NODE: bytes(range(33, 65))}


class SealedNats(NatStage):
    """The laboratory of NATs, with a line for the other node's key in each configuration."""

    def _start_node(self, identity: Identity, directory: Path) -> None:
        other = FAR_NODE if identity.name == ROAMER else ROAMER
        public = KeyPair.of(KEYS[other], ciphers()).public.hex()
        state = directory / "state"
        state.mkdir(parents=True)
        (state / "static-key").write_text(KEYS[identity.name].hex())
        text = node_configuration(identity, self.lab.topology.address("hub", "eth0"), OVERLAY, directory)
        text += f"peers: [{{eids: [{self.identities[other].eid4}/32], public-key: {public}}}]\n"
        node = self.nodes[identity.name] = Node(identity, self.lab[identity.name], text, directory)
        self._open.callback(node.daemon.stop)


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SealedNats]:
    with SealedNats(tmp_path_factory.mktemp("nats"), kinds=()) as stage:
        stage.wait_until_registered()
        yield stage


def seal_of(nats: NatStage, name: str) -> dict[str, Any]:
    answer = nats.nodes[name].lispctl("key")
    assert answer is not None
    return dict(answer["peers"][0]["seal"]) if answer["peers"] else {"state": "none"}


def pings(nats: NatStage, source: str, other: str) -> bool:
    said = nats.lab[source].run("sh", "-c", f"ping -n -c 1 -W 1 {nats.identities[other].eid4} || true")
    return "bytes from" in said


def test_an_rtr_passes_on_handshakes_and_sealed_packets_and_reads_neither(nats: SealedNats) -> None:
    for name, other in ((ROAMER, FAR_NODE), (FAR_NODE, ROAMER)):
        wait_for(
            lambda: pings(nats, name, other) and seal_of(nats, name)["state"] == "sealed",  # noqa: B023
            f"{name} seals: {seal_of(nats, name)}",
        )
    here, there = nats.identities[ROAMER].eid4, nats.identities[FAR_NODE].eid4
    captures = [Capture(nats.lab[server], "eth0") for server in behind_nats.SERVERS]
    with ExitStack() as open_:
        for capture in captures:
            open_.enter_context(capture)
        ends = [open_.enter_context(nats.lab[name].socket(socket.AF_INET, socket.SOCK_DGRAM)) for name in KEYS]
        for end, eid in zip(ends, (here, there), strict=True):
            end.bind((str(eid), 9))
            end.settimeout(5.0)
        for sender, receiver, eid in ((ends[0], ends[1], there), (ends[1], ends[0], here)):
            sender.sendto(MARK, (str(eid), 9))
            assert receiver.recv(1000) == MARK
    passed = [packet for capture in captures for packet in capture.packets]

    assert any(here.packed + there.packed in packet for packet in passed), "it went by an RTR, which sees the EIDs"
    assert not [packet for packet in passed if MARK in packet]
