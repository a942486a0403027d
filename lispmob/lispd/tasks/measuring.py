"""Measures what is between an uplink and the Internet: a firewall without a NAT, and how long a NAT keeps a binding.

It uses ports of its own, so no port with data is at risk, and only for uplinks that need it: one firewall probe for
each new address without a NAT, and trials behind a NAT until its lifetime is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import msgspec

from lispmob.control.gate import NonceBook
from lispmob.control_port.port import ControlPort, Received
from lispmob.errors import LispError, MalformedMessage
from lispmob.natt.dialect import Dialect
from lispmob.natt.effect import NattEffect, Reach
from lispmob.natt.firewall_probe import FirewallProbe, Way, WayFound
from lispmob.natt.kind_probe import FilteringProbe, KindFound, MappingProbe
from lispmob.natt.lifetime_probe import LifetimeMeasured, LifetimeProbe
from lispmob.natt.machine import UplinkMachine
from lispmob.natt.question import SendFromSparePort
from lispmob.natt.state import State
from lispmob.natt.traversal import Traversal
from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import Place
from lispmob.wire.address import IpAddress
from lispmob.wire.header import MessageType
from lispmob.wire.map_reply import MapReply

log = logging.getLogger(__name__)

SETTLE_S: Final = 1.0  # ours: a move has more urgent work
MEASURES_AFTER_S: Final = 5.0

_Probe: TypeAlias = FirewallProbe | MappingProbe | FilteringProbe | LifetimeProbe
_IN_TURN: Final[tuple[type[_Probe], ...]] = (FirewallProbe, MappingProbe, FilteringProbe, LifetimeProbe)


class _Running(msgspec.Struct):
    """A probe, its port, and its uplink."""

    probe: _Probe
    spare: ControlPort
    start_at: float | None


class Measuring:
    """At most one probe for each address. `perform` gets the effects of the verdicts; `on_ports`: `ports` changed."""

    def __init__(
        self,
        traversal: Traversal,
        send: Callable[[SendControl], bool],
        perform: Callable[[Iterable[NattEffect]], None],
        on_ports: Callable[[], None] = lambda: None,
    ) -> None:
        self.ways: dict[Place, Way] = {}
        self.kinds: dict[Place, KindFound] = {}
        self.nonces = NonceBook(lambda: secrets.randbits(64))
        self._traversal = traversal
        self._send = send
        self._perform_natt = perform
        self._on_ports = on_ports
        self._running: dict[Place, _Running] = {}
        self._done: set[tuple[Place, type[_Probe]]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ports(self) -> frozenset[tuple[IpAddress, int]]:
        """The addresses and ports where answers are expected now."""
        found = ((place[0], running.spare.port_for(place[0].version)) for place, running in self._running.items())
        return frozenset((address, port) for address, port in found if port)

    def look(self, now: float) -> None:
        """The uplinks have changed: start necessary probes, and stop others."""
        machines = {uplink.locator.place: uplink for uplink in self._traversal.machines}
        for place, running in list(self._running.items()):
            machine = machines.get(place)
            if machine is None or not _is_needed(machine, running.probe):
                self._end(place)
        self._done = {key for key in self._done if key[0] in machines}
        self.ways = {place: way for place, way in self.ways.items() if place in machines}
        self.kinds = {place: kind for place, kind in self.kinds.items() if place in machines}
        for machine in machines.values():
            if machine.locator.place not in self._running:
                self._begin(machine, now)
        self._arm()

    def on_datagram(self, payload: bytes) -> bool:
        """True when a Map-Reply on the control port answers one of our requests."""
        is_answer = bool(payload) and payload[0] >> 4 == MessageType.MAP_REPLY and self.nonces.knows(payload[4:12])
        if not self._running or not is_answer:
            return False
        try:
            reply = MapReply.decode(payload)
        except MalformedMessage:
            return False
        return any(running.probe.on_control_reply(reply) for running in self._running.values())

    def close(self) -> None:
        """Stop all probes."""
        for place in list(self._running):
            self._end(place)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, machine: UplinkMachine, now: float) -> None:
        seen, one = machine.seen, machine.locator
        eid = next(iter(self._traversal.config.eids), None)
        if seen is None or eid is None or seen.by_other_port:  # what is measured is about the control port
            return
        kind: type[_Probe] | None = next((each for each in _IN_TURN if self._wants(machine, each)), None)
        if kind is None:
            return
        self._done.add((one.place, kind))
        loop = asyncio.get_running_loop()
        spare = ControlPort(lambda received: self._on_spare(one.place, received), port=0)
        try:
            spare.open()
        except LispError as error:
            log.debug("no port to measure with why=%s", error)
            return
        spare.start(loop)
        probe: _Probe
        if kind is FirewallProbe:
            server = seen.server.address
            probe = FirewallProbe(one, eid, server, spare.port_for(one.address.version), new_nonce=self.nonces)
            start_at = now + SETTLE_S
        elif kind is MappingProbe or kind is FilteringProbe:
            name = self._traversal.config.host_name + b"-probe"
            probe = kind(one, eid, seen, machine.rtrs[0], name, new_nonce=self.nonces)
            start_at = now + SETTLE_S
        else:
            probe = LifetimeProbe(one, eid, seen, new_nonce=self.nonces, known=machine.lifetime)
            start_at = now + MEASURES_AFTER_S
        self._running[one.place] = _Running(probe, spare, start_at)
        self._on_ports()  # in time: no probe starts at once

    def _end(self, place: Place) -> None:
        self._running.pop(place).spare.close()
        self._on_ports()

    def _on_spare(self, place: Place, received: Received) -> None:
        running = self._running.get(place)
        if running is not None:
            now = asyncio.get_running_loop().time()
            self._perform(place, running, running.probe.on_spare_datagram(received.payload, now), now)
            self._arm()

    def _on_timer(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for place, running in list(self._running.items()):
            if running.start_at is not None:
                if now >= running.start_at:
                    running.start_at = None
                    self._perform(place, running, running.probe.start(now), now)
            else:
                self._perform(place, running, running.probe.on_timer(now), now)
        self._arm()

    def _perform(self, place: Place, running: _Running, effects: Iterable[object], now: float) -> None:
        for effect in effects:
            if isinstance(effect, SendControl):
                self._send(*self._traversal.translation.outward([effect]))
            elif isinstance(effect, SendFromSparePort):
                out = SendControl(effect.payload, effect.destination, effect.port, effect.source, effect.ifindex)
                running.spare.send(*self._traversal.translation.outward([out]))
            elif isinstance(effect, LifetimeMeasured):
                self._perform_natt(self._traversal.on_lifetime(place, effect.lifetime, now))
            elif isinstance(effect, KindFound):
                known = self.kinds.get(place, effect)
                self.kinds[place] = KindFound(
                    place[0], effect.mapping or known.mapping, effect.filtering or known.filtering
                )
                with contextlib.suppress(KeyError):
                    self._end(place)
                self.look(now)
            elif isinstance(effect, WayFound):
                self.ways[place] = effect.way
                with contextlib.suppress(KeyError):
                    self._end(place)
                if effect.way is not Way.UNKNOWN:
                    self._perform_natt(self._traversal.on_filtered(place, effect.way is Way.FILTERED, now))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [
            at for running in self._running.values() if (at := running.start_at or running.probe.wake_at()) is not None
        ]
        if times:
            self._timer = asyncio.get_running_loop().call_at(min(times), self._on_timer)

    def _wants(self, machine: UplinkMachine, kind: type[_Probe]) -> bool:
        one = machine.locator
        return (one.place, kind) not in self._done and _is_wanted(machine, kind)


def _is_wanted(machine: UplinkMachine, kind: type[_Probe]) -> bool:
    if machine.dialect is not Dialect.E19 or machine.seen is None:
        return False
    if kind is FirewallProbe:
        return machine.state is State.DIRECT and bool(machine.seen.rtrs)
    is_relayed = machine.state is State.RELAYED and machine.reach is Reach.TRANSLATED
    if kind is MappingProbe or kind is FilteringProbe:
        return is_relayed and bool(machine.rtrs)
    return is_relayed and not machine.lifetime.is_measured


def _is_needed(machine: UplinkMachine, probe: _Probe) -> bool:
    if isinstance(probe, FirewallProbe):
        return machine.state is State.DIRECT
    return machine.state is State.RELAYED
