"""Answers Map-Requests for our own EIDs, as an ETR does: asked through the mapping system, directly, or by a probe.

A Map-Request is not authenticated, so replies are limited in rate, and go only where an asker can plausibly be. RFC
9301, 5.3 to 5.5 and 7.1.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.control.etr_security import ReplySigner
from lispmob.control.sealing.dialects import Dialects
from lispmob.protocol.datagram import Datagram
from lispmob.protocol.effect import Count, MachineEffect, SendControl
from lispmob.protocol.locator_set import LocatorSet
from lispmob.protocol.rate_limit import KeyedBuckets, TokenBucket, owner_of
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.address_class import may_be_rloc
from lispmob.wire.key_record import KeyRecord
from lispmob.wire.lcaf_contents import ip_addresses
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import MapRequest

REPLY_INTERVAL_S = 3.0  # RFC 9301, 5.5: one Map-Reply per 3 s to the same RLOC
REPLY_BURST = 3  # ours: an asker whose first answer was lost asks again after 1 s
PROBE_INTERVAL_S = 0.2  # ours, for each pair of locators: a prober asks once a second as long as it gets answers
PROBE_BURST = 40  # ours: a prober in doubt sends volleys (path.py), and counts a refused probe as lost
TOTAL_INTERVAL_S = 0.02  # ours: 50 answers per second in all
TOTAL_BURST = 50
PROBES_INTERVAL_S = 0.01  # ours: and 100 to probes, which ask each locator separately
PROBES_BURST = 200
PROBERS_MAX = 256  # ours: addresses whose last nonces are kept, of peers and of strangers

_PRIVATE: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""Addresses that are valid only near their owner (RFC 1918, RFC 6598, RFC 4193)."""


class Asked(msgspec.Struct, frozen=True):
    """A Map-Request and the path it took. `source_port` is the inner one if it came in an ECM.

    `is_known`: it claims to come from a peer, or from the mapping system; requests of strangers have limits of their
    own. `signer`: the reply has to be signed (LISP-SEC).
    """

    request: MapRequest
    source: IpAddress
    source_port: int
    arrived_at: IpAddress
    ifindex: int = 0
    is_encapsulated: bool = False
    is_known: bool = False
    signer: ReplySigner | None = None

    @classmethod
    def of(
        cls,
        request: MapRequest,
        datagram: Datagram,
        source_port: int,
        *,
        is_encapsulated: bool,
        is_known: bool,
        signer: ReplySigner | None = None,
    ) -> Asked:
        """The request that this datagram carried."""
        place = datagram.source, source_port, datagram.destination, datagram.ifindex
        return cls(request, *place, is_encapsulated, is_known, signer)


