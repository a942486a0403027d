from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from lispmob.config.eid import EidUplinkSection, OwnEid
from lispmob.config.node import NodeFile
from lispmob.config.reader import read_bytes
from lispmob.config.security import SecuritySection
from lispmob.datapath.sealing import can_seal
from lispmob.iface_monitor.snapshot import Link, LocalAddress, NetworkState, Uplink
from lispmob.lispd import assembly
from lispmob.lispd.device_mtu import device_mtu
from lispmob.lispd.native_routes import NativeRoutes
from lispmob.lispd.tasks.desired_kernel import kernel_state
from lispmob.mh.plan import LostAddress
from lispmob.natt.plan import NattPlan, Relay, UplinkPlan
from lispmob.protocol.locator_set import EidRank, LocalLocator
from lispmob.wire.address import EidPrefix

FILE = read_bytes(
    b"eids: [10.1.0.1/32]\nmap-servers: [{address: 198.51.100.1, key: a}]\nproxy-itrs: [198.51.100.9]\n",
    "lispd.conf",
    NodeFile,
    directory=Path(),
)
V4, V6 = ip_address("192.0.2.2"), ip_address("2001:db8::2")


def uplink(name: str, *addresses: str, mtu_bytes: int = 1500, ifindex: int = 2) -> Uplink:
    return Uplink(name, ifindex, tuple(map(ip_address, addresses)), 100, mtu_bytes, 1, 100)


@pytest.mark.parametrize(
    ("uplinks", "expected"),
    [
        ([], 1440),
        ([uplink("eth0", "192.0.2.2")], 1464),
        ([uplink("eth0", "192.0.2.2", "2001:db8::2")], 1444),
        ([uplink("eth0", "192.0.2.2"), uplink("wwan0", "198.51.100.2", mtu_bytes=1400)], 1364),
        ([uplink("tunnel", "2001:db8::2", mtu_bytes=1280)], 1280),
    ],
)
def test_the_mtu_is_what_fits_through_the_narrowest_uplink_but_never_below_ipv6s_minimum(
    uplinks: list[Uplink], expected: int
) -> None:
    file = msgspec.structs.replace(FILE, security=SecuritySection(seal="off"))

    assert device_mtu(file, uplinks) == expected


@pytest.mark.skipif(not can_seal(), reason="this build has no libcrypto")
@pytest.mark.parametrize(
    ("eid", "addresses", "is_behind", "expected"),
    [
        ("10.1.0.1/32", ["192.0.2.2"], False, 1436),
        ("10.1.0.1/32", ["192.0.2.2"], True, 1400),
        ("2001:db8:e::1/128", ["192.0.2.2"], True, 1380),
        ("10.1.0.1/32", ["2001:db8::2"], False, 1416),
        ("10.1.0.1/32", ["2001:db8::2"], True, 1380),
    ],
)
def test_where_packets_may_be_sealed_the_mtu_has_room_for_it(
    eid: str, addresses: list[str], is_behind: bool, expected: int
) -> None:
    own = EidPrefix.parse(eid)
    file = msgspec.structs.replace(FILE, own_eids=(OwnEid(own, ()),))
    locator = LocalLocator(ip_address(addresses[0]), 2, "eth0")
    relays = (Relay(ip_address("203.0.113.1"), 4341),) if is_behind else ()

    plan = NattPlan(uplinks=(UplinkPlan(locator, relays),))

    assert device_mtu(file, [uplink("eth0", *addresses)], plan) == expected


def test_every_address_of_every_uplink_is_a_locator() -> None:
    found = assembly.local_locators(
        [uplink("wlan0", str(V4), str(V6)), uplink("lte0", "198.51.100.2", ifindex=3)], FILE
    )

    assert [(str(locator.address), locator.ifindex) for locator in found] == [
        (str(V4), 2),
        (str(V6), 2),
        ("198.51.100.2", 3),
    ]


