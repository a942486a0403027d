"""What the kernel must hold so that packets of our EIDs, and no others, reach the TUN; pure.

These are the rules of a host whose other rules look up only the tables local and main; `rule_order.py` places them
among other programs' rules. The rules select by source, so native traffic is not affected: a packet with a native
source address (a reply to a connection from outside, a forwarded packet of a container, our own outer header) uses the
same routes as without lispd, and nothing changes in a move.

    4337  from RLOC udp sport 4341 to 4342 oif UPLINK  lookup main    (IPv4) packets from there are bound to a device
    4337  from RLOC to GATEWAY           lookup 4344 to 4349  (IPv4) two uplinks in one subnet: each answers ARP
    4338  from RLOC udp sport 4341 to 4342 oif UPLINK  lookup 4343    (IPv4) also when the default route has just gone
    4339  mark of native packets             lookup main    (by a steering rule)
    4339  to RLOC udp dport 4341             lookup 4340    data in flight is still delivered when the address is lost
    4339  from RLOC udp sport 4341 to 4342, no mark  lookup 4340    (IPv4) and they pass the reverse path filter
    4340  to OVERLAY                 lookup main    only what is more specific than the overlay prefix
    4342  from EID | from unspecified lookup 4341   the overlay prefixes by lmn0; natively forwarded ones thrown back
    4342  from CONTAINERS           lookup 4341     their engine translates what leaves by lmn0 to our EID
    4343  lookup main                               (full mode) only what is more specific than a default route
    4345  from EID | from unspecified lookup 4342   (full mode) the rest by lmn0
   32801  oif UPLINK                 lookup 4343    (IPv4) device-bound packets, when the default route has just gone

With one device per uplink, rules 4342 and 4345 serve only marks that name no usable uplink. They look up copies of
those tables that lead to lmn0-x. The other rules stand before each:

    4341, 4344  from EID | from unspecified, no mark            lookup 4341, 4342      lmn0
    4341, 4344  from EID | from unspecified, mark of an uplink  lookup 4350 to 4391    by lmn0-<ifindex>

The last one (32801) closes a gap of a few milliseconds. In IPv4 a packet of a socket that is bound to a device without
a route does not fail: the kernel treats the destination as a neighbour, sends an ARP request, and drops the packet
silently. With a copy of the last working gateway the packet is sent, until we have heard of the change and use another
path.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from lispmob.mh.rule import MAIN_TABLE, Rule
from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork
from lispmob.wire.header import CONTROL_PORT, DATA_PORT

LINGER_TABLE: Final = 4340
OVERLAY_TABLE: Final = 4341
FULL_TABLE: Final = 4342
GATEWAY_TABLE: Final = 4343
ROUTER_TABLES: Final = range(4344, 4350)  # one for each of the first uplinks
OUR_TABLES: Final = (LINGER_TABLE, OVERLAY_TABLE, FULL_TABLE, GATEWAY_TABLE)
PLACES_MAX: Final = 21  # devices that marks lead to; each has a table for the overlay and one for full mode
MARK_TABLES: Final = range(4350, 4350 + 2 * PLACES_MAX)
TABLES_MAX: Final = MARK_TABLES.stop - LINGER_TABLE

SENDING_PRIORITY: Final = 4337
SENDING_BY_COPY_PRIORITY: Final = 4338
LINGER_PRIORITY: Final = 4339
NEAR_OVERLAY_PRIORITY: Final = 4340
OVERLAY_PRIORITY: Final = 4342
NEAR_PRIORITY: Final = 4343
FULL_PRIORITY: Final = 4345
GUARD_PRIORITY: Final = 4346  # placed right after OVERLAY_PRIORITY (rule_order.py)
GATEWAY_PRIORITY: Final = 32801  # after main (32766) and default (32767): used only if those have no route
EVERY_BIT: Final = 0xFFFFFFFF  # of a mark
DATA_PORTS: Final = (DATA_PORT, DATA_PORT)
ROOM: Final = 64  # ours: no rule stands so close before ours on purpose; each VPN takes two priorities

UNSPECIFIED_IPV4: Final = IPv4Network("0.0.0.0/32")

# Never encapsulated, whatever the default route is: multicast and broadcast of the link (mDNS, DHCP), link-local.
_OF_THE_LINK: Final[dict[int, tuple[IpNetwork, ...]]] = {
    4: (IPv4Network("169.254.0.0/16"), IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32")),
    6: (IPv6Network("fe80::/10"), IPv6Network("ff00::/8")),
}


class KernelUplink(msgspec.Struct, frozen=True):
    """An uplink as the kernel's tables see it; `gateways` are those of its IPv4 default routes.

    None among them is a default route without a gateway (point to point). `shares_subnet`: another interface has an
    address in the IPv4 subnet of this one.
    """

    name: str
    addresses: tuple[IpAddress, ...] = ()
    gateways: tuple[IpAddress | None, ...] = ()
    shares_subnet: bool = False


class LostAddress(msgspec.Struct, frozen=True):
    """An address that is gone from an interface that is still up."""

    address: IpAddress
    interface: str


class MarkedDevice(msgspec.Struct, frozen=True):
    """A device that packets with a mark are routed to; `mark` None: packets whose mark names no usable uplink.

    `place`, below PLACES_MAX, selects its tables; a device keeps it.
    """

    name: str
    mark: int | None
    place: int


class MarkRouting(msgspec.Struct, frozen=True):
    """The devices that marks lead to. All their names, and no others, begin with `prefix`."""

    mask: int
    prefix: str
    devices: tuple[MarkedDevice, ...]


RouteKind: TypeAlias = Literal["unicast", "throw", "local"]


class KernelState(msgspec.Struct, frozen=True):
    """What is wanted. `eids` that are host prefixes become addresses of the TUN.

    Packets from `container_networks` for the overlay enter it. `native_prefixes` are routed as without lispd
    (answered Natively-Forward). LISP data is delivered at the addresses of the `uplinks` and at `lost` ones,
    whether the kernel still has them or not, without claiming them on the link. `spare_ports`: RLOCs and ports
    where other answers are expected. `mtu_bytes` None leaves the MTU alone. `translates_native` masquerades what
    leaves natively with an EID as its source. `sends_from_data_port`: RLOCs behind a NAT, which do send from port
    4341. `marks` None: marks do not affect the route. `mark_mask`: the bits that steering sets. Our tables are
    numbered from `first_table` on. Our rules take `last_priority` and the priorities before it, as far as other
    rules allow.
    """

    tun: str
    eids: tuple[EidPrefix, ...] = ()
    mode: Literal["split", "full"] = "split"
    overlay_prefixes: tuple[IpNetwork, ...] = ()
    native_prefixes: tuple[IpNetwork, ...] = ()
    uplinks: tuple[KernelUplink, ...] = ()
    lost: tuple[LostAddress, ...] = ()
    mtu_bytes: int | None = None
    sends_from_data_port: frozenset[IpAddress] = frozenset()
    spare_ports: frozenset[tuple[IpAddress, int]] = frozenset()
    container_networks: tuple[IpNetwork, ...] = ()
    translates_native: bool = False
    marks: MarkRouting | None = None
    mark_mask: int = 0
    native_mark: int = 0
    """The mark, within `mark_mask`, of packets that a steering rule keeps out of the overlay; 0: none."""
    guards_overlay: bool = False
    """Without our device, packets for the overlay are refused instead of following the host's own routes."""
    first_table: int = LINGER_TABLE
    last_priority: int = FULL_PRIORITY

    @property
    def devices(self) -> tuple[str, ...]:
        """The TUN, and those that marks lead to."""
        return (self.tun, *(device.name for device in self.marks.devices)) if self.marks else (self.tun,)


