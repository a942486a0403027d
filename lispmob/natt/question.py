"""Makes a server send to a place of ours: a Map-Request whose answer goes there. Any Map-Resolver can do it."""

from __future__ import annotations

import msgspec

from lispmob.protocol.effect import SendControl
from lispmob.protocol.locator_set import LocalLocator
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.eid import from_prefix
from lispmob.wire.header import CONTROL_PORT
from lispmob.wire.map_request import EidRecord, MapRequest


class SendFromSparePort(msgspec.Struct, frozen=True):
    """Send one UDP datagram from the port of this uplink that is used only for measuring."""

    payload: bytes
    destination: IpAddress
    port: int
    source: IpAddress
    ifindex: int = 0


def question(
    locator: LocalLocator, eid: EidPrefix, resolver: IpAddress, nonce: int, place: IpAddress, port: int
) -> SendControl:
    """A Map-Request for our own EID; the Map-Reply comes from port 4342 of the resolver to `port` of `place`."""
    source = from_prefix(EidPrefix.host(eid.address, eid.instance_id))
    request = MapRequest(nonce, source, (place,), (EidRecord.of(eid),))
    ecm = EncapsulatedControl(eid.address, port, eid.address, CONTROL_PORT, request.encode())
    return SendControl(ecm.encode(), resolver, source=locator.address, ifindex=locator.ifindex)
