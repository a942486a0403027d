"""Kernel state as desired state: applied once, repaired, changed, and removed completely."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from lispmob.lab.namespace import NamespaceSet
from lispmob.mh.kernel.kernel import KernelRouter, KernelState, KernelUplink, LostAddress
from lispmob.problems.problem import Problem, Severity
from lispmob.wire.address import EidPrefix

pytestmark = pytest.mark.netns

EIDS = (EidPrefix.parse("10.1.0.1/32"), EidPrefix.parse("2001:db8:e::1/128"))
SPLIT = KernelState("lmn0", EIDS, "split", (ip_network("10.1.0.0/16"), ip_network("2001:db8:e::/48")), mtu_bytes=1400)
FULL = KernelState(
    "lmn0",
    EIDS,
    "full",
    (ip_network("10.1.0.0/16"),),
    native_prefixes=(ip_network("10.1.9.0/24"), ip_network("203.0.113.0/24")),
    uplinks=(KernelUplink("eth0", (ip_address("192.0.2.2"),), (ip_address("192.0.2.1"),)),),
    lost=(LostAddress(ip_address("192.0.2.9"), "eth0"), LostAddress(ip_address("2001:db8:9::9"), "eth0")),
    translates_native=True,
)

SPLIT_RULES = """\
0: from all lookup local
4340: from all to 10.1.0.0/16 lookup main suppress_prefixlength 16 proto 201
4342: from 0.0.0.0 lookup 4341 proto 201
4342: from 10.1.0.1 lookup 4341 proto 201
32766: from all lookup main
32767: from all lookup default"""

FULL_RULES = """\
0: from all lookup local
4337: from 192.0.2.2 oif eth0 ipproto udp sport 4341-4342 lookup main proto 201
4338: from 192.0.2.2 oif eth0 ipproto udp sport 4341-4342 lookup 4343 proto 201
4339: from 192.0.2.2 fwmark 0 ipproto udp sport 4341-4342 lookup 4340 proto 201
4339: from 192.0.2.9 fwmark 0 ipproto udp sport 4341 lookup 4340 proto 201
4339: from all to 192.0.2.2 ipproto udp dport 4341 lookup 4340 proto 201
4339: from all to 192.0.2.9 ipproto udp dport 4341 lookup 4340 proto 201
4340: from all to 10.1.0.0/16 lookup main suppress_prefixlength 16 proto 201
4342: from 0.0.0.0 lookup 4341 proto 201
4342: from 10.1.0.1 lookup 4341 proto 201
4343: from all to 0.0.0.0/1 lookup main suppress_prefixlength 0 proto 201
4343: from all to 128.0.0.0/1 lookup main suppress_prefixlength 0 proto 201
4345: from 0.0.0.0 lookup 4342 proto 201
4345: from 10.1.0.1 lookup 4342 proto 201
32766: from all lookup main
32767: from all lookup default
32801: from all oif eth0 lookup 4343 proto 201"""

FULL_RULES_6 = """\
0: from all lookup local
4339: from all to 2001:db8:9::9 ipproto udp dport 4341 lookup 4340 proto 201
4343: from all to 8000::/1 lookup main suppress_prefixlength 0 proto 201
4343: from all to ::/1 lookup main suppress_prefixlength 0 proto 201
4345: from 2001:db8:e::1 lookup 4342 proto 201
32766: from all lookup main"""

FULL_ROUTES = """\
default dev lmn0 proto 201 scope link src 10.1.0.1
throw 10.1.9.0/24 proto 201
throw 169.254.0.0/16 proto 201
throw 203.0.113.0/24 proto 201
throw 224.0.0.0/4 proto 201
throw 255.255.255.255 proto 201"""

FULL_ROUTES_6 = """\
throw fe80::/10 dev lo proto 201 metric 1024 pref medium
throw ff00::/8 dev lo proto 201 metric 1024 pref medium
default dev lmn0 proto 201 src 2001:db8:e::1 metric 1024 pref medium"""


def make_tun() -> int:
    """A TUN device that exists as long as its descriptor, as the datapath's does."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"lmn0", 0x0001 | 0x1000))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
    return tun


@pytest.fixture
def inside() -> Iterator[None]:
    """A fresh namespace with an uplink, and routes and rules of others that must survive."""
    with NamespaceSet() as namespaces, namespaces.make("router").entered():
        run("ip link add eth0 type veth peer name far0")
        for end in ("eth0", "far0"):  # link-local addresses would appear once their uniqueness is known
            run(f"ip link set {end} addrgenmode none; ip link set {end} up")
        run("ip addr add 192.0.2.2/24 dev eth0; ip route add default via 192.0.2.1")
        run("ip -6 addr add 2001:db8:1::2/64 dev eth0 nodad; ip -6 route add default via 2001:db8:1::1")
        run("ip rule add from 198.51.100.7 priority 100 lookup 77; ip route add throw 10.9.0.0/16 table 4341")
        run("ip route add 10.77.0.0/16 via 192.0.2.1 proto 201")
        run("iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE; ip6tables -t nat -N OTHERS")
        yield


