"""A small world for the prober: every pair of locators has a round trip and a loss, and dies and lives on command."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from ipaddress import ip_address
from itertools import count

from lispmob.control.effect import SendControl
from lispmob.control.locator_set import LocalLocator, LocatorSet
from lispmob.control.path import Pair, State
from lispmob.control.probing import ProbeConfig, ProbeEffect, Prober
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest

WIFI = LocalLocator(ip_address("198.51.100.10"), 2, "wlan0", priority=1)
LTE = LocalLocator(ip_address("203.0.113.20"), 3, "wwan0", priority=2)
WIFI6 = LocalLocator(ip_address("2001:db8:a::10"), 2, "wlan0", priority=1)
PEER, OTHER, PEER6 = (ip_address(text) for text in ("192.0.2.50", "192.0.2.51", "2001:db8:b::50"))
EID = EidPrefix.parse("10.2.0.0/24")
SOME_EID = EidPrefix.parse("10.3.0.0/24")


class World:
    """Answers probes as the paths allow, in virtual time."""

    def __init__(self, config: ProbeConfig | None = None, *, seed: int = 1, rtt_s: float = 0.1) -> None:
        self.chance = random.Random(seed)
        config = config or ProbeConfig()
        self.prober = Prober(config, new_nonce=count(1).__next__, jitter=random.Random(seed + 1).random)
        self.rtt_s = rtt_s
        self.loss_each_way = 0.0
        self.dead: set[IpAddress] = set()
        self.now = 0.0
        self.sent: list[tuple[float, Pair]] = []
        self.told: list[tuple[float, ProbeEffect]] = []
        self._answers: list[tuple[float, int, IpAddress]] = []

    def begin(self, *own: LocalLocator, targets: Iterable[IpAddress] = (PEER,)) -> None:
        self.take(self.prober.on_locators(LocatorSet.of(1, own or (WIFI,)), self.now))
        self.take(self.prober.on_targets(dict.fromkeys(targets, EID), self.now))

    def take(self, effects: Iterable[ProbeEffect]) -> None:
        for effect in effects:
            self.told.append((self.now, effect))
            if isinstance(effect, SendControl):
                self._carry(effect)

    def run(self, until: float) -> None:
        for _ in range(1_000_000):
            wake_at = self.prober.wake_at()
            answer_at = self._answers[0][0] if self._answers else None
            at = min((each for each in (wake_at, answer_at) if each is not None), default=until + 1)
            if at > until:
                break
            self.now = max(self.now, at)
            if answer_at is not None and answer_at <= self.now:
                _, nonce, local = heapq.heappop(self._answers)
                self.take(self.prober.on_map_reply(MapReply(nonce, (), is_probe=True), local, self.now) or [])
            else:
                self.take(self.prober.on_timer(self.now))
        self.now = until

    def of(self, kind: type[ProbeEffect]) -> list[tuple[float, ProbeEffect]]:
        return [(at, effect) for at, effect in self.told if isinstance(effect, kind)]

    def state(self, local: IpAddress = WIFI.address, remote: IpAddress = PEER) -> State:
        path = self.prober.path(local, remote)
        assert path is not None
        return path.state

    def _carry(self, probe: SendControl) -> None:
        request = MapRequest.decode(probe.payload)
        assert probe.source is not None
        pair = Pair(probe.source, probe.destination)
        self.sent.append((self.now, pair))
        assert request.is_probe
        assert request.source_eid is None
        assert request.itr_rlocs == (probe.source,)
        is_lost = self.chance.random() < 1 - (1 - self.loss_each_way) ** 2
        if not is_lost and not {pair.local, pair.remote} & self.dead:
            heapq.heappush(self._answers, (self.now + self.rtt_s, request.nonce, pair.local))
