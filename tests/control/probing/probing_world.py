"""A small network for the prober: every pair of locators has a round trip and a loss, and fails and returns on command.

Data flows on command, and the prober gets the datapath's reports of silence (`tests/datapath/oracle/silence.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from itertools import count

from lispmob.control.probing.path import Pair, State
from lispmob.control.probing.probing import ProbeConfig, ProbeEffect, Prober
from lispmob.protocol.effect import AskForEcho, SendControl, WatchForSilence
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest
from tests.datapath.oracle.silence import SilenceWatch, Word
from tests.internet.clock import Clock

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
        self.swallowing: set[IpAddress] = set()  # what we send there is lost, what comes from there arrives
        self.swallows_nonces = False
        self.echoes = False  # the peers can send nonces back
        self.clock = Clock()
        self.clock.hosts += [_SilenceTimer(self), _ProberTimer(self)]
        self.sent: list[tuple[float, Pair]] = []
        self.echoed_at: list[float] = []
        self.told: list[tuple[float, ProbeEffect]] = []
        self.alarms: list[tuple[float, Word]] = []
        self.watch = SilenceWatch()

    def begin(self, *own: LocalLocator, targets: Iterable[IpAddress] = (PEER,)) -> None:
        self.take(self.prober.on_locators(LocatorSet.of(1, own or (WIFI,)), self.now))
        self.take(self.prober.on_targets(dict.fromkeys(targets, EID), self.now))

    def take(self, effects: Iterable[ProbeEffect]) -> None:
        for effect in effects:
            self.told.append((self.now, effect))
            if isinstance(effect, SendControl):
                self._carry(effect)
            elif isinstance(effect, AskForEcho) and effect.nonce is not None and effect.remote == PEER:
                if not self.swallows_nonces and not {WIFI.address, PEER} & (self.dead | self.swallowing):
                    self.at(self.now + self.rtt_s, self._echo)
            elif isinstance(effect, WatchForSilence) and effect.remote == PEER:
                self.watch.watch(_ns(effect.patience_s or 0.0), _ns(effect.one_sided_s))

    @property
    def now(self) -> float:
        return self.clock.now

    def run(self, until: float) -> None:
        self.clock.run_to(until)

    def at(self, moment: float, what: Callable[[], None]) -> None:
        self.clock.at(moment, what)

    def flow(
        self, until: float, pause_s: float, *, octets: int = 200, answers: bool = True, think_s: float = 0.0
    ) -> None:
        """Send packets to PEER from now on, one each `pause_s`; each is answered after `think_s` unless it is lost."""

        def send() -> None:
            self.hear_of(self.watch.sent(_ns(self.now), octets))
            if answers and self._arrives() and not {WIFI.address, PEER} & self.dead:
                self.at(self.now + self.rtt_s + think_s, self._answer)
            if self.now + pause_s <= until:
                self.at(self.now + pause_s, send)

        self.at(self.now, send)

    def hear(self, until: float, pause_s: float = 1.0) -> None:
        """From now on data comes in from PEER, even if ours is lost."""

        def arrive() -> None:
            if PEER not in self.dead:
                self.take(self.prober.on_heard([(WIFI.address, PEER)], self.now))
            if self.now + pause_s <= until:
                self.at(self.now + pause_s, arrive)

        self.at(self.now, arrive)

    def _echo(self) -> None:
        self.echoed_at.append(self.now)
        self.take(self.prober.on_echoed(WIFI.address, PEER, self.now))

    def _answer(self) -> None:
        if {WIFI.address, PEER} & self.dead:
            return
        if self.watch.arrived(_ns(self.now)):
            self.take(self.prober.on_heard([(WIFI.address, PEER)], self.now))

    def hear_of(self, word: Word) -> None:
        if word is not Word.NONE:
            self.alarms.append((self.now, word))
            self.take(self.prober.on_unanswered(PEER, word is Word.FLOWING, self.now))

    def _arrives(self) -> bool:
        return self.chance.random() >= 1 - (1 - self.loss_each_way) ** 2

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
        if self._arrives() and not {pair.local, pair.remote} & (self.dead | self.swallowing):
            self.at(self.now + self.rtt_s, lambda: self._reply(request.nonce, pair))

    def _reply(self, nonce: int, pair: Pair) -> None:
        if not {pair.local, pair.remote} & self.dead:  # packets on the way are lost with the locator
            reply = MapReply(nonce, (), is_probe=True, has_echo_nonce=self.echoes)
            self.take(self.prober.on_map_reply(reply, pair.local, self.now) or [])


class _SilenceTimer:
    """The timer by which the datapath notices silence."""

    def __init__(self, world: World) -> None:
        self._world = world

    def wake_at(self) -> float | None:
        due = self._world.watch.due()
        return None if due is None else due / 1e9

    def on_timer(self, now: float) -> None:
        self._world.hear_of(self._world.watch.tick(_ns(now)))


class _ProberTimer:
    def __init__(self, world: World) -> None:
        self._world = world

    def wake_at(self) -> float | None:
        return self._world.prober.wake_at()

    def on_timer(self, now: float) -> None:
        self._world.take(self._world.prober.on_timer(now))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9) + 1
