"""How fast packets leave for a receiver that takes them one by one, and which segments count as repeated."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pytest

from lispmob.datapath import _lispdp
from lispmob.wire.checksum import internet_checksum

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

WINDOW: int = lib.LM_PACING_WINDOW
SHORTEST: int = lib.LM_INTERVAL_MIN_NS
LONGEST: int = lib.LM_INTERVAL_MAX_NS
SECOND = 1_000_000_000


def pacing() -> Any:
    return ffi.new("struct lm_pacing *")


def send_window(pacing: Any, repeated: int) -> None:
    """A window of segments, of which so many are repetitions."""
    for _ in range(repeated):
        lib.lm_pacing_count(pacing, 1, True)
    for _ in range(WINDOW - repeated):
        lib.lm_pacing_count(pacing, 1, False)


def slowed_to(interval_ns: int) -> Any:
    """The pacing of a receiver that has lost much until the interval was at least this long."""
    made = pacing()
    while made.interval_ns < interval_ns:
        send_window(made, WINDOW // 10)
    return made


@pytest.mark.parametrize("repeated", [0, 1, WINDOW // 100])
def test_a_receiver_that_loses_little_gets_packets_without_pauses(repeated: int) -> None:
    receiver = pacing()

    for _ in range(100):
        send_window(receiver, repeated)

    assert receiver.interval_ns == 0
    assert lib.lm_pacing_wait_ns(receiver, SECOND, 1000) == 0


@pytest.mark.parametrize("repeated", [WINDOW // 40, WINDOW // 10, WINDOW])
def test_a_receiver_that_loses_many_gets_longer_and_longer_intervals_up_to_a_bound(repeated: int) -> None:
    receiver, seen = pacing(), []

    for _ in range(50):
        send_window(receiver, repeated)
        seen.append(receiver.interval_ns)

    assert seen[0] == SHORTEST
    assert all(before < after or after == LONGEST for before, after in pairwise(seen))
    assert seen[-1] == LONGEST


def test_the_interval_stays_while_some_are_lost_but_not_many() -> None:
    receiver = slowed_to(10_000)
    before = receiver.interval_ns

    for _ in range(50):
        send_window(receiver, WINDOW // 100)

    assert receiver.interval_ns == before


def test_a_receiver_that_loses_nothing_any_more_is_sent_to_without_pauses_again() -> None:
    receiver = slowed_to(LONGEST)

    for _ in range(100):
        send_window(receiver, 0)

    assert receiver.interval_ns == 0
    assert lib.lm_pacing_wait_ns(receiver, SECOND, 1000) == 0


@pytest.mark.parametrize("portion", [1, 16, 47])
def test_the_rate_is_one_packet_an_interval(portion: int) -> None:
    receiver, now, sent = slowed_to(10_000), SECOND, 0

    while now < 2 * SECOND:
        now += lib.lm_pacing_wait_ns(receiver, now, portion)
        sent += portion

    assert sent * receiver.interval_ns == pytest.approx(SECOND, rel=0.01)


def test_a_thread_that_the_kernel_wakes_late_catches_up() -> None:
    receiver, now, sent = slowed_to(10_000), SECOND, 0

    while now < 2 * SECOND:
        wait = lib.lm_pacing_wait_ns(receiver, now, 16)
        now += wait + 60_000 if wait else 1_000
        sent += 16

    assert sent * receiver.interval_ns == pytest.approx(SECOND, rel=0.01)


def test_after_a_silence_no_more_than_a_short_burst_leaves_at_once() -> None:
    receiver, sent = slowed_to(10_000), 0
    lib.lm_pacing_wait_ns(receiver, SECOND, 16)

    while lib.lm_pacing_wait_ns(receiver, 10 * SECOND, 1) == 0:
        sent += 1

    assert sent == 32 + 1  # what it may catch up with, and the packet that is due


class Sender:
    """Flows of TCP, IPv4 or IPv6, as the outbound thread reads them."""

    def __init__(self, version: int = 4) -> None:
        self.version = version
        self.flows = ffi.new("struct lm_paced_flow[]", lib.LM_PACED_FLOWS)

    def is_repeated(self, sequence: int, octets: int, *, flow: int = 7, protocol: int = 6) -> bool | None:
        """Send so many octets from this sequence number on. None: the packet does not count."""
        tcp = struct.pack("!HHIIBBHHH", 1, 2, sequence % 2**32, 0, 5 << 4, 0x10, 0, 0, 0) + bytes(octets)
        if self.version == 4:
            fields = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, protocol, 0))
            fields += bytes((10, 0, 0, 1, 10, 0, 0, 2))
            struct.pack_into("!H", fields, 10, internet_checksum(bytes(fields)))
            head = bytes(fields)
        else:
            head = struct.pack("!IHBB16s16s", 6 << 28, len(tcp), protocol, 64, bytes(15) + b"\1", bytes(15) + b"\2")
        packet, inner, repeated = ffi.from_buffer(head + tcp), ffi.new("struct lm_inner *"), ffi.new("bool *")
        assert lib.lm_packet_parse(packet, len(packet), inner)
        return bool(repeated[0]) if lib.lm_pacing_read(self.flows, flow, packet, inner, repeated) else None


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("start", [0, 2**31 - 2000, 2**32 - 2000])
def test_a_segment_counts_as_repeated_when_its_flow_has_sent_it_before(version: int, start: int) -> None:
    sender = Sender(version)

    assert [sender.is_repeated(start + offset, 1000) for offset in (0, 1000, 2000, 1000, 3000, 2000, 4000)] == [
        False,
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def test_a_super_packet_counts_from_its_end_on() -> None:
    sender = Sender()

    assert sender.is_repeated(5000, 40_000) is False
    assert sender.is_repeated(44_000, 1000) is True
    assert sender.is_repeated(45_000, 1000) is False


def test_a_hole_in_the_sequence_is_no_repetition() -> None:
    sender = Sender()

    assert [sender.is_repeated(sequence, 100) for sequence in (0, 5000, 9000)] == [False, False, False]


@pytest.mark.parametrize("protocol", [47, 132])
def test_only_segments_of_tcp_with_data_count(protocol: int) -> None:
    sender = Sender()

    assert sender.is_repeated(0, 1000, protocol=protocol) is None
    assert sender.is_repeated(0, 0) is None


def test_flows_that_share_a_place_are_not_taken_for_each_other() -> None:
    sender = Sender()
    other = 7 + lib.LM_PACED_FLOWS

    assert sender.is_repeated(9000, 1000) is False
    assert sender.is_repeated(1000, 1000, flow=other) is False
    assert sender.is_repeated(1000, 1000) is False
