"""The decisions of NAT traversal, for registrations, forwarding and the datapath. Plain values."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from lispmob.protocol.locator_set import EidRecords, LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.record import Locator

DataPortName: TypeAlias = Literal["pool", "fixed", "ephemeral"]


class Relay(msgspec.Struct, frozen=True):
    """An RTR that data of an uplink goes through.

    `rtr`: the address that others know it by, where packets for it go to another one, behind a translator's prefix.
    """

    address: IpAddress
    port: int
    priority: int = 1
    weight: int = 100
    rtr: IpAddress | None = None


class UplinkPlan(msgspec.Struct, frozen=True):
    """How one uplink sends. Without relays: directly to the mapping's locators; otherwise all goes through them."""

    locator: LocalLocator
    relays: tuple[Relay, ...] = ()
    data_port: DataPortName = "pool"
    admits_others: bool = False  # data may also come from others than the relays
    passes_zero: bool = False  # packets without a UDP checksum reach the relays
    is_usable: bool = True  # False: behind a NAT without a confirmed RTR; no useful packet can be sent


class NattPlan(msgspec.Struct, frozen=True):
    """The plan of all uplinks.

    `direct`: the uplinks that may send the ordinary Map-Register. `record_locators`: the locators in each of our
    records, of any sender, except for the EIDs in `eid_records`. `asks_mapping_system`: a Map-Reply can reach us, so
    mappings are looked up; otherwise `defaults` (0.0.0.0/0 and ::/0) are the whole map-cache. `map_version`: that of
    the records (RFC 9302).
    """

    direct: tuple[LocalLocator, ...] = ()
    record_locators: tuple[Locator, ...] = ()
    uplinks: tuple[UplinkPlan, ...] = ()
    defaults: tuple[Relay, ...] = ()
    asks_mapping_system: bool = True
    eid_records: EidRecords = ()
    map_version: int = 0

    def locators_for(self, eid: EidPrefix) -> tuple[Locator, ...]:
        """The locators in the record of this EID."""
        return next((locators for one, locators in self.eid_records if one == eid), self.record_locators)

    @property
    def rtrs(self) -> frozenset[IpAddress]:
        """Every RTR in use, by each of its addresses: whom data may come from on a translated uplink."""
        relays = [relay for uplink in self.uplinks for relay in uplink.relays]
        return frozenset(address for relay in relays for address in (relay.address, relay.rtr) if address is not None)
