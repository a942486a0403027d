"""Requests, replies and events of the control socket about mappings: what OpenLISP's mapping sockets had.

Every user may query and follow; root and the control group may change. `errno` of a failure is "EEXIST" for a mapping
that exists, "ESRCH" for one that does not, "EINVAL" for an invalid one, "ENOBUFS" when there is no room.

    -> {"v":1,"id":1,"method":"mapping-events","params":{"kinds":[],"dump":true,"echo":true}}
    <- {"v":1,"id":1,"result":{"entries":[...],"is_following":true}}
    <- {"v":1,"mapping":{"type":"miss","at":"2026-01-31T12:00:00.123Z","eid":"192.0.2.7","why":"miss","tries":1}}
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from lispmob.api.schema import RemoteLocator

Table: TypeAlias = Literal["cache", "database"]
MappingKind: TypeAlias = Literal["miss", "badreach", "reach", "add", "delete", "change", "lost"]
FOLLOWED: Final = ("miss", "badreach", "reach", "add", "delete", "change")


class MappingLocator(msgspec.Struct, frozen=True, kw_only=True):
    """An RLOC. `is_local`: an address of this node. `is_reachable` False: it does not answer, or was marked so."""

    address: str
    priority: int
    weight: int
    is_reachable: bool = True
    is_local: bool = False


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the map-cache, or of the database (our own mappings).

    `source`: "configuration" or "static" (from the user, in lispd.conf or later), "program", "reply" (of the mapping
    system), "placeholder" (no answer). `action`: what happens to packets without locators.
    """

    table: Table
    prefix: str
    source: str
    action: str
    locators: list[MappingLocator] = []
    expires_in_s: float | None = None


class MapstatLocator(msgspec.Struct, frozen=True, kw_only=True):
    """An RLOC. `flags`: R reachable, i an address of this host. `chosen`: packets that left for it; None: our own."""

    address: str
    priority: int
    weight: int
    flags: str
    mtu_bytes: int | None = None
    chosen: int | None = None


class MapstatEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A mapping. `flags`: U usable, L one of our own, S static.

    `refs`: of the cache 1 while packets use it, and 1 for each open question about it; of our own the Map-Servers that
    hold it.
    """

    table: Table
    prefix: str
    flags: str
    refs: int
    locators: list[MapstatLocator] = []


class MappingEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened. Fields by `type`:

    miss: `eid` has no mapping that is trusted; `why` is "miss" (a packet waits), "refresh", "smr" or "doubt"; `tries`
    counts the repetitions; `source_eid` has packets for it. badreach, reach: `rloc` answers no more, or again.
    add, change: `mapping` as it is now; delete: as it was, and `why`. What a client changed has its `pid`, and the id
    of its `request`. lost: `count` events came that this reader had no room for; a dump tells how things are.
    """

    type: MappingKind
    at: str
    mapping: Mapping | None = None
    eid: str | None = None
    instance_id: int = 0
    source_eid: str | None = None
    rloc: str | None = None
    why: str | None = None
    tries: int = 0
    count: int = 0
    pid: int = 0
    request: int | None = None


class MappingLine(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    v: int
    mapping: MappingEvent


class MappingDone(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a change. `left_out`: RLOCs of a local mapping that are not our addresses."""

    count: int
    mapping: Mapping | None = None
    left_out: list[str] = []


class MappingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For mapping-add and mapping-change.

    `is_static` False: from a program: it may be evicted when unused, and is requested again after `ttl_s`. `replaces`:
    an existing mapping of any kind. `check_only`: change nothing, and answer as if.
    """

    prefix: str
    locators: list[RemoteLocator] = []
    action: Literal["drop", "native"] = "drop"
    table: Table = "cache"
    is_static: bool = True
    ttl_s: float | None = None
    replaces: bool = False
    check_only: bool = False


class MappingDeleteParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For mapping-delete; `prefix` exactly."""

    prefix: str
    table: Table = "cache"
    check_only: bool = False


class MappingGetParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For mapping-get: the mapping with the longest prefix that holds all of `eid`, an address or a prefix."""

    eid: str


class MappingFlushParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For mapping-flush. cache: learned mappings; database: added local ones; all: both and the static ones."""

    table: Literal["cache", "database", "all"] = "cache"


class MappingEventsParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kinds` empty: all. `dump`: every mapping first. `echo` False: not what this connection changes itself."""

    kinds: list[str] = []
    dump: bool = False
    echo: bool = True
