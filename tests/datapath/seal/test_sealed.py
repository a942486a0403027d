"""Sealed packets without sockets: octets, windows, limits, and which session sends."""

from __future__ import annotations

import dataclasses
import errno
import random
import threading
from ipaddress import IPv4Address
from itertools import count

import pytest

from lispmob.datapath import sealing
from lispmob.datapath.model import AeadName, SealedSession
from lispmob.wire.address import EidPrefix
from tests.datapath.seal.sealed import Peers, Session, Verdict, Window

pytestmark = pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto")

FORWARD = bytes.fromhex("91e37a4f1a10a4eb002cdcc61c62e5c9a1c7ddd41f00d653977fb9427a43dd99")
BACK = bytes.fromhex("6ba59cf21b913d14b284880d653a3892513ae69766ba4b77b5806bd23ba133a0")
AEADS: tuple[AeadName, ...] = ("aes-128-gcm", "chacha20-poly1305")
A, B = EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("10.2.0.7/32")

INITIATOR = SealedSession(1, 0x11111111, 0x22222222, FORWARD, BACK, "aes-128-gcm", 0, (B,), True)
RESPONDER = SealedSession(1, 0x22222222, 0x11111111, BACK, FORWARD, "aes-128-gcm", 0, (A,), False)

INNER = bytes.fromhex("45280024000000003f0167a70a0100010a02000708005435123400016162636465666768")
SEALED = {
    "aes-128-gcm": bytes.fromhex(
        "010000000000000022222222000000000000000034879b235546fb9f571b5079839370c70d7d855a77f561d76d50aa8b48cb432d"
        "823e968c8cfcc2f20b0abc410eef6e4ca777ffb1"
    ),
    "chacha20-poly1305": bytes.fromhex(
        "010000000000000022222222000000000000000083a68dfe55949948be0a704941047b391d7f73eb5f43353d9a7fb48dc4c019c7"
        "fea28a78645a8966b62429089ef4f67dcc016e5b"
    ),
}
EMPTY_BACK = bytes.fromhex("01000000000000001111111100000000000000009a05a5d51327b207973d8f18868440e7")


def pair(aead: AeadName = "aes-128-gcm") -> tuple[Session, Session]:
    return Session(dataclasses.replace(INITIATOR, aead=aead)), Session(dataclasses.replace(RESPONDER, aead=aead))


@pytest.mark.parametrize("aead", AEADS)
def test_a_sealed_packet_is_octet_for_octet_the_one_computed_elsewhere(aead: AeadName) -> None:
    initiator, responder = pair(aead)

    assert initiator.seal(0, INNER) == SEALED[aead]
    assert responder.open(SEALED[aead]) == (Verdict.OPENED, INNER)


def test_an_empty_packet_has_a_tag_and_nothing_else() -> None:
    initiator, responder = pair()

    assert responder.seal(0) == EMPTY_BACK
    assert initiator.open(EMPTY_BACK) == (Verdict.OPENED, b"")


@pytest.mark.parametrize("aead", AEADS)
@pytest.mark.parametrize("cut", [0, 1, 20, 35, 36])
def test_a_packet_in_parts_is_sealed_like_a_whole_one(aead: AeadName, cut: int) -> None:
    initiator, _ = pair(aead)

    assert initiator.seal(0, INNER[:cut], INNER[cut:]) == SEALED[aead]


@pytest.mark.parametrize("aead", AEADS)
def test_no_changed_octet_opens_and_the_packet_itself_still_does(aead: AeadName) -> None:
    _, responder = pair(aead)
    for place in range(len(SEALED[aead])):
        for bit in range(8):
            changed = bytearray(SEALED[aead])
            changed[place] ^= 1 << bit
            verdict, _ = responder.open(bytes(changed))
            assert verdict in (Verdict.TAG, Verdict.KEY), (place, bit)  # KEY: a counter that no key has

    assert responder.open(SEALED[aead]) == (Verdict.OPENED, INNER)


@pytest.mark.parametrize("aead", AEADS)
def test_no_shortened_packet_opens(aead: AeadName) -> None:
    _, responder = pair(aead)

    verdicts = {responder.open(SEALED[aead][:length])[0] for length in range(36, len(SEALED[aead]))}

    assert verdicts == {Verdict.TAG}


def test_a_packet_opens_once() -> None:
    initiator, responder = pair()
    packets = [initiator.seal(counter, INNER) for counter in range(100)]

    assert {responder.open(packet)[0] for packet in reversed(packets)} == {Verdict.OPENED}
    assert {responder.open(packet)[0] for packet in packets} == {Verdict.REPLAY}


