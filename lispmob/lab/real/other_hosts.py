"""Hosts without some features, and hosts where other software configures routes, too."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lispmob.lab.demo_service import Node
from lispmob.lab.real.scenario import Scenario
from lispmob.lab.real.world import A, B, World
from lispmob.lab.report import Check, fact

RIGHT_S: Final = 6.0
"""When something becomes possible, lispd uses it within this time."""

_PACKET_FILTERS: Final = ("iptables", "ip6tables", "xtables", "nft", "ebtables", "arptables")


def no_iptables(check: str, world: World) -> Check:
    """Neither iptables nor nft is installed; two uplinks, and a steering rule. Later nft is installed."""
    world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
    world.attach("a", "eth1", ["203.0.113.2/24"], metric=200)
    programs = _programs(world.directory / "bin")
    world.start_hub()
    rule = "steering: {rules: [{name: web, protocol: [tcp], ports: [80, 443], via: [eth1]}]}\n"
    node = world.start_node(A, mode="full", extra=rule, behind=("env", f"PATH={programs}"))
    world.start_node(B)
    world.wait_registered()
    sent, out, back = world.lost_both_ways(1.5)
    is_reported = {"no-chain", "no-translation"} <= _problems(node)
    (programs / "nft").symlink_to(str(shutil.which("nft")))
    is_right = _within(RIGHT_S, lambda: not {"no-chain", "no-translation"} & _problems(node))
    chains = world["a"].run("nft", "list", "ruleset")
    has_chains = "table ip lispmob_mangle" in chains and "table ip6 lispmob_nat" in chains
    return _alive(check, sent, out + back, reported=is_reported, put_right=is_right and has_chains)


def no_ipv6(check: str, world: World) -> Check:
    """IPv6 is disabled before lispd starts, which has an IPv6 EID; later it is enabled."""
    world["a"].sysctl("ipv6/conf/default/disable_ipv6", "1")
    world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
    world.start_hub()
    node = world.start_node(A)
    world.start_node(B)
    world.wait_registered()
    sent, out, back = world.lost_both_ways(1.5)
    is_reported = "kernel-refused" in _problems(node)
    world["a"].sysctl("ipv6/conf/all/disable_ipv6", "0")
    is_right = _within(RIGHT_S, lambda: "kernel-refused" not in _problems(node))
    sent6, out6, back6 = world.lost_both_ways(1.0, version=6) if is_right else (0, 0, 0)
    return _alive(check, sent + sent6, out + back + out6 + back6, reported=is_reported, put_right=sent6 > 0)


def mwan3(check: str, world: World) -> Check:
    """OpenWrt with two providers: every packet gets a mark, and rules before all others match it."""
    world.attach("a", "eth1", ["198.51.100.2/24"], metric=100)
    world.attach("a", "eth2", ["203.0.113.2/24"], metric=200)
    world.ip(
        "a",
        "route add default via 198.51.100.1 dev eth1 table 1",
        "route add default via 203.0.113.1 dev eth2 table 2",
        "rule add priority 1001 iif eth1 lookup main",
        "rule add priority 1002 iif eth2 lookup main",
        "rule add priority 2001 fwmark 0x100/0x3f00 lookup 1",
        "rule add priority 2002 fwmark 0x200/0x3f00 lookup 2",
        "rule add priority 2061 fwmark 0x3d00/0x3f00 blackhole",
        "rule add priority 2062 fwmark 0x3e00/0x3f00 unreachable",
    )
    for command in ("-N mwan3_hook", "-A mwan3_hook -m mark --mark 0x0/0x3f00 -j MARK --set-xmark 0x100/0x3f00"):
        world["a"].run("iptables", "-t", "mangle", *command.split())
    world["a"].run("iptables", "-t", "mangle", "-A", "OUTPUT", "-j", "mwan3_hook")
    world.start_hub()
    # Both ends of a probe stream send from and to the same ports. If b's first packet is earlier, a's packets are
    # replies to the kernel's connection tracking, and replies leave by the uplink of the request unless switched off.
    node = world.start_node(A, extra="steering: {replies: no, rules: [{name: all, via: [eth2]}]}\n")
    world.start_node(B)
    world.wait_registered()
    world.wait(lambda: "LISPMOB" in world["a"].run("iptables", "-t", "mangle", "-S"), "the rules are in", RIGHT_S)
    deadline = time.monotonic() + RIGHT_S
    while True:
        before = _sent_by(world, "eth2")
        sent, out, back = world.lost_both_ways(2.0)
        is_steered = _sent_by(world, "eth2") - before > sent
        if is_steered or time.monotonic() > deadline:
            break
    return _alive(check, sent, out + back, reported=not _problems(node) & {"foreign-rule"}, put_right=is_steered)


def foreign_mesh(check: str, world: World) -> Check:
    """Another mesh on the host routes its networks by its own table; lispd sends everything into the overlay."""
    world.attach("a", "eth0", ["198.51.100.2/24"], metric=100)
    world.add("mesh")
    world.cable(
        ("a", "mesh0"), ("mesh", "host0"), near_addresses=["100.64.0.5/32"], far_addresses=["100.100.100.100/32"]
    )
    world.ip("a", "route add 100.64.0.0/10 dev mesh0 table 52", "rule add priority 5270 lookup 52")
    world.ip("mesh", "route add 100.64.0.5/32 dev host0", "addr add 100.64.0.9/32 dev host0")
    world.start_hub()
    world.start_node(A, mode="full", fallback="drop")
    world.start_node(B)
    world.wait_registered()
    sent, out, back = world.lost_both_ways(1.5)
    answered = [_ping(world, address) for address in ("100.64.0.9", "100.100.100.100")]
    return _alive(check, sent, out + back, reported=True, put_right=all(answered))


def _alive(check: str, sent: int, lost: int, *, reported: bool, put_right: bool) -> Check:
    flaws = "".join(f", not {what}" for what, is_so in (("reported", reported), ("put right", put_right)) if not is_so)
    is_ok = sent > 0 and lost == 0 and not flaws
    return fact(check, ok=is_ok, value=lost, unit=f"packets lost of {sent}{flaws}", goal=0)


def _problems(node: Node) -> set[str]:
    status = node.lispctl("status")
    return {problem["key"] for problem in status["problems"]} if status else set()


def _within(limit_s: float, is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _programs(directory: Path) -> Path:
    """A folder with all programs of this machine, except those that change packet filters."""
    directory.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        if not Path(folder).is_dir():
            continue
        for program in Path(folder).iterdir():
            place = directory / program.name
            if not program.name.startswith(_PACKET_FILTERS) and not place.is_symlink():
                place.symlink_to(program)
    return directory


def _sent_by(world: World, interface: str) -> int:
    return int(world["a"].run("cat", f"/sys/class/net/{interface}/statistics/tx_packets"))


def _ping(world: World, address: str) -> bool:
    """True when the first packet is answered."""
    return "1 received" in world["a"].run("sh", "-c", f"ping -c 1 -W 2 {address} || true")


SCENARIOS: Final = (
    Scenario("no-iptables.alive", "No iptables and no nft", no_iptables),
    Scenario("no-ipv6.alive", "IPv6 is switched off, and later on", no_ipv6),
    Scenario("mwan3.both-ways", "OpenWrt's mwan3 marks and routes everything", mwan3),
    Scenario("foreign-mesh.reachable", "Another mesh on the same host", foreign_mesh),
)
