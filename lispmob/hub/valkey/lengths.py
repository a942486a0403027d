"""Which lengths of EID-Prefixes are registered anywhere, for a longest match by a few questions (adapter).

A set in the registry has each (Instance-ID, family, length) that was ever in use. A hub that registers a new one adds
it there before it registers; the others hear of it, and read the set once a second besides.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from lispmob.hub.map_server.site import SiteTable
from lispmob.hub.valkey.channels import LENGTHS_CHANNEL
from lispmob.hub.valkey.servers import Servers
from lispmob.wire.address import EidPrefix

LENGTHS: Final = b"L{0}"
_MEMBER: Final = Struct(">IBB")


class Lengths:
    """Keeps what is in that set."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._members: set[bytes] = set()
        self._by_space: dict[tuple[int, int], tuple[int, ...]] = {}  # longest first

    async def add(self, prefix: EidPrefix) -> None:
        """A prefix of this length is about to be registered. Raises ServerAway."""
        member = _MEMBER.pack(prefix.instance_id, prefix.family, prefix.mask_len)
        if member in self._members:
            return
        await self._servers.command(0, b"SADD", LENGTHS, member)
        await self._servers.command(0, b"SPUBLISH", LENGTHS_CHANNEL, member)
        self._members.add(member)
        self._sort()

    async def read(self) -> None:
        """Read the set again. Raises ServerAway."""
        found = set(await self._servers.command(0, b"SMEMBERS", LENGTHS))
        if found - self._members:
            self._members |= found
            self._sort()

    def prefixes_of(self, host: EidPrefix, sites: SiteTable) -> list[EidPrefix]:
        """Those that an answer about a host may rest on, the longest first."""
        configured = sites.of(host)
        if configured is None:
            return []
        least = configured[0].mask_len
        lengths = self._by_space.get((host.instance_id, host.family), ())
        return [EidPrefix.make(host.address, length, host.instance_id) for length in lengths if length >= least]

    def _sort(self) -> None:
        found: dict[tuple[int, int], set[int]] = {}
        for member in self._members:
            if len(member) == _MEMBER.size:
                instance_id, family, length = _MEMBER.unpack(member)
                found.setdefault((instance_id, family), set()).add(length)
        self._by_space = {space: tuple(sorted(lengths, reverse=True)) for space, lengths in found.items()}
