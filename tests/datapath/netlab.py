"""Two hosts with engines, each in a network namespace, joined by links; everything is gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_numbers = count()

DEFAULTS: dict[str, Any] = {}
"""Options of every lab: conftest.py sets the tier."""

EID_A4, EID_A6 = "10.1.0.1", "2001:db8:1::1"
EID_B4, EID_B6 = "10.2.0.1", "2001:db8:2::1"


def run(command: str) -> str:
    done = subprocess.run(command.split(), check=False, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class RemoteEngine:
    """Calls methods of engine_process.Host in another namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, "-m", "tests.datapath.engine_process"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, do: str, **arguments: Any) -> Any:
        self.start(do, **arguments)
        return self.finish()

    def start(self, do: str, **arguments: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the engine's process died"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def ip(self, command: str) -> str:
        return run(f"ip -n {self.namespace} {command}")

    def run(self, command: str) -> str:
        return run(f"ip netns exec {self.namespace} {command}")

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Stop the threads for the duration; the BPF programs in the kernel keep running."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


@dataclass
class Link:
    """A veth pair between the hosts, `name` on both sides, with an IPv4 and an IPv6 RLOC on each."""

    name: str
    number: int
    mtu_bytes: int = 1500

    def rloc(self, host: str, family: int) -> str:
        last = 1 if host == "a" else 2
        return f"192.0.2.{self.number * 8 + last}" if family == 4 else f"2001:db8:ff{self.number:02x}::{last}"

    def uplink(self, host: str, families: Sequence[int] = (4, 6), priority: int = 1) -> list[Any]:
        return [self.name, [self.rloc(host, family) for family in families], priority, self.mtu_bytes]


@dataclass
class Lab:
    a: RemoteEngine
    b: RemoteEngine
    links: list[Link] = field(default_factory=list)


def _add_link(lab: Lab, link: Link) -> None:
    run(f"ip link add {link.name} netns {lab.a.namespace} type veth peer name {link.name} netns {lab.b.namespace}")
    for host, engine in (("a", lab.a), ("b", lab.b)):
        engine.ip(f"addr add {link.rloc(host, 4)}/29 dev {link.name}")
        engine.ip(f"-6 addr add {link.rloc(host, 6)}/64 dev {link.name} nodad")
        engine.ip(f"link set {link.name} up mtu {link.mtu_bytes}")


def _attach_eids(engine: RemoteEngine, own: tuple[str, str], device: str) -> None:
    engine.ip(f"addr add {own[0]}/32 dev {device}")
    engine.ip(f"-6 addr add {own[1]}/128 dev {device} nodad")
    engine.ip(f"route add 10.0.0.0/8 dev {device} src {own[0]}")
    engine.ip(f"-6 route add 2001:db8::/40 dev {device} src {own[1]}")


@contextmanager
def lab(links: int = 1, mtu_bytes: int = 1500, tun_mtu_bytes: int = 1440, **options: Any) -> Iterator[Lab]:
    """Both engines run, know their uplinks, and have their EIDs on a TUN device; no mapping is installed."""
    stem = f"lmdp{os.getpid()}x{next(_numbers)}"
    with ExitStack() as stack:
        made = []
        for host in "ab":
            namespace = stem + host
            run(f"ip netns add {namespace}")
            stack.callback(run, f"ip netns del {namespace}")
            run(f"ip -n {namespace} link set lo up")
            made.append(RemoteEngine(namespace))
            stack.callback(made[-1].kill)
        both = Lab(made[0], made[1], [Link(f"up{i}", i, mtu_bytes) for i in range(links)])
        for link in both.links:
            _add_link(both, link)
        for host, engine, own in (("a", both.a, (EID_A4, EID_A6)), ("b", both.b, (EID_B4, EID_B6))):
            wanted = {"eids": [f"{own[0]}/32", f"{own[1]}/128"], "tun_name": "lmt0", "tun_mtu_bytes": tun_mtu_bytes}
            engine("open", **{**DEFAULTS, **wanted, **options})
            _attach_eids(engine, own, "lmt0")
            assert engine("uplinks", uplinks=[link.uplink(host) for link in both.links]) == []
        yield both


@contextmanager
def third_host(router: RemoteEngine, near: str, far: str, mtu_bytes: int) -> Iterator[str]:
    """A host without LISP, behind a link of `router`; yields its namespace."""
    name = f"{router.namespace}t"
    run(f"ip netns add {name}")
    try:
        router.ip(f"link add third0 mtu {mtu_bytes} type veth peer name third0 netns {name}")
        router.ip(f"addr add {near} dev third0")
        router.ip("link set third0 up")
        run(f"ip -n {name} addr add {far} dev third0")
        run(f"ip -n {name} link set third0 up mtu {mtu_bytes}")
        run(f"ip -n {name} link set lo up")
        yield name
    finally:
        run(f"ip netns del {name}")


def install_both(both: Lab, family: int, link: int = 0) -> None:
    """Install static mappings for all EIDs over one outer family."""
    for prefix in (f"{EID_B4}/32", f"{EID_B6}/128"):
        both.a("install", prefix=prefix, locators=[both.links[link].rloc("b", family)])
    for prefix in (f"{EID_A4}/32", f"{EID_A6}/128"):
        both.b("install", prefix=prefix, locators=[both.links[link].rloc("a", family)])


def forward_ipv4(namespace: str) -> None:
    """Let this host forward IPv4 packets."""
    command = ["ip", "netns", "exec", namespace, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]
    subprocess.run(command, check=True, timeout=20)
