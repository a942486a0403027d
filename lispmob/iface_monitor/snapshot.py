"""The host's attachment as one frozen value, and the uplinks that a policy finds in it.

An uplink is an interface that is up, has carrier, and has, in one family, a usable address and a default route. The
details:

- Any metric counts, and any table that a routing rule looks up. The order is that of the rules; tables that only some
  packets are looked up in come last. Where the kernel itself would take another interface, that one comes first.
- A default route for one source prefix only (by a rule, or of its own in IPv6) is one for the addresses in it. Of
  several addresses the kernel's own choice comes first, then what is in the gateway's subnet. A private address outside
  of that, beside one that is inside, is there for something else, such as a modem's web page: no answer reaches it.
- The pair 0.0.0.0/1 + 128.0.0.0/1 (::/1 + 8000::/1) is a default route: VPN clients install it to outrank the real one.
- A tunnel (WireGuard, OpenVPN, GRE, ...) is not an uplink unless a rule says so. Its packets leave through another
  uplink, so it adds no path; it costs MTU, and it breaks in the very moment of a move. Who turns a VPN on expects their
  EID to go on working: it does, since physical uplinks are used by device, whatever route is best. A VPN that must
  carry the LISP packets as well is named in the policy: `{name: tun0, use: yes}`.
- The tunnel of a translator is an uplink where no other interface has IPv4 (464XLAT, RFC 6877).
- PPP, VLAN, bridge, bond and modem interfaces are uplinks like Ethernet and Wi-Fi; a dummy or a VRF is none.
- Deprecated and temporary IPv6 addresses serve, unless configured, only on an interface that has no other one.
- An unnumbered interface borrows the source address that its default route names.
- A default route behind a route or a rule that refuses, such as a VPN's kill switch, is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

import msgspec

from lispmob.iface_monitor.link_type import NOWHERE_KINDS, OTHER, TUNNEL_KINDS
from lispmob.iface_monitor.network_identity import UNKNOWN, Network, NetworkPattern, is_in
from lispmob.wire.address import IpAddress, IpNetwork
from lispmob.wire.address_class import may_be_rloc

MAIN_TABLE: Final = 254
LOWEST_PRIORITY: Final = 254
"""255 means "never use" in LISP (RFC 9301, priority)."""
DEFAULT_WEIGHT: Final = 100
TRANSLATED: Final = IPv4Network("192.0.0.0/29")
"""IPv4 service continuity prefix: the address of an IPv6-only host towards a translator (RFC 7335)."""
SCOPE_HOST: Final = 254
_PRIVATE: Final[tuple[IpNetwork, ...]] = (  # RFC 1918, RFC 6598, RFC 4193
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("100.64.0.0/10"),
    IPv6Network("fc00::/7"),
)


class Link(msgspec.Struct, frozen=True):
    """One interface. `kind` is rtnetlink's ("vlan", "bridge", "tun", "ppp"); empty for hardware. `type` is ours.

    `group` is the kernel's interface group, by which rules may select.
    """

    ifindex: int
    name: str
    kind: str
    is_up: bool
    has_carrier: bool
    is_loopback: bool
    mtu_bytes: int
    type: str = OTHER
    group: int = 0

    @property
    def is_tunnel(self) -> bool:
        """True for an overlay interface, which needs another uplink to carry its packets."""
        return self.kind in TUNNEL_KINDS

    @property
    def leads_nowhere(self) -> bool:
        """True for an interface by which nothing leaves this host, such as a dummy."""
        return self.kind in NOWHERE_KINDS


class LocalAddress(msgspec.Struct, frozen=True):
    """One address of one interface. `scope` is the kernel's: 0 global, 253 link, 254 host."""

    address: IpAddress
    prefix_len: int
    ifindex: int
    scope: int = 0
    is_tentative: bool = False
    is_deprecated: bool = False
    is_temporary: bool = False
    is_permanent: bool = True
    is_secondary: bool = False
    is_duplicate: bool = False
    """IPv6: another host on the link has it, so the kernel does not use it (RFC 4862, 5.4)."""

    @property
    def subnet(self) -> IpNetwork:
        """Its network on the link."""
        return ip_network((self.address.packed, self.prefix_len), strict=False)

    @property
    def is_private(self) -> bool:
        """True for an address that another host may have elsewhere."""
        return any(self.address in network for network in _PRIVATE if network.version == self.address.version)


