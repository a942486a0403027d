"""Shares names of hosts (RFC 9735) between hubs: a hub passes each accepted Map-Register of names to the others
(adapter).

Names are few beside EID-Prefixes, and each hub keeps all of them. A hub verifies the messages that it is passed, and
does not answer them. The last register of each name is kept on the servers for hubs that start later.
"""

from __future__ import annotations

import asyncio
import contextlib
from binascii import crc_hqx
from collections.abc import Callable
from ipaddress import ip_address
from struct import Struct
from typing import Final

from lispmob.errors import MalformedMessage
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.part import LIFETIME_S
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.connection import ServerAway
from lispmob.hub.valkey.servers import Servers
from lispmob.wire.map_register import MapRegister
from lispmob.wire.name_eid import name_of

MARK: Final = b"\xff" * 8  # the begin of such a message: no count of changes is as large
_HEAD: Final = Struct(">dQB")  # the server's time, the hub, octets of the source


class SharedNames:
    """`take(arrival, age_s)` is called with messages that others have accepted, and their age."""

    def __init__(self, servers: Servers, hub: int, take: Callable[[Arrival, float], None]) -> None:
        self._servers, self._hub, self._take = servers, hub, take
        self._sharing = asyncio.Lock()  # one at a time, so that the last one is kept

    async def share(self, arrival: Arrival) -> None:
        """This hub has accepted a Map-Register of names."""
        try:
            register = MapRegister.decode(arrival.payload)
        except MalformedMessage:
            return
        names = {name for record in register.records if (name := name_of(record.eid)) is not None}
        async with self._sharing:
            for name in sorted(names):
                with contextlib.suppress(ServerAway):
                    await self._share(name, arrival)

    async def _share(self, name: bytes, arrival: Arrival) -> None:
        bucket = crc_hqx(name, 0) % keys.BUCKETS
        seconds, micros = await self._servers.command(bucket, "TIME")
        source = arrival.source.packed
        head = _HEAD.pack(int(seconds) + int(micros) / 1e6, self._hub, len(source))
        value = head + source + arrival.payload
        await self._servers.command(bucket, "HSET", keys.key(b"N", bucket), name, value)
        await self._servers.command(bucket, "SPUBLISH", keys.channel_of(bucket), MARK + value)

    def on_message(self, octets: bytes) -> None:
        """Take a message that another hub, or this one, has shared. ValueError for an invalid one."""
        _, hub, arrival = _read(octets[len(MARK) :])
        if hub != self._hub:
            self._take(arrival, 0.0)

    async def read(self, bucket: int) -> None:
        """Read messages shared before the subscription to this bucket."""
        with contextlib.suppress(ServerAway):
            key = keys.key(b"N", bucket)
            found = await self._servers.command(bucket, "HGETALL", key)
            if not found:
                return
            now = int((await self._servers.command(bucket, "TIME"))[0])
            for name, value in found.items():
                with contextlib.suppress(ValueError):
                    at, _, arrival = _read(value)
                    if now - at < LIFETIME_S:
                        self._take(arrival, max(0.0, now - at))
                        continue
                await self._servers.command(bucket, "HDEL", key, name)


def _read(octets: bytes) -> tuple[float, int, Arrival]:
    if len(octets) < _HEAD.size:
        raise ValueError(f"{len(octets)} octets are no register of a name")
    at, hub, size = _HEAD.unpack_from(octets)
    source = ip_address(octets[_HEAD.size : _HEAD.size + size])
    return at, hub, Arrival(octets[_HEAD.size + size :], source, 0, source)
