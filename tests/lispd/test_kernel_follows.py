"""What the kernel must hold follows what the daemon knows, in any order of changes: compared with lookups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.config.node import NodeFile, RoutingSection
from lispmob.control.forwarding import ForwardingPolicy
from lispmob.control.mappings import Mappings
from lispmob.control.node_config import Fallback, NodeConfig
from lispmob.iface_monitor.snapshot import NetworkState
from lispmob.lispd import assembly
from lispmob.lispd.native_routes import NativeRoutes
from lispmob.lispd.tasks.desired_kernel import kernel_state, leaves_natively
from lispmob.mh.plan import Plan, Route, plan
from lispmob.mh.rule import MAIN_TABLE
from lispmob.protocol.effect import InstallMapping, MachineEffect, MappingLearned, RemoveMapping
from lispmob.protocol.locator_set import LocalLocator, LocatorSet
from lispmob.wire.address import EidPrefix, IpAddress, IpNetwork
from lispmob.wire.record import Action, Locator, MappingRecord
from tests.config.test_config_node import read as load

OVERLAY = ("10.99.0.0/24", "2001:db8:99::/48")
PREFIXES = (
    "0.0.0.0/1",
    "10.0.0.0/8",
    "10.99.0.0/23",
    "10.99.0.0/24",
    "10.99.0.128/25",
    "10.99.0.2/32",
    "10.99.0.200/32",
    "10.98.0.0/16",
    "::/1",
    "2001:db8::/32",
    "2001:db8:99::/48",
    "2001:db8:99:1::/64",
    "2001:db8:99:1::2/128",
    "2001:db8:7::/48",
)
HOSTS = tuple(
    map(
        ip_address,
        (
            *("10.99.0.2", "10.99.0.3", "10.99.0.200", "10.99.1.7", "10.98.0.1", "192.0.2.9"),
            *("2001:db8:99:1::2", "2001:db8:99:1::3", "2001:db8:99:2::1", "2001:db8:7::1", "2a00::1"),
        ),
    )
)
PEERS = tuple(map(ip_address, ("203.0.113.5", "2001:db8:f::5")))
OWN = (LocalLocator(ip_address("198.51.100.2"), 2, "eth0"), LocalLocator(ip_address("2001:db8:a::2"), 2, "eth0"))


@dataclass(frozen=True, slots=True)
class Step:
    """Apply `what` to a prefix: encapsulate, native, drop, gone, static-*, deleted, dead, alive, later."""

    what: str
    prefix: str


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            (
                *("encapsulate", "native", "drop", "ask", "gone", "static-encapsulate", "static-native", "static-drop"),
                *("deleted", "dead", "alive", "later"),
            )
        ),
        st.sampled_from(PREFIXES),
    ),
    max_size=14,
)


class Both:
    """The core's map-cache, and what the kernel gets of it."""

    def __init__(self, mode: str, fallback: Fallback) -> None:
        self.file: NodeFile = load(
            "eids: [10.99.0.1/32, '2001:db8:99::1/128']\nmap-servers: [{address: 192.0.2.1, key: k}]\n"
            f"proxy-etrs: [203.0.113.99]\n"
            f"routing: {{mode: {mode}, overlay-prefixes: ['{OVERLAY[0]}', '{OVERLAY[1]}'], fallback: {fallback}}}\n"
        )
        config: NodeConfig = assembly.node_config(self.file, bytes(16))
        self.mappings = Mappings(ForwardingPolicy.of(config), 100)
        self.natives = NativeRoutes()
        self.now = 0.0
        self.applied = self.wanted()
        self._take(self.mappings.on_locators(LocatorSet.of(1, OWN), 0.0))

    def wanted(self) -> Plan:
        return plan(kernel_state(self.file, (), NetworkState(), (), self.natives))

    def play(self, step: Step) -> None:
        self.now += 1.0
        prefix = EidPrefix.parse(step.prefix)
        found, peer = self.mappings, PEERS[prefix.family == 6]
        if step.what.startswith("static-"):
            self._take(found.on_added(_record(prefix, step.what.removeprefix("static-"), peer), self.now))
        elif step.what == "deleted":
            self._take(found.on_deleted(prefix))
        elif step.what in ("dead", "alive"):
            self._take(found.on_reachability(peer, step.what == "alive", self.now))
        elif step.what == "later":
            self.now += 20 * 60
            self._take(found.on_timer(self.now))
        else:
            asked = EidPrefix.host(prefix.address)
            self._take(
                found.on_learned(MappingLearned(asked, (_record(prefix, step.what, peer),), "miss", 1.0), self.now)
            )

    def _take(self, effects: Iterable[MachineEffect]) -> None:
        """Perform the effects as the daemon does."""
        for effect in effects:
            match effect:
                case InstallMapping():
                    has_changed = self.natives.on_installed(effect)
                case RemoveMapping(prefix):
                    has_changed = self.natives.on_removed(prefix)
                case _:
                    continue
            if has_changed:
                self.applied = self.wanted()


