"""Every type of interface with a default route carries packets from EID to EID, both ways.

The ebpf tier hands packets to a device and takes them from it, so each type is tried with it; the tun tier leaves that
to sockets, and is tried with the types that differ for a socket.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lispmob.errors import KernelRefused
from lispmob.lab import link
from tests.mh.town.point_to_point import point_to_point
from tests.mh.town.town import A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

RULES = """\
uplinks:
  - {type: tun, use: yes}
"""
V4, V6 = "198.18.1.10", "2001:db8:18:1::a"
SECOND = "198.18.1.11", "2001:db8:18:1::b"  # the gateway caches who had the first one
COUNT = 8


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Town]:
    with town(f"datapath: {{tier: {request.param}}}\n" + RULES) as one:
        assert one.ctl("status")["datapath"]["tier"] == request.param
        one.a.sysctl("ipv4/conf/all/arp_ignore", "1")  # wlan0 answers ARP requests for its own addresses only
        yield one


@pytest.fixture
def here(shared: Town) -> Iterator[Town]:
    """Node a with lte0 alone; wlan0 is up and plugged in, without addresses. Afterwards it is as before."""
    link.apply(shared.a, ["addr flush dev wlan0"])
    yield shared
    wait_for(lambda: set(used(shared)) <= {"lte0"}, 10)


def used(here: Town) -> dict[str, str]:
    """The current uplinks, each with its type."""
    return {one["name"]: one["type"] for one in here.ctl("uplinks") if one["is_used"]}


def attached(interface: str, v4: str = V4, v6: str = V6) -> list[str]:
    """The lines that attach an interface to the network at home."""
    return [
        f"link set {interface} up",
        f"addr add {v4}/24 dev {interface}",
        f"addr add {v6}/64 dev {interface} nodad",
        f"route add default via 198.18.1.1 dev {interface} metric 50",
        f"route add default via 2001:db8:18:1::1 dev {interface} metric 50",
    ]


@contextlib.contextmanager
def of_vlan(here: Town) -> Iterator[str]:
    """The switch puts wlan0's port into VLAN 7."""
    try:
        link.apply(here.lab["air"], ["link add link a.wlan0 name a.w7 type vlan id 7"])
    except KernelRefused:
        pytest.skip("this kernel has no 802.1Q (CONFIG_VLAN_8021Q)")
    link.apply(here.lab["air"], ["link set a.wlan0 nomaster", "link set a.w7 master home", "link set a.w7 up"])
    try:
        link.apply(here.a, ["link add link wlan0 name wlan0.7 type vlan id 7", *attached("wlan0.7")])
        yield "wlan0.7"
    finally:
        link.apply(here.a, ["link del wlan0.7"])
        link.apply(here.lab["air"], ["link del a.w7", "link set a.wlan0 master home"])


@contextlib.contextmanager
def of_bridge(here: Town) -> Iterator[str]:
    """wlan0 is the port of a bridge, as on a host of virtual machines."""
    link.apply(here.a, ["link add br0 type bridge forward_delay 0", "link set wlan0 master br0", *attached("br0")])
    try:
        yield "br0"
    finally:
        link.apply(here.a, ["link del br0"])


@contextlib.contextmanager
def of_macvlan(here: Town) -> Iterator[str]:
    """A second host on wlan0's link."""
    link.apply(here.a, ["link add link wlan0 name mac0 type macvlan mode bridge", *attached("mac0", *SECOND)])
    try:
        yield "mac0"
    finally:
        link.apply(here.a, ["link del mac0"])


@contextlib.contextmanager
def plugged_in(here: Town) -> Iterator[str]:
    """A new interface, as of a phone that begins to tether, which is pulled out later."""
    link.apply(
        here.lab["air"],
        [link.veth("a.usb0", here.a, "usb0"), "link set a.usb0 master home", "link set a.usb0 up"],
    )
    link.apply(here.a, attached("usb0", *SECOND))
    try:
        yield "usb0"
    finally:
        link.apply(here.lab["air"], ["link del a.usb0"])


@contextlib.contextmanager
def of_host_routes(here: Town) -> Iterator[str]:
    """A /32 whose gateway is outside of it, as cloud hosts have it."""
    lines = [
        f"addr add {V4}/32 dev wlan0",
        "route add 198.18.1.1 dev wlan0",
        "route add default via 198.18.1.1 dev wlan0 metric 50",
    ]
    link.apply(here.a, lines)
    try:
        yield "wlan0"
    finally:
        link.apply(here.a, ["addr flush dev wlan0", "route flush dev wlan0"])


@contextlib.contextmanager
def without_gateway(here: Town) -> Iterator[str]:
    """Ethernet where a router answers ARP for every address (proxy ARP)."""
    here.lab["gw-home"].sysctl("ipv4/conf/lan/proxy_arp", "1")
    here.lab["gw-home"].sysctl("ipv4/neigh/lan/proxy_delay", "0")
    link.apply(here.a, [f"addr add {V4}/24 dev wlan0", "route add default dev wlan0 metric 50"])
    try:
        yield "wlan0"
    finally:
        link.apply(here.a, ["addr flush dev wlan0"])
        here.lab["gw-home"].sysctl("ipv4/conf/lan/proxy_arp", "0")


