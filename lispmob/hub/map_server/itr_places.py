"""Where an asking ITR may be answered, through its NAT or at an ITR-RLOC, and which locators it is shown. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.host_address import is_sendable, is_translated
from lispmob.hub.map_server.registration import is_usable
from lispmob.wire.address import IpAddress
from lispmob.wire.key_record import is_key_record
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.map_request import MapRequest
from lispmob.wire.named_locator import is_private, is_rtr, partial
from lispmob.wire.record import Locator, MappingRecord

BRIDGE_PRIORITY: Final = 253  # ours: after every locator that the asker may reach itself; 254 has a meaning
BRIDGE_WEIGHT: Final = 100


def itr_rlocs(request: MapRequest, arrival: Arrival, families: Container[int]) -> list[IpAddress]:
    """The ITR-RLOCs of these families that the sender may name, and that an answer can reach.

    If the source of the request is among them it comes first: that path works.
    """
    fitting = [
        address
        for rloc in request.itr_rlocs
        for address in ip_addresses(rloc)
        if address.version in families
        and is_sendable(address, arrival.destination)
        # A stranger could make us send to ourselves, or into a private network, which only its own hosts can name.
        and not address == arrival.destination != arrival.source
        and (address.is_global or not arrival.source.is_global)
    ]
    return sorted(fitting, key=lambda address: address != arrival.source)


def is_behind_nat(request: MapRequest, arrival: Arrival) -> bool:
    """True for an asker that names only addresses behind a NAT, and comes from another one, which it cannot know.

    It is answered through the binding of its request, as for an Info-Request; no other address could reach it.
    """
    named = [address for rloc in request.itr_rlocs for address in ip_addresses(rloc)]
    is_behind = bool(named) and all(map(is_translated, named)) and not is_private(arrival.source)
    return is_behind and is_sendable(arrival.source, arrival.source)


def families_of(request: MapRequest) -> tuple[int, ...]:
    """The families that an asker can be reached in, as far as it says so (RFC 9301, 5.3)."""
    return tuple(sorted({address.version for rloc in request.itr_rlocs for address in ip_addresses(rloc)}))


def is_registered_through(record: MappingRecord, asker: IpAddress) -> bool:
    """True for a mapping that was registered through the asker, an RTR (E19): it knows the R=0 locators behind it.

    Open Overlay Router's RTR asks when the node sends an SMR, and replaces its knowledge of the NAT by the answer.
    """
    if all(locator.is_reachable or is_key_record(locator) for locator in record.locators):
        return False
    return any(asker in locator.ips for locator in record.locators if locator.is_reachable and not is_rtr(locator))


def shown_to(record: MappingRecord, asker: IpAddress) -> MappingRecord:
    """The record for this asker: complete, except for nodes of lispers.net's dialect behind NATs."""
    shown = partial(record.locators, (asker,))
    return record if shown == record.locators else replace(record, locators=shown)


class Relays(msgspec.Struct, frozen=True):
    """Our addresses as a relay between the families. `senders`: by address, the one that data leaves from beside it."""

    own: tuple[IpAddress, ...] = ()
    senders: Mapping[IpAddress, IpAddress] = msgspec.field(default_factory=dict)

    def bridge(self, record: MappingRecord, families: Iterable[int], asked_at: IpAddress) -> MappingRecord:
        """The record with one of them as its last locator where asker and mapping need it."""
        return bridged(record, self.own, families, self.senders.get(asked_at, asked_at))


def bridged(
    record: MappingRecord, relays: tuple[IpAddress, ...], families: Iterable[int], asked_at: IpAddress
) -> MappingRecord:
    """With ourselves as the last locator, if asker and mapping have no family in common and we have both.

    The asker's families are those that it wants the answer in (RFC 9301, 5.3).
    """
    if not relays:
        return record
    if record.eid_prefix is None:
        return record  # a name leads to EIDs, which are no encapsulation destinations
    usable = {address.version for locator in record.locators if is_usable(locator) for address in locator.ips}
    has = set(families)
    if not usable or usable & has or not {ip.version for ip in relays} >= usable | has:
        return record
    fitting = [ip for ip in relays if ip.version in has]
    ours = asked_at if asked_at in fitting else fitting[0]
    return replace(record, locators=(*record.locators, Locator(ours, BRIDGE_PRIORITY, BRIDGE_WEIGHT)))


def if_same_family(source: IpAddress, destination: IpAddress) -> IpAddress | None:
    """The address that was asked, so that NATs and firewalls admit the answer; the kernel's choice across families."""
    return source if source.version == destination.version else None