class Route(msgspec.Struct, frozen=True):
    """One route of ours; `devices` is empty for a throw route, which ends the search in its table."""

    table: int
    kind: RouteKind
    destination: IpNetwork
    devices: tuple[str, ...] = ()
    source: IpAddress | None = None
    gateway: IpAddress | None = None
    metric: int = 0


class Plan(msgspec.Struct, frozen=True):
    """Everything that a `KernelState` requires. Addresses are those of a device."""

    addresses: frozenset[tuple[str, IpAddress]]
    routes: frozenset[Route]
    rules: frozenset[Rule]
    masqueraded: frozenset[IpNetwork]


NOTHING: Final = Plan(frozenset(), frozenset(), frozenset(), frozenset())


def plan(desired: KernelState) -> Plan:
    """The addresses, routes, rules and translations that the desired state needs."""
    hosts = [eid.address for eid in desired.eids if eid.mask_len == eid.network.max_prefixlen]
    routes, rules = _for_moves(desired)
    for family in (4, 6):
        eids = [eid.network for eid in desired.eids if eid.family == family]
        if not eids:
            continue
        source = next((host for host in hosts if host.version == family), None)
        sources = [*eids, UNSPECIFIED_IPV4] if family == 4 else eids
        overlay = [prefix for prefix in desired.overlay_prefixes if prefix.version == family]
        native = [prefix for prefix in desired.native_prefixes if prefix.version == family]
        for prefix in overlay:
            routes.add(Route(OVERLAY_TABLE, "unicast", prefix, (desired.tun,), source))
            near = Rule(
                NEAR_OVERLAY_PRIORITY, family, MAIN_TABLE, destination=prefix, suppressed_prefix_len=prefix.prefixlen
            )
            rules.add(near)
        if overlay:
            containers = [network for network in desired.container_networks if network.version == family]
            rules.update(
                Rule(OVERLAY_PRIORITY, family, OVERLAY_TABLE, source=network) for network in (*sources, *containers)
            )
            inside = [
                network
                for network in native
                if network not in overlay and any(_covers(outer, network) for outer in overlay)
            ]
            routes.update(Route(OVERLAY_TABLE, "throw", network) for network in inside)
        if desired.native_mark:
            # Other programs' tables, such as a VPN's, do not apply to it: native packets use the host's main table.
            mark, mask = desired.native_mark, desired.mark_mask
            rules.add(Rule(LINGER_PRIORITY, family, MAIN_TABLE, mark=mark, mask=mask))
        if desired.guards_overlay:
            rules |= _guard([*(eid.network for eid in desired.eids), *desired.container_networks], overlay, native)
        if desired.mode == "full":
            routes.add(Route(FULL_TABLE, "unicast", _everything(family), (desired.tun,), source))
            routes.update(Route(FULL_TABLE, "throw", network) for network in {*native, *_OF_THE_LINK[family]})
            rules.add(Rule(NEAR_PRIORITY, family, MAIN_TABLE, suppressed_prefix_len=0))
            rules.update(Rule(FULL_PRIORITY, family, FULL_TABLE, source=network) for network in sources)
    addresses = {(desired.tun, host) for host in hosts}
    if desired.marks is not None:
        routes, rules = _sorted_by_mark(routes, rules, desired.marks)
        # IPv6 prefers a source address of the device; rules do not see the route's preferred source.
        addresses |= {(device, host) for device in desired.devices for host in hosts if host.version == 6}
    masqueraded = {eid.network for eid in desired.eids} if desired.translates_native else set()
    shift = desired.first_table - LINGER_TABLE
    if shift:
        routes = {replace(route, table=route.table + shift) for route in routes}
        rules = {replace(rule, table=rule.table + shift if is_ours(rule.table) else rule.table) for rule in rules}
    return Plan(frozenset(addresses), frozenset(routes), frozenset(rules), frozenset(masqueraded))


