"""The lengths of all registered EID-Prefixes, so that a longest match takes few queries (adapter).

A set in the registry has each (Instance-ID, family, length) that was ever in use. A hub adds a new one before it
registers the prefix; the other hubs receive it as a publication, and also read the set once a second. It is kept in
three buckets on different primaries of a cluster, so that it is available while one of them is away.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import Final

from lispmob.hub.map_server.site import SiteTable
from lispmob.hub.valkey.connection import ServerAway
from lispmob.hub.valkey.servers import Servers
from lispmob.wire.address import EidPrefix

HOMES: Final = (0, 1, 3)  # buckets whose slots are in different thirds of the range
_MEMBER: Final = Struct(">IBB")


def lengths_channel(home: int) -> bytes:
    """The channel of new lengths, which is also the name of the set."""
    return b"L{%d}" % home


class Lengths:
    """A copy of that set."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._members: set[bytes] = set()
        self._by_space: dict[tuple[int, int], frozenset[int]] = {}
        self.is_known = False  # it was read once

    async def add(self, prefix: EidPrefix) -> None:
        """Add the length of a prefix that is about to be registered. Raises ServerAway when no server accepted it."""
        member = _MEMBER.pack(prefix.instance_id, prefix.family, prefix.mask_len)
        if member in self._members:
            return
        done = await asyncio.gather(*(self._add_at(home, member) for home in HOMES), return_exceptions=True)
        failed = [error for error in done if isinstance(error, BaseException)]
        if len(failed) == len(HOMES):
            raise failed[0]
        self.learn(member)

    def learn(self, member: bytes) -> None:
        """Take a new length that another hub registers."""
        if member not in self._members:
            self._members.add(member)
            self._sort()

    async def read(self) -> None:
        """Read the set again, and repair copies that lack something. Raises ServerAway when no server has it."""
        asked = (self._servers.command(home, "SMEMBERS", lengths_channel(home)) for home in HOMES)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found = {home: answer for home, answer in zip(HOMES, answers, strict=True) if isinstance(answer, set)}
        if not found:
            raise ServerAway("no server has the lengths of what is registered")
        self.is_known = True
        known = self._members.union(*found.values())
        if known != self._members:
            self._members = known
            self._sort()
        for home, members in found.items():
            if missing := known - members:
                await self._servers.command(home, "SADD", lengths_channel(home), *missing)

    def prefixes_of(self, host: EidPrefix, sites: SiteTable) -> list[EidPrefix]:
        """The prefixes that an answer about a host may depend on, the longest first."""
        configured = sites.of(host)
        if configured is None:
            return []
        # hosts and the site's own prefix are asked for even before their lengths are known
        least = configured[0].mask_len
        lengths = {host.width, least, *self._by_space.get((host.instance_id, host.family), ())}
        found = sorted((length for length in lengths if length >= least), reverse=True)
        return [EidPrefix.make(host.address, length, host.instance_id) for length in found]

    async def _add_at(self, home: int, member: bytes) -> None:
        await self._servers.command(home, "SADD", lengths_channel(home), member)
        await self._servers.command(home, "SPUBLISH", lengths_channel(home), member)

    def _sort(self) -> None:
        found: dict[tuple[int, int], set[int]] = {}
        for member in self._members:
            if len(member) == _MEMBER.size:
                instance_id, family, length = _MEMBER.unpack(member)
                found.setdefault((instance_id, family), set()).add(length)
        self._by_space = {space: frozenset(lengths) for space, lengths in found.items()}
