"""The prefix of a translator, as a router advertises it and the kernel passes it on."""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lispmob.iface_monitor.router_options import TRANSLATORS_MAX, Translators, pref64_in
from lispmob.iface_monitor.snapshot import Translator
from lispmob.netlink.message import HEADER, RTM_NEWNDUSEROPT, Raw
from lispmob.wire.embedded_ipv4 import Pref64
from tests.iface_monitor.watch import Watch, ip, run

PREFIX = IPv6Network("2001:db8:64::/96")
OTHER = IPv6Network("64:ff9b::/96")


def option(prefix: IPv6Network = PREFIX, lifetime_s: int = 600) -> bytes:
    assert prefix.prefixlen == 96
    return bytes([38, 2]) + (lifetime_s // 8 << 3).to_bytes(2) + prefix.network_address.packed[:12]


def told(octets: bytes, ifindex: int = 3, kind: int = 134) -> Raw:
    body = struct.pack("=BxHiBB6x", socket.AF_INET6, len(octets), ifindex, kind, 0) + octets
    return Raw(RTM_NEWNDUSEROPT, 0, HEADER.pack(HEADER.size + len(body), RTM_NEWNDUSEROPT, 0, 0, 0) + body)


def test_the_interface_and_the_prefix_are_read() -> None:
    assert pref64_in(told(option())) == (3, Pref64(PREFIX, 600))


def test_attributes_behind_the_option_do_not_disturb() -> None:
    plain = told(option())

    assert pref64_in(Raw(plain.type, 0, plain.data + bytes(20))) == (3, Pref64(PREFIX, 600))


@pytest.mark.parametrize(
    "message", [told(b""), told(bytes([25, 1]) + bytes(6)), told(option(), kind=137), told(option()[:12])]
)
def test_anything_else_says_nothing(message: Raw) -> None:
    assert pref64_in(message) is None


@given(st.binary(max_size=64))
def test_no_octets_do_harm(octets: bytes) -> None:
    pref64_in(Raw(RTM_NEWNDUSEROPT, 0, bytes(HEADER.size) + octets))


def test_a_prefix_counts_for_as_long_as_the_router_says() -> None:
    said = Translators()
    said.on_said(3, Pref64(PREFIX, 600), 0.0)
    said.on_said(4, Pref64(OTHER, 60), 0.0)

    assert said.at(59.0) == (Translator(3, PREFIX), Translator(4, OTHER))
    assert said.at(61.0) == (Translator(3, PREFIX),)
    said.on_said(3, Pref64(PREFIX, 600), 500.0)
    assert said.at(1000.0) == (Translator(3, PREFIX),)


def test_a_router_takes_its_prefix_back_by_a_lifetime_of_zero() -> None:
    said = Translators()
    said.on_said(3, Pref64(PREFIX, 600), 0.0)
    said.on_said(3, Pref64(PREFIX, 0), 1.0)

    assert said.at(2.0) == ()


def test_a_link_that_goes_takes_its_prefixes_along() -> None:
    said = Translators()
    said.on_said(3, Pref64(PREFIX, 600), 0.0)
    said.on_said(4, Pref64(PREFIX, 600), 0.0)
    said.on_link_down(3)

    assert said.at(1.0) == (Translator(4, PREFIX),)


def test_a_neighbour_who_advertises_thousands_fills_no_memory() -> None:
    said = Translators()
    for number in range(5000):
        said.on_said(3, Pref64(IPv6Network(f"2001:db8:{number:x}::/96"), 600), 0.0)

    assert len(said.at(1.0)) == TRANSLATORS_MAX


@pytest.mark.netns
def test_the_kernel_passes_on_what_a_router_advertises(inside: None) -> None:
    for key in ("accept_ra", "accept_ra_from_local"):
        Path(f"/proc/sys/net/ipv6/conf/eth0/{key}").write_text("1", encoding="ascii")
    Path("/proc/sys/net/ipv6/conf/far0/accept_ra").write_text("0", encoding="ascii")
    ip("addr add fe80::1/64 dev far0 nodad", family="-6")

    async def body(watch: Watch) -> None:
        advertise(option())
        await watch.until(lambda: bool(watch.monitor.state.translators))
        (found,) = watch.monitor.state.translators
        assert (found.ifindex, found.prefix) == (socket.if_nametoindex("eth0"), PREFIX)
        assert "translator-found" in watch.kinds()

        advertise(option(lifetime_s=0))
        await watch.until(lambda: not watch.monitor.state.translators)
        assert "translator-gone" in watch.kinds()

    run(body)


def advertise(options: bytes) -> None:
    """Send one Router Advertisement on far0, of a router that is no default router."""
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0) + options
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
        router.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"far0")
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        router.bind(("fe80::1", 0, 0, socket.if_nametoindex("far0")))
        deadline = time.monotonic() + 2.0
        while True:
            try:
                router.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex("far0")))
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
