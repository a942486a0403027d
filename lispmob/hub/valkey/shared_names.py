"""Names of hosts (RFC 9735) between hubs: whoever took in a Map-Register of names hands it to the others (adapter).

Names are few beside EID-Prefixes, and each hub keeps all of them. It checks the proof of what it is handed, and answers
nobody. The last register of each name is kept with the servers for hubs that come later.
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

MARK: Final = b"\xff" * 8  # what such a message begins with: no count of changes is as large
_HEAD: Final = Struct(">dQB")  # the server's time, the hub, octets of the source


class SharedNames:
    """`take(arrival, age_s)` is given what others have taken in, and how long ago."""

    def __init__(self, servers: Servers, hub: int, take: Callable[[Arrival, float], None]) -> None:
        self._servers, self._hub, self._take = servers, hub, take
        self._sharing = asyncio.Lock()  # one after the other: the last one is what is kept

    async def share(self, arrival: Arrival) -> None:
        """This hub has taken in a Map-Register of names."""
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

    def on_told(self, octets: bytes) -> None:
        """Another hub, or we ourselves, have shared one. ValueError for what is none."""
        _, hub, arrival = _read(octets[len(MARK) :])
        if hub != self._hub:
            self._take(arrival, 0.0)

    async def read(self, bucket: int) -> None:
        """What was shared before this bucket was heard."""
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
