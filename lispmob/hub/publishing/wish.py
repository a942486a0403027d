"""The contents of a Map-Request with N=1 (RFC 9437, 5). Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.lisp_sec import Protection
from lispmob.hub.publishing.subscription import Place
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import MappingRecord


class Wish(msgspec.Struct, frozen=True):
    """A requested subscription. `found` is the content of an ordinary Map-Reply."""

    request: MapRequest
    prefix: EidPrefix
    protection: Protection
    arrival: Arrival
    found: tuple[MappingRecord, ...]
    places: tuple[Place, ...]
    families: tuple[int, ...]


def places_of(addresses: Iterable[IpAddress], binding: Place | None) -> tuple[Place, ...]:
    """The destinations of publications: outside of the subscriber's NAT, or its ITR-RLOCs, in this order."""
    if binding is not None:
        return (binding,)
    return tuple(Place(address) for address in dict.fromkeys(addresses))