def is_ours(table: int, first_table: int = LINGER_TABLE) -> bool:
    """True for a table that we may put routes into."""
    return first_table <= table < first_table + TABLES_MAX


def _for_moves(desired: KernelState) -> tuple[set[Route], set[Rule]]:
    """Rules that are ready before a move, so that nothing is lost until lispd has heard of it."""
    routes: set[Route] = set()
    rules: set[Rule] = set()
    rlocs = {address: uplink.name for uplink in desired.uplinks for address in uplink.addresses}
    present = frozenset(rlocs)
    rlocs |= {lost.address: lost.interface for lost in desired.lost}
    for address, device in rlocs.items():
        network = ip_network(address)
        routes.add(Route(LINGER_TABLE, "local", network, ("lo",)))
        rules.add(Rule(LINGER_PRIORITY, address.version, LINGER_TABLE, destination=network, udp_ports=DATA_PORTS))
        if address.version == 4:
            if address in present:
                rules |= _past_the_filter(network, (DATA_PORT, CONTROL_PORT), device)
            elif address not in desired.sends_from_data_port:
                rules |= _past_the_filter(network, DATA_PORTS)
    for address, port in desired.spare_ports:
        if address in present and address.version == 4:
            rules |= _past_the_filter(ip_network(address), (port, port), rlocs[address])
    ways_back = tuple(sorted({name for address, name in rlocs.items() if address.version == 4}))
    if ways_back:
        routes.add(Route(LINGER_TABLE, "unicast", _everything(4), ways_back))
    for uplink, table in zip(desired.uplinks, ROUTER_TABLES, strict=False):
        for gateway in uplink.gateways[:1] if uplink.shares_subnet else ():
            if gateway is not None and gateway.version == 4:
                router = ip_network(gateway)
                # The metric makes it no vital route (kernel_changes.py).
                routes.add(Route(table, "unicast", router, (uplink.name,), metric=1))
                rules |= _by_its_own_interface(uplink, router, table)
    for place, uplink in enumerate(desired.uplinks, start=1):
        for gateway in uplink.gateways[:1]:
            routes.add(Route(GATEWAY_TABLE, "unicast", _everything(4), (uplink.name,), None, gateway, place))
            rules.add(Rule(GATEWAY_PRIORITY, 4, GATEWAY_TABLE, device=uplink.name))
    return routes, rules


