"""The daemon's interface for the control socket about mappings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from lispmob.api.mapping.schema import Mapping, MappingDone, MappingFlushParams, MappingParams, Table
from lispmob.api.turns import Pages
from lispmob.wire.address import EidPrefix, IpAddress


class StaticLocator(msgspec.Struct, frozen=True):
    """An RLOC of a mapping that a user adds, checked."""

    address: IpAddress
    priority: int
    weight: int
    is_reachable: bool = True


class MappingBackend(Protocol):
    """Called in the event loop. Raises ApiError, with an errno."""

    def mapping_add(
        self, prefix: EidPrefix, locators: Sequence[StaticLocator], params: MappingParams, *, is_change: bool
    ) -> MappingDone:
        """Add a mapping; with `is_change` there has to be one, which it replaces."""

    def mapping_delete(self, prefix: EidPrefix, table: Table, *, check_only: bool) -> MappingDone:
        """Delete the mapping of exactly this prefix."""

    def mapping_get(self, eid: EidPrefix) -> Mapping:
        """The most specific mapping that contains the whole prefix."""

    async def mapping_flush(self, params: MappingFlushParams) -> MappingDone:
        """Delete many."""

    def mapping_dump(self) -> Pages:
        """Every mapping, our own first."""

    def mapstat(self) -> Pages:
        """The same with flags, references, MTUs and how often each RLOC was chosen."""
