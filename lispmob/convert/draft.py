"""What an old file says of a mobile node, in our terms, before it is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork

UNUSED: Final = 255
"""Announced, and nobody sends there (RFC 9301)."""


@dataclass(frozen=True, slots=True)
class Rank:
    """What an interface counts."""

    priority: int = 1
    weight: int = 100
    families: tuple[tuple[int, int, int], ...] = dataclasses.field(default=(), compare=False)
    """(family, priority, weight) where the families of an interface have ranks of their own."""


class Server(msgspec.Struct, frozen=True):
    """A Map-Server. `key_file` is what is written after `key-file:`."""

    address: IpAddress
    key_file: str
    algorithm: str
    proxy_reply: bool
    line: int


class Remote(msgspec.Struct, frozen=True):
    """A locator of somebody else."""

    address: IpAddress
    rank: Rank


class NodeDraft(msgspec.Struct):
    """lispd.conf to be.

    `ranks` has the interfaces of each EID; `interfaces` those that count for EIDs which name none. `uses_only_named`:
    the old program left all other interfaces alone. `overlay_prefixes` empty: everything goes into the overlay.
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
        """The EID is reached by this interface."""
        self.eids.setdefault(eid, {})[interface] = rank

    def general_ranks(self) -> dict[str, Rank]:
        """What each interface counts as a rule: what the first EID that names it says."""
        found = dict(self.interfaces)
        for ranks in self.eids.values():
            for interface, rank in ranks.items():
                found.setdefault(interface, rank)
        return found

    def differences(self, eid: EidPrefix, general: Mapping[str, Rank]) -> dict[str, Rank]:
        """The interfaces that count something else for this EID than as a rule; one that it does not name is unused."""
        own = self.eids[eid]
        if not own:
            return {}
        return {
            interface: own.get(interface, Rank(UNUSED, 0))
            for interface, rank in general.items()
            if own.get(interface, Rank(UNUSED, 0)) != rank
        }