class DefaultRoute(msgspec.Struct, frozen=True):
    """A default route, or the pair of half routes in place of one. `family` is 4 or 6.

    `source`: it is only for packets from there, `except_from`: not for those from there. `order`: that of its table
    among the rules, 0 for the main table. `refused_by`: the route or rule at which packets end before they come to it.
    """

    family: int
    ifindex: int
    gateway: IpAddress | None
    metric: int
    preferred_source: IpAddress | None = None
    table: int = MAIN_TABLE
    source: IpNetwork | None = None
    order: int = 0
    except_from: tuple[IpNetwork, ...] = ()
    refused_by: str = ""

    @property
    def rank(self) -> tuple[int, bool, int]:
        """Smaller is preferred: the table that the rules look up first, then the metric."""
        return (self.order, self.table != MAIN_TABLE, self.metric)

    def serves(self, address: IpAddress) -> bool:
        """True when packets from this address may use it."""
        if self.family != address.version or any(address in network for network in self.except_from):
            return False
        return self.source is None or address in self.source


class Choice(msgspec.Struct, frozen=True):
    """The kernel's choice towards the mapping system: this interface and, if bound to it, this source address.

    `address` None: the kernel chose the interface freely, by a default route.
    """

    family: int
    ifindex: int
    address: IpAddress | None = None


class Translator(msgspec.Struct, frozen=True, order=True):
    """A router's option on an interface: IPv4 hosts are reached by addresses in this prefix (RFC 8781)."""

    ifindex: int
    prefix: IPv6Network


class FamilyRank(msgspec.Struct, frozen=True):
    """Priority and weight of the addresses of one family of an interface; None: as the interface."""

    family: int
    priority: int | None = None
    weight: int | None = None


class UplinkRule(msgspec.Struct, frozen=True):
    """The user's rule for interfaces whose name matches a shell pattern, with that type and network if given.

    None leaves a setting at its default.
    """

    pattern: str
    is_allowed: bool | None = None
    priority: int | None = None
    weight: int | None = None
    type: str | None = None
    networks: tuple[NetworkPattern, ...] = ()
    families: tuple[FamilyRank, ...] = ()

    def matches(self, link: Link | Uplink, network: Network = UNKNOWN) -> bool:
        """True when the rule applies to this interface in this network."""
        named = self.type in (None, link.type) and fnmatchcase(link.name, self.pattern)
        return named and is_in(self.networks, network)


