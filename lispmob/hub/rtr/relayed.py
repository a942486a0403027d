"""Registrations that reach the Map-Server through an RTR (E19, steps 4 and 5): answered through it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

import msgspec
from msgspec.structs import replace

from lispmob.errors import MalformedMessage
from lispmob.hub.map_server.effect import Arrival, HubEffect
from lispmob.hub.map_server.map_server import MapServer
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Key, sign, sign_for_rtr
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.header import CONTROL_PORT, MessageType
from lispmob.wire.lisp_sec import AD_MS_RTR
from lispmob.wire.map_notify import MapNotify, RtrAuthentication

_AD_HEAD: Final = bytes((AD_MS_RTR, 0, 0, 0))


class RtrPeer(msgspec.Struct, frozen=True):
    """An RTR that may relay registrations; with a key, messages to it are authenticated."""

    address: IpAddress
    key: Key | None = None


class RelayedRegisters:
    """The Map-Server's side of an RTR. The register is authenticated end to end: an RTR can only lose or delay it."""

    def __init__(self, map_server: MapServer, rtrs: Iterable[RtrPeer] = ()) -> None:
        self.counters: Counter[str] = Counter()
        self._map_server = map_server
        self.on_rtrs(rtrs)

    def on_rtrs(self, rtrs: Iterable[RtrPeer]) -> None:
        """The configured RTRs have changed."""
        self._rtrs = {rtr.address: rtr for rtr in rtrs}

    def knows(self, address: IpAddress) -> bool:
        """True for an RTR that may relay."""
        return address in self._rtrs

    def on_encapsulated_register(self, arrival: Arrival, ecm: EncapsulatedControl, now: float) -> list[HubEffect]:
        """An ECM with N arrived, with a Map-Register in it."""
        rtr = self._rtrs.get(arrival.source)
        if ecm.message[0] >> 4 != MessageType.MAP_REGISTER or ecm.destination_port != CONTROL_PORT:
            self.counters["rx_policy"] += 1
            return []
        if rtr is None:
            self.counters["rx_policy"] += 1
            return []
        self.counters["rx_relayed_register"] += 1
        inner = Arrival(ecm.message, ecm.source, ecm.source_port, ecm.destination)
        effects = self._map_server.on_map_register(inner, now)
        return [
            self._wrap(effect, ecm, rtr, arrival) if isinstance(effect, SendControl) else effect for effect in effects
        ]

    def by_rtr(self, eid: EidPrefix, payload: bytes, own: IpAddress) -> list[SendControl]:
        """A publication for the node of an EID, by the RTR that it is registered through, with our proof (ours).

        None without such an RTR. `own` is our address that the RTR knows. The inner destination is the EID, since the
        node's own addresses are unknown here.
        """
        covering = self._map_server.registrations.covering(eid)
        places = {ip for part in (covering[0][1] if covering else ()) for at in part.record.locators for ip in at.ips}
        rtr = next((rtr for address, rtr in self._rtrs.items() if address in places), None)
        if rtr is None or rtr.key is None or rtr.address.version != own.version:
            return []
        source = own if own.version == eid.address.version else ip_address("::" if eid.family == 6 else "0.0.0.0")
        return [_for_rtr(source, eid.address, payload, rtr, own)]

    def on_old_register(self, arrival: Arrival, now: float) -> list[HubEffect]:
        """A bare Map-Register of an RTR of the drafts before -04: the answer ends with the RTR's authentication."""
        rtr = self._rtrs.get(arrival.source)
        if rtr is None:
            self.counters["rx_policy"] += 1
            return []
        self.counters["rx_relayed_register"] += 1
        effects = self._map_server.on_map_register(arrival, now)
        if rtr.key is None:
            return effects
        return [
            self._mark(effect, arrival.payload, rtr.key) if isinstance(effect, SendControl) else effect
            for effect in effects
        ]

    def _mark(self, sent: SendControl, register: bytes, key: Key) -> SendControl:
        """The Map-Notify with R and the RTR's authentication at its end, over all of it with its own digest zeroed."""
        notify = MapNotify.decode(sent.payload)
        prefix = notify.records[0].eid_prefix
        found = self._map_server.sites.of(prefix) if prefix else None
        assert found is not None, prefix  # it has just been registered
        site_key = dataclasses.replace(found[1].authenticate(register), key_id=notify.key_id, is_truncated=False)
        site_key = dataclasses.replace(site_key, is_truncated=len(notify.authentication) < site_key.mac_octets)
        blank = RtrAuthentication(key.key_id, int(key.algorithm), bytes(key.mac_octets))
        unproved = sign(replace(notify, rtr_authentication=blank), site_key)
        proof = sign_for_rtr(unproved, key).authentication
        return replace(sent, payload=unproved[: -len(proof)] + proof)

    def _wrap(self, notify: SendControl, ecm: EncapsulatedControl, rtr: RtrPeer, arrival: Arrival) -> SendControl:
        """The Map-Notify in an ECM with R for the RTR, which finds its state by nonce and inner destination."""
        return _for_rtr(ecm.destination, ecm.source, notify.payload, rtr, arrival.destination)


def _for_rtr(
    source: IpAddress, destination: IpAddress, message: bytes, rtr: RtrPeer, own: IpAddress | None
) -> SendControl:
    """An ECM with R: this message, between these inner addresses, is for a node of the RTR."""
    proof = None if rtr.key is None else _AD_HEAD + sign_for_rtr(message, rtr.key).encode()
    ecm = EncapsulatedControl(
        source, CONTROL_PORT, destination, CONTROL_PORT, message, authentication=proof, to_rtr=True
    )
    return SendControl(ecm.encode(), rtr.address, source=own)


def decode_relayed(payload: bytes) -> EncapsulatedControl | None:
    """The ECM if an RTR relayed it (N); None for any other, which is for the Map-Resolver."""
    try:
        ecm = EncapsulatedControl.decode(payload)
    except MalformedMessage:
        return None
    return ecm if ecm.relayed_by_rtr else None