@pytest.fixture
def tun(inside: None) -> Iterator[None]:
    descriptor = make_tun()
    yield
    os.close(descriptor)


def run(command: str) -> str:
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listing(command: str) -> str:
    """Output of `ip`, one space between words, without what is not part of the state."""
    lines = (" ".join(line.replace("linkdown", "").split()) for line in run(command).splitlines())
    others = ("198.51.100.7", "10.9.0.0/16")
    kept = [line for line in lines if line and not any(other in line for other in others)]
    if " rule" in command:  # rules of one priority are listed in the order in which they were added
        kept.sort(key=lambda line: (int(line.partition(":")[0]), line))
    return "\n".join(kept)


def everything() -> str:
    saved = run("iptables-save; ip6tables-save")
    rules = [line for line in saved.splitlines() if not line.startswith(("#", ":")) or line.startswith(":LISPMOB")]
    return "\n".join([run("ip rule; ip -6 rule; ip route show table all; ip -6 route show table all"), *rules])


def notifications_of(do: Callable[[], object]) -> str:
    """What the kernel notifies `ip monitor` of while `do` runs."""
    with subprocess.Popen(["ip", "monitor"], stdout=subprocess.PIPE, text=True) as monitor:
        assert monitor.stdout is not None
        time.sleep(0.1)  # `ip monitor` does not say when it listens
        do()
        monitor.terminate()
        return monitor.stdout.read()


def apply(*states: KernelState) -> tuple[Problem, ...]:
    """Apply these states one after the other; returns what the kernel refused of the last one."""

    async def main() -> tuple[Problem, ...]:
        router = KernelRouter()
        return [await router.apply(state) for state in states][-1]

    return asyncio.run(main())


def clean_up() -> None:
    asyncio.run(KernelRouter().clean_up())


def test_split_mode_sends_only_the_overlay_to_the_tun(tun: None) -> None:
    apply(SPLIT)

    assert listing("ip rule") == SPLIT_RULES
    assert listing("ip route show table 4341") == "10.1.0.0/16 dev lmn0 proto 201 scope link src 10.1.0.1"
    assert listing("ip -6 route show table 4341") == (
        "2001:db8:e::/48 dev lmn0 proto 201 src 2001:db8:e::1 metric 1024 pref medium"
    )


def test_full_mode_sends_what_is_not_native_to_the_tun(tun: None) -> None:
    apply(FULL)

    assert listing("ip rule") == FULL_RULES
    assert listing("ip -6 rule") == FULL_RULES_6
    assert listing("ip route show table 4342") == FULL_ROUTES
    assert listing("ip -6 route show table 4342") == FULL_ROUTES_6
    assert listing("ip route show table 4340") == (
        "default dev eth0 proto 201 scope link\n"
        "local 192.0.2.2 dev lo proto 201 scope host\n"
        "local 192.0.2.9 dev lo proto 201 scope host"
    )
    assert listing("ip route show table 4343") == "default via 192.0.2.1 dev eth0 proto 201 metric 1 onlink"


def test_the_tun_comes_up_with_its_eids_its_mtu_and_no_link_local_address(tun: None) -> None:
    apply(SPLIT)

    shown = run("ip -o addr show dev lmn0; ip link show dev lmn0")
    assert "inet 10.1.0.1/32" in shown
    assert "inet6 2001:db8:e::1/128 scope global nodad" in shown
    assert "fe80" not in shown
    assert "mtu 1400" in shown
    assert ",UP" in shown


def test_applying_again_changes_nothing(tun: None) -> None:
    apply(FULL)
    before = everything()
    said = notifications_of(lambda: apply(FULL, FULL))

    assert said == ""
    assert everything() == before


def test_an_ipv4_gateway_with_an_ipv6_address_is_copied_like_another(tun: None) -> None:
    # `default via inet6 fe80::1`, as in the racks of some providers (RFC 8950)
    uplink = KernelUplink("eth0", (ip_address("192.0.2.2"),), (ip_address("fe80::1"),))
    state = replace(SPLIT, uplinks=(uplink,))

    problems = apply(state)

    assert problems == ()
    assert listing("ip route show table 4343") == "default via inet6 fe80::1 dev eth0 proto 201 metric 1 onlink"
    before = everything()
    assert apply(state, state) == ()
    assert everything() == before


