"""The proxy's policy: which registrations become forwarding entries (RFC 9301, 8.2; RFC 6832 for PITR and PETR).

As proxy ITR the hub encapsulates what the world sends to an EID; as proxy ETR it forwards what nodes send to the world,
except where an entry says PROHIBIT: private networks, and those that this machine itself is in.

It is its own Map-Server: it knows each move from the Map-Register itself, so it neither
asks nor listens to SMRs. Pure.
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

SLICE: Final = 128  # ours: mappings that are looked at in one go, which takes some milliseconds
ProxyEffect: TypeAlias = InstallMapping | RemoveMapping | AskWay


class Proxy:
    """Keeps the forwarding table equal to the registrations under the prefixes that are routed to the proxy."""

    def __init__(
        self,
        eids: Iterable[EidPrefix],
        *,
        asks_elsewhere: bool = False,
        denied: Iterable[EidPrefix] = (),
        allowed: Iterable[EidPrefix] = (),
    ) -> None:
        """`asks_elsewhere`: an RTR without a Map-Server next door, which looks up what nobody has registered here.

        Nothing is forwarded for nodes to what is `denied`, but for what is more specific and `allowed`.
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
        """A prefix that is sent to this locator and port, and the locator as it is installed; None: none is."""
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
        """The prefixes whose packets the kernel has to give to the proxy's device."""
        return tuple(prefix for prefix, _ in self._routed)

    def on_start(self) -> list[ProxyEffect]:
        """Packets to an EID that nobody has registered are dropped, not asked about: nobody else would know it."""
        return [effect for prefix in (*self.routes, *self._denied, *self._allowed) for effect in self._settle(prefix)]

    def on_networks(self, networks: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """This machine is in these networks now: nodes reach nothing there through it."""
        was, self._networks = self._networks, frozenset(networks)
        return [effect for prefix in was ^ self._networks for effect in self._settle(prefix)]

    def on_addresses(self, addresses: Iterable[IpAddress]) -> list[ProxyEffect]:
        """Our own RLOCs are others now: what is sent to one of them would come straight back."""
        own = frozenset(addresses)
        if own == self._own:
            return []
        self._own = own
        self._families = frozenset(address.version for address in own)
        return self._settle_all(self.routes)

    def on_routes(self, eids: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """Other prefixes are routed to the proxy."""
        was = self.routes
        self._routed = PrefixTable()
        for eid in eids:
            self._routed.insert(eid, True)
        return self._settle_all({*was, *self.routes})

    def _settle_all(self, first: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """These, and all mappings, may have another entry now: a slice of them has, `settle_some` has the others."""
        effects = [effect for prefix in first for effect in self._settle(prefix)]
        self._unsettled = iter(list(self._mappings))
        return [*effects, *self.settle_some()]

    def settle_some(self) -> list[ProxyEffect]:
        """Go on with what a change of our addresses or routes leaves to do; `has_unsettled` tells whether to call."""
        some = list(islice(self._unsettled, SLICE))
        self.has_unsettled = len(some) == SLICE
        return [effect for prefix in some for effect in self._settle(prefix)]

    def installed(self, prefixes: Iterable[EidPrefix]) -> list[ProxyEffect]:
        """The entries of these once more, of those that there are."""
        return [entry for prefix in prefixes if (entry := self._installed.get(prefix)) is not None]

    def on_relay(self, prefix: EidPrefix, bindings: tuple[Binding, ...]) -> list[ProxyEffect]:
        """A node is behind NATs, and this hub is its RTR: these are its places on this side; none, and it is not."""
        if bindings:
            self._relays[prefix] = bindings
            self._learned.pop(prefix, None)
        else:
            self._relays.pop(prefix, None)
        return self._settle(prefix)

    def on_learned(self, prefix: EidPrefix, record: MappingRecord | None) -> list[ProxyEffect]:
        """A Map-Server elsewhere says so; None: it is too old to be believed."""
        if record is None:
            self._learned.pop(prefix, None)
        else:
            self._learned[prefix] = record
        return self._settle(prefix)

    @property
    def watches(self) -> bool:
        """True while there is a node that has more than one way in: `on_traffic` wants to know what they carry."""
        return bool(self._with_choice)

    def on_traffic(self, used: Iterable[EidPrefix], heard: Iterable[IpAddress], now: float) -> list[ProxyEffect]:
        """Packets left for these prefixes, and came from these places, since the last call."""
        entries = [entry for prefix in used if (entry := self._installed.get(prefix)) is not None]
        asks = self._doubts.on_traffic(entries, frozenset(heard), now)
        return [*asks, *(effect for prefix in self._doubts.judge(now) for effect in self._settle(prefix))]

    def on_alive(self, prefix: EidPrefix, address: IpAddress, port: int, now: float) -> list[ProxyEffect]:
        """Somebody answered from there, for this prefix."""
        return self._settle(prefix) if self._doubts.on_alive(prefix, address, port, now) else []

    def on_registration(self, change: RegistrationChanged) -> list[ProxyEffect]:
        """A node registered, moved or left."""
        if change.record is None:
            self._mappings.pop(change.prefix, None)
        else:
            self._mappings[change.prefix] = change.record
        return self._settle(change.prefix)

    def _settle(self, prefix: EidPrefix) -> list[ProxyEffect]:
        """What makes the entry of one prefix what it has to be; nothing when it is already."""
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
        """False when the mapping that this hub has names no RTR of ours: the node has come out of its NATs since."""
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
        """True for an address that a host can be at; a private one only from a machine that is in a private network."""
        is_near = any(is_private(own) for own in self._own if own.version == address.version)
        return is_host(address) and (is_near or not is_private(address))


def _is_behind_nat(locator: Locator, record: MappingRecord) -> bool:
    """True for a place that a NAT is before: there is no way in but the port that an RTR has heard of."""
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
