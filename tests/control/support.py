"""What the tests of the machines share: addresses with names, and a clock that runs from timer to timer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from ipaddress import ip_address
from itertools import count
from typing import Any, Protocol, TypeVar

from lispmob.protocol.effect import MachineEffect, SendControl
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import MapRequest
from lispmob.wire.message import decode_control

E = TypeVar("E")


class Timed(Protocol):
    """A machine with a deadline."""

    def wake_at(self) -> float | None: ...
    def on_timer(self, now: float) -> list[MachineEffect]: ...


def ip(text: str) -> IpAddress:
    return ip_address(text)


def prefix(text: str) -> EidPrefix:
    return EidPrefix.parse(text)


KEY = Key(b"a secret")
EID = prefix("10.1.0.1/32")
EID6 = prefix("2001:db8:e::1/128")
SERVER = ip("192.0.2.1")
RESOLVER = ip("192.0.2.1")
SPARE_RESOLVER = ip("192.0.2.2")
WIFI = LocalLocator(ip("198.51.100.10"), 2, "wlan0", priority=1)
LTE = LocalLocator(ip("203.0.113.20"), 3, "wwan0", priority=2)
WIFI6 = LocalLocator(ip("2001:db8:a::10"), 2, "wlan0", priority=1)


def locators(*ones: LocalLocator, version: int = 1) -> LocatorSet:
    return LocatorSet.of(version, ones)


def nonces(first: int = 1) -> Callable[[], int]:
    return count(first).__next__


def run_until(machine: Timed, deadline: float) -> list[tuple[float, list[MachineEffect]]]:
    """Fire every timer up to the deadline; returns the effects of each with its time."""
    happened: list[tuple[float, list[MachineEffect]]] = []
    for _ in range(10_000):
        at = machine.wake_at()
        if at is None or at > deadline:
            return happened
        happened.append((at, machine.on_timer(at)))
    raise AssertionError("10000 timers: the machine goes round in circles")


def only(effects: Iterable[object], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def register_in(effects: Sequence[object]) -> MapRegister:
    """The Map-Register among the effects, decoded."""
    message = decode_control(only(effects, SendControl)[0].payload)
    assert isinstance(message, MapRegister)
    return message


def request_in(effect: SendControl) -> MapRequest:
    """The Map-Request in this message, plain or in an ECM."""
    message = decode_control(effect.payload)
    inner = decode_control(message.message) if hasattr(message, "message") else message
    assert isinstance(inner, MapRequest)
    return inner


def reachable(table: Mapping[Any, frozenset[Any]], first: Enum) -> set[Enum]:
    """The states that a machine can come to from the first one."""
    reached: set[Enum] = set()
    waiting = [first]
    while waiting:
        state = waiting.pop()
        if state not in reached:
            reached.add(state)
            waiting += table[state]
    return reached
