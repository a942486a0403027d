"""The hub's side of sealed data: which handshakes it answers, and for whom it seals."""

from __future__ import annotations

from itertools import count

import pytest

from lispmob.control.sealing.handshake_carriage import First, put_first, take_second
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.peer_keys import NoKeyMemory
from lispmob.control.sealing.seal_config import SealTools
from lispmob.control.sealing.sealed_handshake import OpenHandshake, Pair
from lispmob.hub.map_server.effect import Arrival, RegistrationChanged
from lispmob.hub.sealing import SESSIONS_MAX, HandshakeEffect, HubSealing
from lispmob.protocol.effect import ForgetSession, InstallSession, SendControl
from lispmob.wire.address import EidPrefix
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.map_reply import MapReply
from lispmob.wire.record import Locator, MappingRecord
from tests.control.sealing.sealed_pair import ALICE_KEY, BOB_KEY, drawing
from tests.control.support import ip, only, prefix
from tests.crypto.support import ciphers, needs_libcrypto

pytestmark = needs_libcrypto

NODE = prefix("10.1.0.1/32")
HUB_RLOC, NODE_RLOC = ip("198.51.100.1"), ip("203.0.113.7")


class World:
    """A hub, and the node that has its key."""

    def __init__(self) -> None:
        self.node, self.static = KeyPair.of(ALICE_KEY, ciphers()), KeyPair.of(BOB_KEY, ciphers())
        clock = count(1_700_000_000_000_000_000)
        self.hub = HubSealing(SealTools(ciphers(), self.static, NoKeyMemory(), drawing(7), lambda: next(clock)))
        self.draw, self.clock, self.indices = drawing(3), clock, count(1)

    def register(self, *eids: EidPrefix, key: bytes | None = None, is_revoked: bool = False) -> list[object]:
        told: list[object] = []
        for eid in eids or (NODE,):
            keys = (KeyRecord((key or self.node.public,), is_revoked).to_locator(),)
            told += self.hub.on_registration(
                RegistrationChanged(eid, MappingRecord.of(eid, (Locator(NODE_RLOC), *keys)))
            )
        return told

    def begin(self, eid: EidPrefix = NODE) -> tuple[OpenHandshake, bytes]:
        handshake = OpenHandshake(
            ciphers(),
            Pair(0, eid.address, None),
            self.node,
            self.static.public,
            ephemeral=self.draw(32),
            index=next(self.indices),
        )
        message = handshake.begin(next(self.clock), 3)
        return handshake, put_first(77, First(message, eid, None), NODE_RLOC)

    def hear(self, payload: bytes, now: float = 1.0) -> list[HandshakeEffect] | None:
        return self.hub.on_probe(Arrival(payload, NODE_RLOC, 4342, HUB_RLOC), now)


def test_a_registered_node_gets_a_session_whose_keys_are_its_own() -> None:
    world = World()
    world.register()
    handshake, payload = world.begin()

    told = world.hear(payload) or []

    (installed,), (answered,) = only(told, InstallSession), only(told, SendControl)
    reply = MapReply.decode(answered.payload)
    second = take_second(reply)
    assert second is not None
    session = handshake.finish(second)
    assert (session.send_key, session.receive_key) == (installed.receive_key, installed.send_key)
    assert (installed.sources, installed.is_confirmed) == ((NODE,), False)
    assert (answered.destination, answered.port, reply.nonce) == (NODE_RLOC, 4342, 77)
    assert world.hub.peer_of(NODE) == installed.peer
    assert world.hub.session_count == 1


def test_a_probe_that_is_no_handshake_with_the_hub_is_left_to_others() -> None:
    world = World()
    world.register()
    eid = prefix("10.1.0.2/32")
    _, payload = world.begin()

    assert world.hear(payload[:20]) is None
    assert world.hear(put_first(1, First(bytes(132), NODE, eid), NODE_RLOC)) is None


@pytest.mark.parametrize("how", ["unregistered", "without a key", "another key", "revoked", "left"])
def test_no_node_gets_a_session_whose_key_is_not_registered(how: str) -> None:
    world = World()
    if how == "without a key":
        world.hub.on_registration(RegistrationChanged(NODE, MappingRecord.of(NODE, (Locator(NODE_RLOC),))))
    if how in ("another key", "revoked"):
        world.register(key=world.static.public[::-1] if how == "another key" else None, is_revoked=how == "revoked")
    if how == "left":
        world.register()
        world.hub.on_registration(RegistrationChanged(NODE, None))
    _, payload = world.begin()

    assert world.hear(payload) == []
    assert world.hub.peer_of(NODE) == 0
    assert world.hub.counters["rx_auth" if how == "another key" else "rx_policy"] == 1


def test_a_handshake_counts_once_and_every_octet_of_it_counts() -> None:
    world = World()
    world.register()
    _, payload = world.begin()
    start = payload.index(b"\x01\x01\x00\x00")
    for at in range(start + 8, start + 132, 5):
        changed = payload[:at] + bytes((payload[at] ^ 1,)) + payload[at + 1 :]
        assert not only(world.hear(changed, 10.0 * at) or [], InstallSession), at

    assert only(world.hear(payload, 5000.0) or [], InstallSession)
    assert world.hear(payload, 6000.0) == []
    assert world.hub.counters["rx_replay"] == 1


def test_a_flood_is_answered_twenty_times_a_second_for_a_source() -> None:
    world = World()
    world.register()
    answered = sum(bool(world.hear(world.begin()[1], 1.0 + number / 1000)) for number in range(200))

    assert answered <= 20 + 5
    assert world.hub.counters["rx_rate"] >= 175


def test_all_eids_of_a_node_are_sealed_by_its_one_session_and_old_sessions_are_forgotten() -> None:
    world = World()
    second = prefix("2001:db8:e1d::1/128")
    world.register(NODE, second)
    times = [10.0 * number for number in range(SESSIONS_MAX + 2)]
    told = [effect for at in times for effect in world.hear(world.begin()[1], at) or []]

    assert world.hub.peer_of(NODE) == world.hub.peer_of(second) != 0
    assert {installed.sources for installed in only(told, InstallSession)} == {(NODE, second)}
    assert len(only(told, ForgetSession)) == 2


def test_with_another_key_the_sessions_of_the_old_one_end() -> None:
    world = World()
    world.register()
    (installed,) = only(world.hear(world.begin()[1]) or [], InstallSession)

    told = world.register(key=world.static.public[::-1])

    assert told == [ForgetSession(installed.local_index)]
    assert world.hub.peer_of(NODE) == 0
