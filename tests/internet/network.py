"""The Internet in memory: all hosts reach each other, with current loss and delay. NATs are at its edge (nat.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol, TypeAlias

from lispmob.protocol.effect import CONTROL_PORT
from lispmob.wire.address import IpAddress
from tests.internet.clock import Clock


def ip(text: str) -> IpAddress:
    return ip_address(text)


@dataclass(frozen=True)
class Weather:
    """What the network does to a datagram. Each one gets a random delay of its own, so they reorder."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: tuple[float, float] = (0.01, 0.01)


@dataclass(frozen=True)
class Packet:
    """A UDP datagram on its way, of control unless its ports differ; or data for an EID (`data`)."""

    source: IpAddress
    destination: IpAddress
    payload: bytes = b""
    source_port: int = CONTROL_PORT
    destination_port: int = CONTROL_PORT
    has_checksum: bool = True
    data: tuple[IpAddress, IpAddress] | None = None  # inner source and destination


FAIR = Weather()
Receiver: TypeAlias = Callable[[Packet], None]


class Segment(Protocol):
    """A network to which addresses are attached, and into which packets are sent."""

    def send(self, packet: Packet) -> None: ...
    def plug(self, address: IpAddress, receiver: Receiver) -> None: ...
    def unplug(self, address: IpAddress) -> None: ...


class Network:
    """One segment in which all hosts reach all others."""

    def __init__(self, clock: Clock, weather: Weather = FAIR) -> None:
        self.clock = clock
        self.weather = weather
        self.dead: set[IpAddress] = set()  # nothing reaches these addresses, and nothing comes from them
        self.cut: set[frozenset[IpAddress]] = set()  # between these two nothing gets through
        self.carried: list[tuple[float, Packet]] = []
        self._receivers: dict[IpAddress, Receiver] = {}

    def plug(self, address: IpAddress, receiver: Receiver) -> None:
        self._receivers[address] = receiver

    def unplug(self, address: IpAddress) -> None:
        self._receivers.pop(address, None)

    def is_plugged(self, address: IpAddress) -> bool:
        return address in self._receivers

    def send(self, packet: Packet) -> None:
        """Deliver it later, and perhaps reordered, twice or not at all."""
        ends = frozenset((packet.source, packet.destination))
        if ends & self.dead or ends in self.cut:
            return
        self.carried.append((self.clock.now, packet))
        carry(self.clock, self.weather, lambda: self._deliver(packet))

    def _deliver(self, packet: Packet) -> None:
        receiver = self._receivers.get(packet.destination)
        if receiver is not None:
            receiver(packet)


def carry(clock: Clock, weather: Weather, deliver: Callable[[], None]) -> None:
    """Deliver it as the weather demands."""
    copies = 2 if weather.duplication and clock.random.random() < weather.duplication else 1
    for _ in range(copies):
        if clock.random.random() >= weather.loss:
            clock.after(clock.random.uniform(*weather.delay_s), deliver)


class World(Clock):
    """A clock, and the Internet."""

    def __init__(self, seed: int = 0, weather: Weather = FAIR) -> None:
        super().__init__(seed)
        self.internet = Network(self, weather)