class Answerer:
    """Map-Replies for our EIDs. Keeps rate limits, and the latest probers: no timer is needed."""

    def __init__(self, eids: tuple[EidPrefix, ...], ttl_min: int, *, echoes: bool = False) -> None:
        self._eids = eids
        self._ttl_min = ttl_min
        self._echoes = echoes
        self._key_record: KeyRecord | None = None
        self.dialects: Dialects | None = None
        """Answers keys with keys (RFC 8061, lispers.net); None: none are answered."""
        # Two tables, so that strangers evict no peer. A peer's nonce proves its next SMR.
        self._probed_with: dict[bool, OrderedDict[IpAddress, int]] = {True: OrderedDict(), False: OrderedDict()}
        self._per_rloc: KeyedBuckets[tuple[int, bool, bool]] = KeyedBuckets(REPLY_INTERVAL_S, REPLY_BURST)
        self._per_pair: KeyedBuckets[tuple[IpAddress | int, IpAddress | None]] = KeyedBuckets(
            PROBE_INTERVAL_S, PROBE_BURST
        )
        # A limit for each kind of asker, known or not, probing or not: none uses up the share of another.
        self._totals = {
            (is_known, is_probe): TokenBucket(PROBES_INTERVAL_S, PROBES_BURST)
            if is_probe
            else TokenBucket(TOTAL_INTERVAL_S, TOTAL_BURST)
            for is_known in (False, True)
            for is_probe in (False, True)
        }

    def on_eids(self, eids: tuple[EidPrefix, ...], ttl_min: int, *, echoes: bool = False) -> None:
        """The local EIDs, the TTL of their mappings in minutes, and whether we echo nonces in data."""
        self._eids = eids
        self._ttl_min = ttl_min
        self._echoes = echoes

    def on_key_record(self, key_record: KeyRecord | None) -> None:
        """Our static key for our mappings; None: it is left out."""
        self._key_record = key_record

    def probe_nonce_of(self, prober: IpAddress) -> int | None:
        """The nonce of the last probe from this address that was answered. A peer that repeats it was probed here."""
        return next((nonces[prober] for nonces in self._probed_with.values() if prober in nonces), None)

    def on_map_request(self, asked: Asked, own: LocatorSet, now: float) -> list[MachineEffect]:
        """A Map-Request for a mapping arrived (not an SMR)."""
        request = asked.request
        if request.is_probe and asked.is_encapsulated:
            return [Count("rx_policy")]
        eids = [eid for record in request.records if (eid := self._owner(record.eid_prefix)) is not None]
        if not eids or not own:
            return [Count("rx_policy")]
        if request.dont_map_reply:
            return []
        destination = asked.source if request.is_probe else self._reply_address(asked, own)
        if destination is None or not may_be_rloc(destination) or destination in own.addresses:
            return [Count("rx_policy")]
        total = self._totals[asked.is_known, request.is_probe]
        if total.available_at(now) > now or not self._may_answer(destination, asked, own, now):
            return [Count("rx_rate")]
        total.take(now)
        probed = asked.arrived_at if request.is_probe else None
        records = tuple(own.to_record(eid, self._ttl_min, probed) for eid in dict.fromkeys(eids))
        if asked.signer is not None and self._key_record is not None:
            # Send the key only with LISP-SEC, which authenticates it. Open Overlay Router refuses any message with a
            # key.
            said = self._key_record.to_locator()
            records = tuple(replace(record, locators=(*record.locators, said)) for record in records)
        more: list[MachineEffect] = []
        if self.dialects is not None:
            leaves_from = self._send(b"", destination, asked, own).source
            if leaves_from is not None:
                records, more = self.dialects.on_asked(request, leaves_from, records, now)
        reply = MapReply(request.nonce, records, is_probe=request.is_probe, has_echo_nonce=self._echoes)
        if request.is_probe:
            self._probed_with[not asked.is_known].pop(destination, None)
            probed_with = self._probed_with[asked.is_known]
            probed_with[destination] = request.nonce
            probed_with.move_to_end(destination)
            if len(probed_with) > PROBERS_MAX:
                probed_with.popitem(last=False)
        payload = asked.signer.sign(reply) if asked.signer is not None else reply.encode()
        return [*more, self._send(payload, destination, asked, own), Count("tx_map_reply")]

    def _may_answer(self, destination: IpAddress, asked: Asked, own: LocatorSet, now: float) -> bool:
        if asked.request.is_probe:
            # In data the sender can write any other address.
            local = asked.arrived_at if asked.arrived_at in own.addresses else None
            # A peer has a limit of its own, which others in its IPv6 network do not use up.
            return self._per_pair.take((destination if asked.is_known else owner_of(destination), local), now)
        # A request may name the address of another host. It uses up nothing of what that host asks for through the
        # mapping system, and nothing of what it asks for with LISP-SEC.
        return self._per_rloc.take((owner_of(destination), asked.is_known, asked.signer is not None), now)

    def _owner(self, prefix: EidPrefix | None) -> EidPrefix | None:
        """The local EID-Prefix that a request is about."""
        return next((eid for eid in self._eids if prefix is not None and eid.covers(prefix)), None)

    def _reply_address(self, asked: Asked, own: LocatorSet) -> IpAddress | None:
        """An ITR-RLOC that we can reach, if possible the source of the request."""
        offered = [ip for rloc in asked.request.itr_rlocs for ip in ip_addresses(rloc)]
        near = _is_private(asked.source) or any(_is_private(address) for address in own.addresses)
        fitting = [
            ip
            for ip in offered
            # A private address of a distant asker belongs to another network: use it only if the asker is near.
            if ip.version in own.families
            and may_be_rloc(ip)
            and ip not in own.addresses
            and (near or not _is_private(ip))
        ]
        if asked.source in fitting:
            return asked.source
        return fitting[0] if fitting else None

    def _send(self, payload: bytes, destination: IpAddress, asked: Asked, own: LocatorSet) -> SendControl:
        if asked.request.is_probe and asked.arrived_at in own.addresses:
            # Back over the path that was probed.
            return SendControl(payload, destination, asked.source_port, asked.arrived_at, asked.ifindex)
        uplink = own.best(destination.version)
        if uplink is None:
            return SendControl(payload, destination, asked.source_port)
        return SendControl(payload, destination, asked.source_port, uplink.address, uplink.ifindex)


def _is_private(address: IpAddress) -> bool:
    return any(address in network for network in _PRIVATE if network.version == address.version)
