"""What others believe about us: the mapping system's answers, and where the data of correspondents arrives."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from lispmob.api.schema import RemoteLocator
from lispmob.api.upkeep.belief_schema import Believed, Correspondent, MappingSystemBelief
from lispmob.control.belief import Belief, Beliefs, differences
from lispmob.control.gate import NonceBook
from lispmob.control.probing.path import Path
from lispmob.lispd.parts import Parts
from lispmob.protocol.locator_set import NEVER
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

PAUSE_S: Final = 2.0  # ours: requests within it share an answer, so that the mapping system is not flooded
LATELY_S: Final = 60.0


class Believing:
    """One round at a time; all clients meanwhile share it."""

    def __init__(self) -> None:
        self.nonces = NonceBook(lambda: secrets.randbits(64))
        self._beliefs = Beliefs(self.nonces)
        self._done: asyncio.Event | None = None
        self._round: asyncio.Task[tuple[Belief, ...]] | None = None
        self._last: tuple[float, tuple[Belief, ...]] | None = None

    def on_datagram(self, payload: bytes, destination: IpAddress) -> bool:
        """True when a control datagram answers a request of ours."""
        if self._done is None:
            return False
        is_ours = self._beliefs.on_datagram(payload, destination, asyncio.get_running_loop().time())
        if is_ours and self._beliefs.found is not None:
            self._done.set()
        return is_ours

    async def ask(self, parts: Parts) -> Believed:
        """Ask, wait for the answers, and compare."""
        loop = asyncio.get_running_loop()
        if self._last is not None and loop.time() < self._last[0] + PAUSE_S:
            found = self._last[1]
        else:
            if self._round is None:
                self._round = loop.create_task(self._ask(parts))
            found = await asyncio.shield(self._round)
        return Believed(
            mapping_system=[_of_mapping_system(belief, parts) for belief in found],
            correspondents=_correspondents(parts),
        )

    async def _ask(self, parts: Parts) -> tuple[Belief, ...]:
        loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        config, node = parts.node.config, parts.node
        try:
            effects = self._beliefs.begin(config.eids, config.map_resolvers, node.asking_from, loop.time())
            while True:
                for effect in effects:
                    parts.control.send(effect)
                at = self._beliefs.wake_at()
                if at is None:
                    break
                try:
                    async with asyncio.timeout_at(at):
                        await self._done.wait()
                except TimeoutError:
                    pass
                effects = self._beliefs.on_timer(loop.time())
            found = self._beliefs.found or ()
            self._last = loop.time(), found
            return found
        finally:
            self._done = self._round = None


def _of_mapping_system(one: Belief, parts: Parts) -> MappingSystemBelief:
    truth = parts.node.announced_locators(one.eid)
    wrong: list[str] = []
    if one.answer == "record":
        wrong = differences(one.locators, truth)
    elif one.answer == "negative" and truth:
        wrong = ["it has none of our locators"]
    return MappingSystemBelief(
        map_resolver=str(one.resolver),
        eid=str(one.eid),
        answer=one.answer,
        says=_shown(one.locators),
        truth=_shown(truth),
        differences=wrong,
        forwarded_to=None if one.forwarded_to is None else str(one.forwarded_to),
        rtt_ms=None if one.rtt_s is None else round(one.rtt_s * 1000, 3),
    )


def _shown(locators: Sequence[Locator]) -> list[RemoteLocator]:
    return [
        RemoteLocator(
            address=str(locator.ip if locator.ip is not None else locator.address),
            priority=locator.priority,
            weight=locator.weight,
            is_reachable=locator.is_reachable,
        )
        for locator in locators
    ]


def _correspondents(parts: Parts) -> list[Correspondent]:
    """For each remote locator in use, where its data last arrived."""
    latest: dict[IpAddress, Path] = {}
    for path in parts.node.paths:
        known = latest.get(path.pair.remote)
        if known is None or (path.last_heard or -1.0) > (known.last_heard or -1.0):
            latest[path.pair.remote] = path
    return [_correspondent(path, parts) for path in latest.values()]


def _correspondent(path: Path, parts: Parts) -> Correspondent:
    now, remote = parts.now(), path.pair.remote
    ago_s = None if path.last_heard is None else now - path.last_heard
    if ago_s is None or ago_s > LATELY_S:
        return Correspondent(rloc=str(remote), eid=str(path.eid), verdict="not-heard")
    eid = parts.node.config.eid_for(path.eid.family, path.eid.instance_id)
    best = _best_of(parts, eid, path.pair.local.version)
    is_right = not best or path.pair.local in best
    return Correspondent(
        rloc=str(remote),
        eid=str(path.eid),
        verdict="right" if is_right else "late",
        sends_to=str(path.pair.local),
        ago_s=round(ago_s, 3),
        better=[] if is_right else sorted(map(str, best)),
    )


def _best_of(parts: Parts, eid: EidPrefix | None, family: int) -> set[IpAddress]:
    """Of this family, the locators that a correct mapping would make others send to."""
    told = [locator.announced_for(eid) for locator in parts.node.locators.locators if locator.address.version == family]
    usable = [locator for locator in told if locator.priority != NEVER]
    best = min((locator.priority for locator in usable), default=NEVER)
    return {locator.address for locator in usable if locator.priority == best}
