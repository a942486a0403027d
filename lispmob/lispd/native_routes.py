"""The prefixes that the kernel must route as without lispd, computed from the forwarding table. Pure.

Only the table is stored here: the kernel's prefixes are computed from it, and compared with the former result.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lispmob.protocol.effect import InstallMapping
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpNetwork


class OverlayRoutes(msgspec.Struct, frozen=True):
    """Prefixes that lead to our device, and prefixes inside or around them that use the host's own routes."""

    tunnelled: tuple[IpNetwork, ...]
    native: tuple[IpNetwork, ...]


class NativeRoutes:
    """Follows the forwarding table: Natively-Forward prefixes, and the mappings inside them."""

    def __init__(self) -> None:
        self._is_native: PrefixTable[bool] = PrefixTable()  # of every entry of Instance-ID 0
        self._natives: set[EidPrefix] = set()

    def on_installed(self, mapping: InstallMapping) -> bool:
        """True when this changes the kernel's routes. Only Instance-ID 0 has native routes."""
        prefix, is_native = mapping.prefix, mapping.disposition == "NATIVE"
        if prefix.instance_id or self._is_native.get(prefix) is is_native:
            return False
        before = self._snapshot()
        self._is_native.insert(prefix, is_native)
        (self._natives.add if is_native else self._natives.discard)(prefix)
        return before != self._snapshot()

    def on_removed(self, prefix: EidPrefix) -> bool:
        """True when this changes the kernel's routes."""
        before = self._snapshot()
        self._is_native.remove(prefix)
        self._natives.discard(prefix)
        return before != self._snapshot()

    @property
    def native(self) -> tuple[IpNetwork, ...]:
        """The prefixes that use the host's own routes."""
        return _sorted(self._natives)

    @property
    def mapped_inside(self) -> tuple[IpNetwork, ...]:
        """Mappings inside a native prefix: they need their own routes, or the wider throw route would match."""
        inside = (entry for outer in self._natives for entry, is_native in self._is_native.covered(outer))
        return _sorted({entry for entry in inside if not self._is_native.get(entry)})

    def overlay(self, prefixes: Iterable[IpNetwork]) -> OverlayRoutes:
        """The kernel's form of these overlay prefixes: one inside a native prefix is native too."""
        overlay = [EidPrefix(prefix) for prefix in prefixes]
        thrown = {prefix for prefix in overlay if self._is_thrown(prefix)}
        tunnelled = (prefix.network for prefix in overlay if prefix not in thrown)
        return OverlayRoutes((*tunnelled, *self.mapped_inside), _sorted(self._natives | thrown))

    def _is_thrown(self, prefix: EidPrefix) -> bool:
        nearest = self._is_native.covering(prefix)
        return bool(nearest) and nearest[0][1]

    def _snapshot(self) -> tuple[tuple[IpNetwork, ...], tuple[IpNetwork, ...]]:
        return self.native, self.mapped_inside


def _sorted(prefixes: Iterable[EidPrefix]) -> tuple[IpNetwork, ...]:
    return tuple(sorted((prefix.network for prefix in prefixes), key=str))
