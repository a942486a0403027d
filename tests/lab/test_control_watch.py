"""The watch on control messages: the kinds that it names, and that it sees them on the link."""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.lab.control_watch import ControlWatch, classify
from lispmob.lab.namespace import Namespace


def ipv4(payload: bytes, port: int = 4342, protocol: int = 17) -> bytes:
    udp = struct.pack("!HHHH", 40_000, port, 8 + len(payload), 0) + payload
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, protocol, 0, bytes(4), bytes(4)) + udp


def ipv6(payload: bytes) -> bytes:
    udp = struct.pack("!HHHH", 4342, 40_000, 8 + len(payload), 0) + payload
    return struct.pack("!IHBB16s16s", 6 << 28, len(udp), 17, 64, bytes(16), bytes(16)) + udp


@pytest.mark.parametrize("wrap", [ipv4, ipv6])
@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x10\x00", "map-request"),
        (b"\x11\x00", "smr"),
        (b"\x12\x00", "rloc-probe"),
        (b"\x10\x40", "smr-invoked map-request"),
        (b"\x20\x00", "map-reply"),
        (b"\x38\x05", "map-register"),
        (b"\x40\x00", "map-notify"),
        (b"\x80\0\0\0" + ipv4(b"\x10\x00"), "encapsulated map-request"),
        (b"\x80\0\0\0" + ipv6(b"\x10\x40"), "encapsulated smr-invoked map-request"),
        (b"\xf0", None),
    ],
)
def test_a_message_is_called_by_its_type(wrap: object, start: bytes, name: str | None) -> None:
    assert callable(wrap)
    assert classify(wrap(start)) == name


def test_other_traffic_has_no_name() -> None:
    assert classify(ipv4(b"\x10\x00", port=53)) is None
    assert classify(ipv4(b"\x10\x00", protocol=6)) is None


@given(st.binary(max_size=120))
def test_any_octets_have_a_name_or_none(octets: bytes) -> None:
    assert classify(octets) is None or isinstance(classify(octets), str)


@given(st.binary(max_size=80))
def test_any_message_in_a_datagram_has_a_name_or_none(octets: bytes) -> None:
    assert classify(ipv4(octets)) is None or isinstance(classify(ipv4(octets)), str)


@pytest.mark.netns
def test_messages_of_an_ignored_sender_are_not_noted(namespace: Namespace) -> None:
    register = b"\x38\x05" + bytes(20)
    with ControlWatch({"host": namespace}) as watch, namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        with watch.ignoring(IPv4Address("127.0.0.1")):
            mouth.sendto(register, ("127.0.0.1", 4342))
            mouth.sendto(register, ("127.0.0.2", 4342))  # also from 127.0.0.1
            with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.3", 0))
                other.sendto(register, ("127.0.0.1", 4342))
        with namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
            other.sendto(register, ("::1", 4342))
        mouth.sendto(register, ("127.0.0.4", 4342))
        deadline = time.monotonic() + 2
        while len(watch.messages()) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = [message.peer for message in watch.messages() if not message.is_out]

    assert sorted(seen) == ["127.0.0.1", "127.0.0.3", "::1"]


@pytest.mark.netns
@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_message_on_the_wire_is_noted_in_both_directions(namespace: Namespace, family: int, address: str) -> None:
    with ControlWatch({"host": namespace}) as watch, namespace.socket(family, socket.SOCK_DGRAM) as mouth:
        before = time.monotonic()
        mouth.sendto(b"\x38\x05" + bytes(20), (address, 4342))
        mouth.sendto(b"\x38\x05" + bytes(20), (address, 9999))
        deadline = time.monotonic() + 2
        while len(watch.messages()) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = watch.messages()

    # Over `lo` the same datagram leaves and arrives.
    assert sorted((m.kind, m.is_out, m.peer) for m in seen) == [
        ("map-register", False, address),
        ("map-register", True, address),
    ]
    assert all(before - 0.01 <= message.at <= time.monotonic() for message in seen)
