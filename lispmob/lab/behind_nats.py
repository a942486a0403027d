"""A laboratory of nodes behind NATs of every kind, with a Map-Server and two RTRs at public addresses.

    node -- 192.168.x.0/24 -- its NAT ══╗
    roamer -- home, cafe, hotel         ╠══ core ══ rack: hub (Map-Server), rtr1, rtr2
    far  -- behind a symmetric NAT    ══╝

The tests and the demonstration share it. Daemons and commands are started as a user starts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address
from typing import Final

from lispmob.lab.build import Lab
from lispmob.lab.line import Impairment
from lispmob.lab.nat import Filtering, Mapping, Nat, NatGateway
from lispmob.lab.topology import AccessNetwork, Host, Topology, Uplink

DELAY_S: Final = 0.005  # of each line: 20 ms from a node to the rack and back
ROUND_TRIP_S: Final = 4 * DELAY_S


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of NAT or firewall. `subnet` is the network of the node; `carrier` adds a second NAT behind the first."""

    name: str
    subnet: str
    nat: Nat
    has_carrier: bool = False


def _public(number: int) -> IPv4Address:
    return ip_address(f"203.0.113.{number}")  # type: ignore[return-value]


KINDS: Final = (
    Kind("full-cone", "192.168.11.0/24", Nat(_public(11), filtering=Filtering.ENDPOINT_INDEPENDENT)),
    Kind("address-filter", "192.168.12.0/24", Nat(_public(12), filtering=Filtering.ADDRESS_DEPENDENT)),
    Kind("port-filter", "192.168.13.0/24", Nat(_public(13))),
    Kind("symmetric", "192.168.14.0/24", Nat(_public(14), Mapping.ADDRESS_AND_PORT_DEPENDENT)),
    Kind("double-nat", "192.168.15.0/24", Nat(_public(15)), has_carrier=True),
    Kind("firewall", "198.18.16.0/24", Nat(None)),
)
FAR: Final = Kind("afar", "192.168.21.0/24", Nat(_public(21), Mapping.ADDRESS_AND_PORT_DEPENDENT))
HOME: Final = Kind("home", "192.168.22.0/24", Nat(_public(22)))
HOTEL: Final = Kind("hotel", "192.168.23.0/24", Nat(_public(23), Mapping.ADDRESS_AND_PORT_DEPENDENT), has_carrier=True)
ROAMER: Final = "roamer"
FAR_NODE: Final = "far"
SERVERS: Final = ("hub", "rtr1", "rtr2")


def host_of(kind: Kind) -> str:
    """The name of the node behind it."""
    return f"n-{kind.name[:6]}"


def topology() -> Topology:
    """The whole topology; `cafe` is a network without a NAT."""
    line = Impairment(delay_s=DELAY_S)
    hidden = (*KINDS, FAR, HOME, HOTEL)
    carriers = [kind for kind in hidden if kind.has_carrier]
    networks = [AccessNetwork(kind.name, IPv4Network(kind.subnet), line=line) for kind in hidden]
    networks += [
        AccessNetwork(f"isp-{kind.name[:6]}", IPv4Network(f"100.100.{number}.0/24"), line=line)
        for number, kind in enumerate(carriers)
    ]
    networks += [
        AccessNetwork("cafe", IPv4Network("198.18.31.0/24"), line=line),
        AccessNetwork("rack", IPv4Network("198.51.100.0/24"), line=line),
    ]
    hosts = [Host(host_of(kind), (Uplink("eth0", kind.name),)) for kind in KINDS]
    hosts += [Host(FAR_NODE, (Uplink("eth0", FAR.name),))]
    hosts += [Host(ROAMER, (Uplink("wlan0", HOME.name), Uplink("lte0", HOTEL.name, metric=200, is_attached=False)))]
    hosts += [Host(name, (Uplink("eth0", "rack", 10 + number),)) for number, name in enumerate(SERVERS)]
    return Topology(tuple(networks), tuple(hosts))


def put_up_nats(lab: Lab) -> dict[str, NatGateway]:
    """Make the gateways that translate or filter, by the name of their kind."""
    gateways: dict[str, NatGateway] = {}
    carriers = 0
    for number, kind in enumerate((*KINDS, FAR, HOME, HOTEL)):
        gateways[kind.name] = NatGateway(lab, kind.name, kind.nat)
        if kind.has_carrier:
            carriers += 1
            isp = NatGateway(lab, f"isp-{kind.name[:6]}", Nat(_public(100 + number)))
            gateways[kind.name].behind(isp, carriers)
    return gateways