class UplinkPolicy(msgspec.Struct, frozen=True):
    """Which interfaces and addresses may be used; the first rule that matches decides."""

    rules: tuple[UplinkRule, ...] = ()
    ignored_interfaces: tuple[str, ...] = ("lmn*",)
    use_temporary: bool = False
    use_deprecated: bool = False
    use_link_local: bool = False
    held_back: frozenset[str] = frozenset()
    """Interfaces that must not be used for now: a captive portal, a connection that is being taken down."""
    stopgaps: frozenset[str] = frozenset()
    """Those of them that may be used as long as there is no other interface."""
    last_resort: frozenset[str] = frozenset()
    """Interfaces that rank after all others, whatever their metric: metered ones."""
    destinations: tuple[IpAddress, ...] = ()
    """The mapping system: the destinations for queries of the kernel's choice."""
    networks: tuple[tuple[str, Network], ...] = ()
    """The network of each interface, as far as it is known."""

    def rule_for(self, link: Link) -> UplinkRule:
        """The first matching rule, or one with all defaults."""
        network = next((network for name, network in self.networks if name == link.name), UNKNOWN)
        return next((rule for rule in self.rules if rule.matches(link, network)), UplinkRule(link.name))

    def is_watched(self, link: Link) -> bool:
        """False for loopback and for our own interfaces."""
        return not link.is_loopback and not any(
            fnmatchcase(link.name, ignored_interface) for ignored_interface in self.ignored_interfaces
        )

    def allows(self, link: Link, *, is_alone: bool = False) -> bool:
        """True when the interface may be an uplink at all. `is_alone`: there is no other one."""
        if not self.is_watched(link) or link.name in self.held_back - (self.stopgaps if is_alone else frozenset()):
            return False
        is_allowed = self.rule_for(link).is_allowed
        return not (link.is_tunnel or link.leads_nowhere) if is_allowed is None else is_allowed

    def accepts(self, local: LocalAddress, *, is_alone: bool = False) -> bool:
        """True when the address may be an RLOC. `is_alone`: the interface has no other one of the family."""
        address = local.address
        if not (may_be_rloc(address) or address.is_link_local) or local.scope == SCOPE_HOST:
            return False
        if local.is_tentative or (local.is_deprecated and not self.use_deprecated and not is_alone):
            return False
        if local.is_temporary and not self.use_temporary and not is_alone:
            return False
        return self.use_link_local or not address.is_link_local


class Uplink(msgspec.Struct, frozen=True):
    """An uplink: its RLOCs, best first, and its rank. `metric` is that of its best default route."""

    name: str
    ifindex: int
    addresses: tuple[IpAddress, ...]
    metric: int
    mtu_bytes: int
    priority: int
    weight: int
    type: str = OTHER
    families: tuple[FamilyRank, ...] = ()

    def rank(self, family: int) -> tuple[int, int]:
        """Priority and weight of its addresses of one family."""
        own = next((family_rank for family_rank in self.families if family_rank.family == family), FamilyRank(family))
        return (
            self.priority if own.priority is None else own.priority,
            self.weight if own.weight is None else own.weight,
        )


