"""Where packets go once the state is applied, and that packets of others are not affected."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from lispmob.errors import KernelRefused
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.mh.kernel.kernel import KernelRouter, KernelState, KernelUplink, LostAddress
from lispmob.wire.address import EidPrefix

pytestmark = pytest.mark.netns

EIDS = (EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("2001:db8:e::1/128"))
OVERLAY = (ip_network("10.0.0.0/8"), ip_network("2001:db8:e::/48"))
FULL = KernelState("lmn0", EIDS, "full", OVERLAY, native_prefixes=(ip_network("203.0.113.0/24"),))
SPLIT = KernelState("lmn0", EIDS, "split", OVERLAY, native_prefixes=(ip_network("10.99.0.0/16"),))
LOST = {4: "192.0.2.3", 6: "2001:db8:1::3"}


class Host:
    """A host with one uplink and a TUN device, and the router at the other end of the uplink."""

    def __init__(self, host: Namespace, router: Namespace) -> None:
        self.host = host
        self.router = router

    def run(self, command: str) -> str:
        return self.host.run("sh", "-ec", command)

    def apply(self, state: KernelState) -> None:
        with self.host.entered():
            asyncio.run(KernelRouter().apply(state))

    def device(self, route: str) -> str:
        """The interface by which a packet would leave; `route` is the argument of `ip route get`."""
        family = "-6" if ":" in route.split()[0] else "-4"
        found = re.search(r" dev (\S+)", self.run(f"ip {family} route get {route}"))
        assert found
        return found[1]

    def source(self, route: str) -> str:
        found = re.search(r" src (\S+)", self.run(f"ip route get {route}"))
        assert found
        return found[1]


@pytest.fixture
def net() -> Iterator[Host]:
    with NamespaceSet() as namespaces:
        net = Host(namespaces.make("host"), namespaces.make("router"))
        subprocess.run(
            [
                "ip",
                "-n",
                net.host.name,
                "link",
                "add",
                "eth0",
                "type",
                "veth",
                "peer",
                "far0",
                "netns",
                net.router.name,
            ],
            check=True,
            timeout=10,
        )
        net.run(
            "ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0; ip -6 addr add 2001:db8:1::2/64 dev eth0 nodad"
        )
        net.run("ip addr add 192.0.2.3/24 dev eth0; ip -6 addr add 2001:db8:1::3/64 dev eth0 nodad")
        net.run("ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8:1::1")
        net.run("ip route add 10.5.0.0/16 via 192.0.2.1")
        net.router.run("sh", "-ec", "ip link set far0 up; ip addr add 192.0.2.1/24 dev far0")
        net.router.run("ip", "-6", "addr", "add", "2001:db8:1::1/64", "dev", "far0", "nodad")
        with net.host.entered():
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"lmn0", 0x0001 | 0x1000))
        yield net
        os.close(tun)


def test_full_mode_sends_the_world_to_the_tun_with_the_eid_as_source(net: Host) -> None:
    net.apply(FULL)

    assert net.device("8.8.8.8") == net.device("2600::1") == "lmn0"
    assert net.source("8.8.8.8") == "10.1.0.1"
    assert net.source("2600::1") == "2001:db8:e::1"


def test_split_mode_sends_only_the_overlay_to_the_tun(net: Host) -> None:
    net.apply(SPLIT)

    assert net.device("10.1.0.2") == net.device("2001:db8:e::2") == "lmn0"
    assert net.device("8.8.8.8") == net.device("2600::1") == "eth0"
    assert net.source("8.8.8.8") == "192.0.2.2"


def test_what_main_knows_more_precisely_stays_native(net: Host) -> None:
    net.apply(SPLIT)
    assert net.device("10.5.0.1") == "eth0"

    net.apply(FULL)
    assert [net.device(where) for where in ("10.5.0.1", "192.0.2.77", "2001:db8:1::77")] == ["eth0"] * 3


def test_a_natively_forwarded_prefix_leaves_by_the_uplink_with_its_address(net: Host) -> None:
    net.apply(FULL)
    assert net.device("203.0.113.5") == "eth0"
    assert net.source("203.0.113.5") == "192.0.2.2"

    net.apply(SPLIT)
    assert net.device("10.99.0.1") == "eth0"


@pytest.mark.parametrize("state", [FULL, SPLIT], ids=["full", "split"])
def test_replies_of_native_addresses_and_packets_bound_to_a_device_never_enter_the_tun(
    net: Host, state: KernelState
) -> None:
    net.apply(state)

    routes = [
        "8.8.8.8 from 192.0.2.2",
        "10.1.0.2 from 192.0.2.2",
        "2600::1 from 2001:db8:1::2",
        "2001:db8:e::2 from 2001:db8:1::2",
        "8.8.8.8 oif eth0",
        "10.1.0.2 oif eth0",
        "2600::1 oif eth0",
        "2001:db8:e::2 oif eth0",
        "2001:db8:e::2 from 2001:db8:1::2 oif eth0",
    ]
    assert {route: net.device(route) for route in routes} == dict.fromkeys(routes, "eth0")


@pytest.mark.parametrize("group", ["224.0.0.251", "255.255.255.255"])
def test_multicast_and_broadcast_stay_on_the_link_in_full_mode(net: Host, group: str) -> None:
    net.apply(FULL)

    assert net.device(group) == "eth0"


@pytest.mark.parametrize(("family", "far"), [(4, "192.0.2.1"), (6, "2001:db8:1::1")])
def test_a_socket_bound_to_the_device_really_sends_to_an_overlay_address_by_it(
    net: Host, family: int, far: str
) -> None:
    net.apply(FULL)
    overlay = {4: "10.200.0.1", 6: "2001:db8:e::200"}[family]
    net.router.run(
        "ip", "addr", "add", f"{overlay}/{32 if family == 4 else 128}", "dev", "far0", *["nodad"] * (family == 6)
    )
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with net.router.socket(kind, socket.SOCK_DGRAM) as receiver, net.host.socket(kind, socket.SOCK_DGRAM) as sender:
        receiver.settimeout(0.5)
        receiver.bind((overlay, 4341))
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        data, source = b"", ("",)
        for _ in range(10):  # the first datagrams may be lost while the neighbour is resolved
            sender.sendto(b"outer", (overlay, 4341))
            with contextlib.suppress(TimeoutError):
                data, source = receiver.recvfrom(100)
                break

    assert data == b"outer"
    assert source[0] in {4: {"192.0.2.2", "192.0.2.3"}, 6: {"2001:db8:1::2", "2001:db8:1::3"}}[family]


@pytest.mark.parametrize("family", [4, 6])
def test_lisp_data_to_an_address_just_lost_is_still_received_while_it_lingers(net: Host, family: int) -> None:
    kind, any_address = (socket.AF_INET, "0.0.0.0") if family == 4 else (socket.AF_INET6, "::")
    lost, length = LOST[family], 24 if family == 4 else 64
    lingering = KernelState("lmn0", EIDS, "full", OVERLAY, lost=(LostAddress(ip_address(lost), "eth0"),))
    mac = net.run("cat /sys/class/net/eth0/address").strip()
    net.router.run("ip", "neigh", "replace", lost, "lladdr", mac, "dev", "far0", "nud", "permanent")
    with net.host.socket(kind, socket.SOCK_DGRAM) as receiver, net.router.socket(kind, socket.SOCK_DGRAM) as sender:
        receiver.settimeout(3)
        receiver.bind((any_address, 4341))
        net.apply(FULL)
        net.run(f"ip addr del {lost}/{length} dev eth0")

        sender.sendto(b"lost", (lost, 4341))
        net.apply(lingering)
        sender.sendto(b"kept", (lost, 4341))
        sender.sendto(b"other port", (lost, 4342))
        data, _ = receiver.recvfrom(100)
        assert data == b"kept"

        net.apply(FULL)
        sender.sendto(b"late", (lost, 4341))
        receiver.settimeout(0.2)
        with pytest.raises(TimeoutError):
            receiver.recvfrom(100)


@pytest.mark.parametrize("rp_filter", ["0", "1", "2"])
def test_an_address_lingers_on_an_interface_that_has_no_other_under_any_reverse_path_filter(
    net: Host, rp_filter: str
) -> None:
    mac = net.run("cat /sys/class/net/eth0/address").strip()
    net.run(f"for each in all eth0; do echo {rp_filter} > /proc/sys/net/ipv4/conf/$each/rp_filter; done")
    net.router.run("ip", "neigh", "replace", LOST[4], "lladdr", mac, "dev", "far0", "nud", "permanent")
    with (
        net.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        net.router.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.settimeout(3)
        receiver.bind(("0.0.0.0", 4341))
        uplinks = (KernelUplink("eth0", (ip_address(LOST[4]),), (ip_address("192.0.2.1"),)),)
        net.apply(KernelState("lmn0", EIDS, "full", OVERLAY, uplinks=uplinks))
        net.run("ip -4 addr flush dev eth0")  # this also removes all IPv4 routes of the interface, ours too
        lost = (LostAddress(ip_address(LOST[4]), "eth0"),)
        net.apply(KernelState("lmn0", EIDS, "full", OVERLAY, lost=lost))
        sender.sendto(b"kept", (LOST[4], 4341))

        assert receiver.recvfrom(100)[0] == b"kept"


def test_an_address_that_is_present_may_linger_from_the_start_without_a_difference_to_its_traffic(net: Host) -> None:
    routes = ["8.8.8.8 from 192.0.2.2", "2600::1 from 2001:db8:1::2", "8.8.8.8 oif eth0"]
    before = [net.run(f"ip route get {route}") for route in routes]

    addresses = (ip_address("192.0.2.2"), ip_address("2001:db8:1::2"))
    net.apply(KernelState("lmn0", EIDS, uplinks=(KernelUplink("eth0", addresses, (ip_address("192.0.2.1"),)),)))

    assert [net.run(f"ip route get {route}") for route in routes] == before


def test_a_lingering_address_is_not_claimed_on_the_link(net: Host) -> None:
    net.run("ip addr del 192.0.2.3/24 dev eth0")
    net.apply(KernelState("lmn0", EIDS, lost=(LostAddress(ip_address("192.0.2.3"), "eth0"),)))

    with net.router.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"who has", ("192.0.2.3", 4341))

    assert "lladdr" not in net.router.run("ip", "neigh", "show", "192.0.2.3")


def test_a_packet_that_carries_the_eid_leaves_natively_with_the_uplinks_address(net: Host) -> None:
    net.apply(KernelState("lmn0", EIDS, "split", OVERLAY, translates_native=True))
    with (
        net.router.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        net.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.settimeout(3)
        receiver.bind(("192.0.2.1", 5000))
        sender.bind(("10.1.0.1", 0))
        sender.sendto(b"from the EID", ("192.0.2.1", 5000))
        _, source = receiver.recvfrom(100)

    assert source[0] == "192.0.2.2"


def test_an_address_lingers_from_the_very_moment_of_its_loss_without_a_reverse_path_filter(net: Host) -> None:
    mac = net.run("cat /sys/class/net/eth0/address").strip()
    net.run("for each in all eth0; do echo 0 > /proc/sys/net/ipv4/conf/$each/rp_filter; done")
    net.router.run("ip", "neigh", "replace", LOST[4], "lladdr", mac, "dev", "far0", "nud", "permanent")
    with (
        net.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        net.router.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.settimeout(3)
        receiver.bind(("0.0.0.0", 4341))
        net.apply(KernelState("lmn0", EIDS, uplinks=(KernelUplink("eth0", (ip_address(LOST[4]),)),)))
        net.run("ip -4 addr flush dev eth0")

        sender.sendto(b"in flight", (LOST[4], 4341))

        assert receiver.recvfrom(100)[0] == b"in flight"


def test_a_device_bound_packet_still_finds_the_gateway_when_the_default_route_has_just_gone(net: Host) -> None:
    uplinks = (KernelUplink("eth0", (ip_address("192.0.2.2"),), (ip_address("192.0.2.1"),)),)
    net.apply(KernelState("lmn0", EIDS, uplinks=uplinks))

    net.run("ip -4 route del default dev eth0")

    assert "via 192.0.2.1 dev eth0" in net.run("ip route get 8.8.8.8 oif eth0")
    with pytest.raises(KernelRefused):  # other packets get no route that the host has not
        net.run("ip route get 8.8.8.8")


def test_a_control_message_that_another_program_marks_on_its_way_out_still_leaves(net: Host) -> None:
    net.run("iptables -t mangle -A OUTPUT -j MARK --set-xmark 0x100/0x3f00")
    uplinks = (KernelUplink("eth0", (ip_address("192.0.2.2"),), (ip_address("192.0.2.1"),)),)
    net.apply(KernelState("lmn0", EIDS, "split", OVERLAY, uplinks=uplinks))
    net.router.run("ip", "addr", "add", "198.18.0.10/32", "dev", "lo")
    net.router.sysctl("ipv4/conf/all/arp_ignore", "1")  # as if it were behind the router
    with (
        net.router.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        net.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.settimeout(3)
        receiver.bind(("198.18.0.10", 4342))
        sender.bind(("192.0.2.2", 4342))
        sender.sendto(b"register", ("198.18.0.10", 4342))

        assert receiver.recvfrom(100)[0] == b"register"