def _past_the_filter(rloc: IpNetwork, ports: tuple[int, int], device: str = "") -> set[Rule]:
    """IPv4: lets packets to an RLOC and our ports pass the reverse path filter, wherever the route back leads.

    rp_filter, which many distributions set, drops packets that arrive on an interface that is not the route back (1),
    or while the host has no route back (2). It looks up a route from the RLOC and our port without a device. What we
    send from there names a device: control messages, and the data of uplinks behind a NAT. `device`: that of an RLOC
    which is present.
    """
    # The filter looks up without a mark. A packet of ours that gets a mark is routed again, then without a device.
    rules = {Rule(LINGER_PRIORITY, 4, LINGER_TABLE, source=rloc, udp_ports=ports, mask=EVERY_BIT)}
    if device:
        for priority, table in ((SENDING_PRIORITY, MAIN_TABLE), (SENDING_BY_COPY_PRIORITY, GATEWAY_TABLE)):
            rules.add(Rule(priority, 4, table, source=rloc, udp_ports=ports, device=device))
    return rules


def _by_its_own_interface(uplink: KernelUplink, router: IpNetwork, table: int) -> set[Rule]:
    """IPv4: packets from an RLOC to the router leave by the RLOC's interface, though another one has the subnet, too.

    The kernel answers the router's ARP requests by such a route: with arp_filter or a strict rp_filter it would answer
    them on the other interface alone, and nothing would come in by this one.
    """
    own = [address for address in uplink.addresses if address.version == 4]
    return {Rule(SENDING_PRIORITY, 4, table, source=ip_network(address), destination=router) for address in own}


def _sorted_by_mark(routes: Iterable[Route], rules: Iterable[Rule], marks: MarkRouting) -> tuple[set[Route], set[Rule]]:
    """The same routes again for each device, and for each rule that leads to them one per mark."""
    found_routes, found_rules = set(routes), set(rules)
    nth = {OVERLAY_TABLE: 0, FULL_TABLE: 1}
    for route in routes:
        for device in marks.devices if route.table in nth else ():
            table = MARK_TABLES[2 * device.place + nth[route.table]]
            found_routes.add(replace(route, table=table, devices=(device.name,) if route.devices else ()))
    for rule in rules:
        if rule.table not in nth:
            continue
        by_mark = replace(rule, priority=rule.priority - 1, mask=marks.mask)
        found_rules.remove(rule)
        found_rules.add(by_mark)
        for device in marks.devices:
            table = MARK_TABLES[2 * device.place + nth[rule.table]]
            if device.mark is None:
                found_rules.add(replace(rule, table=table))
            else:
                found_rules.add(replace(by_mark, table=table, mark=device.mark))
    return found_routes, found_rules


def _guard(senders: Iterable[IpNetwork], overlay: Iterable[IpNetwork], native: Iterable[IpNetwork]) -> set[Rule]:
    """An overlay prefix that contains a configured native prefix has no guard. See guard.py."""
    rules: set[Rule] = set()
    for prefix in overlay:
        if any(network.overlaps(prefix) for network in native):
            continue
        own = [sender for sender in senders if sender.version == prefix.version]
        for source in [*own, UNSPECIFIED_IPV4] if prefix.version == 4 else own:
            rules.add(Rule(GUARD_PRIORITY, prefix.version, source=source, destination=prefix, action="unreachable"))
    return rules


def _everything(family: int) -> IpNetwork:
    return IPv4Network("0.0.0.0/0") if family == 4 else IPv6Network("::/0")


def _covers(outer: IpNetwork, inner: IpNetwork) -> bool:
    return outer.prefixlen <= inner.prefixlen and inner.network_address in outer
