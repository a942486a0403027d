"""An RTR, its Map-Server and a node that registers through it, without sockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count

from msgspec.structs import replace

from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.map_server import MapServer
from lispmob.hub.rtr.relayed import RelayedRegisters, RtrPeer
from lispmob.hub.rtr.rtr import MapServerLink, Rtr, RtrPlaneEffect
from lispmob.protocol.effect import SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.data_header import split_data_packet
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_request import MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.hub.exchange import HUB, KEY, eid, site

RTR_KEY = Key(b"between servers", key_id=1, algorithm=Algorithm.HMAC_SHA_1_96)
RTR, NAT, OTHER_NAT = (ip_address(text) for text in ("198.51.100.77", "203.0.113.200", "203.0.113.201"))
WIFI, LTE = ip_address("192.168.1.2"), ip_address("10.64.0.2")
EID, XTR_ID = eid("10.1.0.1/32"), bytes(range(16))


@dataclass
class Scene:
    """An RTR and its Map-Server, and a node that registers through it."""

    rtr: Rtr = field(default_factory=lambda: Rtr([MapServerLink(HUB, RTR_KEY)], [RTR]))
    server: RelayedRegisters = field(
        default_factory=lambda: RelayedRegisters(MapServer([site("10.1.0.0/16")]), [RtrPeer(RTR, RTR_KEY)])
    )
    nonces: Iterable[int] = field(default_factory=lambda: count(1))

    def register(
        self,
        private: IpAddress = WIFI,
        public: tuple[IpAddress, int] = (NAT, 20001),
        *,
        listed: Iterable[tuple[IpAddress, int, int]] = (),
        ttl_min: int = 10,
        key: Key = KEY,
        eid: EidPrefix = EID,
        **changes: object,
    ) -> Arrival:
        locators = [Locator(RTR)] + [Locator(ip, p, w, is_local=True, is_reachable=False) for ip, p, w in listed]
        record = MappingRecord.of(eid, locators, ttl_min=ttl_min, is_authoritative=True)
        nonce = next(iter(self.nonces))
        message = MapRegister(nonce, (record,), proxy_map_reply=True, want_map_notify=True, xtr_id=XTR_ID)
        message = replace(message, **changes)
        ecm = EncapsulatedControl(private, 4342, HUB, 4342, sign(message, key), to_rtr=True)
        return Arrival(ecm.encode(), *public, RTR)

    def at_rtr(self, arrival: Arrival, now: float = 0.0) -> list[RtrPlaneEffect]:
        return self.rtr.on_encapsulated_control(arrival, EncapsulatedControl.decode(arrival.payload), now)

    def at_server(self, sent: SendControl, now: float = 0.0) -> SendControl:
        arrival = Arrival(sent.payload, RTR, 4342, HUB)
        effects = self.server.on_encapsulated_register(arrival, EncapsulatedControl.decode(sent.payload), now)
        return next(effect for effect in effects if isinstance(effect, SendControl))

    def all_the_way(self, arrival: Arrival, now: float = 0.0) -> list[RtrPlaneEffect]:
        (onward,) = self.at_rtr(arrival, now)
        assert isinstance(onward, SendControl)
        back = self.at_server(onward, now)
        return self.at_rtr(Arrival(back.payload, HUB, 4342, RTR), now)

    def is_asked(self, effects: Iterable[RtrPlaneEffect], address: IpAddress, port: int) -> bool:
        """True when the node at this address and port is asked to register again."""
        for effect in effects:
            if isinstance(effect, SendControl) and effect.payload[0] >> 4 == 0:
                message = parse_ip_udp(split_data_packet(effect.payload)[1]).payload
                if message[0] >> 4 == 1 and (effect.destination, effect.port, effect.source) == (address, port, RTR):
                    return MapRequest.decode(message).is_smr
        return False

    def places(self, prefix: EidPrefix = EID) -> list[tuple[str, int, int, int]]:
        found = self.rtr.entries.get(prefix)
        return [
            (str(binding.address), binding.port, binding.priority, binding.weight)
            for binding in (found.usable() if found else ())
        ]
