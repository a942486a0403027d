"""What the kernel must hold so that packets of our EIDs reach the TUN, and nothing else does; pure.

The rules choose by source, so the host is never worse off than without us: a packet whose source is a native address
(a reply to a connection from outside, a forwarded packet of a container, our own outer header) finds the routes that it
always found, whatever the uplinks do, and nothing needs to change in a move.

    4341  to RLOC udp dport 4341     lookup 4340    LISP data in flight is still delivered when the address is lost
    4341  from LOST                  lookup 4340    (IPv4) and passes the reverse path filter of its interface
    4342  to OVERLAY                 lookup main    only what is more specific than the overlay prefix
    4343  from EID | from unspecified lookup 4341   the overlay prefixes by lmn0; natively forwarded ones thrown back
    4344  lookup main                               (full mode) only what is more specific than a default route
    4345  from EID | from unspecified lookup 4342   (full mode) the rest by lmn0
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal, TypeAlias

from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork

ROUTE_PROTOCOL: Final = 201
"""Marks routes and rules as ours (rtm_protocol, FRA_PROTOCOL); unassigned in iproute2's rt_protos."""
LINGER_TABLE: Final = 4340
OVERLAY_TABLE: Final = 4341
FULL_TABLE: Final = 4342
OUR_TABLES: Final = (LINGER_TABLE, OVERLAY_TABLE, FULL_TABLE)
MAIN_TABLE: Final = 254

LINGER_PRIORITY: Final = 4341
NEAR_OVERLAY_PRIORITY: Final = 4342
OVERLAY_PRIORITY: Final = 4343
NEAR_PRIORITY: Final = 4344
FULL_PRIORITY: Final = 4345
OUR_PRIORITIES: Final = range(LINGER_PRIORITY, FULL_PRIORITY + 1)

UNSPECIFIED_IPV4: Final = IPv4Network("0.0.0.0/32")

# Never to be encapsulated, whoever has the default route: multicast and broadcast of the link (mDNS, DHCP), link-local.
_OF_THE_LINK: Final[dict[int, tuple[IpNetwork, ...]]] = {
    4: (IPv4Network("169.254.0.0/16"), IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32")),
    6: (IPv6Network("fe80::/10"), IPv6Network("ff00::/8")),
}


@dataclass(frozen=True, slots=True)
class LostAddress:
    """An address that is gone from an interface which is still up."""

    address: IpAddress
    interface: str


RouteKind: TypeAlias = Literal["unicast", "throw", "local"]


@dataclass(frozen=True, slots=True)
class KernelState:
    """What is wanted. `eids` that are host prefixes become addresses of the TUN.

    `native_prefixes` are routed as if we were not there (answered Natively-Forward). `lingering` are addresses, present
    or lost, at which LISP data is delivered without their being claimed on the link; `lost` are those of them that are
    gone: without being told, reverse path filtering (IPv4) would drop that data. `mtu_bytes` None leaves the MTU alone.
    `translates_native` masquerades what leaves natively with an EID as its source.
    """

    tun: str
    eids: tuple[EidPrefix, ...] = ()
    mode: Literal["split", "full"] = "split"
    overlay_prefixes: tuple[IpNetwork, ...] = ()
    native_prefixes: tuple[IpNetwork, ...] = ()
    lingering: tuple[IpAddress, ...] = ()
    lost: tuple[LostAddress, ...] = ()
    mtu_bytes: int | None = None
    translates_native: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One routing rule of ours. `is_lisp_data` limits it to UDP towards port 4341."""

    priority: int
    family: int
    table: int
    source: IpNetwork | None = None
    destination: IpNetwork | None = None
    suppressed_prefix_len: int | None = None
    is_lisp_data: bool = False

    @property
    def finds_source(self) -> bool:
        """IPv6 asks the rule which source its route would give to a packet that has none yet; IPv4 matches 0.0.0.0."""
        return self.family == 6 and self.source is not None


@dataclass(frozen=True, slots=True)
class Route:
    """One route of ours; `device` is empty for a throw route, which ends the search in its table."""

    table: int
    kind: RouteKind
    destination: IpNetwork
    device: str = ""
    source: IpAddress | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a `KernelState` comes to."""

    addresses: frozenset[IpAddress]
    routes: frozenset[Route]
    rules: frozenset[Rule]
    masqueraded: frozenset[IpNetwork]


NOTHING: Final = Plan(frozenset(), frozenset(), frozenset(), frozenset())


def plan(desired: KernelState) -> Plan:
    """The addresses, routes, rules and translations that the desired state needs."""
    hosts = [eid.address for eid in desired.eids if eid.mask_len == eid.network.max_prefixlen]
    routes: set[Route] = set()
    rules: set[Rule] = set()
    for address in desired.lingering:
        network = ip_network(address)
        routes.add(Route(LINGER_TABLE, "local", network, "lo"))
        rules.add(Rule(LINGER_PRIORITY, address.version, LINGER_TABLE, destination=network, is_lisp_data=True))
    for lost in [each for each in desired.lost if each.address.version == 4]:
        # rp_filter, which many distributions set, drops what comes in on an interface without any address unless the
        # way back leads there. There is one way back: of several interfaces, the first in the list has it. Never for an
        # address that is present: its real traffic needs its gateway.
        if not any(route.kind == "unicast" for route in routes):
            routes.add(Route(LINGER_TABLE, "unicast", _everything(4), lost.interface))
        rules.add(Rule(LINGER_PRIORITY, 4, LINGER_TABLE, source=ip_network(lost.address)))
    for family in (4, 6):
        eids = [eid.network for eid in desired.eids if eid.family == family]
        if not eids:
            continue
        source = next((host for host in hosts if host.version == family), None)
        sources = [*eids, UNSPECIFIED_IPV4] if family == 4 else eids
        overlay = [prefix for prefix in desired.overlay_prefixes if prefix.version == family]
        native = [prefix for prefix in desired.native_prefixes if prefix.version == family]
        for prefix in overlay:
            routes.add(Route(OVERLAY_TABLE, "unicast", prefix, desired.tun, source))
            near = Rule(
                NEAR_OVERLAY_PRIORITY, family, MAIN_TABLE, destination=prefix, suppressed_prefix_len=prefix.prefixlen
            )
            rules.add(near)
        if overlay:
            rules.update(Rule(OVERLAY_PRIORITY, family, OVERLAY_TABLE, source=each) for each in sources)
            inside = [each for each in native if each not in overlay and any(_covers(outer, each) for outer in overlay)]
            routes.update(Route(OVERLAY_TABLE, "throw", each) for each in inside)
        if desired.mode == "full":
            routes.add(Route(FULL_TABLE, "unicast", _everything(family), desired.tun, source))
            routes.update(Route(FULL_TABLE, "throw", each) for each in {*native, *_OF_THE_LINK[family]})
            rules.add(Rule(NEAR_PRIORITY, family, MAIN_TABLE, suppressed_prefix_len=0))
            rules.update(Rule(FULL_PRIORITY, family, FULL_TABLE, source=each) for each in sources)
    masqueraded = {eid.network for eid in desired.eids} if desired.translates_native else set()
    return Plan(frozenset(hosts), frozenset(routes), frozenset(rules), frozenset(masqueraded))


def _everything(family: int) -> IpNetwork:
    return IPv4Network("0.0.0.0/0") if family == 4 else IPv6Network("::/0")


def _covers(outer: IpNetwork, inner: IpNetwork) -> bool:
    return outer.prefixlen <= inner.prefixlen and inner.network_address in outer
