"""Netlink messages as octets."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from lispmob.netlink.message import HEADER, REQUEST, RTM_NEWROUTE, Raw, attributes, messages, put, put_u32, request

ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8)


def test_a_datagram_of_several_messages_is_taken_apart() -> None:
    one = struct.pack("=IHHII", 20, RTM_NEWROUTE, 0, 1, 4711) + b"abcd"

    assert [message.data for message in messages(one + one)] == [one, one]
    assert [(message.type, message.body, message.port) for message in messages(one)] == [(RTM_NEWROUTE, b"abcd", 4711)]


def test_a_truncated_tail_is_left_out() -> None:
    one = request(RTM_NEWROUTE, 0, bytes(12))

    assert len(list(messages(one + one[:20]))) == 1


@given(st.binary(max_size=200))
def test_any_octets_are_taken_apart_to_an_end(data: bytes) -> None:
    assert sum(len(message.data) for message in messages(data)) <= len(data)
    assert all(len(value) <= len(data) for _, value in attributes(data))


@given(ATTRIBUTES)
def test_attributes_are_read_as_they_were_put(wanted: list[tuple[int, bytes]]) -> None:
    octets = b"".join(put(kind, value) for kind, value in wanted)

    assert list(attributes(octets)) == wanted
    assert len(octets) % 4 == 0


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=60))
def test_a_request_reads_as_itself(kind: int, flags: int, body: bytes) -> None:
    (message,) = messages(request(kind, flags, body))

    assert message == Raw(kind, flags | REQUEST, message.data)
    assert message.body == body
    assert HEADER.unpack_from(message.data)[0] == len(message.data)


def test_a_number_is_an_attribute_in_the_order_of_the_host() -> None:
    ((kind, value),) = attributes(put_u32(7, 258))

    assert (kind, struct.unpack("=I", value)[0]) == (7, 258)
