"""Our own EIDs, destinations that must not enter the tunnel, and which sources are accepted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lispmob.datapath import _lispdp, marshal
from lispmob.datapath.marshal import Handle, check
from lispmob.datapath.model import Near, SourceCheck
from lispmob.wire.address import EidPrefix, IpAddress

ffi: Any = _lispdp.ffi
lib: Any = _lispdp.lib


class Addresses:
    """`eids`: our own EID-Prefixes as last set."""

    def __init__(self, handle: Handle, eids: Iterable[EidPrefix]) -> None:
        self._handle = handle
        self.eids: tuple[EidPrefix, ...] = ()
        self.set_eids(eids)

    def set_eids(self, eids: Iterable[EidPrefix]) -> None:
        """Our own EID-Prefixes: the sources that may leave (role node) and the destinations that are delivered."""
        self.eids = tuple(eids)
        prefixes, count = marshal.prefixes(self.eids)
        check(lib.lm_engine_set_eids(self._handle.c, prefixes, count))

    def set_guard(self, addresses: Iterable[IpAddress]) -> None:
        """Inner destinations that must never enter the tunnel: Map-Servers, Map-Resolvers, proxies, RLOCs."""
        prefixes, count = marshal.prefixes(EidPrefix.host(address) for address in addresses)
        check(lib.lm_engine_set_guard(self._handle.c, prefixes, count))

    def set_near(self, near: Near) -> None:
        """The addresses near us; without this call only the uplinks' own are known."""
        specs, count = marshal.near(near)
        check(lib.lm_source_set_near(self._handle.c, specs, count))

    def check_sources(self, check: SourceCheck) -> None:
        """The check of inner sources, from the next packet on."""
        lib.lm_source_set_check(self._handle.c, marshal.SOURCE_CHECKS[check])
