"""Where an ITR that asks may be answered: at one of its ITR-RLOCs, or outside of its NAT. Pure."""

from __future__ import annotations

from collections.abc import Container

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.host_address import is_sendable
from lispmob.wire.address import IpAddress
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.map_request import MapRequest
from lispmob.wire.named_locator import is_private


def itr_rlocs(request: MapRequest, arrival: Arrival, families: Container[int]) -> list[IpAddress]:
    """The ITR-RLOCs of these families that the sender may speak for, and that an answer can reach.

    The one that the question came from, if it is among them, is the first: that way works.
    """
    fitting = [
        address
        for rloc in request.itr_rlocs
        for address in ip_addresses(rloc)
        if address.version in families
        and is_sendable(address, arrival.destination)
        # A stranger would have us write to ourselves, or into a private network, which only those in it can name.
        and not address == arrival.destination != arrival.source
        and (address.is_global or not arrival.source.is_global)
    ]
    return sorted(fitting, key=lambda address: address != arrival.source)


def is_behind_nat(request: MapRequest, arrival: Arrival) -> bool:
    """True for an asker that names only private addresses and comes by a public one: it does not know how it is seen.

    It is answered through the binding that it asked by, as an Info-Request is; elsewhere nothing could reach it.
    """
    named = [address for rloc in request.itr_rlocs for address in ip_addresses(rloc)]
    is_translated = bool(named) and all(map(is_private, named)) and not is_private(arrival.source)
    return is_translated and is_sendable(arrival.source, arrival.source)


def families_of(request: MapRequest) -> tuple[int, ...]:
    """What an asker can be reached by, as far as it says so (RFC 9301, 5.3)."""
    return tuple(sorted({address.version for rloc in request.itr_rlocs for address in ip_addresses(rloc)}))