def test_of_several_addresses_of_a_family_the_first_has_the_weight_of_its_uplink_in_every_mapping() -> None:
    special = EidPrefix.parse("10.0.0.1/32")
    file = msgspec.structs.replace(FILE, own_eids=(OwnEid(special, (EidUplinkSection(name="*", weight=40),)),))
    own = [str(V4), "192.0.2.77", str(V6), "2001:db8::77"]

    found = assembly.local_locators([uplink("wlan0", *own), uplink("lte0", "198.51.100.2", ifindex=3)], file)

    assert [locator.weight for locator in found] == [100, 0, 100, 0, 100]
    assert [locator.announced_for(special).weight for locator in found] == [40, 0, 40, 0, 40]


def test_a_locator_carries_what_it_counts_for_an_eid_that_wants_it_otherwise() -> None:
    special, usual = EidPrefix.parse("10.0.0.1/32"), EidPrefix.parse("10.0.0.2/32")
    rules = (EidUplinkSection(name="lte*", priority=5),)
    file = msgspec.structs.replace(FILE, own_eids=(OwnEid(special, rules), OwnEid(usual)))

    wlan, lte = assembly.local_locators([uplink("wlan0", str(V4)), uplink("lte0", "198.51.100.2", ifindex=3)], file)

    assert not wlan.by_eid
    assert lte.by_eid == (EidRank(special, 5, lte.weight),)


def test_the_way_to_the_mapping_system_is_never_encapsulated() -> None:
    assert set(map(str, assembly.guarded(FILE))) == {"198.51.100.1", "198.51.100.9"}


def state(*addresses: str, is_up: bool = True) -> NetworkState:
    link = Link(2, "wlan0", "", is_up, is_up, False, 1500)
    return NetworkState.of([link], [LocalAddress(ip_address(address), 24, 2) for address in addresses], [])


def test_an_address_that_is_gone_from_a_working_link_is_lost() -> None:
    former = [uplink("wlan0", str(V4), "192.0.2.3")]

    assert assembly.lost_addresses(former, state("192.0.2.3")) == (LostAddress(V4, "wlan0"),)


def test_an_address_that_only_lost_its_default_route_is_not_lost() -> None:
    assert assembly.lost_addresses([uplink("wlan0", str(V4))], state(str(V4))) == ()


def test_nothing_can_arrive_at_an_address_whose_link_is_down() -> None:
    assert assembly.lost_addresses([uplink("wlan0", str(V4))], state(is_up=False)) == ()


def test_in_legacy_mode_packets_leave_by_the_hosts_default_uplink_whatever_is_announced() -> None:
    lte = Uplink("lte0", 3, (ip_address("198.51.100.2"),), 50, 1500, 9, 100)

    found = assembly.engine_uplinks([uplink("wlan0", str(V4)), lte], is_legacy=True)

    assert [each.interface for each in sorted(found, key=lambda each: each.priority)] == ["lte0", "wlan0"]


NAMESERVERS = [ip_address("203.0.113.53"), ip_address("2001:db8:53::1"), ip_address("10.2.0.53")]


def routed_natively(routing: str) -> list[str]:
    """The prefixes that a host with these DNS servers routes natively."""
    text = f"eids: [10.1.0.1/32]\nmap-servers: [{{address: hub.example.net, key: a}}]\nrouting: {routing}\n"
    file = read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path())
    state = kernel_state(file, (), NetworkState(), (), NativeRoutes(), nameservers=NAMESERVERS)
    return [str(prefix) for prefix in state.native_prefixes]


def test_in_full_mode_dns_stays_outside_of_the_overlay_that_needs_it() -> None:
    assert routed_natively("{mode: full, overlay-prefixes: [10.2.0.0/16]}") == ["203.0.113.53/32", "2001:db8:53::1/128"]


def test_in_split_mode_dns_is_outside_anyway() -> None:
    assert routed_natively("{mode: split, overlay-prefixes: [10.2.0.0/16]}") == []


@pytest.mark.parametrize(
    ("multihoming", "prefer"), [("{mode: legacy}", "weight"), ("{mode: full, prefer: latency}", "latency")]
)
def test_in_legacy_mode_no_measurement_decides_by_which_uplink_packets_leave(multihoming: str, prefer: str) -> None:
    text = f"eids: [10.1.0.1/32]\nmap-servers: [{{address: hub.example.net, key: a}}]\nmultihoming: {multihoming}\n"
    file = read_bytes(text.encode(), "lispd.conf", NodeFile, directory=Path())

    assert assembly.preference_config(file).prefer.value == prefer
