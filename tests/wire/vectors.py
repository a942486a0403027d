"""The test vectors, read from tests/vectors."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lispmob.wire.auth import Algorithm, Key

DIRECTORY: Final = Path(__file__).parent.parent / "vectors"
SECRET: Final = b"lisp-test-key"


@dataclass(frozen=True)
class Vector:
    """A message, a data packet or an address field, and the listing of its fields: offset, octets, meaning."""

    name: str
    kind: str
    octets: bytes
    listing: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class Malformed:
    """Octets that a receiver must refuse, and what refuses them."""

    name: str
    kind: str
    octets: bytes
    counter: str | None
    is_refused_by_verify: bool


@dataclass(frozen=True)
class Mac:
    """The authentication of a vector."""

    name: str
    key: Key
    derived_key: bytes | None
    mac: bytes


def load(file: str) -> dict[str, Any]:
    return tomllib.loads((DIRECTORY / f"{file}.toml").read_text())


def octets_of(entry: dict[str, Any]) -> bytes:
    return bytes.fromhex(entry["hex"])


def _mac(entry: dict[str, Any], key_ids: dict[str, int]) -> Mac:
    algorithm = Algorithm(entry["algorithm"])
    is_truncated = entry["octets"] in (12, 16)
    derived = entry.get("derived_key")
    return Mac(
        entry["name"],
        Key(SECRET, key_ids[entry["name"]], algorithm, is_truncated),
        bytes.fromhex(derived) if derived else None,
        bytes.fromhex(entry["mac"]),
    )


VECTORS: Final = {
    entry["name"]: Vector(entry["name"], entry["kind"], octets_of(entry), tuple(map(tuple, entry["fields"])))
    for entry in load("messages")["vector"]
}
CONTROL: Final = {name: v.octets for name, v in VECTORS.items() if v.kind == "control"}
DATA: Final = {name: v.octets for name, v in VECTORS.items() if v.kind == "data"}
ADDRESSES: Final = {name: v.octets for name, v in VECTORS.items() if v.kind == "address"}
LISP_SEC: Final = {entry["name"]: octets_of(entry) for entry in load("lisp_sec")["vector"]}
PACKETS: Final = {entry["name"]: octets_of(entry) for entry in load("ip_packets")["packet"]}
MALFORMED: Final = {
    entry["name"]: Malformed(
        entry["name"], entry["kind"], octets_of(entry), entry.get("counter"), entry.get("refused_by") == "verify"
    )
    for entry in load("malformed")["vector"]
}
_KEY_IDS: Final = {
    name: int(meaning.split()[2].rstrip(","))
    for name, v in VECTORS.items()
    for _, _, meaning in v.listing
    if meaning.startswith("key id")
}
MACS: Final = {entry["name"]: _mac(entry, _KEY_IDS) for entry in load("macs")["mac"]}
