"""The proxy's policy: which registrations become forwarding entries (RFC 9301, 8.2; RFC 6832 for PITR and PETR).

As proxy ITR the hub encapsulates packets of non-LISP hosts to EIDs; as proxy ETR it forwards packets of nodes to them,
except where an entry says PROHIBIT: private networks, and the networks of this machine.

It is its own Map-Server: it learns each move from the Map-Register itself, so it needs no lookups and no SMRs. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from lispmob.hub.map_server.effect import RegistrationChanged
from lispmob.hub.map_server.host_address import is_host, is_private
from lispmob.hub.map_server.registration import is_usable
from lispmob.hub.rtr.nat_binding import Binding
from lispmob.hub.rtr.way_doubts import AskWay, WayDoubts
from lispmob.protocol.effect import InstallMapping, RemoveMapping, UsableLocator
from lispmob.protocol.prefix_table import PrefixTable
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.named_locator import has_port, is_named, partial, place_of
from lispmob.wire.record import Locator, MappingRecord

SLICE: Final = 128  # ours: mappings processed at a time, which takes some milliseconds
ProxyEffect: TypeAlias = InstallMapping | RemoveMapping | AskWay


class Proxy:
    """Keeps the forwarding table equal to the registrations in the prefixes that are routed to the proxy."""

    def __init__(
        self,
        eids: Iterable[EidPrefix],
        *,
        asks_elsewhere: bool = False,
        denied: Iterable[EidPrefix] = (),
        allowed: Iterable[EidPrefix] = (),
    ) -> None:
        """`asks_elsewhere`: an RTR without a local Map-Server, which looks up unregistered EIDs.

        Packets to `denied` prefixes are not forwarded, except to more specific `allowed` ones.
        """
        self._asks_elsewhere = asks_elsewhere
        self._denied = frozenset(denied)
        self._allowed = frozenset(allowed)
        self._networks: frozenset[EidPrefix] = frozenset()
        self._routed: PrefixTable[bool] = PrefixTable()
        self._installed: dict[EidPrefix, InstallMapping] = {}
        self._mappings: dict[EidPrefix, MappingRecord] = {}
        self._own: frozenset[IpAddress] = frozenset()
        self._families: frozenset[int] = frozenset()
        self._learned: dict[EidPrefix, MappingRecord] = {}
        self._relays: dict[EidPrefix, tuple[Binding, ...]] = {}
        self._doubts = WayDoubts()
        self._with_choice: set[EidPrefix] = set()
        self._served: dict[tuple[IpAddress, int], EidPrefix] = {}
        self._unsettled: Iterator[EidPrefix] = iter(())
        self.has_unsettled = False
        for eid in eids:
            self._routed.insert(eid, True)

    def served(self, address: IpAddress, port: int) -> tuple[EidPrefix, UsableLocator] | None:
        """A prefix with this locator and port, and the locator as installed; None: there is none."""
        prefix = self._served.get((address, port))
        installed = None if prefix is None else self._installed.get(prefix)
        locators = () if installed is None else installed.locators
        found = next((locator for locator in locators if (locator.address, locator.port) == (address, port)), None)
        if prefix is None or found is None:
            self._served.pop((address, port), None)
            return None
        return prefix, found

    @property
    def routes(self) -> tuple[EidPrefix, ...]:
        """The prefixes that the kernel has to route to the proxy's device."""
        return tuple(prefix for prefix, _ in self._routed)

    def on_start(self) -> list[ProxyEffect]:
        """Packets to an unregistered EID are dropped without a lookup: no other server has it."""
        return [effect for prefix in (*self.routes, *self._denied, *self._allowed) for effect in self._settle(prefix)]

    def on_networks(self, networks: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """The networks of this machine have changed: nodes do not reach them through it."""
        was, self._networks = self._networks, frozenset(networks)
        return [effect for prefix in was ^ self._networks for effect in self._settle(prefix)]

    def on_addresses(self, addresses: Iterable[IpAddress]) -> list[ProxyEffect]:
        """Our own RLOCs have changed: packets to one of them would come straight back."""
        own = frozenset(addresses)
        if own == self._own:
            return []
        self._own = own
        self._families = frozenset(address.version for address in own)
        return self._settle_all(self.routes)

    def on_routes(self, eids: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """The prefixes that are routed to the proxy have changed."""
        was = self.routes
        self._routed = PrefixTable()
        for eid in eids:
            self._routed.insert(eid, True)
        return self._settle_all({*was, *self.routes})

    def _settle_all(self, first: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """Compute the entries of these first, then of all mappings: one slice here, the rest in `settle_some`."""
        effects = [effect for prefix in first for effect in self._settle(prefix)]
        self._unsettled = iter(list(self._mappings))
        return [*effects, *self.settle_some()]

    def settle_some(self) -> list[ProxyEffect]:
        """Continue a change of our addresses or routes; `has_unsettled` says whether to call it."""
        some = list(islice(self._unsettled, SLICE))
        self.has_unsettled = len(some) == SLICE
        return [effect for prefix in some for effect in self._settle(prefix)]

    def installed(self, prefixes: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """The existing entries of these prefixes again."""
        return [entry for prefix in prefixes if (entry := self._installed.get(prefix)) is not None]

    def on_relay(self, prefix: EidPrefix, bindings: tuple[Binding, ...]) -> list[ProxyEffect]:
        """A node is behind NATs, and this hub is its RTR: its outside places; empty: no longer."""
        if bindings:
            self._relays[prefix] = bindings
            self._learned.pop(prefix, None)
        else:
            self._relays.pop(prefix, None)
        return self._settle(prefix)

    def on_learned(self, prefix: EidPrefix, record: MappingRecord | None) -> list[ProxyEffect]:
        """The answer of another Map-Server; None: it has expired."""
        if record is None:
            self._learned.pop(prefix, None)
        else:
            self._learned[prefix] = record
        return self._settle(prefix)

    @property
    def watches(self) -> bool:
        """True while a node has more than one path: `on_traffic` needs their traffic then."""
        return bool(self._with_choice)

    def on_traffic(self, used: Iterable[EidPrefix], heard: Iterable[IpAddress], now: float) -> list[ProxyEffect]:
        """The prefixes that packets were sent to, and the places that packets came from, since the last call."""
        entries = [entry for prefix in used if (entry := self._installed.get(prefix)) is not None]
        asks = self._doubts.on_traffic(entries, frozenset(heard), now)
        return [*asks, *(effect for prefix in self._doubts.judge(now) for effect in self._settle(prefix))]

    def on_alive(self, prefix: EidPrefix, address: IpAddress, port: int, now: float) -> list[ProxyEffect]:
        """An answer came from there, for this prefix."""
        return self._settle(prefix) if self._doubts.on_alive(prefix, address, port, now) else []

    def on_registration(self, change: RegistrationChanged) -> list[ProxyEffect]:
        """A node registered, moved or left."""
        if change.record is None:
            self._mappings.pop(change.prefix, None)
        else:
            self._mappings[change.prefix] = change.record
        return self._settle(change.prefix)

    def _settle(self, prefix: EidPrefix) -> list[ProxyEffect]:
        """The effects that bring the entry of one prefix up to date; none if it is."""
        wanted = self._entry(prefix)
        self._doubts.forget(prefix, wanted.locators if wanted is not None else ())
        wanted = self._doubts.demoted(wanted) if wanted is not None else None
        has_choice = wanted is not None and len(wanted.locators) > 1
        (self._with_choice.add if has_choice else self._with_choice.discard)(prefix)
        if wanted == self._installed.get(prefix):
            return []
        if wanted is None:
            del self._installed[prefix]
            return [RemoveMapping(prefix)]
        self._installed[prefix] = wanted
        self._served.update({(locator.address, locator.port): prefix for locator in wanted.locators})
        return [wanted]

    def _entry(self, prefix: EidPrefix) -> InstallMapping | None:
        record = self._mappings.get(prefix)
        if (bindings := self._relays.get(prefix)) and self._is_relayed(record):
            places = [*map(_place, bindings), *(self._locators(record) if record is not None else ())]
            return InstallMapping(prefix, "ENCAPSULATE", tuple(sorted(places, key=lambda one: one.priority)))
        elsewhere = self._learned.get(prefix)
        if record is None and elsewhere is not None and (locators := self._locators(elsewhere)):
            return InstallMapping(prefix, "ENCAPSULATE", locators)
        is_served = bool(self._routed.covering(prefix)) and not prefix.instance_id
        if record is not None and is_served and (locators := self._locators(record)):
            return InstallMapping(prefix, "ENCAPSULATE", locators)
        if is_served and (record is not None or prefix in self._routed):
            return InstallMapping(prefix, "MISS" if record is None and self._asks_elsewhere else "DROP")
        if prefix in self._allowed:
            return InstallMapping(prefix, "NATIVE")
        is_denied = prefix in self._denied or prefix in self._networks
        return InstallMapping(prefix, "PROHIBIT") if is_denied else None

    def _is_relayed(self, record: MappingRecord | None) -> bool:
        """False when our mapping names no RTR of ours: the node has left its NATs."""
        return record is None or any(address in self._own for locator in record.locators for address in locator.ips)

    def _locators(self, record: MappingRecord) -> tuple[UsableLocator, ...]:
        usable = [
            UsableLocator(address, locator.priority, locator.weight)
            for locator in partial(record.locators, self._own)
            if is_usable(locator) and not _is_behind_nat(locator, record)
            for address in locator.ips
            if address.version in self._families and address not in self._own and self._may_be_sent_to(address)
        ]
        return tuple(sorted(usable, key=lambda locator: locator.priority))

    def _may_be_sent_to(self, address: IpAddress) -> bool:
        """True for an address of a host; a private one only if this machine is in a private network."""
        is_near = any(is_private(own) for own in self._own if own.version == address.version)
        return is_host(address) and (is_near or not is_private(address))


def _is_behind_nat(locator: Locator, record: MappingRecord) -> bool:
    """True for a locator behind a NAT: it is reached only at the port that an RTR has learned."""
    return place_of(locator) is not None and (is_named(record.locators) or has_port(locator))


def _place(binding: Binding) -> UsableLocator:
    return UsableLocator(
        binding.address,
        binding.priority,
        binding.weight,
        port=binding.port,
        source=binding.rtr,
        source_port=binding.source_port,
    )
