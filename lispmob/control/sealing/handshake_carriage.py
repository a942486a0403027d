"""How the messages of a handshake travel: in an RLOC-probe and its answer, each as the key of an LCAF.

    Map-Request, P = 1, Source EID = initiator's EID, ITR-RLOC = LCAF 11 { suite 241, first message, RLOC }
    Map-Reply,   P = 1, record of the responder's EID, locator, p = 1 = LCAF 11 { suite 241, second message, RLOC }

A node that does not know the suite answers the probe, or refuses it. So only nodes with a known key get one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from lispmob.control.smr import solicited
from lispmob.errors import MalformedMessage
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.eid import from_prefix
from lispmob.wire.lcaf_contents import parts
from lispmob.wire.lcaf_types import Lcaf, SecurityKey, WireAddress
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord
from lispmob.wire.sealed_handshake import FIRST_OCTETS, SECOND_OCTETS, SUITE

KEYS_MAX: Final = 3  # RFC 8061: key-ids 1 to 3
ANSWER_TTL_MIN: Final = 1  # ours: the record of a probe's answer is not cached


class First(msgspec.Struct, frozen=True):
    """A first message, and its EIDs: hosts in one Instance-ID. `responder` None: a hub, which has no EID."""

    message: bytes
    initiator: EidPrefix
    responder: EidPrefix | None


def put_first(nonce: int, first: First, rloc: IpAddress) -> bytes:
    """The Map-Request; `rloc` is where the answer may go."""
    return MapRequest(
        nonce=nonce,
        source_eid=from_prefix(first.initiator),
        itr_rlocs=(SecurityKey(SUITE, (first.message,), rloc),),
        records=(EidRecord(None, 0) if first.responder is None else EidRecord.of(first.responder),),
        is_probe=True,
    ).encode()


def take_first(request: MapRequest) -> First | None:
    """The first message in a probe; None if it has none. Raises MalformedMessage."""
    message = _message(request.itr_rlocs, FIRST_OCTETS)
    if message is None:
        return None
    initiator, asked = solicited(request), request.records[0]
    responder = asked.eid_prefix
    is_odd = initiator is None or (responder is None and asked.eid is not None)
    is_odd = is_odd or (responder is not None and initiator is not None and initiator[:2] != responder[:2])
    if is_odd or request.dont_map_reply or not request.is_probe:
        raise MalformedMessage("rx_policy", "a handshake that does not say between whom")
    assert initiator is not None
    return First(message, initiator, responder)


def put_second(nonce: int, message: bytes, eid: EidPrefix, rloc: IpAddress) -> bytes:
    """The Map-Reply; `rloc` is the probed one. `eid`: the responder's, or the initiator's if a hub answers."""
    locator = Locator(SecurityKey(SUITE, (message,), rloc), is_local=True, is_probed=True)
    record = MappingRecord.of(eid, (locator,), ttl_min=ANSWER_TTL_MIN, is_authoritative=True)
    return MapReply(nonce, (record,), is_probe=True).encode()


def take_second(reply: MapReply) -> bytes | None:
    """The second message in an answer; None if it has none. Raises MalformedMessage."""
    locators = (locator.address for record in reply.records for locator in record.locators)
    return _message(locators, SECOND_OCTETS)


def _message(addresses: Iterable[WireAddress], octets: int) -> bytes | None:
    """The key of our suite among the addresses, other than key records."""
    found = [
        key for address in addresses for key in _keys(address) if key.cipher_suite == SUITE and key.address is not None
    ]
    if not found:
        return None
    if len(found) > 1 or not 1 <= len(found[0].keys) <= KEYS_MAX or len(found[0].keys[0]) != octets:
        raise MalformedMessage("rx_lcaf", f"{len(found)} LCAFs with handshakes, or one of another length")
    return found[0].keys[0]


def _keys(address: WireAddress) -> Iterator[SecurityKey]:
    if isinstance(address, SecurityKey):
        yield address
    elif isinstance(address, Lcaf):
        for part in parts(address):
            yield from _keys(part)
