"""Reads the types of a BPF object: the section .BTF of an ELF file (the kernel's Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_MEMBER: Final = struct.Struct("<III")
_STRUCT: Final = 4
# Octets that follow a type, by its kind: a fixed number, and more for each member that the head counts.
_TAIL: Final = {
    1: (4, 0),
    3: (12, 0),
    4: (0, 12),
    5: (0, 12),
    6: (0, 8),
    13: (0, 8),
    14: (4, 0),
    15: (0, 12),
    19: (0, 12),
}
_TAIL_DECL_TAG: Final = {17: (4, 0)}


class Layout(NamedTuple):
    """The size of a struct, and the offsets of its members, in octets."""

    size: int
    offsets: dict[str, int]


def section(elf: bytes, name: str) -> bytes:
    """The contents of one section of a little-endian 64-bit ELF file; KeyError when there is none."""
    at, (size, count, names) = struct.unpack_from("<Q", elf, 40)[0], struct.unpack_from("<HHH", elf, 58)
    heads = [struct.unpack_from("<IIQQQQ", elf, at + index * size) for index in range(count)]
    texts = heads[names]
    for head in heads:
        start = texts[4] + head[0]
        if elf[start : elf.index(b"\0", start)].decode() == name:
            return elf[head[4] : head[4] + head[5]]
    raise KeyError(name)


def structs(path: Path) -> dict[str, Layout]:
    """Every named struct that the object's maps and functions use."""
    data = section(path.read_bytes(), ".BTF")
    _, _, _, head, type_at, type_size, text_at, _ = _HEADER.unpack_from(data)
    texts, found, at = head + text_at, {}, head + type_at

    def text(offset: int) -> str:
        start = texts + offset
        return data[start : data.index(b"\0", start)].decode()

    while at < head + type_at + type_size:
        name, info, size = _TYPE.unpack_from(data, at)
        kind, count = info >> 24 & 31, info & 0xFFFF
        at += _TYPE.size
        if kind == _STRUCT and name:
            members = (_MEMBER.unpack_from(data, at + index * _MEMBER.size) for index in range(count))
            found[text(name)] = Layout(size, {text(member): (bits & 0xFFFFFF) // 8 for member, _, bits in members})
        fixed, each = {**_TAIL, **_TAIL_DECL_TAG}.get(kind, (0, 0))
        at += fixed + each * count
    return found
