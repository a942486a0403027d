"""Hosts with all kinds of routing rules and tables: the kernel's answers without and with our rules are compared.

`LISPMOB_HOSTS=2000 python -m pytest --timeout=0 -k as_before` on this file tries as many other hosts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lispmob.lab.namespace import NamespaceSet
from lispmob.mh.kernel.kernel import KernelRouter, KernelState
from lispmob.mh.plan import FULL_PRIORITY, ROOM
from lispmob.netlink.connection import ask, open_netlink
from lispmob.netlink.message import RTM_GETROUTE, attributes, put
from lispmob.problems.problem import Problem
from lispmob.wire.address import EidPrefix
from tests.mh.kernel.test_kernel_router import make_tun, run

pytestmark = pytest.mark.netns


@dataclass(frozen=True)
class Plain:
    """The addresses of one family."""

    family: int
    eid: str
    overlay: str
    inner: str
    sub: str  # a network inside the overlay that the host reaches natively
    mesh: str
    far: str
    native: str
    near: str  # a neighbour
    gateway: str
    site: str  # a network behind the second gateway
    second: str
    gateway2: str
    container: str  # a guest behind docker0


HOSTS: Final = {
    4: Plain(4, "10.1.0.1", "10.1.0.0/16", "10.1.4.0/24", "10.1.128.0/20", "100.64.0.0/10", "8.8.8.8", "192.0.2.2",
             "192.0.2.77", "192.0.2.1", "10.50.0.0/16", "198.51.100.2", "198.51.100.1", "172.17.0.9"),
    6: Plain(6, "2001:db8:e::1", "2001:db8:e::/48", "2001:db8:e:4::/64", "2001:db8:e:8000::/52", "fd7a::/48",
             "2600::1", "2001:db8:1::2", "2001:db8:1::77", "2001:db8:1::1", "2001:db8:50::/48", "2001:db8:2::2",
             "2001:db8:2::1", "fd17::9"),
}  # fmt: skip


GUESTS: Final = frozenset(ip_address(plain.container) for plain in HOSTS.values())


def network_of(guest: str) -> str:
    return str(ip_network(f"{guest}/{16 if '.' in guest else 64}", strict=False))


@dataclass(frozen=True)
class Theirs:
    """A rule of another program: what `ip rule add` takes, and the same for our own computation."""

    priority: int
    selector: str = ""
    action: str = "lookup 77"

    def line(self) -> str:
        return f"rule add priority {self.priority} {self.selector} {self.action}"


@dataclass(frozen=True)
class Kind:
    """What rules select by, besides addresses."""

    mark: int = 0
    uid: int = 0
    protocol: int = 0
    port: int = 0  # of the destination
    tos: int = 0


PLAIN: Final = Kind()
KINDS: Final = {
    "fwmark": Kind(mark=0x100),
    "uidrange": Kind(uid=7000),
    "ipproto": Kind(protocol=socket.IPPROTO_UDP, port=53),
    "dport": Kind(protocol=socket.IPPROTO_TCP, port=443),
    "tos": Kind(tos=0x10),
}
"""A kind of packet by the word of the rules that single it out."""


@dataclass(frozen=True)
class Packet:
    destination: str
    source: str | None = None
    kind: Kind = PLAIN


@dataclass(frozen=True)
class Found:
    """The kernel's answer: `device` None: there is no route."""

    kind: int
    device: str | None
    prefix_len: int


