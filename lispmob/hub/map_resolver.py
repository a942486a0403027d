"""The Map-Resolver: Encapsulated Map-Requests in, Map-Replies out or requests passed on (RFC 9301, section 8.3).

The Map-Server of the same hub is asked directly; for EIDs of other Map-Servers the request goes on as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from lispmob.control.effect import CONTROL_PORT, SendControl
from lispmob.control.prefix_table import PrefixTable
from lispmob.control.rate_limit import KeyedBuckets, TokenBucket
from lispmob.errors import MalformedMessage
from lispmob.hub.answering import AskEtr, answer
from lispmob.hub.effect import Arrival, HubEffect
from lispmob.hub.map_server import MapServer
from lispmob.hub.registration import best_address, is_sendable
from lispmob.values import dataclass
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import MessageType
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.named_locator import is_rtr, partial
from lispmob.wire.record import MappingRecord

# Ours. RFC 9301 recommends one Map-Reply per 3 s and RLOC for an ETR; an ITR that starts asks for many EIDs at once.
REQUESTS_PER_SOURCE_S: Final = 20
BURST_PER_SOURCE: Final = 100
REQUESTS_S: Final = 2000
BURST: Final = 2000

RECORDS_PER_REQUEST: Final = 4  # ours: RFC 9301 has senders ask for one EID; each may cost a datagram
TO_MAP_SERVER_BIT: Final = 0x01  # M, in the first octet of an ECM


@dataclass(frozen=True, slots=True)
class RemoteMapServer:
    """A Map-Server elsewhere, which is asked about the EIDs of these prefixes."""

    address: IpAddress
    eids: tuple[EidPrefix, ...]


class MapResolver:
    """Answers ITRs. `families` are those of the addresses that we can send from (4, 6)."""

    def __init__(
        self, map_server: MapServer, remotes: Iterable[RemoteMapServer] = (), families: Iterable[int] = (4, 6)
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._map_server = map_server
        self._families = frozenset(families)
        self._per_source: KeyedBuckets[IpAddress] = KeyedBuckets(1 / REQUESTS_PER_SOURCE_S, BURST_PER_SOURCE)
        self._in_all = TokenBucket(1 / REQUESTS_S, BURST)
        self._remotes: PrefixTable[IpAddress] = PrefixTable()
        self.on_remotes(remotes)

    def on_families(self, families: Iterable[int]) -> None:
        """These are the families that we can send to, now that the sockets are open."""
        self._families = frozenset(families)

    def on_remotes(self, remotes: Iterable[RemoteMapServer]) -> None:
        """Other Map-Servers elsewhere are configured."""
        self._remotes = PrefixTable()
        for remote in remotes:
            for eid in remote.eids:
                self._remotes.insert(eid, remote.address)

    def on_encapsulated_control(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """An ECM came: answer the Map-Request in it, or pass it on."""
        if arrival.source == arrival.destination and arrival.source_port == CONTROL_PORT:
            # A registered locator is an address of this hub: what we sent to that "ETR" has come back to us.
            return self._drop("rx_policy")
        if not (self._per_source.take(arrival.source, now) and self._in_all.take(now)):
            return self._drop("rx_rate")
        try:
            ecm = EncapsulatedControl.decode(arrival.payload)
            if ecm.message[0] >> 4 != MessageType.MAP_REQUEST or ecm.destination_port != CONTROL_PORT:
                raise MalformedMessage("rx_type", "an ECM for an ETR or an RTR, not for a Map-Resolver")
            request = MapRequest.decode(ecm.message)
        except MalformedMessage as error:
            return self._drop(error.counter)
        if request.is_smr or request.dont_map_reply:
            return self._drop("rx_policy")
        if len(request.records) > RECORDS_PER_REQUEST:
            return self._drop("rx_limit")
        self.counters["rx_map_request"] += 1
        if not ecm.has_checksum:
            self.counters["rx_ecm_unsummed"] += 1
        effects: list[HubEffect] = []
        said: dict[EidPrefix | None, MappingRecord] = {}
        for record in request.records:
            asked = record.eid_prefix
            if asked is None:
                self.counters["rx_policy"] += 1
            elif (remote := self._remote_for(asked)) is not None:
                effects += self._pass_on(ecm, request, record, arrival, remote)
            elif isinstance(found := answer(self._map_server.sites, self._map_server.registrations, asked), AskEtr):
                if _is_behind(found.record, arrival.source):
                    self.counters["rx_rtr_asks"] += 1
                    continue
                effects += self._ask_etr(ecm, request, record, arrival, found.record)
            elif any(_is_behind(one, arrival.source) for one in found.records):
                self.counters["rx_rtr_asks"] += 1
            else:
                said.update((one.eid_prefix, _shown_to(one, arrival.source)) for one in found.records)
        if said:
            effects += self._reply(request, tuple(said.values()), ecm.source_port, arrival)
        return effects

    def _remote_for(self, asked: EidPrefix) -> IpAddress | None:
        """The other Map-Server to ask, unless a site of our own is the closer match."""
        remote = self._remotes.covering(asked)
        own = self._map_server.sites.of(asked)
        if not remote or (own is not None and own[0].mask_len >= remote[0][0].mask_len):
            return None
        return remote[0][1]

    def _pass_on(
        self, ecm: EncapsulatedControl, request: MapRequest, record: EidRecord, arrival: Arrival, remote: IpAddress
    ) -> list[HubEffect]:
        """To another Map-Server, marked as such; what is marked already goes no further, so that it cannot circle."""
        if ecm.to_map_server or remote in (arrival.source, arrival.destination):
            return self._drop("rx_loop")
        if len(request.records) == 1 and ecm.has_checksum:
            payload = bytes((arrival.payload[0] | TO_MAP_SERVER_BIT,)) + arrival.payload[1:]
        else:
            message = replace(request, records=(record,)).encode()
            payload = replace(ecm, to_map_server=True, message=message, has_checksum=True).encode()
        self.counters["tx_map_request_passed_on"] += 1
        return [SendControl(payload, remote)]

    def _ask_etr(
        self,
        ecm: EncapsulatedControl,
        request: MapRequest,
        record: EidRecord,
        arrival: Arrival,
        mapping: MappingRecord,
    ) -> list[HubEffect]:
        """To the ETR, unchanged (RFC 9301, 8.4): it answers the ITR itself."""
        etr = best_address(mapping, self._families, arrival.source)
        if etr is None:
            return self._drop("tx_no_etr")
        payload = arrival.payload
        if len(request.records) > 1 or not ecm.has_checksum:  # what leaves us has all its checksums
            message = replace(request, records=(record,)).encode()
            payload = replace(ecm, message=message, has_checksum=True).encode()
        self.counters["tx_map_request_to_etr"] += 1
        return [SendControl(payload, etr, source=_if_same_family(arrival.destination, etr))]

    def _reply(
        self, request: MapRequest, records: tuple[MappingRecord, ...], port: int, arrival: Arrival
    ) -> list[HubEffect]:
        itr = self._itr_rloc(request, arrival)
        if itr is None or port == 0:
            return self._drop("rx_policy")
        self.counters["tx_map_reply"] += 1
        payload = MapReply(request.nonce, records).encode()
        return [SendControl(payload, itr, port, source=_if_same_family(arrival.destination, itr))]

    def _itr_rloc(self, request: MapRequest, arrival: Arrival) -> IpAddress | None:
        """Where the answer goes: the first ITR-RLOC that we can reach and that the sender may speak for."""
        for rloc in request.itr_rlocs:
            for address in ip_addresses(rloc):
                if address.version not in self._families or not is_sendable(address, arrival.source):
                    continue
                if address == arrival.destination != arrival.source:
                    continue  # a stranger would have us write to ourselves
                if arrival.source.is_global and not address.is_global:
                    continue  # or into a private network, which only those in it can name
                return address
        return None

    def _drop(self, counter: str) -> list[HubEffect]:
        self.counters[counter] += 1
        return []


def _if_same_family(source: IpAddress, destination: IpAddress) -> IpAddress | None:
    """The address we were asked at, so that NATs and firewalls know the answer; the kernel's choice across families."""
    return source if source.version == destination.version else None


def _is_behind(record: MappingRecord, asker: IpAddress) -> bool:
    """True for a mapping that was registered through the asker, an RTR (E19): it knows the places behind it, R=0 here.

    Open Overlay Router's RTR asks when the node sends an SMR, and overwrites with the answer what it knows of the NAT.
    """
    ways = [one for one in record.locators if one.is_reachable and not is_rtr(one)]
    return any(asker in one.ips for one in ways) and any(not one.is_reachable for one in record.locators)


def _shown_to(record: MappingRecord, asker: IpAddress) -> MappingRecord:
    """What this asker is answered: all of it, but of a node of lispers.net's dialect behind NATs."""
    return replace(record, locators=partial(record.locators, (asker,)))
