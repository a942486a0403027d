"""Which destinations the kernel must route as if we were not there, as answers come and go. Pure."""

from __future__ import annotations

from lispmob.control.effect import InstallMapping
from lispmob.wire.address import EidPrefix, IpNetwork


class NativeRoutes:
    """Follows the forwarding table: Natively-Forward prefixes, and the mappings that lie inside one of them."""

    def __init__(self) -> None:
        self._native: set[EidPrefix] = set()
        self._mapped: set[EidPrefix] = set()

    def on_installed(self, mapping: InstallMapping) -> bool:
        """True when the kernel's routes change by this."""
        before = self._snapshot()
        self._forget(mapping.prefix)
        (self._native if mapping.disposition == "NATIVE" else self._mapped).add(mapping.prefix)
        return bool(self._native) and before != self._snapshot()

    def on_removed(self, prefix: EidPrefix) -> bool:
        """True when the kernel's routes change by this."""
        before = self._snapshot()
        self._forget(prefix)
        return before != self._snapshot()

    @property
    def native(self) -> tuple[IpNetwork, ...]:
        """The prefixes to be thrown back to the host's own routes. Instance 0 alone has a native side."""
        return tuple(sorted((each.network for each in self._native if not each.instance_id), key=str))

    @property
    def mapped_inside(self) -> tuple[IpNetwork, ...]:
        """Mappings inside a native prefix: they need a route of their own, or the wider throw would catch them."""
        if not self._native:
            return ()
        inside = [each for each in self._mapped if any(outer.covers(each) for outer in self._native)]
        return tuple(sorted((each.network for each in inside), key=str))

    def _forget(self, prefix: EidPrefix) -> None:
        self._native.discard(prefix)
        self._mapped.discard(prefix)

    def _snapshot(self) -> tuple[tuple[IpNetwork, ...], tuple[IpNetwork, ...]]:
        return self.native, self.mapped_inside
