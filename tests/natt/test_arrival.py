"""Control messages in data: which of them concern the path that they came by, and not a mapping."""

from __future__ import annotations

import pytest

from lispmob.natt.arrival import DataControl
from lispmob.wire.header import DATA_PORT, MessageType
from tests.control.support import ip

INNER, OUTER, OWN = ip("192.168.1.2"), ip("198.51.100.9"), ip("192.0.2.1")


def arrival(payload: bytes, port: int) -> DataControl:
    return DataControl(payload, INNER, port, OWN, 4342, OUTER, 4341, OWN, 2)


@pytest.mark.parametrize(
    ("kind", "port", "is_about_ways"),
    [
        (MessageType.INFO, 4342, True),
        (MessageType.INFO, DATA_PORT, True),
        (MessageType.MAP_REQUEST, DATA_PORT, True),
        (MessageType.MAP_REQUEST, 4342, False),
        (MessageType.MAP_NOTIFY, 4342, False),
        (None, 4342, False),
        (None, DATA_PORT, True),
    ],
)
def test_an_info_message_is_about_ways_and_so_is_what_wants_its_answer_the_same_way(
    kind: MessageType | None, port: int, is_about_ways: bool
) -> None:
    payload = b"" if kind is None else bytes([kind << 4]) + bytes(11)

    assert arrival(payload, port).is_about_ways is is_about_ways


def test_for_all_others_it_is_a_datagram_of_the_inner_sender() -> None:
    datagram = arrival(b"\x10", 4000).as_datagram()

    assert (datagram.source, datagram.source_port, datagram.destination) == (INNER, 4000, OWN)
    assert (datagram.payload, datagram.ifindex, datagram.in_data) == (b"\x10", 2, True)
