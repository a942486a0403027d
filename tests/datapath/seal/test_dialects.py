"""Packets of RFC 8061 and of lispers.net without sockets: octets that other code computed, windows, malformed ones."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest

from lispmob.datapath import _lispdp, marshal, sealing
from lispmob.datapath.dialects import DialectKey, DialectName
from tests.datapath.seal.sealed import Verdict
from tests.datapath.seal.test_sealed import INNER

pytestmark = pytest.mark.skipif(not sealing.can_seal(), reason="this build has no libcrypto")

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib

START = 0x000102030405060708090A0B0C0D0E0F
LISPERS = {"key": "3035ead211c24e9729286c09181ae43d", "integrity": "6e9106c649706da447cf00c38f851da8"}
RFC8061 = {"key": "cbaab036ed14463fb38d913edd50409c", "integrity": "00" * 16}
HEADER = {"rfc8061": "0000000000000000", "lispers-net-2": "80a1b2c300000000", "lispers-net-5": "80a1b2c300000000"}
SEALED: dict[DialectName, str] = {
    "rfc8061": (
        "0100000000000000000000000000000000000001c7ed14978bd3f44311dd7257cef801f1cab0d38bc37345ea6b64466bc91572b9ef13ba84"
        "c588da53fb11cbbb137236c8ce1c62d9"
    ),
    "lispers-net-2": (
        "81a1b2c30000000007060504030201000f0e0d0c0b0a0908033f6a3c6e5f2e8349e47a65c5b8a3ceb7277fdf75f0ea2f7cb67b275bde5193"
        "8067e0d2e7c66b5cc582142643f6a5a3b0f8195bf6821b73076d2ab79306c71db50ab09d"
    ),
    "lispers-net-5": (
        "81a1b2c300000000070605040f0e0d0c0b0a0908385a04b07478d7c115fb2bc7f0c8b490c3c234e873ef50539fef8146463c9e041627b9f5"
        "2bad893841dafbe093f7bfefc717618a49f7f82f9a5cc5ff6292ee4add4b40ffcf8aad0cbe5ec017f751763e58425040"
    ),
}
NAMES = tuple(SEALED)


class Dialect:
    """A key in one direction."""

    def __init__(self, name: DialectName, *, seals: bool, start: int = START, key_id: int = 1) -> None:
        octets = {what: bytes.fromhex(text) for what, text in (RFC8061 if name == "rfc8061" else LISPERS).items()}
        self.name = name
        wanted = DialectKey(IPv4Address("203.0.113.5"), name, key_id, seals, start=start, **octets)
        self._c = ffi.gc(lib.lm_dialect_session(marshal.dialect_key(wanted)), lib.lm_session_free)
        assert self._c != ffi.NULL

    def seal(self, counter: int, *parts: bytes, header: str | None = None) -> bytes:
        begun = bytes.fromhex(HEADER[self.name] if header is None else header)
        out = ffi.new("uint8_t[]", begun.ljust(len(begun) + sum(map(len, parts)) + 64, b"\0"))
        kept = [ffi.new("uint8_t[]", part) for part in parts]
        vectors = ffi.new("struct iovec[]", [(part, len(text)) for part, text in zip(kept, parts, strict=True)])
        octets = lib.lm_dialect_seal(self._c, 0, counter, vectors, len(parts), out)
        assert octets
        return bytes(ffi.buffer(out, octets))

    def open(self, datagram: bytes) -> tuple[Verdict, bytes]:
        buffer = ffi.new("uint8_t[]", datagram)
        head, why = ffi.new("size_t *"), ffi.new("enum lm_session_verdict *")
        octets = lib.lm_dialect_open_one(self._c, 0, buffer, len(datagram), head, why)
        return Verdict(int(why[0])), bytes(ffi.buffer(buffer))[head[0] : head[0] + octets]


def first(name: DialectName) -> int:
    """The counter of the first packet: RFC 8061 counts from 1."""
    return 1 if name == "rfc8061" else 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [36, 0, 1, 16, 20])
def test_a_packet_is_octet_for_octet_the_one_computed_elsewhere(name: DialectName, cut: int) -> None:
    sender = Dialect(name, seals=True)

    assert sender.seal(first(name), INNER[:cut], INNER[cut:]).hex() == SEALED[name]


@pytest.mark.parametrize("name", NAMES)
def test_what_others_have_encrypted_opens(name: DialectName) -> None:
    verdict, inner = Dialect(name, seals=False).open(bytes.fromhex(SEALED[name]))

    assert (verdict, inner[: len(INNER)]) == (Verdict.OPENED, INNER)
    assert inner[len(INNER) :] == b" " * (0 if name == "rfc8061" else 12)


def test_rfc_8061_beside_an_instance_id_is_the_one_computed_elsewhere() -> None:
    sealed = Dialect("rfc8061", seals=True).seal(2, INNER, header="0800000000123400")

    assert sealed.hex() == (
        "0900000000123400000000000000000000000002ad102eb6a93d8340218d74ba047c74e5b79fc57e09ee0674ce5ecafb03ff1c7b42cb779b"
        "6573b889b96de3c5f198055b98121f48"
    )


@pytest.mark.parametrize("name", NAMES)
def test_no_changed_octet_opens_and_the_packet_itself_still_does(name: DialectName) -> None:
    receiver, packet = Dialect(name, seals=False), bytes.fromhex(SEALED[name])
    for place in range(len(packet)):
        changed = bytearray(packet)
        changed[place] ^= 1
        assert receiver.open(bytes(changed))[0] is not Verdict.OPENED, place

    assert receiver.open(packet)[0] is Verdict.OPENED


@pytest.mark.parametrize("name", NAMES)
def test_no_shortened_packet_opens(name: DialectName) -> None:
    receiver, packet = Dialect(name, seals=False), bytes.fromhex(SEALED[name])

    assert Verdict.OPENED not in {receiver.open(packet[:length])[0] for length in range(20, len(packet))}


@pytest.mark.parametrize("name", NAMES)
def test_a_packet_opens_once_in_whatever_order_they_come(name: DialectName) -> None:
    sender, receiver = Dialect(name, seals=True), Dialect(name, seals=False)
    packets = [sender.seal(first(name) + at, INNER) for at in range(50)]

    assert {receiver.open(packet)[0] for packet in reversed(packets)} == {Verdict.OPENED}
    assert {receiver.open(packet)[0] for packet in packets} == {Verdict.REPLAY}


@pytest.mark.parametrize("name", ["lispers-net-2", "lispers-net-5"])
@pytest.mark.parametrize("start", [(1 << 64) - 3, (1 << 96) - 3, (1 << 128) - 3, 0])
def test_the_iv_of_lispers_net_goes_around_and_the_window_with_it(name: DialectName, start: int) -> None:
    sender, receiver = Dialect(name, seals=True, start=start), Dialect(name, seals=False)
    packets = [sender.seal(at, INNER) for at in range(8)]

    assert [receiver.open(packet)[0] for packet in packets] == [Verdict.OPENED] * 8
    assert receiver.open(packets[0])[0] is Verdict.REPLAY


@pytest.mark.parametrize("name", NAMES)
def test_the_window_has_8192_packets(name: DialectName) -> None:
    sender, receiver = Dialect(name, seals=True), Dialect(name, seals=False)
    early, edge = sender.seal(first(name), INNER), sender.seal(first(name) + 1, INNER)

    assert receiver.open(sender.seal(first(name) + 8192, INNER))[0] is Verdict.OPENED
    assert receiver.open(early)[0] is Verdict.REPLAY
    assert receiver.open(edge)[0] is Verdict.OPENED


@pytest.mark.parametrize("length", [20, 47, 48, 49, 64, 1400])
@pytest.mark.parametrize("name", NAMES)
def test_packets_of_any_length_come_out_as_they_went_in(name: DialectName, length: int) -> None:
    sender, receiver, text = Dialect(name, seals=True), Dialect(name, seals=False), bytes(range(256)) * 6
    sealed = sender.seal(first(name), text[:length])

    verdict, inner = receiver.open(sealed)

    assert (verdict, inner[:length]) == (Verdict.OPENED, text[:length])
    assert len(sealed) <= 8 + length + 64


@pytest.mark.parametrize("key_id", [1, 2, 3])
def test_the_key_id_stands_in_the_header(key_id: int) -> None:
    assert Dialect("rfc8061", seals=True, key_id=key_id).seal(1, INNER)[0] == key_id


@pytest.mark.parametrize(
    "wrong", [{"key_id": 0}, {"key_id": 4}, {"key": bytes(15)}, {"integrity": bytes(20)}, {"start": 1 << 128}]
)
def test_a_key_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"key_id": 1, "seals": True, "key": bytes(16)}

    with pytest.raises(ValueError, match=r"key|start"):
        DialectKey(IPv4Address("203.0.113.5"), "rfc8061", **(right | wrong))
