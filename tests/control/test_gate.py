"""Which datagrams are decoded at all, and that the cost of one does not grow with what the node knows."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from lispmob.control.gate import KNOWN_BURST, NONCE_S, REQUEST_OCTETS, STRANGER_BURST, Gate, NonceBook
from lispmob.node.node import Datagram, Node
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import IpAddress
from lispmob.wire.lcaf_types import AfiList
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.message import decode_control
from lispmob.wire.record import Locator, MappingRecord
from tests.control.support import EID, WIFI, ip, nonces, prefix
from tests.control.test_claims import ATTACKER, with_peers
from tests.node.test_node import PEER_RLOC, datagram, node

STRANGER = ip("66.66.66.66")


def probe(nonce: int, about: str = "10.1.0.1/32") -> bytes:
    return MapRequest(nonce, None, (STRANGER,), (EidRecord.of(prefix(about)),), is_probe=True).encode()


def many_records(nonce: int) -> bytes:
    locators = tuple(Locator(ip("203.0.113.0") + number) for number in range(8))
    return MapReply(nonce, tuple(MappingRecord.of(prefix(f"10.{n}.0.0/16"), locators) for n in range(32))).encode()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every datagram that the node has decoded."""
    seen: list[bytes] = []

    def note(octets: bytes) -> object:
        seen.append(octets)
        return decode_control(octets)

    monkeypatch.setattr("lispmob.node.node.decode_control", note)
    monkeypatch.setattr("lispmob.natt.traversal.decode_control", note)
    return seen


@pytest.mark.parametrize(
    ("payload", "counter"),
    [
        (many_records(1), "rx_nonce"),
        (MapReply(2, (), is_probe=True).encode(), "rx_nonce"),
        (b"\x20" + bytes(65000), "rx_nonce"),
        (MapNotify(3, ()).encode(), "rx_nonce"),
        (b"\x78" + bytes(40), "rx_nonce"),
        (b"\x70" + bytes(40), "rx_nonce"),
        (b"\x30" + bytes(40), "rx_type"),
        (b"\x50" + bytes(40), "rx_type"),
        (b"\x60" + bytes(40), "rx_type"),
        (b"\xf0" + bytes(40), "rx_type"),
        (b"\x10" + b"\xff" * REQUEST_OCTETS, "rx_size"),
        (b"\x80" + b"\xff" * REQUEST_OCTETS, "rx_size"),
    ],
)
def test_nothing_is_decoded_that_no_node_may_send_or_that_answers_nothing(
    payload: bytes, counter: str, decoded: list[bytes]
) -> None:
    machine = with_peers(2)
    decoded.clear()

    assert machine.on_datagram(datagram(payload, STRANGER), 9.0) == []
    assert decoded == []
    assert machine.counters[counter] == 1


def test_an_answer_is_decoded_once(decoded: list[bytes]) -> None:
    with_peers(1)

    assert len(decoded) == 1


def test_a_stranger_who_asks_without_end_is_heard_a_bounded_number_of_times(decoded: list[bytes]) -> None:
    machine = with_peers(1)
    decoded.clear()
    for number in range(1000):
        machine.on_datagram(datagram(probe(number), STRANGER), 9.0 + number / 1000)

    assert len(decoded) <= STRANGER_BURST + 50
    assert machine.counters["rx_rate"] >= 1000 - len(decoded)


def test_strangers_with_forged_addresses_do_not_keep_a_peer_from_being_answered() -> None:
    machine = with_peers(1)
    machine.on_used([prefix("10.2.0.0/24")], 8.0)
    machine.on_timer(8.5)
    for number in range(3000):
        machine.on_datagram(datagram(probe(number), ip("66.0.0.0") + number), 9.0 + number / 3000)
    answered = sum(
        bool(machine.on_datagram(datagram(probe(9000 + number), PEER_RLOC), 10.0 + number / 10)) for number in range(20)
    )

    assert answered == 20


def test_the_mapping_system_is_heard_under_such_a_flood() -> None:
    gate = Gate(NonceBook(nonces()))
    for number in range(5000):
        gate.refuses(probe(number), ip("66.0.0.0") + number, lambda _: False, 1.0 + number / 5000)

    assert gate.refuses(probe(1), STRANGER, lambda _: True, 2.0) is None


def test_a_sender_with_an_ipv6_network_counts_once() -> None:
    gate = Gate(NonceBook(nonces()))
    kept = [gate.refuses(probe(n), ip("2001:db8::") + n, lambda _: True, 1.0) for n in range(1000)]

    assert kept.count(None) == KNOWN_BURST