def _record(prefix: EidPrefix, what: str, peer: IpAddress) -> MappingRecord:
    if what == "encapsulate":
        return MappingRecord.of(prefix, (Locator(peer),), ttl_min=10)
    action = {"native": Action.NATIVELY_FORWARD, "ask": Action.SEND_MAP_REQUEST, "gone": Action.NATIVELY_FORWARD}
    return MappingRecord.of(prefix, ttl_min=0 if what == "gone" else 15, action=action.get(what, Action.DROP))


def route_of(held: Plan, source: IpAddress, destination: IpAddress) -> str:
    """What the kernel would do: "tun", or "host" when no route of ours matches the packet."""
    for rule in sorted(held.rules, key=lambda each: each.priority):
        is_other = rule.family != destination.version or rule.device or rule.udp_ports
        if is_other or (rule.source is not None and source not in rule.source):
            continue
        if rule.table == MAIN_TABLE or (rule.destination is not None and destination not in rule.destination):
            continue  # main has only a default route here, which this comparison leaves out
        if (found := _longest([route for route in held.routes if route.table == rule.table], destination)) is None:
            continue
        if found.kind == "unicast":
            return "tun"
    return "host"


def _longest(routes: Sequence[Route], destination: IpAddress) -> Route | None:
    fitting = [route for route in routes if destination in route.destination]
    return max(fitting, key=lambda each: (each.destination.prefixlen, -each.metric), default=None)


def _is_in_overlay(host: IpAddress) -> bool:
    return any(host in network for network in map(ip_network, OVERLAY))


def expected(both: Both, mode: str, host: IpAddress) -> str:
    entry = both.mappings.cache.lookup(host)
    told = both.mappings.installed.get(entry.prefix) if entry is not None else None
    if told is not None and told.disposition == "NATIVE":
        return "host"
    return "tun" if mode == "full" or _is_in_overlay(host) else "any"


@given(STEPS, st.sampled_from(("split", "full")), st.sampled_from(get_args(Fallback)))
def test_the_kernel_sends_into_the_overlay_just_what_a_lookup_does_not_call_native(
    steps: list[Step], mode: str, fallback: Fallback
) -> None:
    both = Both(mode, fallback)

    for step in steps:
        both.play(step)

        assert both.applied == both.wanted()
        for host in HOSTS:
            source = next(eid.address for eid in both.file.eids if eid.family == host.version)
            wanted = expected(both, mode, host)
            assert wanted in ("any", route_of(both.applied, source, host)), (step, host, fallback)


@given(STEPS, st.sampled_from(("split", "full")))
def test_by_default_nothing_inside_the_overlay_prefixes_leaves_natively_unless_a_hand_asked_for_it(
    steps: list[Step], mode: str
) -> None:
    both = Both(mode, "auto")

    for step in steps:
        both.play(step)

        for host in filter(_is_in_overlay, HOSTS):
            entry = both.mappings.cache.lookup(host)
            told = both.mappings.installed.get(entry.prefix) if entry is not None else None
            is_native = told is not None and told.disposition == "NATIVE"
            assert not is_native or (entry is not None and entry.source == "static"), (step, host)


@pytest.mark.parametrize(
    ("hole", "peer"),
    [
        ("10.99.0.2/32", "10.99.0.2/32"),
        ("10.99.0.0/24", "10.99.0.2/32"),
        ("10.0.0.0/8", "10.99.0.128/25"),
        ("2001:db8::/32", "2001:db8:99:1::/64"),
    ],
)
def test_a_peer_that_came_back_is_reached_whatever_was_said_of_it_before(hole: str, peer: str) -> None:
    both = Both("split", "native")
    both.play(Step("native", hole))
    away = both.applied

    both.play(Step("encapsulate", peer))

    host = EidPrefix.parse(peer).address
    source = next(eid.address for eid in both.file.eids if eid.family == host.version)
    assert [route_of(held, source, host) for held in (away, both.applied)] == ["host", "tun"]


def test_the_last_native_prefix_that_becomes_a_mapping_changes_the_kernel() -> None:
    natives = NativeRoutes()
    natives.on_installed(InstallMapping(EidPrefix.parse("10.99.0.2/32"), "NATIVE"))

    assert natives.on_installed(InstallMapping(EidPrefix.parse("10.99.0.2/32"), "DROP"))


def test_a_hole_as_wide_as_an_overlay_prefix_is_the_hosts_own_business_when_asked_for() -> None:
    natives = NativeRoutes()
    overlay: tuple[IpNetwork, ...] = (ip_network("10.99.0.0/24"),)

    natives.on_installed(InstallMapping(EidPrefix.parse("10.99.0.0/24"), "NATIVE"))

    assert natives.overlay(overlay).tunnelled == ()
    assert natives.overlay(overlay).native == overlay


def test_the_default_is_shown_in_the_file_and_asks_for_nothing_native() -> None:
    assert RoutingSection().fallback == "auto"
    assert not leaves_natively(load("eids: [10.99.0.1/32]\nmap-servers: [{address: 192.0.2.1, key: k}]\n"))
