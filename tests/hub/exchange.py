"""Builders for the hub's tests: sites, nodes that register, ITRs that ask, and real captures. No sockets, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from pathlib import Path

from lispmob.hub.dispatch import ControlPlane
from lispmob.hub.map_server.effect import Arrival
from lispmob.hub.map_server.site import Site
from lispmob.protocol.effect import Event, SendControl
from lispmob.wire.address import EidPrefix, IpAddress
from lispmob.wire.auth import Algorithm, Key, sign
from lispmob.wire.ecm import EncapsulatedControl
from lispmob.wire.ip_udp import parse_ip_udp
from lispmob.wire.map_notify import MapNotify
from lispmob.wire.map_register import MapRegister
from lispmob.wire.map_reply import MapReply
from lispmob.wire.map_request import EidRecord, MapRequest
from lispmob.wire.record import Locator, MappingRecord
from tests.wire.pcap import read_pcap

HUB = ip_address("198.51.100.1")
KEY = Key(b"a key of the site", key_id=0, algorithm=Algorithm.HMAC_SHA_256_128)
CLOCK = count(1)  # nodes count by the clock: a later message has a larger nonce
CAPTURES = Path(__file__).resolve().parent.parent / "captures"


def eid(text: str) -> EidPrefix:
    return EidPrefix.parse(text)


def site(*eids: str, name: str = "home", key: Key = KEY, more_specifics: bool = True, **options: object) -> Site:
    settings = {"accept_more_specifics": more_specifics, **options}
    return Site(name, tuple(map(eid, eids)), (key,), **settings)  # type: ignore[arg-type]


def plane(*sites: Site) -> ControlPlane:
    return ControlPlane(sites)


@dataclass
class Xtr:
    """A node of a site: registers at `address`, its only locator unless the test gives others."""

    address: IpAddress
    key: Key = KEY
    nonces: Iterator[int] = field(default_factory=lambda: CLOCK)
    xtr_id: bytes | None = None

    def register(self, *eids: str, rlocs: Iterable[str] | None = None, ttl_min: int = 10, **flags: object) -> Arrival:
        places = [str(self.address)] if rlocs is None else rlocs
        said = [flags.pop("key").to_locator()] if "key" in flags else []  # type: ignore[attr-defined]
        locators = (*(Locator(ip_address(place), is_local=True) for place in places), *said)
        records = tuple(MappingRecord.of(eid(e), locators, ttl_min=ttl_min, is_authoritative=True) for e in eids)
        settings = {"proxy_map_reply": True, "want_map_notify": True, "xtr_id": self.xtr_id, **flags}
        if self.xtr_id is not None:
            settings.setdefault("site_id", bytes(8))
        nonce = settings.pop("nonce", None)
        message = MapRegister(next(self.nonces) if nonce is None else nonce, records, **settings)  # type: ignore[arg-type]
        return Arrival(sign(message, self.key), self.address, 4342, HUB)

    def withdraw(self, *eids: str, **flags: object) -> Arrival:
        return self.register(*eids, rlocs=(), ttl_min=0, **flags)


def xtr(address: str, **options: object) -> Xtr:
    return Xtr(ip_address(address), **options)  # type: ignore[arg-type]


def ask(
    asked: str,
    *,
    itr: str = "203.0.113.7",
    rlocs: Iterable[str] | None = None,
    nonce: int = 7,
    source: str | None = None,
    **flags: object,
) -> Arrival:
    prefix = eid(asked)
    places = [itr] if rlocs is None else rlocs
    request = MapRequest(
        nonce,
        None,
        tuple(ip_address(place) for place in places),
        (EidRecord.of(prefix),),
        **flags,  # type: ignore[arg-type]
    )
    inner = ip_address("192.0.2.200" if prefix.family == 4 else "2001:db8::200")
    ecm = EncapsulatedControl(inner, 50000, prefix.address, 4342, request.encode())
    return Arrival(ecm.encode(), ip_address(source or itr), 50001, HUB)


def sent(effects: Iterable[object]) -> list[SendControl]:
    return [effect for effect in effects if isinstance(effect, SendControl)]


def events(effects: Iterable[object]) -> list[Event]:
    return [effect for effect in effects if isinstance(effect, Event)]


def notify_in(effects: Iterable[object]) -> MapNotify:
    (one,) = sent(effects)
    return MapNotify.decode(one.payload)


def reply_in(effects: Iterable[object]) -> MapReply:
    (one,) = sent(effects)
    return MapReply.decode(one.payload)


def rlocs_of(record: MappingRecord) -> list[str]:
    return [str(locator.address) for locator in record.locators]


@dataclass(frozen=True)
class Packet:
    """A UDP datagram of a capture."""

    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int
    payload: bytes

    @property
    def arrival(self) -> Arrival:
        return Arrival(self.payload, self.source, self.source_port, self.destination)


def control_packets(name: str) -> list[Packet]:
    """The control datagrams of a capture in tests/captures."""
    found = []
    for raw in read_pcap(CAPTURES / name):
        udp = parse_ip_udp(raw)
        if 4342 in (udp.source_port, udp.destination_port):
            found.append(Packet(udp.source, udp.source_port, udp.destination, udp.destination_port, udp.payload))
    return found
