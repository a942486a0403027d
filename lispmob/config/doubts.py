"""Settings of a lispd.conf that are allowed but probably mistakes, as problems: for `lispd --check`, the log and the
status.

`doubts(file)` needs only the file; `doubts_on(file, interfaces, networks)` compares it with the host. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from lispmob.config.names import why_odd
from lispmob.config.node import EXAMPLE_KEY, NodeFile, UplinkSection
from lispmob.mh.policy import NATIVE, Rule
from lispmob.mh.selector import Selector, Span
from lispmob.problems.problem import Problem, Severity
from lispmob.wire.address import IpAddress, IpNetwork

_WILD: Final = frozenset("*?[")
RULES_COMPARED: Final = 256  # ours: each with each; more rules come from a program


def doubts(file: NodeFile) -> tuple[Problem, ...]:
    """Improbable settings of the file alone."""
    return (
        *_keys(file),
        *_overlay(file),
        *_eids(file),
        *_domain(file.names.domain),
        *_unreachable_uplink_rules(file.uplinks),
        *_unreachable_steering_rules([rule.to_rule() for rule in file.steering.rules[:RULES_COMPARED]]),
    )


def doubts_on(file: NodeFile, interfaces: Collection[str], networks: Mapping[IpNetwork, str]) -> tuple[Problem, ...]:
    """What does not fit this host. `networks`: those that its uplinks are attached to, each with the interface."""
    return (*_names_of_nothing(file, interfaces), *_overlaps(file, networks))


def _keys(file: NodeFile) -> Iterator[Problem]:
    for server in file.written_servers:
        if server.secret.octets == EXAMPLE_KEY:
            yield Problem(
                "key-example",
                Severity.DEGRADED,
                f"the key for Map-Server {server.place} is the example's",
                "it is public: any host can take over your EIDs",
                "ask the Map-Server's operator for yours, and write it into map-servers: key",
                str(server.place),
            )
        if server.secret.cut_short:
            yield Problem(
                "key-comment",
                Severity.NOTICE,
                f"the key for Map-Server {server.place} ends where a ' #' begins a comment",
                "in YAML what follows ' #' is no part of a value",
                "put the key in quotes; if it is a comment, give it a line of its own",
                str(server.place),
            )


def _overlay(file: NodeFile) -> Iterator[Problem]:
    if file.routing.mode == "split" and not file.routing.overlay_prefixes and file.written_servers:
        yield Problem(
            "no-overlay-prefixes",
            Severity.NOTICE,
            "only replies go into the overlay",
            "routing: overlay-prefixes is empty, so packets to other EIDs leave without LISP",
            f"name the prefix that all EIDs lie in, such as: overlay-prefixes: [{_guess(file)}]",
        )
    yield from _own_eids_outside(file)
    servers = [("Map-Server", server.address) for server in file.map_servers]
    resolvers = [("Map-Resolver", resolver.address) for resolver in file.map_resolvers]
    for role, address in dict.fromkeys([*servers, *resolvers]):
        for prefix in _holding(address, file.routing.overlay_prefixes):
            yield Problem(
                "map-server-in-overlay",
                Severity.NOTICE,
                f"{role} {address} lies inside {prefix} of overlay-prefixes",
                "lispd still reaches it, but packets of other programs to it are dropped",
                "choose overlay-prefixes that contain only EIDs",
                str(address),
            )


def _own_eids_outside(file: NodeFile) -> Iterator[Problem]:
    """EIDs of peers are mostly given out of the prefix that ours is in: then packets to them would go past LISP."""
    if file.routing.mode != "split":
        return
    for family in (4, 6):
        overlay = [prefix for prefix in file.routing.overlay_prefixes if prefix.version == family]
        own = [eid for eid in file.eids if eid.family == family]
        if overlay and own and not any(_subnet(eid.network, prefix) for eid in own for prefix in overlay):
            yield Problem(
                "eid-outside-overlay",
                Severity.NOTICE,
                f"our EID {own[0]} lies in none of overlay-prefixes",
                "where others have EIDs near it, packets to them leave without LISP",
                f"if they do, add the prefix to overlay-prefixes: {', '.join(map(str, overlay))}",
                str(own[0]),
            )


def _domain(domain: str) -> Iterator[Problem]:
    if why := why_odd(domain):
        remedy = "choose one below home.arpa (RFC 8375), such as names: {domain: lisp.home.arpa}"
        yield Problem(
            "odd-domain", Severity.NOTICE, f"names: domain: {domain} is no domain to use", why, remedy, domain
        )


def _eids(file: NodeFile) -> Iterator[Problem]:
    for eid in file.eids:
        network = eid.network
        if network.prefixlen == network.max_prefixlen or _has_host_inside(file, network):
            continue
        one = next(network.hosts(), network.network_address)
        yield Problem(
            "eid-without-address",
            Severity.NOTICE,
            f"{eid} is a prefix, so {file.tun.name} has no address of it",
            "lispd does not know which of its addresses is this host's",
            f"list the host's own address in eids, too, such as {one}/{network.max_prefixlen}, or give it to another "
            "interface",
            str(eid),
        )


def _has_host_inside(file: NodeFile, network: IpNetwork) -> bool:
    return any(
        eid.network.prefixlen == network.max_prefixlen
        and eid.network.version == network.version
        and eid.address in network
        for eid in file.eids
    )


def _unreachable_uplink_rules(rules: Sequence[UplinkSection]) -> Iterator[Problem]:
    """The first rule that matches counts: a later one about the same interfaces is never looked at."""
    for place, rule in enumerate(rules):
        earlier = next((section for section in rules[:place] if _covers_interfaces(section, rule)), None)
        if earlier is not None:
            yield _never_counts(
                f"uplinks[{place}]", _described(rule), f"uplinks[{rules.index(earlier)}]", _described(earlier)
            )


def _described(rule: UplinkSection) -> str:
    said = {"name": rule.name, "type": rule.type}
    return ", ".join(f"{key}: {value}" for key, value in said.items() if value is not None)


def _covers_interfaces(earlier: UplinkSection, later: UplinkSection) -> bool:
    if earlier.type not in (None, later.type) or not _among(later.network, earlier.network):
        return False
    pattern, name = earlier.name or "*", later.name or "*"
    return pattern in ("*", name) or (not _WILD & set(name) and fnmatchcase(name, pattern))


def _unreachable_steering_rules(rules: Sequence[Rule]) -> Iterator[Problem]:
    for place, rule in enumerate(rules):
        earlier = next(
            (
                one
                for one in rules[:place]
                if _covers(one.selector, rule.selector) and _among(rule.networks, one.networks)
            ),
            None,
        )
        if earlier is not None:
            yield _never_counts("steering rule", f"'{rule.name}'", "rule", f"'{earlier.name}'")


def _covers(earlier: Selector, later: Selector) -> bool:
    """True when `earlier` matches every flow that `later` matches, as far as can be determined."""
    return (
        _within(later.destinations, earlier.destinations)
        and _within(later.sources, earlier.sources)
        and _among(later.protocols, earlier.protocols)
        and _among(later.dscp, earlier.dscp)
        and all(
            _inside(one, other)
            for one, other in (
                (later.destination_ports, earlier.destination_ports),
                (later.source_ports, earlier.source_ports),
                (later.users, earlier.users),
                (later.groups, earlier.groups),
            )
        )
        and earlier.cgroup in (None, later.cgroup)
        and earlier.app in (None, later.app)
        and earlier.from_interface in (None, later.from_interface)
        and earlier.flow_name in (None, "*" if later.is_of_flows else None, later.flow_name)
        and _among(later.flow_classes, earlier.flow_classes)
    )


def _within(later: tuple[IpNetwork, ...], earlier: tuple[IpNetwork, ...]) -> bool:
    return not earlier or (bool(later) and all(any(_subnet(network, other) for other in earlier) for network in later))


def _among(later: tuple[object, ...], earlier: tuple[object, ...]) -> bool:
    return not earlier or (bool(later) and set(later) <= set(earlier))


def _inside(later: tuple[Span, ...], earlier: tuple[Span, ...]) -> bool:
    if not earlier:
        return True
    return bool(later) and all(
        any(span.first <= inner.first and inner.last <= span.last for span in earlier) for inner in later
    )


def _never_counts(kind: str, name: str, earlier_kind: str, earlier: str) -> Problem:
    return Problem(
        "rule-never-counts",
        Severity.NOTICE,
        f"{kind} ({name}) never counts" if kind.startswith("uplinks") else f"{kind} {name} never counts",
        f"{earlier_kind} {earlier} comes first and matches everything that it does; the first match counts",
        "move it up, or remove one of the two",
        f"{kind} {name}",
    )


def _names_of_nothing(file: NodeFile, interfaces: Collection[str]) -> Iterator[Problem]:
    """Names in rules that no interface has. One that is only away may be meant; so it is a notice."""
    named = [(f"rule '{rule.name}'", via.pattern) for rule in file.steering.rules for via in rule.via]
    named = [(where, pattern) for where, pattern in named if pattern != NATIVE]
    for where, pattern in named:
        if not any(fnmatchcase(interface, pattern) for interface in interfaces):
            yield _no_such_uplink(where, pattern, interfaces)
    for rule in file.uplinks:
        # Interfaces come and go, and a file names rarely used ones: only probable typing errors are reported.
        name = rule.name or "*"
        if name not in interfaces and any(_is_slip(name, interface) for interface in interfaces):
            yield _no_such_uplink("uplinks", name, interfaces)


def _no_such_uplink(where: str, pattern: str, interfaces: Collection[str]) -> Problem:
    meant = _meant(pattern, interfaces)
    return Problem(
        "no-such-uplink",
        Severity.NOTICE,
        f"{where} names {pattern}, and no interface has that name",
        "the rule has no effect until one has",
        f"did you mean {meant}?" if meant is not None else "see: ip link",
        f"{where} {pattern}",
    )


def _meant(name: str, interfaces: Collection[str]) -> str | None:
    from difflib import get_close_matches  # late: needed for a mistyped name only

    return next(iter(get_close_matches(name, sorted(interfaces), n=1, cutoff=0.75)), None)


def _is_slip(name: str, interface: str) -> bool:
    """True for letters in another order, one too many or one missing: wlna0, not wwan0 for wlan0."""
    (word, number), (meant, its_number) = _split(name), _split(interface)
    if number != its_number or word == meant:
        return False
    shorter, longer = sorted((word, meant), key=len)
    is_one_off = any(longer[:at] + longer[at + 1 :] == shorter for at in range(len(longer)))
    return sorted(word) == sorted(meant) or is_one_off


def _split(name: str) -> tuple[str, str]:
    word = name.rstrip("0123456789")
    return word, name[len(word) :]


def _overlaps(file: NodeFile, networks: Mapping[IpNetwork, str]) -> Iterator[Problem]:
    for network, interface in networks.items():
        own = next((eid.network for eid in file.eids if _subnet(eid.network, network)), None)
        if own is not None:
            yield Problem(
                "overlapping-prefix",
                Severity.DEGRADED,
                f"our EID {own} lies inside {network}, the network of {interface}",
                "peers reach it through LISP; hosts of that network look for it on the link, and one that has the same "
                "address exchanges no packets with this host",
                "choose EIDs that are in none of the networks that you visit",
                f"{own} {interface}",
            )
            continue
        prefix = next(
            (overlay_prefix for overlay_prefix in file.routing.overlay_prefixes if _subnet(network, overlay_prefix)),
            None,
        )
        if prefix is not None:
            yield Problem(
                "overlapping-prefix",
                Severity.NOTICE,
                f"{interface} is in {network}, which lies inside {prefix} of overlay-prefixes",
                "while it is attached, packets to EIDs in that network go to the network itself",
                "choose overlay-prefixes that overlap none of the networks that you visit",
                f"{prefix} {interface}",
            )


def _holding(address: IpAddress, prefixes: Iterable[IpNetwork]) -> list[IpNetwork]:
    return [prefix for prefix in prefixes if prefix.version == address.version and address in prefix]


def _subnet(one: IpNetwork, other: IpNetwork) -> bool:
    if one.version != other.version:
        return False
    return other.prefixlen <= one.prefixlen and one.network_address in other


def _guess(file: NodeFile) -> str:
    """A prefix around the first EID, as an example."""
    eid = file.eids[0].network
    return str(eid.supernet(new_prefix=min(eid.prefixlen, 24 if eid.version == 4 else 64)))
