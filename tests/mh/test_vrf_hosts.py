"""Hosts with VRFs, without a kernel: rules are followed as in net/core/fib_rules.c, before us and with us."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.mh.plan import KernelState, plan
from lispmob.mh.rule import IN_INTERFACE, MARK, MARK_MASK, OUT_INTERFACE, VRF, Rule
from lispmob.mh.rule_order import Others, arrange
from lispmob.wire.address import EidPrefix

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Table: TypeAlias = Mapping[Network, str]
"""Destination and device; a device "refused" is an unreachable route."""

RED, BLUE, LOCAL, MAIN = 10, 20, 255, 254
L3MDEV: Final = ((VRF, b"\1"),)
FOUND_NOTHING: Final = ""


@dataclass(frozen=True)
class Plain:
    """The addresses of one family."""

    family: int
    eid: str
    overlay: str
    inside: str  # in the overlay
    vrf_net: str  # a network inside the overlay prefix that a VRF is connected to
    native: str
    far: str


PLAINS: Final = (
    Plain(4, "10.1.0.1", "10.1.0.0/16", "10.1.4.9", "10.1.200.0/24", "192.0.2.2", "8.8.8.8"),
    Plain(6, "2001:db8:e::1", "2001:db8:e::/48", "2001:db8:e:4::9", "2001:db8:e:200::/64", "2001:db8:1::2", "2600::1"),
)


@dataclass(frozen=True)
class Packet:
    """`vrf`: the table of the VRF that its socket is bound to; 0: none."""

    destination: str
    source: str | None
    vrf: int = 0
    mark: int = 0


def everywhere(plain: Plain) -> Network:
    return ip_network("0.0.0.0/0" if plain.family == 4 else "::/0")


def tables(plain: Plain) -> dict[int, Table]:
    default = everywhere(plain)
    return {
        LOCAL: {ip_network(plain.native): "lo", ip_network(plain.eid): "lo"},
        MAIN: {default: "eth0"},
        RED: {default: "red0", ip_network(plain.vrf_net): "red0"},
        BLUE: {ip_network(plain.vrf_net): "blue0", default: "refused"},
        77: {default: "eth1"},
    }


def matches(rule: Rule, packet: Packet) -> bool:
    fields = dict(rule.selectors)
    if VRF in fields and not packet.vrf:
        return False
    if IN_INTERFACE in fields and fields[IN_INTERFACE] != b"lo\0":
        return False  # these are packets of this host
    if OUT_INTERFACE in fields and fields[OUT_INTERFACE] != {RED: b"vrf-red\0", BLUE: b"vrf-blue\0"}.get(packet.vrf):
        return False
    if rule.device or rule.udp_ports:
        return False  # ours, about LISP's own packets
    mask = rule.number(MARK_MASK) or (0xFFFFFFFF if MARK in fields else rule.mask)
    wanted = rule.number(MARK) if MARK in fields or MARK_MASK in fields else rule.mark
    if packet.mark & mask != wanted & mask:
        return False
    unspecified = "0.0.0.0" if ":" not in packet.destination else "::"
    source = ip_address(packet.source or unspecified)
    is_guessed = packet.source is None and rule.finds_source  # the source that the route would give it: an EID
    if rule.source is not None and source not in rule.source and not is_guessed:
        return False
    return rule.destination is None or ip_address(packet.destination) in rule.destination


def route(packet: Packet, rules: Iterable[Rule], known: Mapping[int, Table]) -> str:
    """The device that the packet leaves by; "refused"; or nothing."""
    ordered = sorted(rules, key=lambda rule: (rule.priority, rule.is_copy))
    from_priority = 0
    for rule in ordered:
        if rule.priority < from_priority or not matches(rule, packet):
            continue
        match rule.action:
            case "goto":
                from_priority = rule.target
            case "nop":
                pass
            case "lookup":
                table = packet.vrf if rule.selector(VRF) else rule.table
                found = longest(known.get(table, {}), packet.destination)
                limit = rule.suppressed_prefix_len
                if found is not None and not (limit is not None and found[0].prefixlen <= limit):
                    return found[1]
            case _:
                return "refused"
    return FOUND_NOTHING


def longest(table: Table, destination: str) -> tuple[Network, str] | None:
    fitting = [(network, device) for network, device in table.items() if ip_address(destination) in network]
    return max(fitting, key=lambda found: found[0].prefixlen, default=None)


def with_us(plain: Plain, theirs: list[Rule], mode: str) -> tuple[list[Rule], dict[int, Table]]:
    length = 32 if plain.family == 4 else 128
    prefixes = (ip_network(plain.overlay),)
    state = KernelState(
        "lmn0", (EidPrefix.parse(f"{plain.eid}/{length}"),), "full" if mode == "full" else "split", prefixes
    )
    known = tables(plain)
    wide = frozenset((plain.family, table) for table, routes in known.items() if everywhere(plain) in routes)
    wanted = plan(state)
    found = arrange(wanted.rules, Others(tuple(theirs), wide=wide))
    assert found.ahead == ()
    for ours in wanted.routes:
        if ours.destination.version == plain.family and ours.kind == "unicast":
            known[ours.table] = {**known.get(ours.table, {}), ours.destination: ours.devices[0]}
    return [*theirs, *found.rules], known


def their(plain: Plain, priority: int, table: int = 0, **more: object) -> Rule:
    return Rule(priority, plain.family, table, is_copy=True, **more)  # type: ignore[arg-type]


@st.composite
def hosts(draw: st.DrawFn) -> tuple[Plain, list[Rule]]:
    """A host with the VRFs red and blue, and with other rules."""
    plain = draw(st.sampled_from(PLAINS))
    priority = st.sampled_from([900, 999, 1000, 2000, 4300, 4339, 4341, 4346, 20000, 32000])
    local_at = draw(st.sampled_from([0, 0, 1001, 32765]))
    rules = [their(plain, local_at, LOCAL), their(plain, 32766, MAIN)]
    kinds: dict[str, dict[str, Any]] = {
        "l3mdev": {"selectors": L3MDEV},
        "oif red": {"table": RED, "selectors": ((OUT_INTERFACE, b"vrf-red\0"),)},
        "iif red": {"table": RED, "selectors": ((IN_INTERFACE, b"vrf-red\0"),)},
        "mark": {"table": 77, "selectors": ((MARK, struct.pack("=I", 0x100)), (MARK_MASK, struct.pack("=I", 0x3F00)))},
        "unreachable l3mdev": {"action": "unreachable", "selectors": L3MDEV},
    }
    drawn = draw(
        st.lists(
            st.tuples(priority, st.sampled_from(sorted(kinds))), min_size=1, max_size=5, unique_by=lambda one: one[0]
        )
    )
    rules += [their(plain, at, **kinds[kind]) for at, kind in drawn]
    return plain, sorted(rules, key=lambda rule: rule.priority)


def packets(plain: Plain) -> list[Packet]:
    in_vrf = str(ip_network(plain.vrf_net)[9])
    return [
        Packet(destination, source, vrf, mark)
        for destination in (plain.inside, in_vrf, plain.far, plain.native, plain.eid)
        for source in (None, plain.native, plain.eid)
        for vrf in (0, RED, BLUE)
        for mark in (0, 0x100)
    ]


@given(host=hosts(), mode=st.sampled_from(["split", "full"]))
def test_what_is_bound_to_a_vrf_stays_there_and_the_overlay_enters_our_device(
    host: tuple[Plain, list[Rule]], mode: str
) -> None:
    plain, theirs = host
    rules, known = with_us(plain, theirs, mode)

    for packet in packets(plain):
        before, after = route(packet, theirs, tables(plain)), route(packet, rules, known)
        takes = [rule for rule in theirs if packet.vrf and (rule.selector(VRF) or rule.selector(OUT_INTERFACE))]
        is_in_vrf = any(matches(rule, packet) for rule in takes) and before in ("red0", "blue0", "refused")
        if is_in_vrf or before == "lo" or packet.source == plain.native:
            assert after == before, packet
        elif packet.destination == plain.inside and not packet.vrf:
            assert after == "lmn0", packet


@pytest.mark.parametrize("plain", PLAINS, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("mode", ["split", "full"])
@pytest.mark.parametrize(("at", "local_at"), [(1000, 0), (1000, 32765), (32000, 0)])
def test_the_rule_that_the_kernel_makes_with_the_first_vrf_is_respected_wherever_it_is_moved(
    plain: Plain, mode: str, at: int, local_at: int
) -> None:
    theirs = [their(plain, local_at, LOCAL), their(plain, at, selectors=L3MDEV), their(plain, 32766, MAIN)]
    rules, known = with_us(plain, sorted(theirs, key=lambda rule: rule.priority), mode)
    in_vrf = str(ip_network(plain.vrf_net)[9])

    assert route(Packet(in_vrf, None, RED), rules, known) == "red0"
    assert route(Packet(plain.inside, None, BLUE), rules, known) == "refused"
    assert route(Packet(plain.inside, plain.eid), rules, known) == "lmn0"
    assert route(Packet(in_vrf, plain.eid), rules, known) == "lmn0"  # a VRF's networks belong to that VRF alone
    assert route(Packet(plain.far, plain.native), rules, known) == "eth0"