def test_a_nonce_is_known_in_either_order_of_its_octets_and_forgotten_after_many() -> None:
    book = NonceBook(nonces(0x0102030405060708), limit=3)
    first = book().to_bytes(8, "big")

    assert book.knows(first)
    assert book.knows(first[::-1])
    for _ in range(3):
        book()
    assert not book.knows(first)


def test_a_nonce_is_known_for_half_a_minute_and_forgotten_after_two_turns() -> None:
    book = NonceBook(nonces(), limit=100)
    first = book().to_bytes(8, "big")

    book.turn(NONCE_S)
    book.turn(2 * NONCE_S - 0.1)  # too early for a turn
    assert book.knows(first)
    second = book().to_bytes(8, "big")
    book.turn(2 * NONCE_S)
    assert not book.knows(first)
    assert book.knows(second)


def test_a_node_forgets_the_nonces_of_questions_that_can_no_longer_be_answered() -> None:
    machine = node()
    sent = [effect for effect in machine.on_locators([WIFI], 0.0) if isinstance(effect, SendControl)]
    registers = [message.nonce for one in sent if isinstance(message := decode_control(one.payload), MapRegister)]
    assert registers
    late = MapNotify(registers[0], ()).encode()

    assert machine.gate.is_noise(late) is None
    for now in (100.0, 100.0 + NONCE_S, 100.0 + 2 * NONCE_S):
        machine.on_timer(now)
    assert machine.gate.is_noise(late) == "rx_nonce"


def calls(machine: Node, arrived: Datagram, now: float) -> int:
    """The Python calls that one datagram costs, with the query for the next deadline."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        machine.on_datagram(arrived, now)
        machine.wake_at()
    finally:
        sys.setprofile(None)
    return count


def busy(peers: int) -> Node:
    """A node in conversation with so many peers, each with a locator of its own, and with open lookups."""
    machine = with_peers(0)
    for number in range(peers):
        record = MappingRecord.of(prefix(f"10.{2 + number // 200}.{number % 200}.0/24"), (Locator(peer(number)),))
        assert record.eid_prefix is not None
        machine.on_mapping_added(record.eid_prefix, record.locators, 0, 1.0)
        machine.on_used([record.eid_prefix], 1.0)
    machine.on_timer(2.0)
    for number in range(min(peers, 15)):
        machine.on_miss(EID.address, ip("10.200.0.0") + number, 0, 2.0)
    for second in range(5):
        machine.on_timer(3.0 + second)
    return machine


def peer(number: int) -> IpAddress:
    return ip("203.0.112.0") + number


@pytest.mark.parametrize(
    "payload",
    [
        b"\x20" + bytes(40),
        b"\x40" + bytes(40),
        b"\xf0" + bytes(40),
        probe(7),
        MapRequest(8, ip("10.2.0.7"), (ATTACKER,), (EidRecord.of(EID),), is_smr=True).encode(),
    ],
)
def test_a_datagram_costs_a_node_with_many_peers_no_more_than_one_with_few(payload: bytes) -> None:
    few, many = (calls(busy(peers), datagram(payload, STRANGER), 9.0) for peers in (20, 400))

    assert many <= few + 20


def test_every_list_of_afis_is_as_long_as_one_packet_at_most() -> None:
    deep = AfiList((STRANGER,) * 8)
    nested = MapRequest(1, None, (AfiList((deep,) * 8),) * 31, (EidRecord.of(EID),)).encode()

    machine = node()
    machine.on_locators([WIFI], 0.0)
    assert len(nested) > REQUEST_OCTETS
    assert machine.on_datagram(datagram(nested, STRANGER), 1.0) == []
    assert machine.counters["rx_size"] == 1


@pytest.mark.parametrize("size", [1280, 1500, 9000, 65000])
def test_a_probe_of_the_path_mtu_is_answered_whatever_its_length(size: int) -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)

    effects = machine.on_datagram(datagram(probe(7).ljust(size, b"\0"), STRANGER), 1.0)

    answers = [MapReply.decode(effect.payload) for effect in effects if isinstance(effect, SendControl)]
    assert [answer.nonce for answer in answers] == [7]
    assert machine.counters["rx_size"] == 0


@pytest.mark.parametrize("behind", [b"x" * 2000, bytes(2000) + b"x"])
def test_what_is_long_and_no_padding_is_not_read(behind: bytes) -> None:
    machine = node()
    machine.on_locators([WIFI], 0.0)

    assert machine.on_datagram(datagram(probe(7) + behind, STRANGER), 1.0) == []
    assert machine.counters["rx_size"] == 1
