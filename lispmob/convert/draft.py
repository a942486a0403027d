"""An old configuration of a mobile node as values, before it is written as lispd.conf."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork

UNUSED: Final = 255
"""Announced, but not used by other nodes (RFC 9301)."""


@dataclass(frozen=True, slots=True)
class Rank:
    """Priority and weight of an interface."""

    priority: int = 1
    weight: int = 100
    families: tuple[tuple[int, int, int], ...] = dataclasses.field(default=(), compare=False)
    """(family, priority, weight), if the families of an interface have ranks of their own."""


class Server(msgspec.Struct, frozen=True):
    """A Map-Server. `key_file` is the value of `key-file`."""

    address: IpAddress
    key_file: str
    algorithm: str
    proxy_reply: bool
    line: int


class Remote(msgspec.Struct, frozen=True):
    """A locator of another site."""

    address: IpAddress
    rank: Rank


class NodeDraft(msgspec.Struct):
    """The contents of the future lispd.conf.

    `ranks` has the interfaces of each EID; `interfaces` those of EIDs that name no interface. `uses_only_named`: the
    old program did not use any other interface. `overlay_prefixes` empty: all traffic goes into the overlay.
    """

    eids: dict[EidPrefix, dict[str, Rank]] = msgspec.field(default_factory=dict)
    interfaces: dict[str, Rank] = msgspec.field(default_factory=dict)
    uses_only_named: bool = True
    servers: list[Server] = msgspec.field(default_factory=list)
    resolvers: list[IpAddress] = msgspec.field(default_factory=list)
    proxy_etrs: list[Remote] = msgspec.field(default_factory=list)
    proxy_itrs: list[IpAddress] = msgspec.field(default_factory=list)
    statics: dict[EidPrefix, list[Remote]] = msgspec.field(default_factory=dict)
    overlay_prefixes: list[IpNetwork] = msgspec.field(default_factory=list)
    register: dict[str, str] = msgspec.field(default_factory=dict)
    ttl_min: int | None = None
    probing: dict[str, str] = msgspec.field(default_factory=dict)
    natt_mode: str | None = None
    log_level: str | None = None

    def add_rank(self, eid: EidPrefix, interface: str, rank: Rank) -> None:
        """Record that the EID is reached by this interface."""
        self.eids.setdefault(eid, {})[interface] = rank

    def general_ranks(self) -> dict[str, Rank]:
        """The usual rank of each interface: that of the first EID that names it."""
        found = dict(self.interfaces)
        for ranks in self.eids.values():
            for interface, rank in ranks.items():
                found.setdefault(interface, rank)
        return found

    def differences(self, eid: EidPrefix, general: Mapping[str, Rank]) -> dict[str, Rank]:
        """The interfaces whose rank for this EID is not the usual one.

        An interface that the EID does not name is unused.
        """
        own = self.eids[eid]
        if not own:
            return {}
        return {
            interface: own.get(interface, Rank(UNUSED, 0))
            for interface, rank in general.items()
            if own.get(interface, Rank(UNUSED, 0)) != rank
        }