def answer(packet: Packet, family: int) -> Found:
    """The kernel's route, with the prefix length of the route that matched (0 for one of this host)."""
    destination = ip_address(packet.destination)
    length = destination.max_prefixlen
    wanted = (
        put(1, destination.packed)
        + put(25, struct.pack("=I", packet.kind.uid))
        + put(16, struct.pack("=I", packet.kind.mark))
    )
    if ip_address(packet.source or "::") in GUESTS:  # RTA_IIF
        wanted += put(3, struct.pack("=I", socket.if_nametoindex("docker0")))
    if packet.kind.protocol:  # RTA_IP_PROTO, RTA_DPORT
        wanted += put(27, bytes([packet.kind.protocol])) + put(29, struct.pack("!H", packet.kind.port))
    if packet.source is not None:
        wanted += put(2, ip_address(packet.source).packed)
    number = socket.AF_INET if family == 4 else socket.AF_INET6
    found = []
    for flags in (0, 0x2000):  # the destination's route; RTM_F_FIB_MATCH: the entry that matched
        source_length = length if packet.source else 0
        header = struct.pack("=BBBBBBBBI", number, length, source_length, packet.kind.tos, 0, 0, 0, 0, flags)
        try:
            with open_netlink(0) as kernel:
                found.append(next(ask(kernel, RTM_GETROUTE, 0, header, wanted)))
        except OSError:
            return Found(0, None, 0)
    kind = found[0][7]
    if kind != 1:
        return Found(kind, None, 0)
    index = dict(attributes(found[0][12:])).get(4, bytes(4))
    return Found(kind, socket.if_indextoname(struct.unpack("=i", index)[0]), found[1][1])


class Host:
    """A host that is made again for each example."""

    def __init__(self) -> None:
        self.router = KernelRouter()

    def reset(self, lines: dict[int, list[str]], main_at: int = 32766) -> None:
        asyncio.run(KernelRouter().clean_up_routes())
        for family in (4, 6):
            run(f"ip -{family} rule flush || true; while ip -{family} rule del priority 0 2>/dev/null; do :; done")
            default = ["rule add priority 32767 lookup default"] if family == 4 else []
            base = ["rule add priority 0 lookup local", f"rule add priority {main_at} lookup main", *default]
            for table in TABLES:
                run(f"ip -{family} route flush table {table} 2>/dev/null || true")
            run(f"for id in {family} {10 + family}; do ip nexthop del id $id 2>/dev/null || true; done")
            batch(family, [*base, *lines.get(family, [])])

    def apply(self, state: KernelState) -> tuple[Problem, ...]:
        return asyncio.run(KernelRouter().route(state))