class NetworkState(msgspec.Struct, frozen=True):
    """The kernel's links, addresses and default routes at one moment; sorted, so that equality means equal contents.

    `refused_routes`: default routes that no packet comes to.
    """

    links: tuple[Link, ...] = ()
    addresses: tuple[LocalAddress, ...] = ()
    default_routes: tuple[DefaultRoute, ...] = ()
    choices: tuple[Choice, ...] = ()
    translators: tuple[Translator, ...] = ()
    refused_routes: tuple[DefaultRoute, ...] = ()

    @classmethod
    def of(cls, links: list[Link], addresses: list[LocalAddress], default_routes: list[DefaultRoute]) -> NetworkState:
        """Build from the kernel's answers in any order; duplicates are dropped."""
        return cls(
            tuple(sorted(set(links), key=lambda link: link.ifindex)),
            tuple(sorted(set(addresses), key=_address_order)),
            tuple(sorted({route for route in default_routes if not route.refused_by}, key=_route_order)),
            refused_routes=tuple(sorted({route for route in default_routes if route.refused_by}, key=_route_order)),
        )

    def link(self, ifindex: int) -> Link | None:
        """The interface with that index."""
        return next((link for link in self.links if link.ifindex == ifindex), None)

    def routes_of(self, ifindex: int, family: int) -> tuple[DefaultRoute, ...]:
        """The interface's default routes of one family, the preferred first."""
        return tuple(route for route in self.default_routes if route.ifindex == ifindex and route.family == family)

    def refusal_of(self, ifindex: int, family: int) -> str:
        """What refuses all that the interface would send in this family; empty if nothing does."""
        if self.routes_of(ifindex, family):
            return ""
        refused = (route for route in self.refused_routes if route.ifindex == ifindex and route.family == family)
        return next((route.refused_by for route in refused), "")

    def usable_addresses(self, link: Link, policy: UplinkPolicy) -> tuple[LocalAddress, ...]:
        """The addresses of an interface that may be RLOCs, with or without default route; best first."""
        routes = self.routes_of(link.ifindex, 4) + self.routes_of(link.ifindex, 6)
        preferred = {route.preferred_source for route in routes}
        gateways = [route.gateway for route in routes if route.gateway is not None]
        chosen = self._chosen_by(link.ifindex)
        watched = {
            each_link.ifindex for each_link in self.links if each_link.is_loopback or policy.is_watched(each_link)
        }
        usable = [
            local
            for local in self.addresses
            if self._accepts(local, policy)
            and (local.ifindex == link.ifindex or (local.address in preferred and local.ifindex in watched))
        ]
        return tuple(
            sorted(
                usable,
                key=lambda local: _preference(
                    local,
                    local.address in chosen,
                    local.address in preferred,
                    any(gateway in local.subnet for gateway in gateways),
                ),
            )
        )

    def _accepts(self, local: LocalAddress, policy: UplinkPolicy) -> bool:
        """Whether an address may be an RLOC. One that will not last serves where no other does, as in the kernel
        (RFC 6724, rules 3 and 7).
        """
        if policy.accepts(local) or not policy.accepts(local, is_alone=True):
            return policy.accepts(local)
        siblings = [
            other
            for other in self.addresses
            if other.ifindex == local.ifindex
            and other.address.version == local.address.version
            and policy.accepts(other, is_alone=True)
        ]
        return not any(_is_better(other, local) for other in siblings)

    def _chosen_by(self, ifindex: int) -> frozenset[IpAddress]:
        """The addresses that the kernel would send from on this interface."""
        asked = (choice.address for choice in self.choices if choice.ifindex == ifindex)
        return frozenset(address for address in asked if address is not None)

    def _locators(self, link: Link, policy: UplinkPolicy) -> tuple[IpAddress, ...]:
        """The usable addresses with a default route, without those that serve another purpose."""
        routes = self.routes_of(link.ifindex, 4) + self.routes_of(link.ifindex, 6)
        served = [
            local
            for local in self.usable_addresses(link, policy)
            if any(route.serves(local.address) for route in routes)
        ]
        wanted = self._chosen_by(link.ifindex) | {route.preferred_source for route in routes}
        gateways = [route.gateway for route in routes if route.gateway is not None]
        inside = [local for local in served if any(gateway in local.subnet for gateway in gateways)]
        families = {local.address.version for local in inside}
        kept = [
            local.address
            for local in served
            if local in inside
            or local.address in wanted
            or local.address.version not in families
            or not local.is_private
        ]
        return tuple(dict.fromkeys(kept))

    def _is_chosen(self, ifindex: int, family: int, rank: tuple[int, bool, int]) -> bool:
        """True when the kernel would use this interface, or another one whose route is as good."""
        ways = self._preferred_interfaces(family)
        return ifindex in ways or any(route.rank == rank for way in ways for route in self.routes_of(way, family)[:1])

    def _standing(self, ifindex: int, family: int, addresses: tuple[IpAddress, ...]) -> tuple[bool, int, bool, int]:
        """The rank of the interface's best default route for one of these; smaller is better."""
        own = (address for address in addresses if address.version == family)
        served = {address: [r for r in self.routes_of(ifindex, family) if r.serves(address)] for address in own}
        best = min(route.rank for routes in served.values() for route in routes)
        is_second = bool(self._preferred_interfaces(family)) and not self._is_chosen(ifindex, family, best)
        return (is_second, *best)

    def _preferred_interfaces(self, family: int) -> frozenset[int]:
        """The interface that the kernel chooses freely; none if it was not asked."""
        return frozenset(
            choice.ifindex for choice in self.choices if choice.address is None and choice.family == family
        )

    def _ways_out(self, policy: UplinkPolicy) -> list[tuple[Link, tuple[IpAddress, ...]]]:
        """The interfaces that may be used, with their locators; a stopgap if there is no other.

        An IPv6-only network may translate for the host, by a tunnel with an address of RFC 7335's prefix (464XLAT):
        that is the path to IPv4 if no other interface has any.
        """
        ready = [link for link in self.links if link.is_up and link.has_carrier]
        found = self._with_locators([link for link in ready if policy.allows(link)], policy)
        found = found or self._with_locators([link for link in ready if policy.allows(link, is_alone=True)], policy)
        if any(address.version == 4 for _, addresses in found for address in addresses):
            return found
        translators = [link for link in ready if self._is_translator(link, policy)]
        return found + self._with_locators(translators, policy)

    def _with_locators(self, links: Iterable[Link], policy: UplinkPolicy) -> list[tuple[Link, tuple[IpAddress, ...]]]:
        return [(link, addresses) for link in links if (addresses := self._locators(link, policy))]

    def _is_translator(self, link: Link, policy: UplinkPolicy) -> bool:
        """True for the device of a customer-side translator (CLAT), unless a rule names it."""
        is_free = policy.is_watched(link) and link.name not in policy.held_back
        own = (local.address for local in self.addresses if local.ifindex == link.ifindex)
        has_address = any(address in TRANSLATED for address in own if address.version == 4)
        return is_free and link.is_tunnel and policy.rule_for(link).is_allowed is None and has_address

    def uplinks(self, policy: UplinkPolicy) -> tuple[Uplink, ...]:
        """The uplinks that the policy finds, by priority, then metric, then name.

        Priorities that the policy leaves open are ranks (1, 2, 3, ...) of the metric among all uplinks, those of last
        resort after the others; equal metrics share a rank.
        """
        found: list[tuple[tuple[bool, bool, int, bool, int], Link, tuple[IpAddress, ...]]] = []
        for link, addresses in self._ways_out(policy):
            families = {address.version for address in addresses}
            best = min(self._standing(link.ifindex, family, addresses) for family in families)
            is_last = link.name in policy.last_resort or self._is_translator(link, policy)
            found.append(((is_last, *best), link, addresses))
        ranks = {rank: place for place, rank in enumerate(sorted({rank for rank, _, _ in found}), start=1)}
        uplinks = []
        for rank, link, addresses in found:
            rule = policy.rule_for(link)
            uplinks.append(
                Uplink(
                    name=link.name,
                    ifindex=link.ifindex,
                    addresses=addresses,
                    metric=rank[-1],
                    mtu_bytes=link.mtu_bytes,
                    priority=min(ranks[rank], LOWEST_PRIORITY) if rule.priority is None else rule.priority,
                    weight=DEFAULT_WEIGHT if rule.weight is None else rule.weight,
                    type=link.type,
                    families=rule.families,
                )
            )
        return tuple(sorted(uplinks, key=lambda up: (up.priority, up.metric, up.name, up.ifindex)))


def _is_better(one: LocalAddress, other: LocalAddress) -> bool:
    """True when it will last longer."""
    return (one.is_deprecated, one.is_temporary) < (other.is_deprecated, other.is_temporary)


def _preference(
    local: LocalAddress, is_chosen: bool, is_preferred: bool, is_by_gateway: bool
) -> tuple[bool, bool, int, int, bool, bool, bool, bool, int]:
    """Best first, independent of the kernel's order."""
    address = local.address
    reach = 2 if address.is_link_local else 0 if address.is_global or address.version == 4 else 1
    return (
        local.is_deprecated,
        local.is_temporary,
        reach,
        address.version,
        not is_chosen,
        not is_preferred,
        not is_by_gateway,
        local.is_secondary,
        int(address),
    )


def _address_order(local: LocalAddress) -> tuple[int, int, int, int]:
    return (local.ifindex, local.address.version, int(local.address), local.prefix_len)


def _route_order(route: DefaultRoute) -> tuple[int, int, bool, int, int, int, int, str]:
    gateway = 0 if route.gateway is None else int(route.gateway)
    packets = f"{route.source or ''} {route.except_from} {route.refused_by}"
    return (route.family, *route.rank, route.table, route.ifindex, gateway, packets)