@pytest.mark.parametrize("aead", AEADS)
def test_a_packet_that_two_threads_open_at_once_opens_once(aead: AeadName) -> None:
    """As when it comes by two uplinks: both threads find the counter new, and are at the cipher together."""
    initiator, responder = pair(aead)
    packets = [initiator.seal(number, bytes(60_000)) for number in range(100)]
    start, verdicts = threading.Barrier(2), [list[Verdict](), list[Verdict]()]

    def open_all(thread: int) -> None:
        for packet in packets:
            start.wait(10.0)
            verdicts[thread].append(responder.open(packet, thread=thread)[0])

    threads = [threading.Thread(target=open_all, args=(thread,)) for thread in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {frozenset(both) for both in zip(*verdicts, strict=True)} == {frozenset((Verdict.OPENED, Verdict.REPLAY))}


def test_threads_seal_with_contexts_of_their_own_and_get_the_same_octets() -> None:
    initiator, _ = pair()

    assert [initiator.seal(0, INNER, thread=thread) for thread in range(3)] == [SEALED["aes-128-gcm"]] * 3


def test_another_instance_id_in_the_header_is_found_after_the_tag() -> None:
    sealed = Session(INITIATOR).seal(0, INNER, header=bytes.fromhex("0800000000123400"))

    assert Session(RESPONDER).open(sealed)[0] is Verdict.IID
    assert Session(dataclasses.replace(RESPONDER, instance_id=0x1234)).open(sealed) == (Verdict.OPENED, INNER)


def test_a_key_is_over_after_three_minutes_in_both_directions() -> None:
    initiator, responder = pair()

    assert (initiator.may_send(179.9), responder.may_receive(179.9)) == (True, True)
    assert (initiator.may_send(180.0), responder.may_receive(180.0)) == (False, False)
    assert responder.open(SEALED["aes-128-gcm"], at_s=180.0)[0] is Verdict.KEY


def test_who_began_asks_for_the_next_key_first() -> None:
    initiator, responder = pair()

    assert [initiator.is_rekey_due(at) for at in (119.9, 120.0)] == [False, True]
    assert [responder.is_rekey_due(at) for at in (164.9, 165.0)] == [False, True]


def test_a_key_seals_two_to_the_28_packets_and_not_one_more() -> None:
    initiator, responder = pair()
    assert initiator.take((1 << 27) - 1) == 0
    assert not initiator.is_rekey_due(0)
    assert initiator.take() == (1 << 27) - 1
    assert initiator.is_rekey_due(0)

    assert initiator.take((1 << 27) - 10) == 1 << 27
    assert initiator.take(11) is None  # a run that does not fit takes nothing
    assert (initiator.take(), initiator.may_send(0)) == (None, False)
    assert responder.open(initiator.seal(1 << 28, INNER))[0] is Verdict.KEY


def test_no_counter_is_taken_twice_by_many_threads() -> None:
    initiator, _ = pair()
    taken: list[list[int]] = [[] for _ in range(4)]

    def work(mine: list[int], chance: random.Random) -> None:
        for _ in range(2000):
            count = chance.randrange(1, 65)
            first = initiator.take(count)
            assert first is not None
            mine.extend(range(first, first + count))

    threads = [threading.Thread(target=work, args=(mine, random.Random(seed))) for seed, mine in enumerate(taken)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    everything = sorted(counter for mine in taken for counter in mine)
    assert everything == list(range(len(everything)))


def test_the_window_remembers_the_last_8192_counters() -> None:
    window = Window()
    assert window.mark(10_000)

    assert window.may(10_000 - 8191)
    assert not window.may(10_000 - 8192)
    assert window.mark(10_000 - 8191)
    assert not window.mark(10_000 - 8191)


@pytest.mark.parametrize("seed", range(20))
def test_the_window_agrees_with_a_set_of_numbers(seed: int) -> None:
    chance = random.Random(seed)
    window, seen, top = Window(), set[int](), -1
    at = chance.choice([0, 60, 1 << 20])
    for _ in range(3000):
        at += chance.choice([1, 1, 1, 2, 63, 64, 65, 8191, 8192, 8193, 20_000])
        counter = max(0, at - chance.choice([0, 0, 1, 63, 64, 8190, 8191, 8192, 8193, 9000]))
        expected = counter not in seen and top - counter < 8192
        assert window.may(counter) == expected
        assert window.mark(counter) == expected
        seen.add(counter)
        top = max(top, counter)


COUNTERS = count()


def numbered(number: int, *, is_confirmed: bool, peer: int = 1, sources: tuple[EidPrefix, ...] = (B,)) -> SealedSession:
    return dataclasses.replace(
        INITIATOR, peer=peer, local_index=number, remote_index=number, is_confirmed=is_confirmed, sources=sources
    )


def test_a_confirmed_session_sends_at_once_and_the_two_before_it_receive() -> None:
    peers = Peers()
    for number in (1, 2, 3, 4):
        assert peers.install(numbered(number, is_confirmed=True)) == 0

    assert peers.sends_with(1, 4)
    assert [peers.knows(number) for number in (1, 2, 3, 4)] == [False, True, True, True]


def test_whichever_of_two_sessions_the_peer_sends_with_it_is_received_while_a_third_one_begins() -> None:
    """Both asked at once, and each settled on another session; then we ask again, and the peer learns of it late."""
    ours = Peers()
    ours.install(numbered(1, is_confirmed=True))
    ours.install(numbered(2, is_confirmed=False))
    ours.confirm(2)

    ours.install(numbered(3, is_confirmed=True))

    assert [ours.knows(number) for number in (1, 2, 3)] == [True, True, True]


def test_an_unconfirmed_session_sends_after_its_first_packet() -> None:
    peers = Peers()
    peers.install(numbered(1, is_confirmed=True))
    peers.install(numbered(2, is_confirmed=False))

    assert peers.sends_with(1, 1)
    assert peers.confirm(2)
    assert not peers.confirm(2)
    assert peers.sends_with(1, 2)
    assert peers.knows(1)


def test_a_peer_with_only_an_unconfirmed_session_is_not_sent_to() -> None:
    peers = Peers()
    peers.install(numbered(1, is_confirmed=False))

    assert not peers.can_send(1)
    peers.confirm(1)
    assert peers.can_send(1, at_s=179.9)
    assert not peers.can_send(1, at_s=180.0)


def test_of_unconfirmed_sessions_the_last_two_wait_and_displace_none_that_is_in_use() -> None:
    peers = Peers()
    for number in (1, 2, 3):
        peers.install(numbered(number, is_confirmed=True))
    for number in range(4, 20):
        peers.install(numbered(number, is_confirmed=False))

    assert [number for number in range(1, 20) if peers.knows(number)] == [1, 2, 3, 18, 19]
    assert peers.sends_with(1, 3)


@pytest.mark.parametrize("order", [(2, 3), (3, 2), (2,), (3,)])
def test_whichever_answer_reaches_a_peer_that_asked_twice_its_packets_open(order: tuple[int, ...]) -> None:
    """On a path slower than its repetition, a peer sends with the first session before it hears of the second."""
    peers = Peers()
    peers.install(numbered(1, is_confirmed=True))
    peers.install(numbered(2, is_confirmed=False))
    peers.install(numbered(3, is_confirmed=False))

    for number in order:
        assert peers.open(number, sealed_for(number), 1.0) is Verdict.OPENED
        assert peers.confirm(number)
        assert peers.sends_with(1, number)

    assert all(peers.knows(number) for number in (1, 2, 3))


def test_a_session_that_waited_and_was_confirmed_is_no_longer_displaced_by_another_handshake() -> None:
    peers = Peers()
    peers.install(numbered(1, is_confirmed=False))
    peers.install(numbered(2, is_confirmed=False))
    peers.confirm(1)
    peers.install(numbered(3, is_confirmed=False))
    peers.install(numbered(4, is_confirmed=False))

    assert [number for number in range(1, 5) if peers.knows(number)] == [1, 3, 4]
    assert not peers.confirm(1)


def test_both_may_ask_at_once_and_no_packet_of_either_key_is_lost() -> None:
    """Each side has its own exchange confirmed and the other's waiting: both receive either, whichever comes first."""
    a, b = Peers(), Peers()
    a.install(numbered(1, is_confirmed=True))
    a.install(numbered(2, is_confirmed=False))
    b.install(numbered(2, is_confirmed=True))
    b.install(numbered(1, is_confirmed=False))

    assert (a.sends_with(1, 1), b.sends_with(1, 2)) == (True, True)
    a.confirm(2)
    b.confirm(1)

    assert [side.knows(number) for side in (a, b) for number in (1, 2)] == [True] * 4
    assert (a.can_send(1), b.can_send(1)) == (True, True)


def sealed_for(number: int) -> bytes:
    """A packet of the peer's, by the session of this number."""
    mine = numbered(number, is_confirmed=True)
    session = Session(dataclasses.replace(mine, send_key=mine.receive_key, receive_key=mine.send_key))
    counter = next(COUNTERS)
    return session.seal(counter, b"inner")


def test_after_both_asked_at_once_the_next_key_leaves_the_one_that_the_peer_sends_with() -> None:
    """Each side then sends by the other's exchange, so it receives with a key in use that it does not send with."""
    peers = Peers()
    peers.install(numbered(1, is_confirmed=True))
    peers.install(numbered(2, is_confirmed=False))
    assert peers.open(2, sealed_for(2), 1.0) is Verdict.OPENED
    peers.confirm(2)
    assert peers.open(1, sealed_for(1), 2.0) is Verdict.OPENED  # the peer sends by our exchange from now on

    peers.install(numbered(3, is_confirmed=True), at_s=10.0)

    assert peers.sends_with(1, 3, at_s=10.0)
    assert peers.open(1, sealed_for(1), 10.1) is Verdict.OPENED


def test_an_index_is_given_once_until_it_is_forgotten() -> None:
    peers = Peers()
    assert peers.install(numbered(1, is_confirmed=True)) == 0
    assert peers.install(numbered(1, peer=2, is_confirmed=True)) == -errno.EEXIST

    assert peers.forget(1)
    assert not peers.forget(1)
    assert peers.install(numbered(1, peer=2, is_confirmed=True)) == 0


def test_a_forgotten_peer_has_no_session_left() -> None:
    peers = Peers()
    for number in (1, 2):
        peers.install(numbered(number, is_confirmed=True))
    peers.install(numbered(3, is_confirmed=False))
    peers.install(numbered(4, peer=2, is_confirmed=True))

    peers.forget_peer(1)

    assert [peers.knows(number) for number in (1, 2, 3, 4)] == [False, False, False, True]


def test_a_peer_sends_its_own_eids_and_a_hub_those_of_no_other_node() -> None:
    own, others, outside = IPv4Address("10.2.0.7"), IPv4Address("10.3.0.1"), IPv4Address("192.0.2.1")
    peers = Peers()
    peers.install(numbered(1, is_confirmed=True))
    peers.install(numbered(2, peer=2, is_confirmed=True, sources=(EidPrefix.parse("10.3.0.0/16"),)))
    peers.install(numbered(3, peer=3, is_confirmed=True, sources=()))

    assert [peers.may_send(1, source) for source in (own, others, outside)] == [True, False, False]
    assert [peers.may_send(3, source) for source in (own, others, outside)] == [False, False, True]
    peers.forget_peer(1)
    assert [peers.may_send(3, source) for source in (own, others, outside)] == [True, False, True]


def test_no_hub_speaks_for_a_node_that_seals_while_that_has_no_session() -> None:
    seals, outside = IPv4Address("10.3.0.1"), IPv4Address("192.0.2.1")
    peers = Peers()
    peers.install(numbered(3, peer=3, is_confirmed=True, sources=()))
    assert peers.may_send(3, seals)

    peers.refuse(EidPrefix.parse("10.3.0.0/16"), EidPrefix.parse("[7]192.0.2.0/24"))

    assert [peers.may_send(3, source) for source in (seals, outside)] == [False, True]
    peers.install(numbered(4, peer=4, is_confirmed=True, sources=(EidPrefix.parse("10.3.0.0/16"),)))
    assert [peers.may_send(number, seals) for number in (3, 4)] == [False, True]
    peers.forget_peer(4)
    assert not peers.may_send(3, seals)


def test_where_all_must_be_sealed_a_hub_speaks_for_hosts_without_a_key_alone() -> None:
    peers = Peers()
    peers.install(numbered(3, peer=3, is_confirmed=True, sources=()))
    peers.refuse(EidPrefix.parse("0.0.0.0/0"), EidPrefix.parse("10.3.0.1/32"))

    assert [peers.may_send(3, IPv4Address(source)) for source in ("10.3.0.1", "192.0.2.1")] == [False, True]


def test_an_eid_keeps_its_session_over_a_rekey() -> None:
    peers = Peers()
    peers.install(numbered(9, peer=3, is_confirmed=True, sources=()))
    for number in range(1, 6):
        peers.install(numbered(number, is_confirmed=True))

    assert not peers.may_send(9, IPv4Address("10.2.0.7"))


def test_thousands_of_sessions_are_found_by_their_index() -> None:
    peers = Peers()
    for number in range(1, 3001):
        assert peers.install(numbered(number, peer=number, is_confirmed=True, sources=())) == 0
    for number in range(1, 3001, 2):
        peers.forget(number)

    assert [number for number in range(1, 3001) if peers.knows(number)] == list(range(2, 3001, 2))


@pytest.mark.parametrize(
    "wrong", [{"peer": 0}, {"local_index": 0}, {"remote_index": 1 << 32}, {"send_key": bytes(16)}, {"receive_key": b""}]
)
def test_a_session_without_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"1 to 4294967295|32 octets"):
        dataclasses.replace(INITIATOR, **wrong)  # type: ignore[arg-type]


def test_keys_are_in_no_description() -> None:
    assert FORWARD.hex() not in repr(INITIATOR)
    assert repr(FORWARD) not in repr(INITIATOR)
