"""Requests and replies of the control socket about peers and names. The rest is in schema.py."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lispmob.api.sealing.schema import Seal

Way: TypeAlias = Literal["direct", "rtr", "past-rtr", "none"]
"""How packets go: to the peer's locator; through an RTR, ours or the peer's; past our RTR; nowhere at the moment."""


MappingFrom: TypeAlias = Literal["map-reply", "published", "announced", "static", "program"]
"""The source of a peer's mapping: a Map-Reply, a publication of the Map-Server (RFC 9437), an announcement of the peer
in its sealed session, the configuration or `lispctl map add`, or a program on this host.
"""


class PeersParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`peer`: the one of this name or EID, whether packets went there before or not; without it, all."""

    peer: str | None = None


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer with traffic. Times are seconds before now; unknown values are null.

    `uplink`, `local`, `remote`, `rtr`: how a packet without a steering rule is sent now. `back_...`: from where and by
    which uplink data came last, `heard_s` ago; the peer chooses that, so it may be another way. `packets_out`,
    `octets_out`: inner packets to `remote`, or to the RTR; `packets_in`, `octets_in`: those from there. Peers behind
    one RTR share them. `mapping_from`: who said last where it is, and `map_version` (RFC 9302, 0: none) of which
    mapping. `rtt_ms` and `loss` are what probes of this pair of locators found.
    """

    eid: str
    way: Way
    why: str | None = None
    name: str | None = None
    uplink: str | None = None
    local: str | None = None
    remote: str | None = None
    rtr: str | None = None
    is_reachable: bool = True
    rtt_ms: float | None = None
    loss: float | None = None
    heard_s: float | None = None
    back_uplink: str | None = None
    back_local: str | None = None
    back_remote: str | None = None
    used_s: float | None = None
    packets_out: int | None = None
    octets_out: int | None = None
    packets_in: int | None = None
    octets_in: int | None = None
    mtu_bytes: int | None = None
    is_genuine: bool = False
    mapping_from: MappingFrom | None = None
    map_version: int = 0
    seal: Seal | None = None  # how packets to it leave; None: none leave for it


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """`entries` one by one, and how many names are just being looked up: they may be known a moment later."""

    entries: list[Peer]
    names_asked: int = 0


class NameParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A name, with or without our domain, or an EID."""

    name: str


class KnownName(msgspec.Struct, frozen=True, kw_only=True):
    """A name with its EIDs; a reverse name with its names. `ttl_s` None: it must be looked up again.

    `is_answered` False: no answer came, so the name may or may not exist.
    """

    name: str
    eids: list[str] = []
    names: list[str] = []
    why: str = ""
    is_answered: bool = True
    ttl_s: float | None = None


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """The domain, the addresses that serve it, and the resolver of this host that uses them.

    `resolver`: "systemd-resolved", "NetworkManager's dnsmasq", "dnsmasq", "/etc/resolv.conf", or null if none was
    configured; `advice`: what to do about that, or about `problem`.
    """

    domain: str
    addresses: list[str]
    port: int
    resolver: str | None = None
    problem: str | None = None
    advice: str | None = None
    counters: dict[str, int] = {}
    entries: list[KnownName] = []
