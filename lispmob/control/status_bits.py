"""Locator-Status-Bits (RFC 9300, 10): which locators of its mapping a sender says are up, bit n for locator n.

The bits are unauthenticated, and may refer to another version of the mapping. So a bit that falls only causes a probe
of that locator, and one that rises causes a probe if the locator was down. Bits count only in data from a locator of
the mapping in question. RFC 9300, 4.1, forbids the bits on the public Internet: we send none by default.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from lispmob.control.map_cache import MapCacheEntry
from lispmob.protocol.effect import UseStatusBits
from lispmob.protocol.locator_set import MAX_LOCATORS, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

SILENT_S: Final = 300.0  # RFC 9301, 6.1: how long after an SMR others may still use the old numbering
KNOWN_MAX: Final = 1024  # ours: mappings whose bits are kept; a forgotten one costs one needless probe
ALL_UP: Final = (1 << MAX_LOCATORS) - 1


class Said(NamedTuple):
    """The locators whose bits have fallen, and those whose bits have risen."""

    fallen: tuple[IpAddress, ...] = ()
    risen: tuple[IpAddress, ...] = ()


class HeardStatus:
    """The bits of peers. Locators are up until a bit says otherwise."""

    def __init__(self) -> None:
        self._known: OrderedDict[EidPrefix, tuple[tuple[Locator, ...], int]] = OrderedDict()

    def on_bits(self, entry: MapCacheEntry, source: IpAddress, bits: int, width: int) -> Said | None:
        """Data of this mapping came from `source` with these bits; None: `source` is none of its locators."""
        if entry.prefix.mask_len == 0 or not any(source in locator.ips for locator in entry.locators):
            return None
        locators = in_order(entry.locators)
        before_locators, before = self._known.pop(entry.prefix, (locators, ALL_UP))
        if [before_locator.address for before_locator in before_locators] != [locator.address for locator in locators]:
            before = ALL_UP
        unsaid = ALL_UP & ~((1 << min(width, len(locators))) - 1)
        bits |= unsaid
        self._known[entry.prefix] = locators, bits
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return Said(_named(locators, before & ~bits), _named(locators, bits & ~before))


class OwnStatus:
    """Our own bits. None are sent while peers may have other ordinals, or behind a NAT, where records name RTRs."""

    def __init__(self, *, accepts: bool, sends: bool) -> None:
        self._accepts, self._sends = accepts, sends
        self._order: tuple[IpAddress, ...] = ()
        self._quiet_until: float | None = None
        self._bits: int | None = None
        self._said = UseStatusBits(accepts=False, bits=None)  # the datapath's state at its start

    def wake_at(self) -> float | None:
        """When to call on_timer, in monotonic seconds."""
        return self._quiet_until if self._sends else None

    def on_config(self, *, accepts: bool, sends: bool) -> list[UseStatusBits]:
        """The configuration was reloaded."""
        self._accepts, self._sends = accepts, sends
        return self._say()

    def on_locators(self, own: LocatorSet, is_silent: Callable[[IpAddress], bool], now: float) -> list[UseStatusBits]:
        """Our mapping has changed to these locators; `is_silent` gives those that reach nothing."""
        order = tuple(locator.address for locator in own.locators) if own.record_locators is None else ()
        if order != self._order:
            # At the start no peer has our mapping; afterwards an SMR reports every change.
            self._quiet_until = now + SILENT_S if self._order else None
            self._order = order
        self._bits = sum(1 << place for place, one in enumerate(order) if not is_silent(one)) if order else None
        return self._say()

    def on_timer(self, now: float) -> list[UseStatusBits]:
        """A deadline may have passed."""
        if self._quiet_until is not None and now >= self._quiet_until:
            self._quiet_until = None
        return self._say()

    def _say(self) -> list[UseStatusBits]:
        says = UseStatusBits(self._accepts, self._bits if self._sends and self._quiet_until is None else None)
        if says == self._said:
            return []
        self._said = says
        return [says]


def in_order(locators: Iterable[Locator]) -> tuple[Locator, ...]:
    """In the order of their ordinals: IPv4, IPv6, then other address types in their given order (RFC 9301, 5.4)."""
    return tuple(sorted(locators, key=_rank))


def _rank(locator: Locator) -> tuple[int, int]:
    address = locator.address
    return (address.version, int(address)) if isinstance(address, IpAddress) else (MAX_LOCATORS, 0)


def _named(locators: tuple[Locator, ...], bits: int) -> tuple[IpAddress, ...]:
    return tuple(ip for place, one in enumerate(locators) if bits >> place & 1 for ip in one.ips)
