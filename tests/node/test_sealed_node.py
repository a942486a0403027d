"""Whole nodes that seal: keys in mappings, handshakes in probes, and what the forwarding table gets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from msgspec.structs import replace

from lispmob.control.node_config import NodeConfig
from lispmob.control.sealing.noise import KeyPair
from lispmob.control.sealing.peer_keys import PinnedKey
from lispmob.control.sealing.seal_config import SealTools
from lispmob.node.sealed_node import SealedNode
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import (
    ForgetPeer,
    InstallMapping,
    InstallSession,
    RefuseClear,
    SendControl,
    SendKeepalive,
    SendSealed,
)
from lispmob.protocol.locator_set import LocalLocator
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import IpAddress
from lispmob.wire.auth import sign
from lispmob.wire.header import MessageType
from lispmob.wire.key_record import KeyRecord, take_key_record
from lispmob.wire.lcaf_types import SecurityKey
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord
from tests.control.sealing.sealed_pair import (
    ALICE_EID,
    ALICE_KEY,
    ALICE_RLOC,
    BOB_EID,
    BOB_KEY,
    BOB_RLOC,
    Memory,
    drawing,
    request_of,
)
from tests.control.support import KEY, SERVER, only, prefix, request_in
from tests.crypto.support import ciphers, needs_libcrypto

pytestmark = needs_libcrypto


def made(private: bytes, eid: object, rloc: IpAddress, **options: object) -> SealedNode:
    static = KeyPair.of(private, ciphers())
    config = replace(
        NodeConfig((eid,), seal="prefer", key_record=KeyRecord((static.public,))),  # type: ignore[arg-type]
        **options,
    )
    clock = count(1_700_000_000_000_000_000)
    tools = SealTools(ciphers(), static, Memory(), drawing(private[0]), lambda: next(clock))
    node = SealedNode(config, new_nonce=count(private[0] << 20).__next__, jitter=lambda: 0.5, seal=tools)
    node.on_locators([LocalLocator(rloc, 2, "eth0")], 0.0)
    return node


def static(eid: object, rloc: IpAddress) -> MappingRecord:
    return MappingRecord.of(eid, (Locator(rloc),))  # type: ignore[arg-type]


def two_nodes() -> tuple[SealedNode, SealedNode]:
    alice_key, bob_key = (KeyPair.of(datagram, ciphers()).public for datagram in (ALICE_KEY, BOB_KEY))
    one = made(
        ALICE_KEY,
        ALICE_EID,
        ALICE_RLOC,
        static_mappings=(static(BOB_EID, BOB_RLOC),),
        pinned_keys=(PinnedKey(BOB_EID, bob_key),),
    )
    other = made(
        BOB_KEY,
        BOB_EID,
        BOB_RLOC,
        static_mappings=(static(ALICE_EID, ALICE_RLOC),),
        pinned_keys=(PinnedKey(ALICE_EID, alice_key),),
    )
    return one, other


def carry(sent: SendControl, source: IpAddress, to: SealedNode, now: float) -> list[object]:
    destination = sent.destination
    return list(to.on_datagram(Datagram(sent.payload, source, sent.port, destination, 2), now))


def test_two_nodes_come_to_a_session_over_their_control_ports() -> None:
    one, other = two_nodes()
    peer = one.sealing.entries.peers[0].number
    (sent,) = only(one.on_seal_wanted(peer, 1.0), SendControl)
    at_other = carry(sent, ALICE_RLOC, other, 1.1)
    (answered,) = only(at_other, SendControl)
    at_one = carry(answered, BOB_RLOC, one, 1.2)

    (theirs,), (ours,) = only(at_other, InstallSession), only(at_one, InstallSession)
    assert ours.send_key == theirs.receive_key
    assert only(at_one, SendKeepalive)
    assert [entry.must_seal for entry in only(one.on_timer(4.2), InstallMapping)] == [True]
    other.on_seal_confirmed(theirs.peer, theirs.local_index, 1.3)
    assert only(other.on_timer(4.3), RefuseClear) == [RefuseClear((ALICE_EID,))]


def test_an_answer_to_no_handshake_of_ours_is_counted_as_any_other() -> None:
    one, other = two_nodes()
    (sent,) = only(one.on_seal_wanted(one.sealing.entries.peers[0].number, 1.0), SendControl)
    (answered,) = only(carry(sent, ALICE_RLOC, other, 1.1), SendControl)
    carry(answered, BOB_RLOC, one, 1.2)

    assert only(carry(answered, BOB_RLOC, one, 1.3), InstallSession) == []
    assert one.counters["rx_nonce"] == 1


def test_from_eid_to_eid_a_node_takes_handshakes_and_nothing_else() -> None:
    one, other = two_nodes()
    peer = one.sealing.entries.peers[0].number
    one.on_seal_wanted(peer, 1.0)
    (sent,) = only(one.on_timer(2.0), SendControl)
    assert (sent.source, sent.destination) == (ALICE_EID.address, BOB_EID.address)
    told = other.on_datagram(Datagram(sent.payload, ALICE_EID.address, 4342, BOB_EID.address, 9), 2.1)
    (answered,) = only(told, SendControl)
    back = one.on_datagram(Datagram(answered.payload, BOB_EID.address, 4342, ALICE_EID.address, 9), 2.2)
    assert only(back, InstallSession)

    plain = MapRequest(5, None, (ALICE_RLOC,), (EidRecord.of(BOB_EID),), is_probe=True).encode()
    asked = other.on_datagram(Datagram(plain, ALICE_EID.address, 4342, BOB_EID.address, 9), 3.0)
    assert only(asked, SendControl) == []
    assert other.counters["rx_policy"] == 1
    assert (
        only(other.on_datagram(Datagram(b"\x12", ALICE_EID.address, 4342, BOB_EID.address, 9), 3.0), SendControl) == []
    )


def test_a_node_that_stops_or_sleeps_forgets_its_sessions() -> None:
    one, other = two_nodes()
    number = one.sealing.entries.peers[0].number
    (sent,) = only(one.on_seal_wanted(number, 1.0), SendControl)
    (answered,) = only(carry(sent, ALICE_RLOC, other, 1.1), SendControl)
    carry(answered, BOB_RLOC, one, 1.2)

    assert only(one.on_slept(5.0), ForgetPeer) == [ForgetPeer(number)]
    assert other.on_shutdown(6.0).count(ForgetPeer(other.sealing.entries.peers[0].number)) == 1


def registering() -> tuple[SealedNode, list[MapRegister]]:
    """A node with a Map-Server, and what it registered after the first Map-Notify."""
    server = MapServerPeer(SERVER, KEY)
    one = made(ALICE_KEY, ALICE_EID, ALICE_RLOC, map_servers=(server,))
    first = _registers(one.on_slept(0.0))[-1]
    return one, _registers(_notified(one, first, 0.1))


def _registers(effects: Sequence[object]) -> list[MapRegister]:
    messages = [decode_control(effect.payload) for effect in only(effects, SendControl)]
    return [message for message in messages if isinstance(message, MapRegister)]


def _notified(one: SealedNode, register: MapRegister, now: float, *, keeps_keys: bool = True) -> list[object]:
    payload = sign(MapNotify(nonce=register.nonce, records=register.records, keeps_keys=keeps_keys), KEY)
    return list(one.on_datagram(Datagram(payload, SERVER, 4342, ALICE_RLOC, 2), now))


def test_the_key_is_registered_once_the_map_server_has_said_that_it_keeps_keys() -> None:
    one, (keyed,) = registering()

    assert take_key_record(keyed.records[0])[1] == one.config.key_record
    _notified(one, keyed, 0.2)
    assert [registration.takes_key for registration in one._registrations.machines] == [True]


def test_a_map_server_of_another_make_is_never_sent_a_key() -> None:
    one = made(ALICE_KEY, ALICE_EID, ALICE_RLOC, map_servers=(MapServerPeer(SERVER, KEY),))
    sent = _registers(one.on_slept(0.0))
    _notified(one, sent[-1], 0.1, keeps_keys=False)
    for at in (70.0, 140.0, 4000.0):
        sent += _registers(one.on_timer(at))
        sent += _registers(_notified(one, sent[-1], at + 0.1, keeps_keys=False))

    assert len(sent) == 4
    assert all(take_key_record(register.records[0])[1] is None for register in sent)


def test_a_map_server_that_does_not_answer_keys_is_registered_with_without() -> None:
    one, _ = registering()
    later: list[MapRegister] = []
    for at in (1.2, 3.3, 7.4):
        later += _registers(one.on_timer(at))
    assert [take_key_record(register.records[0])[1] is not None for register in later] == [True, False, False]
    _notified(one, later[1], 7.5)

    assert [registration.is_confirmed for registration in one._registrations.machines] == [True]
    assert take_key_record(_registers(one.on_slept(9.0))[0].records[0])[1] is None


def test_a_pinned_prefix_of_another_instance_is_not_mixed_up() -> None:
    one = made(ALICE_KEY, ALICE_EID, ALICE_RLOC, pinned_keys=(PinnedKey(prefix("[7]10.2.0.7/32"), bytes(32)),))
    assert one.sealing.keys.of(BOB_EID) is None


def asked(node: SealedNode, effects: Sequence[object]) -> int:
    """The nonce of the only Map-Request in an ECM."""
    (sent,) = [sent for sent in only(effects, SendControl) if sent.payload[0] >> 4 == MessageType.ENCAPSULATED_CONTROL]
    return request_in(sent).nonce


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("is_local", [False, True])
def test_a_key_in_a_mapping_that_nothing_proves_is_none(is_later: bool, is_local: bool) -> None:
    node = made(ALICE_KEY, ALICE_EID, ALICE_RLOC, map_resolvers=(SERVER,))
    key = KeyRecord((KeyPair.of(BOB_KEY, ciphers()).public,)).to_locator()
    keyed = MappingRecord.of(BOB_EID, (Locator(BOB_RLOC, is_local=is_local), key), is_authoritative=is_local)
    first = MappingRecord.of(BOB_EID, (Locator(BOB_RLOC),)) if is_later else keyed
    nonce = asked(node, node.on_miss(ALICE_EID.address, BOB_EID.address, 0, 1.0))
    effects = node.on_datagram(Datagram(MapReply(nonce, (first,)).encode(), SERVER, 4342, ALICE_RLOC, 2), 1.1)
    if is_later:
        smr = MapRequest(7, BOB_EID.address, (BOB_RLOC,), (EidRecord.of(ALICE_EID),), is_smr=True).encode()
        nonce = asked(node, node.on_datagram(Datagram(smr, BOB_RLOC, 4342, ALICE_RLOC, 2), 9.0))
        effects = node.on_datagram(Datagram(MapReply(nonce, (keyed,)).encode(), SERVER, 4342, ALICE_RLOC, 2), 9.1)

    installed = only(effects, InstallMapping)
    assert [entry.peer for entry in installed] == [0] * len(installed)
    assert is_later or installed
    assert node.sealing.keys.of(BOB_EID) is None
    assert node.map_cache.get(BOB_EID) is not None


def test_what_is_shown_of_an_entry_is_what_the_datapath_has() -> None:
    one, _ = two_nodes()

    shown = one.disposition(BOB_EID)

    assert shown is not None
    assert (shown.peer, shown.must_seal) == (one.sealing.entries.peers[0].number, False)
    assert one.disposition(prefix("10.9.0.0/16")) is None


@pytest.mark.parametrize("seals", [False, True])
def test_a_peer_that_seals_is_never_asked_for_the_key_of_a_dialect(seals: bool) -> None:
    keys = (PinnedKey(BOB_EID, KeyPair.of(BOB_KEY, ciphers()).public),) if seals else ()
    node = made(
        ALICE_KEY,
        ALICE_EID,
        ALICE_RLOC,
        static_mappings=(static(BOB_EID, BOB_RLOC),),
        pinned_keys=keys,
        dialects=("lispers-net", "rfc8061"),
    )

    sent = only(node.on_used([BOB_EID], 1.0), SendControl)

    asked = [rloc for probe in sent for rloc in request_of(probe).itr_rlocs if isinstance(rloc, SecurityKey)]
    assert bool(asked) is not seals


@pytest.mark.parametrize("is_heard", [False, True])
def test_a_node_that_replaces_its_key_says_so_in_its_sessions_and_strict_peers_do_not_wait(is_heard: bool) -> None:
    one = made(
        ALICE_KEY,
        ALICE_EID,
        ALICE_RLOC,
        static_mappings=(static(BOB_EID, BOB_RLOC),),
        strict_keys=True,
        announcements=True,
    )
    other = made(
        BOB_KEY,
        BOB_EID,
        BOB_RLOC,
        static_mappings=(static(ALICE_EID, ALICE_RLOC),),
        pinned_keys=(PinnedKey(ALICE_EID, KeyPair.of(ALICE_KEY, ciphers()).public),),
        announcements=True,
    )
    one.sealing.on_vouched(BOB_EID, KeyRecord((KeyPair.of(BOB_KEY, ciphers()).public,)), 0.5)
    (number,) = (peer.number for peer in other.sealing.entries.peers)
    (sent,) = only(other.on_seal_wanted(number, 1.0), SendControl)
    (answered,) = only(carry(sent, BOB_RLOC, one, 1.1), SendControl)
    carry(answered, ALICE_RLOC, other, 1.2)
    (bob,) = one.sealing.entries.peers
    one.on_seal_confirmed(bob.number, bob.sessions[0].local_index, 1.3)
    fresh = KeyPair.of(bytes([77]) * 32, ciphers())

    other.on_config(replace(other.config, key_record=KeyRecord((fresh.public,))), 5.0)
    said = only(other.on_static_key(fresh, 5.0), SendSealed)
    assert [effect.peer for effect in said] == [number]
    if is_heard:
        one.on_sealed_announcement(bob.number, 0, said[0].payload, 5.1)
    one.sealing.on_vouched(BOB_EID, KeyRecord((fresh.public,)), 5.2)

    assert one.sealing.waiting == ({} if is_heard else {BOB_EID: fresh.public})
    known = one.sealing.keys.of(BOB_EID)
    assert known is not None
    assert (known.key == fresh.public) is is_heard
