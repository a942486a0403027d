"""ICMP errors about the size of packets, which any host can send: which are accepted, and which are not."""

from __future__ import annotations

import pytest

from tests.datapath import too_big
from tests.datapath.full_size import announce, header, real_packet, send_full, until_judged
from tests.datapath.netlab import Lab

pytestmark = pytest.mark.netns


def test_what_a_stranger_says_about_the_size_of_packets_changes_nothing(both: Lab, outer: int) -> None:
    packet = real_packet(both)
    ours, theirs = (both.links[0].rloc(host, outer) for host in "ab")
    behind = packet[header(outer) + 8 :]

    for mtu_bytes in (0, 68, 500, 576, 1000, 1279):  # a genuine quote: it causes a question at most
        announce(both, packet, mtu_bytes, outer)
        assert both.a("path_mtus") == {}, mtu_bytes
    for port, mtu_bytes in (
        (4341, 500),
        (4341, 576),
        (4341, 1300),
        (4342, 1000),
        (50000, 1300),
    ):  # our address suffices
        announce(both, too_big.quoted(ours, port, theirs, 4341, behind, 1500), mtu_bytes, outer, 0.2)
        assert both.a("path_mtus") == {}, (port, mtu_bytes)

    assert send_full(both, 3) == 3
    assert "mtu_learned" not in both.a("counters")


UNTRUE = ("another destination", "another source", "another instance", "no data packet", "smaller than it says")


def altered(packet: bytes, outer: int, what: str) -> tuple[bytes, int]:
    """The quote with a field that no packet of ours has, and the MTU that the error claims."""
    lisp = header(outer) + 8
    inner = lisp + 8
    changed = bytearray(packet)
    if what == "another destination":
        changed[inner + 16 : inner + 20] = b"\x0a\x03\x00\x09"
    elif what == "another source":
        changed[inner + 12 : inner + 16] = b"\x0a\x03\x00\x09"
    elif what == "another instance":
        changed[lisp : lisp + 8] = b"\x08\0\0\0\0\0\x07\0"
    elif what == "no data packet":
        changed[inner : inner + 20] = bytes(20)
    return bytes(changed), 1490 if what == "smaller than it says" else 1300


def test_an_error_about_a_packet_that_we_would_not_have_sent_is_ignored(both: Lab, outer: int) -> None:
    packet = real_packet(both)
    port = header(outer) + 16 + 20

    for ignored, what in enumerate(UNTRUE, start=1):
        announce(both, *altered(packet, outer, what), outer)
        assert both.a("path_mtus") == {}, what
        assert both.a("counters")["mtu_ignored"] == ignored, what
    # The key of our hash chooses one of eight sockets for a flow: one guess in eight is right.
    guesses = [
        (packet[:port] + (40000 + number).to_bytes(2) + packet[port + 2 :], 1400 - number) for number in range(16)
    ]
    too_big.send(both.b.namespace, both.links[0].rloc("a", outer), *guesses)
    until_judged(both, len(UNTRUE) + len(guesses))

    assert both.a("counters")["mtu_ignored"] >= len(UNTRUE) + 8


def test_an_error_that_quotes_too_little_is_a_question_and_questions_are_few(both: Lab, outer: int) -> None:
    packet = real_packet(both)

    errors = [(packet[: header(outer) + 8], 1300)] * 20
    too_big.send(both.b.namespace, both.links[0].rloc("a", outer), *errors)
    until_judged(both, len(errors))

    counters = both.a("counters")
    assert both.a("path_mtus") == {}
    assert 1 <= counters["mtu_unproven"] <= 15
    assert counters["mtu_unproven"] + counters.get("mtu_ignored", 0) == 20
    assert any("source='unproven'" in told for told in both.a("drain"))