@pytest.mark.parametrize(
    "flush",
    [
        "ip rule flush; ip rule add lookup main priority 32766; ip rule add lookup default priority 32767",
        "ip -6 rule del priority 4345",
        "ip route flush table 4342",
        "ip -6 route flush table 4342",
        "ip addr flush dev lmn0",
        "ip link set lmn0 down",
    ],
)
def test_what_others_flush_is_repaired(tun: None, flush: str) -> None:
    apply(FULL)
    before = {command: listing(command) for command in ("ip rule", "ip -6 rule", "ip route show table 4342")}

    run(flush)
    apply(FULL)

    assert {command: listing(command) for command in before} == before


def test_a_flushed_translation_is_repaired_when_asked(tun: None) -> None:
    apply(FULL)
    run("iptables -t nat -F POSTROUTING")

    async def main() -> None:
        await KernelRouter().apply(FULL, is_repair=True)

    asyncio.run(main())

    assert run("iptables-save -t nat").count("-A POSTROUTING -j LISPMOB-NAT") == 1


def test_a_change_of_mode_leaves_nothing_of_the_former_behind(tun: None) -> None:
    apply(FULL, SPLIT)

    assert listing("ip rule") == SPLIT_RULES
    assert listing("ip route show table 4342") == ""
    assert "LISPMOB" not in run("iptables-save; ip6tables-save")


def test_another_eid_replaces_address_rules_and_preferred_source(tun: None) -> None:
    other = KernelState("lmn0", (EidPrefix.parse("10.1.0.2/32"),), overlay_prefixes=SPLIT.overlay_prefixes)

    apply(SPLIT, other)

    assert "10.1.0.1" not in run("ip rule; ip addr show dev lmn0; ip route show table all")
    assert listing("ip route show table 4341") == "10.1.0.0/16 dev lmn0 proto 201 scope link src 10.1.0.2"


def test_the_translation_is_one_chain_for_eids_that_leave_by_anything_but_the_tun(tun: None) -> None:
    apply(FULL)

    saved = run("iptables-save -t nat").splitlines()
    assert [line for line in saved if "LISPMOB" in line and line[0] == "-"] == [
        "-A POSTROUTING -j LISPMOB-NAT",
        "-A LISPMOB-NAT -o lo -j RETURN",
        "-A LISPMOB-NAT -s 10.1.0.1/32 ! -o lmn0 -j MASQUERADE",
    ]


def test_cleaning_up_restores_what_was_there(inside: None) -> None:
    before = everything()
    descriptor = make_tun()
    apply(FULL)
    assert everything() != before

    clean_up()
    os.close(descriptor)

    assert everything() == before


def test_cleaning_up_after_a_killed_process_restores_what_was_there(inside: None) -> None:
    before = everything()
    program = (
        "import test_kernel_router as t, time; d = t.make_tun(); t.apply(t.FULL); "
        "print('ready', flush=True); time.sleep(60)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
    assert "4345" in run("ip rule")

    clean_up()

    assert everything() == before


def test_cleaning_up_needs_no_iptables(tun: None, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(SPLIT)
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", "/nonexistent")

    clean_up()

    monkeypatch.setenv("PATH", path)
    assert "201" not in run("ip rule; ip -6 rule")


def test_cleaning_up_where_nothing_is_does_nothing(inside: None) -> None:
    before = everything()

    clean_up()

    assert everything() == before


def test_an_address_lost_with_its_interface_does_not_linger(tun: None) -> None:
    apply(KernelState("lmn0", EIDS, lost=(LostAddress(ip_address("192.0.2.9"), "wlan7"),)))

    assert "wlan7" not in run("ip route show table all")


def test_a_missing_tun_is_named(inside: None) -> None:
    (problem,) = apply(SPLIT)

    assert (problem.key, problem.severity) == ("kernel-refused", Severity.BROKEN)
    assert "lmn0: no such interface" in problem.cause


def test_a_missing_iptables_is_named_with_what_else_can_be_done(tun: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    problems = apply(FULL)

    assert [(problem.key, problem.subject) for problem in problems] == [
        ("no-translation", "IPv4"),
        ("no-translation", "IPv6"),
    ]
    assert "iptables-save: not found; nft: not found" in problems[0].cause
    assert "install iptables or nftables" in problems[0].remedy
    assert "fallback: proxy" in problems[0].remedy
    monkeypatch.undo()
    assert listing("ip rule") == FULL_RULES


def test_a_refusal_names_operation_errno_and_remedy(tun: None) -> None:
    low = KernelState("lmn0", EIDS, mtu_bytes=20)

    (problem,) = apply(low)

    assert "lmn0: setting the MTU 20 refused (EINVAL)" in problem.cause
    assert "inet 10.1.0.1/32" in run("ip -o addr show dev lmn0")
