"""A host whose packets our chains steer, and their senders: users of this host, and a machine behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lispmob.mh.kernel.chain import MarkChain
from lispmob.mh.kernel.packet_filter import Iptables
from lispmob.mh.kernel.xtables import Tool
from lispmob.mh.policy import Compiled, Policy, Rule, Selector, Uplink, Via
from lispmob.problems.problem import Problem
from tests.mh.kernel.lane_host import PEER, LaneHost

CABLE, WIFI, LTE = Uplink("cable0", 2), Uplink("wlan0", 3), Uplink("wwan0", 4, is_metered=True)
ALL = (CABLE, WIFI, LTE)
UNIFIED = [
    path for path in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (path / "cgroup.procs").exists()
]
SERVICE = 9000


class Steered:
    """A host, and the chain that steers it."""

    def __init__(self, host: LaneHost, back_end: str) -> None:
        self.host = host
        self.tools = (Iptables(Tool(f"iptables-{back_end}", 4)), Iptables(Tool(f"ip6tables-{back_end}", 6)))
        self.iptables = {4: f"iptables-{back_end}", 6: f"ip6tables-{back_end}"}
        self.chain = MarkChain(self.tools)
        self.problems: tuple[Problem, ...] = ()

    def apply(self, *rules: Rule, uplinks: tuple[Uplink, ...] = ALL) -> None:
        self.apply_compiled(Policy(rules).compile(uplinks))

    def apply_compiled(self, compiled: Compiled) -> None:
        with self.host.namespace.entered():
            self.problems = asyncio.run(self.chain.apply(compiled, self.host.hooks()))

    def clean_up(self) -> None:
        with self.host.namespace.entered():
            asyncio.run(MarkChain(self.tools).clean_up())

    def saved(self, family: int = 4) -> list[str]:
        text = self.host.run(f"{self.iptables[family]}-save -t mangle")
        lines = (line for line in text.splitlines() if not line.startswith("#"))
        return [line.split(" [")[0] for line in lines]


def via(name: str, *uplinks: str, **selecting: object) -> Rule:
    return Rule(name, Selector(**selecting), tuple(Via(uplink) for uplink in uplinks))  # type: ignore[arg-type]


@contextlib.contextmanager
def client_behind(host: LaneHost, family: int) -> Iterator[list[str]]:
    """A machine on an interface `br-lan` of the host, with an address of our site; yields how to run commands on it."""
    ours, theirs, length = {4: ("10.1.0.129", "10.1.0.130", 25), 6: ("2001:db8:e:1::1", "2001:db8:e:1::2", 64)}[family]
    host.run("ip link add br-lan type veth peer name client; ip link set br-lan up")
    host.run(f"ip addr add {ours}/{length} dev br-lan {'nodad' if family == 6 else ''}")
    host.namespace.sysctl("ipv4/ip_forward", "1")
    host.namespace.sysctl("ipv6/conf/all/forwarding", "1")
    client = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        deadline = time.monotonic() + 5
        while os.readlink(f"/proc/{client.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < deadline
        host.run(f"ip link set client netns {client.pid}")
        inside = ["nsenter", f"--net=/proc/{client.pid}/ns/net"]
        address = f"ip addr add {theirs}/{length} dev client {'nodad' if family == 6 else ''}"
        script = f"ip link set client up; {address}; ip -{family} route add default via {ours}"
        subprocess.run([*inside, "sh", "-ec", script], check=True, timeout=10)
        yield inside
    finally:
        client.kill()
        client.wait()


def send_as(host: LaneHost, uid: int, gid: int, before: str = "") -> int | None:
    """The lane of a packet that a process of this user and group sends."""
    token = os.urandom(8).hex()
    who = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    # Not `ip netns exec`, which hides the control groups behind another /sys.
    inside = ["nsenter", f"--net=/run/netns/{host.namespace.name}"]
    command = [*inside, *who, "sh", "-ec", f'{before}exec "$@"', "sh", *sender(PEER[4], token)]
    subprocess.run(command, check=True, timeout=10)
    return host.find(token.encode())


def sender(destination: str, token: str) -> list[str]:
    return ["bash", "-c", f"exec 3<>/dev/udp/{destination}/9; printf {token} >&3"]
