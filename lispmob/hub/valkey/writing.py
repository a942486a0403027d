"""Commits records of Map-Registers to the servers; merges where several xTRs register one EID-Prefix (adapter)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container
from typing import Final

from lispmob.hub.map_server.claims import holder_of
from lispmob.hub.map_server.commit import Put, Verdict
from lispmob.hub.map_server.registration import Registration
from lispmob.hub.valkey import keys
from lispmob.hub.valkey.connection import ServerAway
from lispmob.hub.valkey.lengths import Lengths
from lispmob.hub.valkey.servers import Script, Servers

REGISTER: Final = Script("register", 5)
REPLACED_S: Final = 4.0  # ours: a primary is replaced after two to three, later on a busy machine
KEPT_S: Final = 5.0  # a primary that is cut off accepts for a second or so; the next one is there after two to three
DECISIONS: Final = 4  # ours: how often others may have been quicker


class Writer:
    """`why_not` gives the reason why writing is not allowed; None: it is."""

    def __init__(self, servers: Servers, hub: int, lengths: Lengths, why_not: Callable[[], str | None]) -> None:
        self._servers, self._hub, self._lengths, self._why_not = servers, hub, lengths, why_not
        self._loop = asyncio.get_running_loop()
        self._accepted: deque[tuple[float, Put]] = deque()
        self.damaged = 0

    def accepted_of(self, buckets: Container[int]) -> list[Put]:
        """What the servers have accepted for these buckets in the last `KEPT_S`."""
        self._forget_old()
        return [put for _, put in self._accepted if keys.bucket_of(put.prefix) in buckets]

    def check_version(self) -> None:
        """Raises ServerAway when the version of the servers' data is unknown."""
        if (why := self._why_not()) is not None:
            raise ServerAway(why)

    async def put_all(self, puts: tuple[Put, ...], *, may_wait: bool = False) -> list[tuple[Verdict, keys.Answer]]:
        """All records of a message, each for itself. Raises ServerAway.

        `may_wait`: while a primary is being replaced, its records are committed as soon as its successor is there.
        """
        try:
            return await self._put_all(puts)
        except ServerAway:
            buckets = (keys.bucket_of(put.prefix) for put in puts)
            away = next((bucket for bucket in buckets if not self._servers.is_served(bucket)), None)
            if not may_wait or away is None or not await self._servers.until_replaced(away, REPLACED_S):
                raise
        return await self._put_all(puts)

    async def _put_all(self, puts: tuple[Put, ...]) -> list[tuple[Verdict, keys.Answer]]:
        self.check_version()
        for put in puts:
            await self._lengths.add(put.prefix)
        if len(puts) == 1:
            return [await self.put(puts[0])]
        return list(await asyncio.gather(*map(self.put, puts)))

    async def put(self, put: Put) -> tuple[Verdict, keys.Answer]:
        """Write one record; returns the verdict, and the servers' former state. Raises ServerAway."""
        bucket = keys.bucket_of(put.prefix)
        self.check_version()
        arguments = keys.register_arguments(put, self._hub)
        for _ in range(DECISIONS):
            answer = keys.read_answer(await self._servers.run(bucket, REGISTER, arguments))
            if answer.code != Verdict.HELD.value:
                if (verdict := Verdict(answer.code)) is not Verdict.OLD:
                    self._accepted.append((self._loop.time(), put))
                    self._forget_old()
                return verdict, answer
            decided = self._decide(put, answer)
            if decided is None:
                return Verdict.HELD, answer
            arguments = decided
        raise ServerAway(f"{put.prefix}: several nodes registered it at once")

    def parts(self, answer: keys.Answer) -> tuple[bytes, ...]:
        """The servers' parts, in monotonic seconds of this machine; none where they cannot be read."""
        try:
            return keys.parts_of(answer.value, answer.at - self._loop.time())
        except ValueError:
            self.damaged += 1
            return ()

    def _forget_old(self) -> None:
        while self._accepted and self._accepted[0][0] < self._loop.time() - KEPT_S:
            self._accepted.popleft()

    def _decide(self, put: Put, answer: keys.Answer) -> list[bytes] | None:
        """The parts to write where several xTRs register; None: another one holds the prefix."""
        now, part = self._loop.time(), put.part
        registration = Registration(put.prefix)
        registration.restore(self.parts(answer))
        registration.expire(now)
        if not registration.is_held_by(part) and holder_of(registration, part, now) is not None:
            return None
        if put.is_withdrawal:
            registration.withdraw(part.xtr, wants_merge=part.wants_merge)
            others = registration.parts
        elif registration.has_room_for(part):
            registration.put(part)
            others = registration.parts[:-1]
        else:
            return None
        kept_s = max((known.expires_at - now for known in registration), default=0.0)
        value = keys.value_of(others, answer.at - now)
        return keys.register_arguments(put, self._hub, others=value, former=answer.value, kept_s=kept_s)
