"""The part of the control socket's Backend for mappings: the map-cache and our own in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from lispmob.api.backend import ApiError
from lispmob.api.mapping.backend import StaticLocator
from lispmob.api.mapping.schema import Mapping, MappingDone, MappingFlushParams, MappingLocator, MappingParams, Table
from lispmob.api.turns import Pages
from lispmob.config.values import FieldError
from lispmob.control.map_cache import MapCacheEntry, Source
from lispmob.lispd.parts import Parts
from lispmob.lispd.views.flushing import flush
from lispmob.lispd.views.in_order import in_pages
from lispmob.lispd.views.shown import Shown
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import why_no_eid
from lispmob.wire.record import Action, Locator

if TYPE_CHECKING:
    from lispmob.node.node import Node


class MappingViews:
    """Adds, changes, deletes and shows."""

    def __init__(self, parts: Shown) -> None:
        self._parts = parts

    def mapping_add(
        self, prefix: EidPrefix, locators: Sequence[StaticLocator], params: MappingParams, *, is_change: bool
    ) -> MappingDone:
        """Add a mapping, or replace one."""
        if params.table == "database":
            return self._add_own(prefix, locators, params, is_change=is_change)
        node = self._parts.node
        if any(eid.covers(prefix) for eid in self._parts.file.eids):
            what = f"{prefix} is an EID of our own: packets to it stay here; to register it: -local"
            raise ApiError("refused", what, "EINVAL")
        self._check(prefix, _known(node, prefix), params, is_change=is_change)
        if params.is_static and not node.is_static(prefix) and node.added_mappings >= node.map_cache.limit:
            what = f"{node.added_mappings} static mappings were added, and map-cache: limit allows no more"
            raise ApiError("full", what, "ENOBUFS")
        chosen = tuple(
            Locator(locator.address, locator.priority, locator.weight, is_reachable=locator.is_reachable)
            for locator in locators
        )
        action = Action.NATIVELY_FORWARD if params.action == "native" else Action.DROP
        source: Source = "static" if params.is_static else "program"
        if not params.check_only:
            now = self._parts.now()
            self._parts.perform(node.on_mapping_added(prefix, chosen, action, now, source=source, ttl_s=params.ttl_s))
        return MappingDone(count=1, mapping=mapping_of(node, prefix, source, chosen, action, params.ttl_s))

    def mapping_delete(self, prefix: EidPrefix, table: Table, *, check_only: bool) -> MappingDone:
        """Delete the mapping of exactly this prefix."""
        parts = self._parts
        if table == "database":
            former = own_mapping(parts, prefix) if prefix in parts.file.eids else None
            if former is None:
                raise ApiError("not-found", f"{prefix} is not one of our EID-Prefixes", "ESRCH")
            if prefix not in parts.local_mappings.prefixes:
                what = f"{prefix} is in lispd.conf; remove it from `eids` there, and: lispctl reload"
                raise ApiError("refused", what, "EINVAL")
            if not check_only:
                parts.local_mappings.remove(prefix)
                parts.use_local_mappings()
            return MappingDone(count=1, mapping=former)
        entry = parts.node.map_cache.get(prefix)
        if entry is None:
            raise ApiError("not-found", f"the map-cache has no entry {prefix}", "ESRCH")
        shown = cached_mapping(parts, entry)
        if not check_only:
            parts.perform(parts.node.on_mapping_deleted(prefix, parts.now()))
        return MappingDone(count=1, mapping=shown)

    def mapping_get(self, eid: EidPrefix) -> Mapping:
        """The most specific mapping that holds all of it."""
        parts = self._parts
        own = [prefix for prefix in parts.file.eids if prefix.covers(eid)]
        entry = parts.node.map_cache.lookup(eid.address, eid.instance_id)
        while entry is not None and not entry.prefix.covers(eid):
            entry = _wider(parts.node, entry.prefix)
        best = max(own, key=lambda one: one.mask_len, default=None)
        if best is not None and (entry is None or entry.prefix.mask_len <= best.mask_len):
            return own_mapping(parts, best)
        if entry is None:
            raise ApiError("not-found", f"there is no mapping for {eid}", "ESRCH")
        return cached_mapping(parts, entry)

    async def mapping_flush(self, params: MappingFlushParams) -> MappingDone:
        """Delete the learned mappings, the added local ones, or both and the added static ones."""
        parts, count = self._parts, 0
        if params.table in ("database", "all") and (own := parts.local_mappings.prefixes):
            for prefix in own:
                parts.local_mappings.remove(prefix)
            parts.use_local_mappings()
            count += len(own)
        if params.table == "database":
            return MappingDone(count=count)
        is_all, node = params.table == "all", parts.node
        count += await flush(parts, lambda entry: entry.source != "static" or (is_all and node.is_static(entry.prefix)))
        return MappingDone(count=count)

    def mapping_dump(self) -> Pages:
        """Every mapping, our own first."""
        return Pages(_pages(self._parts), {"limit": self._parts.node.map_cache.limit})

    def mapstat(self) -> Pages:
        """The same with flags, references, MTUs and how often each RLOC was chosen."""
        from lispmob.lispd.views.mapstat import pages  # loaded on request, and not at every start

        return Pages(pages(self._parts), {})

    def _add_own(
        self, prefix: EidPrefix, locators: Sequence[StaticLocator], params: MappingParams, *, is_change: bool
    ) -> MappingDone:
        parts = self._parts
        known = "configuration" if prefix in parts.file.eids else None
        self._check(prefix, known, params, is_change=is_change)
        if known is not None and prefix not in parts.local_mappings.prefixes:
            raise ApiError("refused", f"{prefix} is in lispd.conf; change it there, and: lispctl reload", "EINVAL")
        if (why := why_no_eid(prefix.network)) is not None:
            raise ApiError("params", f"{prefix} cannot be an EID-Prefix: {why} addresses are no EIDs", "EINVAL")
        ours = {address for uplink in parts.uplinks for address in uplink.addresses}
        if not any(locator.address in ours for locator in locators):
            what = f"none of the RLOCs is an address of an uplink of ours, such as {_example(ours)}"
            raise ApiError("refused", what, "EINVAL")
        left_out = [str(locator.address) for locator in locators if locator.address not in ours]
        if params.check_only:
            return MappingDone(count=1, left_out=left_out)
        former = parts.local_mappings.get(prefix)
        parts.local_mappings.add(prefix, locators, parts.uplinks)
        try:
            parts.use_local_mappings()
        except FieldError as error:
            parts.local_mappings.restore(prefix, former)
            raise ApiError("refused", str(error), "EINVAL") from None
        return MappingDone(count=1, mapping=own_mapping(parts, prefix), left_out=left_out)

    def _check(self, prefix: EidPrefix, known: str | None, params: MappingParams, *, is_change: bool) -> None:
        if is_change and known is None:
            raise ApiError("not-found", f"there is no mapping for {prefix} to change; add it", "ESRCH")
        if known is not None and not is_change and not params.replaces:
            what = f"there is a mapping for {prefix} already ({known}); change it, or delete it first"
            raise ApiError("exists", what, "EEXIST")


def _known(node: Node, prefix: EidPrefix) -> str | None:
    """The source of an existing mapping; a placeholder counts as none."""
    entry = node.map_cache.get(prefix)
    return None if entry is None or entry.source == "placeholder" else entry.source


def _example(ours: set[IpAddress]) -> str:
    return str(min(ours, key=lambda one: (one.version, int(one)))) if ours else "an uplink would have"


def _wider(node: Node, prefix: EidPrefix) -> MapCacheEntry | None:
    """The next wider entry that contains this prefix."""
    for length in range(prefix.mask_len - 1, -1, -1):
        found = node.map_cache.get(EidPrefix.make(prefix.address, length, prefix.instance_id))
        if found is not None:
            return found
    return None


def _pages(parts: Parts) -> Iterator[list[Mapping]]:
    yield [own_mapping(parts, eid) for eid in parts.file.eids]
    for entries in in_pages(parts.node.map_cache):
        yield [cached_mapping(parts, entry) for entry in entries]


def own_mapping(parts: Parts, eid: EidPrefix) -> Mapping:
    """One of our own mappings, as we register it."""
    told = [locator.announced_for(eid) for locator in parts.node.locators.locators]
    return Mapping(
        table="database",
        prefix=str(eid),
        source="static" if eid in parts.local_mappings.prefixes else "configuration",
        action="encapsulate",
        locators=[
            MappingLocator(
                address=str(locator.address),
                priority=locator.priority,
                weight=locator.weight,
                is_reachable=not parts.node.is_silent(locator.address),
                is_local=True,
            )
            for locator in told
        ],
    )


def cached_mapping(parts: Parts, entry: MapCacheEntry) -> Mapping:
    """A mapping of another site."""
    end = None if entry.expires_at is None else max(0.0, entry.expires_at - parts.now())
    return mapping_of(parts.node, entry.prefix, entry.source, entry.locators, entry.action, end)


def mapping_of(
    node: Node,
    prefix: EidPrefix,
    source: str,
    locators: Sequence[Locator],
    action: Action | int,
    expires_in_s: float | None = None,
) -> Mapping:
    """The same from its parts."""
    return Mapping(
        table="cache",
        prefix=str(prefix),
        source=source,
        action="encapsulate" if locators else _ACTIONS.get(action, "drop"),
        locators=[
            MappingLocator(
                address=str(locator.ip if locator.ip is not None else locator.address),
                priority=locator.priority,
                weight=locator.weight,
                is_reachable=locator.is_reachable and all(map(node.is_reachable, locator.ips)),
            )
            for locator in locators
        ],
        expires_in_s=None if expires_in_s is None else round(expires_in_s, 3),
    )


_ACTIONS: Final[dict[Action | int, str]] = {Action.NATIVELY_FORWARD: "native", Action.SEND_MAP_REQUEST: "ask"}
