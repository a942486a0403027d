"""Where fuzzing starts from: every payload of the captures, and every packet of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.flow.auth import FlowKey, Way, sign
from lispmob.flow.message import ANSWERED, Kind, Message, encode
from lispmob.flow.quality import FlowClass, Quality
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ip_udp import parse_ip_udp
from tests.fuzz.targets import TARGETS
from tests.wire.pcap import read_pcap

CAPTURES = Path(__file__).resolve().parent.parent / "captures"
DATA_PORT = 4341


def control_payloads() -> list[bytes]:
    """The control messages of all captures, those inside of data packets too; each once."""
    found: dict[bytes, None] = {}
    for packet in _packets():
        datagram = parse_ip_udp(packet)
        found[datagram.payload] = None
        if DATA_PORT not in (datagram.source_port, datagram.destination_port):
            continue
        try:
            found[parse_ip_udp(split_data_packet(datagram.payload)[1]).payload] = None
        except MalformedMessage:
            continue
    return list(found)


def data_payloads() -> list[bytes]:
    """What came to the data port in the captures: LISP headers with packets behind them; each once."""
    found = (parse_ip_udp(packet) for packet in _packets())
    ports = ((packet.payload, (packet.source_port, packet.destination_port)) for packet in found)
    return list(dict.fromkeys(payload for payload, pair in ports if DATA_PORT in pair))


def flow_payloads() -> list[bytes]:
    """Messages of flows of every kind, plain and with all that they may hold, and a request of version 0."""
    nonces = b"\x11" * 8, b"\xa1" * 8
    bare = [Message(kind, *nonces, name="backup.nas", flow_port=40001) for kind in Kind]
    full = [
        replace(
            message, lifetime_s=600, quality=Quality(FlowClass.VOICE, 1, 50, 100, 64), reason_code=1, reason_text="no",
            caller="me", cookie=b"\x0f" * 8,
        )
        for message in bare
    ]  # fmt: skip
    replies = [replace(message, is_reply=True) for message in bare if message.kind in ANSWERED]
    way = Way(ip_address("10.99.0.1"), 50000, ip_address("10.99.0.2"), 3359)
    octets = [encode(reply) for reply in (*bare, *full, *replies)]
    return [*octets, *(sign(octet, way, FlowKey(1, b"correct horse battery")) for octet in octets), b"backup.nas\0"]


def _packets() -> Iterator[bytes]:
    for path in sorted(CAPTURES.glob("*.pcap")):
        for packet in read_pcap(path):
            try:
                parse_ip_udp(packet)
            except MalformedMessage:
                continue
            yield packet


def write(directory: Path) -> None:
    """Lay the corpus out as libFuzzer and Atheris want it: a file for each input."""
    flows = [bytes([place]) + payload for place in _flow_targets() for payload in flow_payloads()]
    for kind, payloads in (("control", [*control_payloads(), *flows]), ("data", data_payloads())):
        place = directory / kind
        place.mkdir(parents=True, exist_ok=True)
        for number, payload in enumerate(payloads):
            (place / f"{number:04}").write_bytes(payload)


def _flow_targets() -> list[int]:
    """What the first octet has to be, so that the rest goes to a decoder of flows."""
    return [place for place, name in enumerate(TARGETS) if name.startswith("flow-")]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
