"""Where fuzzing starts from: every payload of the captures, and every packet of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from lispmob.errors import MalformedMessage
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ip_udp import parse_ip_udp
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
    ports = ((one.payload, (one.source_port, one.destination_port)) for one in found)
    return list(dict.fromkeys(payload for payload, pair in ports if DATA_PORT in pair))


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
    for kind, payloads in (("control", control_payloads()), ("data", data_payloads())):
        place = directory / kind
        place.mkdir(parents=True, exist_ok=True)
        for number, payload in enumerate(payloads):
            (place / f"{number:04}").write_bytes(payload)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