def batch(family: int, lines: list[str]) -> None:
    done = subprocess.run(
        ["ip", f"-{family}", "-batch", "-"],
        input="\n".join(lines),
        text=True,
        capture_output=True,
        timeout=10,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{lines}"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Two uplinks, a mesh's device, and ours with its addresses."""
    with NamespaceSet("foreign") as namespaces, namespaces.make("host").entered():
        for number, one in ((0, "native"), (1, "second")):
            run(f"ip link add eth{number} type veth peer name far{number}")
            run(f"ip link set far{number} up; ip link set eth{number} up")
            for family, plain in HOSTS.items():
                address = getattr(plain, one)
                run(f"ip addr add {address}/{24 if family == 4 else 64} dev eth{number} {'nodad' * (family == 6)}")
        run("ip link add mesh0 type veth peer name mesh1; ip link set mesh0 up; ip link set mesh1 up")
        run("ip addr add 100.64.0.5/32 dev mesh0; ip -6 addr add fd7a::5/128 dev mesh0 nodad")
        run("ip link set eth1 group 7; ip link add docker0 type bridge; ip link set docker0 up")
        for plain in HOSTS.values():
            guests = ip_network(network_of(plain.container))
            run(f"ip addr add {guests[1]}/{guests.prefixlen} dev docker0")
        for forwarding in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            run(f"sysctl -qw net.{forwarding}=1")
        for plain in HOSTS.values():
            run(f"ip -{plain.family} route add default via {plain.gateway} dev eth0")
            run(f"ip -{plain.family} route add {plain.sub} via {plain.gateway2} dev eth1")
        descriptor = make_tun()
        yield Host()
        os.close(descriptor)


def wait_for_addresses(plain: Plain) -> None:
    """Wait: the kernel makes an IPv6 address local a moment after it was added."""
    deadline = time.monotonic() + 5
    while f"local {plain.eid} " not in run(f"ip -{plain.family} route show table local"):
        assert time.monotonic() < deadline


def eids(family: int) -> tuple[EidPrefix, ...]:
    return (EidPrefix.parse(f"{HOSTS[family].eid}/{32 if family == 4 else 128}"),)


def state_of(family: int, mode: str, prefixes: tuple[str, ...]) -> KernelState:
    guests = (ip_network(network_of(HOSTS[family].container)),)
    wanted = tuple(map(ip_network, prefixes))
    return KernelState("lmn0", eids(family), "full" if mode == "full" else "split", wanted, container_networks=guests)


def packets(plain: Plain, rules: list[Theirs]) -> Iterator[Packet]:
    kinds = [PLAIN, *(kind for word, kind in KINDS.items() if any(word in rule.selector for rule in rules))]
    sub, site = (str(ip_network(prefix)[9]) for prefix in (plain.sub, plain.site))
    overlay, inner, mesh = (str(ip_network(prefix)[9]) for prefix in (plain.overlay, plain.inner, plain.mesh))
    destinations = (overlay, inner, sub, mesh, site, plain.far, plain.near, plain.native, plain.eid)
    for destination in destinations:
        for source in (None, plain.native, plain.eid, plain.container):
            for kind in kinds:
                yield Packet(destination, source, kind)


TABLES: Final = (44, 52, 55, 66, 77, 88, 99)


def tables(plain: Plain, refusal: str) -> list[str]:
    ways = (f"via {plain.gateway} dev eth0", f"via {plain.gateway2} dev eth1")
    subnet = ip_network(f"{plain.second}/{24 if plain.family == 4 else 64}", strict=False)
    return [
        # Two objects: of IPv6 routes that share one, the kernel may compare the prefix length of the wrong one with
        # suppress_prefixlength, depending on the processor (it keeps a route per processor and next hop).
        *(f"nexthop add id {number} {ways[1]}" for number in (plain.family, 10 + plain.family)),
        f"route add default nhid {plain.family} table 55",
        f"route add {plain.site} nhid {10 + plain.family} table 55",
        f"route add {refusal} default table 66 metric 9",
        f"route add {plain.inner} {ways[1]} table 66",
        f"route add default table 99 nexthop {ways[0]} nexthop {ways[1]}",
        f"route add {refusal} {plain.site} table 99",
        *(
            [f"route add default from {subnet} {ways[1]} table 44", f"route add default {ways[0]} metric 5 table 77"]
            if plain.family == 6
            else [f"route add default {ways[1]} src {plain.second} table 44"]
        ),
        f"route add {plain.mesh} dev mesh0 table 52",
        f"route add default via {plain.gateway2} dev eth1 table 77",
        f"route add {plain.site} via {plain.gateway2} dev eth1 table 77",
        f"route add {plain.inner} via {plain.gateway2} dev eth1 table 88",
    ]


def selectors(plain: Plain) -> list[str]:
    return [
        "", "", "", "fwmark 0x100/0x3f00", "fwmark 0x80000/0xff0000", "not fwmark 0xca6c", "uidrange 7000-7001",
        f"from {plain.native}", f"from {plain.eid}", "iif lo", f"not to {plain.mesh}", "ipproto udp",
        "ipproto tcp dport 400-500", "tos 0x10",
    ]  # fmt: skip


def wide_selectors(plain: Plain) -> list[str]:
    return [f"to {plain.mesh}", f"to {plain.sub}", f"to {plain.inner}", f"to {plain.overlay}"]


ACTIONS: Final = (
    "lookup 52", "lookup 77", "lookup 77", "lookup 88", "lookup main", "lookup main suppress_prefixlength 0",
    "lookup 77 suppress_prefixlength 1", "blackhole", "unreachable", "prohibit", "lookup 44", "lookup 55", "lookup 66",
    "lookup 99", "lookup 77 suppress_ifgroup 7", "lookup main suppress_ifgroup 7", "nop", "goto 20000", "goto 32766",
    "goto 4999",
)  # fmt: skip
PRIORITIES: Final = (100, 999, 1000, 2001, 4280, 4300, 4336, 4340, 4345, 5270, 20000, 32000, 32765, 32770, 50000)


@st.composite
def foreign(draw: st.DrawFn, family: int) -> list[Theirs]:
    plain = HOSTS[family]
    selector = st.sampled_from(selectors(plain) + wide_selectors(plain))
    rules = draw(
        st.lists(
            st.builds(Theirs, st.sampled_from(PRIORITIES), selector, st.sampled_from(ACTIONS)),
            max_size=5,
            unique_by=lambda rule: (rule.priority, rule.action),  # the kernel takes a wider one for the same rule
        )
    )
    rules = [rule for rule in rules if not rule.action.startswith("goto") or int(rule.action[5:]) > rule.priority]
    return sorted(rules, key=lambda rule: rule.priority)


def is_nearer_by_destination(rule: Theirs, packet: Packet, length: int) -> bool:
    if not rule.selector.startswith("to "):
        return False
    network = ip_network(rule.selector.split()[1])
    return ip_address(packet.destination) in network and network.prefixlen > length


def overlay_length(packet: Packet, mode: str, prefixes: tuple[str, ...]) -> int | None:
    """The length of the longest of our prefixes that covers the destination; None: there is none."""
    covering = [network.prefixlen for network in map(ip_network, prefixes) if ip_address(packet.destination) in network]
    return max(covering, default=0 if mode == "full" else None)


def check(
    before: Found, after: Found, packet: Packet, length: int | None, rules: list[Theirs], plain: Plain, refusal: str
) -> str | None:
    """The error, or None if the answer is right. `refusal`: the kind of the routes in table 66 and 99 that refuse."""
    is_same = (after.kind, after.device) == (before.kind, before.device)
    if packet.source == plain.container and not length:
        length = None  # with everything in the overlay, what containers send elsewhere is none of it
    if packet.source == plain.native or length is None or before.kind == 2:
        return None if is_same else "a packet of another program goes another way"
    if before.device is not None and before.prefix_len > length:
        return None if is_same else "what was nearer is no longer reached"
    is_local_at_last = after.kind == 2 and packet.destination in (plain.native, plain.eid)
    nearer_rules = [rule for rule in rules if is_nearer_by_destination(rule, packet, length)]
    if nearer_rules:
        may_end = any("lookup" not in rule.action for rule in nearer_rules)
        may_end |= refusal != "throw" and any(rule.action == "lookup 66" for rule in nearer_rules)
        is_fine = is_same or after.device is not None or may_end or is_local_at_last
        return None if is_fine else "it goes nowhere"
    is_denied = any("uidrange" in rule.selector and "lookup" not in rule.action for rule in rules)
    if packet.kind.uid and is_denied and after.device is None:
        return None  # a user without a network
    far_in_front = [rule for rule in rules if rule.priority <= FULL_PRIORITY - ROOM and rule.selector]
    if length == 0 and is_same and far_in_front:
        return None  # put there on purpose
    is_refused = refusal != "throw" and any(rule.action == "lookup 99" for rule in rules)
    if is_refused and ip_address(packet.destination) in ip_network(plain.site) and after.device is None:
        return None  # a nearer route that refuses
    later = (  # the entries of tables that the host's rules would have reached later
        (plain.mesh, "mesh0"),
        (plain.site, "eth1"),
        (plain.inner, "eth1"),
        (plain.sub, "eth1"),
        (f"{plain.near}/{24 if plain.family == 4 else 64}", "eth0"),
    )
    known = [(ip_network(text, strict=False), device) for text, device in later]
    nearer = {
        device for network, device in known if ip_address(packet.destination) in network and network.prefixlen > length
    }
    return None if is_local_at_last or after.device in {"lmn0", *nearer} else "it does not enter the overlay"


def compare(
    host: Host,
    family: int,
    rules: list[Theirs],
    moved_local: int | None,
    mode: str,
    is_nested: bool,
    main_at: int = 32766,
    refusal: str = "blackhole",
) -> None:
    plain = HOSTS[family]
    lines = [*tables(plain, refusal), *(rule.line() for rule in rules)]
    if moved_local is not None:
        lines += [f"rule add priority {moved_local} lookup local", "rule del priority 0"]
    host.reset({family: lines}, main_at)
    prefixes = () if mode == "full" else (plain.overlay, plain.inner) if is_nested else (plain.overlay,)
    assert host.apply(KernelState("lmn0", eids(family))) == ()
    wait_for_addresses(plain)
    before = {packet: answer(packet, family) for packet in packets(plain, rules)}
    problems = host.apply(state_of(family, mode, prefixes))
    wrong = [
        (why, packet, before[packet], after)
        for packet in before
        for after in (answer(packet, family),)
        if (why := check(before[packet], after, packet, overlay_length(packet, mode, prefixes), rules, plain, refusal))
    ]
    assert not wrong, f"{wrong[:3]}\n{run(f'ip -{family} rule')}"
    assert problems == ()


SLOW: Final = settings(
    max_examples=int(os.environ.get("LISPMOB_HOSTS", "25")),
    deadline=None,
    derandomize="LISPMOB_HOSTS" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("family", [4, 6])
@SLOW
@given(data=st.data())
def test_the_kernel_sends_as_before_what_is_not_ours_and_the_overlay_to_us(
    host: Host, family: int, data: st.DataObject
) -> None:
    rules = data.draw(foreign(family))
    moved_local = data.draw(st.sampled_from([None, None, 90, 32000, 45000]))
    compare(
        host,
        family,
        rules,
        moved_local,
        data.draw(st.sampled_from(["split", "full"])),
        data.draw(st.booleans()),
        main_at=data.draw(st.sampled_from([32766, 32766, 95, 4341, 40000])),
        refusal=data.draw(st.sampled_from(["throw", "blackhole", "unreachable", "prohibit"])),
    )


@pytest.mark.parametrize("mode", ["split", "full"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("rules", "moved_local"),
    [
        ([], 32000),
        ([Theirs(1000)], 32000),
        ([Theirs(5270, action="lookup 52")], None),
        (
            [
                Theirs(5210, "fwmark 0x80000/0xff0000", "lookup main"),
                Theirs(5250, "fwmark 0x80000/0xff0000", "unreachable"),
                Theirs(5270, "", "lookup 52"),
            ],
            None,
        ),
        (
            [
                Theirs(1001, "iif eth0", "lookup main"),
                Theirs(2001, "fwmark 0x100/0x3f00"),
                Theirs(2061, "fwmark 0x3d00/0x3f00", "blackhole"),
                Theirs(2062, "fwmark 0x3e00/0x3f00", "unreachable"),
            ],
            None,
        ),
        ([Theirs(4338, "", "lookup main suppress_prefixlength 0"), Theirs(4339, "not fwmark 0xca6c")], None),
        (
            [Theirs(4338, "", "lookup main suppress_prefixlength 0"), Theirs(4339, "not fwmark 0xca6c", "lookup 66")],
            None,
        ),
        ([Theirs(1000, "", "lookup 77"), Theirs(2000, "", "lookup 52")], None),
        ([Theirs(32764, "uidrange 7000-7001", "unreachable")], None),
        ([Theirs(33000, "", "unreachable")], None),
        ([Theirs(40000, "", "lookup 52")], 40001),
    ],
    ids=[
        "local moved",
        "table before local",
        "mesh",
        "tailscale",
        "mwan3",
        "wg-quick",
        "wg-quick with a kill switch",
        "two before main",
        "a user without",
        "kill switch behind",
        "mesh behind main, local last",
    ],
)
def test_hosts_that_people_have_are_respected(
    host: Host, rules: list[Theirs], moved_local: int | None, family: int, mode: str
) -> None:
    compare(host, family, rules, moved_local, mode, is_nested=True)
