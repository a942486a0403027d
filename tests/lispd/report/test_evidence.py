"""What the daemon's parts know, as evidence: foreign addresses, uplinks without answers, peers in our own prefix."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from lispmob.control.map_cache import MapCache, MapCacheEntry
from lispmob.control.probing.data_doubt import Verdict
from lispmob.control.probing.path import Pair, Path
from lispmob.control.registration import State
from lispmob.iface_monitor.proc_net import parse_if_inet6
from lispmob.iface_monitor.snapshot import DefaultRoute, Link, LocalAddress, NetworkState, Uplink, UplinkPolicy
from lispmob.lispd.report.evidence import (
    duplicates,
    eid_without_route,
    foreign_in_own_prefix,
    is_reached_by_other_address,
    is_registered_by_other_address,
    own_eids_in_use,
    translated_to,
    unheard_by,
)
from lispmob.natt.dialect import Dialect
from lispmob.natt.info_exchange import Seen
from lispmob.problems.evidence import DuplicateAddress, InsideEvidence, OwnEidEvidence
from lispmob.protocol.servers import MapServerPeer
from lispmob.wire.address import EidPrefix
from lispmob.wire.auth import Key
from lispmob.wire.record import Locator
from tests.control.support import ip

WIFI, LTE = ip("192.0.2.7"), ip("203.0.113.8")
ONE, TWO = ip("198.51.100.2"), ip("198.51.100.3")
PEER = EidPrefix.parse("10.9.0.1/32")
ETH = Link(2, "eth0", "", is_up=True, has_carrier=True, is_loopback=False, mtu_bytes=1500)
TAKEN = LocalAddress(ip("2001:db8::7"), 64, 2, is_tentative=True, is_duplicate=True)


def path(local: object, remote: object) -> Path:
    return Path(Pair(local, remote), PEER, 0.0)  # type: ignore[arg-type]


def test_an_address_that_another_host_has_is_evidence_on_an_uplink_alone() -> None:
    tunnel = replace(ETH, name="lmn0", ifindex=3)
    network = NetworkState.of([ETH, tunnel], [TAKEN, replace(TAKEN, ifindex=3)], [])

    assert list(duplicates(network, UplinkPolicy())) == [DuplicateAddress("eth0", "2001:db8::7")]


@pytest.mark.parametrize(
    ("address", "gateway", "eid", "found"),
    [
        ("10.1.0.1", "10.1.0.254", "10.1.0.1/32", [("10.1.0.1", False)]),
        ("10.1.0.5", "10.1.0.1", "10.1.0.1/32", [("10.1.0.1", True)]),
        ("10.1.0.5", "10.1.0.14", "10.1.0.0/28", [("10.1.0.5", False), ("10.1.0.14", True)]),
        ("2001:db8:e::1", "fe80::1", "2001:db8:e::1/128", [("2001:db8:e::1", False)]),
        ("10.1.0.5", "10.1.0.254", "10.1.0.1/32", []),
        ("2001:db8:e::5", "fe80::1", "10.1.0.1/32", []),
    ],
    ids=["the address", "the gateway", "both inside a prefix", "IPv6", "neither", "another family"],
)
def test_our_eid_on_an_uplink_or_at_its_gateway_is_evidence(
    address: str, gateway: str, eid: str, found: list[tuple[str, bool]]
) -> None:
    uplink = Uplink("eth0", 2, (ip(address),), 100, 1500, 1, 100)
    routes = [DefaultRoute(ip(gateway).version, ifindex, ip(gateway), 100) for ifindex in (2, 9)]
    network = NetworkState.of([ETH], [], routes)

    evidence = list(own_eids_in_use([EidPrefix.parse(eid)], [uplink], network))

    assert evidence == [OwnEidEvidence("eth0", at, eid, is_gateway) for at, is_gateway in found]


@pytest.mark.parametrize(
    ("address", "length", "eid", "has_route", "found"),
    [
        ("10.1.0.5", 24, "10.1.0.1/32", False, "10.1.0.1/32"),
        ("10.1.0.5", 24, "10.1.0.1/32", True, ""),
        ("10.1.0.5", 32, "10.1.0.1/32", False, ""),
        ("2001:db8:e::5", 64, "2001:db8:e::1/128", False, "2001:db8:e::1/128"),
        ("2001:db8:e::5", 64, "10.1.0.1/32", False, ""),
    ],
    ids=["no route", "a route", "no network", "IPv6", "another family"],
)
def test_a_network_around_our_eid_that_gives_no_default_route_is_evidence(
    address: str, length: int, eid: str, has_route: bool, found: str
) -> None:
    local = LocalAddress(ip(address), length, 2)
    routes = [DefaultRoute(local.address.version, 2, None, 100)] if has_route else []

    assert eid_without_route([EidPrefix.parse(eid)], NetworkState.of([ETH], [local], routes), 2) == found


def test_an_address_that_is_still_being_looked_into_is_not_another_hosts() -> None:
    network = NetworkState.of([ETH], [replace(TAKEN, is_duplicate=False)], [])

    assert list(duplicates(network, UplinkPolicy())) == []


@pytest.mark.parametrize(("flags", "is_duplicate"), [("88", True), ("c8", True), ("c0", False), ("80", False)])
def test_the_kernel_says_of_each_address_whether_another_host_has_it(flags: str, is_duplicate: bool) -> None:
    (found,) = parse_if_inet6(f"20010db8000000000000000000000007 02 40 00 {flags} eth0\n")

    assert found.is_duplicate is is_duplicate


@pytest.mark.parametrize(
    ("verdicts", "heard"),
    [
        ({ONE: Verdict.OUT, TWO: Verdict.OUT}, ("198.51.100.2", "198.51.100.3")),
        ({ONE: Verdict.OUT}, ()),
        ({ONE: Verdict.OUT, TWO: Verdict.BACK}, ()),
        ({ONE: Verdict.OUT, TWO: Verdict.OPEN}, ()),
        ({}, ()),
    ],
)
def test_an_uplink_is_not_heard_when_no_peer_gets_its_data(verdicts: dict[object, Verdict], heard: object) -> None:
    paths = [path(WIFI, ONE), path(WIFI, TWO), path(LTE, ip("198.51.100.4"))]

    assert unheard_by(WIFI, paths, verdicts) == heard  # type: ignore[arg-type]


def test_one_peer_that_gets_nothing_may_have_a_firewall_of_its_own() -> None:
    assert unheard_by(LTE, [path(LTE, ONE), path(WIFI, TWO)], {ONE: Verdict.OUT}) == ()


def cache(*prefixes: str) -> MapCache:
    made = MapCache()
    for prefix in prefixes:
        made.insert(MapCacheEntry(EidPrefix.parse(prefix), (Locator(ONE),)))
    return made


@pytest.mark.parametrize(
    ("mapped", "found"),
    [
        (["10.1.0.7/32", "10.2.0.7/32"], ["10.1.0.7/32"]),
        (["10.1.0.0/24", "10.1.0.1/32"], []),
        (["10.0.0.0/8"], []),
        ([f"10.1.0.{host}/32" for host in range(8, 20)], ["10.1.0.8/32", "10.1.0.9/32", "10.1.0.10/32"]),
    ],
    ids=["a peer", "our own", "around ours", "many"],
)
def test_mappings_of_others_inside_our_prefix_are_evidence_and_a_few_are_enough(
    mapped: list[str], found: list[str]
) -> None:
    ours = [EidPrefix.parse("10.1.0.0/24"), EidPrefix.parse("10.1.0.1/32")]

    assert list(foreign_in_own_prefix(ours, cache(*mapped))) == [InsideEvidence(eid, "10.1.0.0/24") for eid in found]


V6_ONLY = Uplink("wwan0", 3, (ip("2001:db8::7"),), 100, 1500, 1, 100)
SEEN = Seen(MapServerPeer(ip("64:ff9b::c633:6401"), Key(b"a")), Dialect.E19, None, 4342, (), False, 60.0, 0.02)
THROUGH = replace(SEEN, as_other_family=ip("198.51.100.64"))


@pytest.mark.parametrize(
    ("seen", "uplinks", "found"),
    [
        (THROUGH, [V6_ONLY], "198.51.100.64"),
        (THROUGH, [V6_ONLY, replace(V6_ONLY, name="eth0", addresses=(WIFI,))], None),
        (SEEN, [V6_ONLY], None),
        (None, [V6_ONLY], None),
    ],
    ids=["IPv6 only", "IPv4 elsewhere", "no translator", "not answered yet"],
)
def test_a_translator_matters_where_there_is_no_ipv4(seen: Seen | None, uplinks: list[Uplink], found: object) -> None:
    assert translated_to(seen, uplinks) == found


HUB_KEY = Key(b"of the hub")
NAMES = {ip("2001:db8:51::1"): "hub.example.net", ip("198.51.100.1"): "hub.example.net"}


def registration(server: str, state: State) -> Any:
    return SimpleNamespace(server=SimpleNamespace(address=ip(server)), state=state)


@pytest.mark.parametrize(
    ("rests", "others", "found"),
    [
        ("2001:db8:51::1", [("198.51.100.1", State.REGISTERED)], True),
        ("2001:db8:51::1", [("198.51.100.1", State.REGISTERING)], True),
        ("2001:db8:51::1", [("198.51.100.1", State.IDLE)], False),
        ("2001:db8:51::1", [("198.51.100.7", State.REGISTERED)], False),
        ("2001:db8:51::7", [("198.51.100.1", State.REGISTERED)], False),
    ],
    ids=["registered", "on its way", "offline", "another server", "known by its address"],
)
def test_a_named_server_is_not_missed_in_a_family_that_no_uplink_has(
    rests: str, others: list[tuple[str, State]], found: bool
) -> None:
    one = registration(rests, State.IDLE)
    all_of_them = [one, *(registration(*other) for other in others)]
    names = SimpleNamespace(name_of=lambda address: NAMES.get(address, ""))
    parts: Any = SimpleNamespace(names=names, node=SimpleNamespace(registrations=all_of_them))

    assert is_reached_by_other_address(one, parts) is found


@pytest.mark.parametrize(
    ("uplinks", "other", "stands"),
    [
        ((WIFI,), {}, True),
        ((), {}, True),
        ((WIFI, ip("2001:db8::7")), {}, False),  # it could be reached, and is not
        ((WIFI,), {"is_confirmed": False}, False),
        ((WIFI,), {"eid": EidPrefix.parse("10.8.0.1/32")}, False),
        ((WIFI,), {"key": Key(b"of another hub")}, False),
    ],
)
def test_a_hub_with_an_address_of_each_family_lacks_nothing_where_one_of_them_can_be_reached(
    uplinks: tuple[Any, ...], other: dict[str, Any], stands: bool
) -> None:
    def registration_at(address: str, *, is_confirmed: bool, eid: EidPrefix = PEER, key: Key = HUB_KEY) -> Any:
        return SimpleNamespace(eid=eid, server=MapServerPeer(ip(address), key), is_confirmed=is_confirmed)

    six = registration_at("2001:db8:53::1", is_confirmed=False)
    four = registration_at("198.51.100.53", **{"is_confirmed": True, **other})
    node = SimpleNamespace(registrations=[six, four], traversal=SimpleNamespace(machines=()))
    parts: Any = SimpleNamespace(uplinks=[SimpleNamespace(addresses=uplinks)], node=node)

    assert is_registered_by_other_address(six, parts) is stands
