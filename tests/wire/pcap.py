"""Classic pcap files with LINKTYPE_RAW: records that begin with an IP header."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

LINKTYPE_RAW = 101
_FILE_HEADER = struct.Struct("<IHHIIII")
_RECORD_HEADER = struct.Struct("<IIII")


def read_pcap(path: Path) -> Iterator[bytes]:
    """The IP packets of a little-endian capture."""
    data = path.read_bytes()
    magic, *_, linktype = _FILE_HEADER.unpack_from(data)
    assert (magic, linktype) == (0xA1B2C3D4, LINKTYPE_RAW), path
    at = _FILE_HEADER.size
    while at < len(data):
        length = _RECORD_HEADER.unpack_from(data, at)[2]
        at += _RECORD_HEADER.size
        yield data[at : at + length]
        at += length


def write_pcap(path: Path, packets: Iterable[bytes]) -> None:
    """Write a capture of IP packets, one second apart."""
    with path.open("wb") as file:
        file.write(_FILE_HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW))
        for second, packet in enumerate(packets):
            file.write(_RECORD_HEADER.pack(second, 0, len(packet), len(packet)) + packet)
