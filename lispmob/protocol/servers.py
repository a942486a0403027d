"""The configuration of a node's Map-Servers and Map-Resolvers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from lispmob.wire.address import IpAddress
from lispmob.wire.auth import Key

LispSecMode: TypeAlias = Literal["off", "prefer", "require"]


@dataclass(frozen=True, slots=True)
class ResolverSecret:
    """The secret that a Map-Resolver and this node share, for wrapping One-Time-Keys (RFC 9303, 6.5)."""

    octets: bytes = dataclasses.field(repr=False)
    key_id: int = 0


class MapServerPeer(msgspec.Struct, frozen=True):
    """A Map-Server to register with. `sends_xtr_id`: add our xTR-ID (some servers accept it only behind a NAT).

    `has_lisp_sec`: announce in each Map-Register that we sign Map-Replies on request (RFC 9303, 6.8).
    """

    address: IpAddress
    key: Key
    proxy_map_reply: bool = True
    sends_xtr_id: bool = False
    has_lisp_sec: bool = False