@contextlib.contextmanager
def of_point_to_point(here: Town) -> Iterator[str]:
    """One address at each end, and no gateway: what pppd makes."""
    with point_to_point(here.a, "ppp0", here.lab["gw-home"], "ppp-a"):
        at_the_end(here)
        lines = [f"addr add {V4} peer 198.18.1.1/32 dev ppp0", f"addr add {V6}/128 dev ppp0 nodad"]
        link.apply(here.a, ["link set ppp0 up", *lines, *default_routes("ppp0")])
        yield "ppp0"


@contextlib.contextmanager
def unnumbered(here: Town) -> Iterator[str]:
    """It has no address: its default routes name one of the loopback interface."""
    link.apply(here.a, [f"addr add {V4}/32 dev lo", f"addr add {V6}/128 dev lo nodad"])
    try:
        with point_to_point(here.a, "ppp0", here.lab["gw-home"], "ppp-a"):
            at_the_end(here)
            link.apply(here.a, ["link set ppp0 up", *default_routes("ppp0", f" src {V4}", f" src {V6}")])
            yield "ppp0"
    finally:
        link.apply(here.a, [f"addr del {V4}/32 dev lo", f"addr del {V6}/128 dev lo"])


def at_the_end(here: Town) -> None:
    """The provider's side of the link."""
    routes = [f"route add {V4}/32 dev ppp-a", f"-6 route add {V6}/128 dev ppp-a"]
    for line in ("link set ppp-a up", *routes):
        here.lab["gw-home"].run("ip", *line.split())


def default_routes(interface: str, source4: str = "", source6: str = "") -> list[str]:
    return [
        f"route add default dev {interface} metric 50{source4}",
        f"route add ::/0 dev {interface} metric 50{source6}",
    ]


@dataclass(frozen=True)
class Kind:
    """A way to be attached, and lispd's word for the interface."""

    attach: Callable[[Town], contextlib.AbstractContextManager[str]]
    type: str

    def __str__(self) -> str:
        return self.attach.__name__


VLAN, BRIDGE, MACVLAN = Kind(of_vlan, "vlan"), Kind(of_bridge, "bridge"), Kind(of_macvlan, "macvlan")
PLUGGED_IN, POINT_TO_POINT = Kind(plugged_in, "veth"), Kind(of_point_to_point, "tun")
CLOUD, PROXIED, UNNUMBERED = Kind(of_host_routes, "veth"), Kind(without_gateway, "veth"), Kind(unnumbered, "tun")
TRIED = {
    "tun": (PLUGGED_IN, POINT_TO_POINT, VLAN),
    "ebpf": (PLUGGED_IN, POINT_TO_POINT, VLAN, BRIDGE, MACVLAN, CLOUD, PROXIED, UNNUMBERED),
}


def ping(here: Town, node: str, family: int) -> None:
    """Wait until so many pings are answered; the move may lose the first ones."""
    own, other = (A, B) if node == "a" else (B, A)
    source, target = (own.eid4, other.eid4) if family == 4 else (own.eid6, other.eid6)

    def answered() -> bool:
        try:
            here.lab[node].run("ping", "-c", "1", "-W", "1", "-I", str(source), str(target))
        except KernelRefused:
            return False
        return True

    wait_for(answered, 20)
    here.lab[node].run("ping", "-c", str(COUNT), "-i", "0.01", "-W", "5", "-I", str(source), str(target))


def uses(here: Town, interface: str) -> bool:
    """True when pings of both families, from both ends, left by this interface and came in by it."""
    before = here.sent(interface), here.received(interface)
    for node in "ab":
        for family in (4, 6):
            ping(here, node, family)
    wanted = 4 * COUNT
    return here.sent(interface) - before[0] >= wanted and here.received(interface) - before[1] >= wanted


@pytest.mark.parametrize(
    ("shared", "kind"),
    [(tier, kind) for tier, kinds in TRIED.items() for kind in kinds],
    indirect=["shared"],
    ids=str,
    scope="module",
)
def test_packets_of_both_families_go_both_ways_over_an_uplink(here: Town, kind: Kind) -> None:
    with kind.attach(here) as interface:
        wait_for(lambda: used(here) == {interface: kind.type, "lte0": "veth"}, 10)
        wait_for(lambda: uses(here, interface), 20)


@pytest.mark.parametrize("shared", ["ebpf"], indirect=True, scope="module")
def test_an_uplink_that_is_pulled_out_is_left_for_another_one(here: Town) -> None:
    with plugged_in(here) as interface:
        wait_for(lambda: interface in used(here), 10)
        ping(here, "a", 4)

    wait_for(lambda: uses(here, "lte0"), 20)


@pytest.mark.parametrize("shared", ["ebpf"], indirect=True, scope="module")
def test_what_the_rules_deny_by_type_carries_nothing_from_the_next_reload_on(here: Town) -> None:
    tier = "datapath: {tier: ebpf}\n"
    with of_bridge(here) as interface:
        wait_for(lambda: interface in used(here), 10)
        here.configure(tier + "uplinks: [{type: bridge, use: no}]\n")

        wait_for(lambda: uses(here, "lte0"), 20)
        notes = {one["name"]: one["note"] for one in here.ctl("uplinks")}
        assert notes[interface] == "not allowed by the configuration"
        here.configure(tier + RULES)
