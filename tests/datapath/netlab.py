"""Two hosts with engines and no control plane, each in a network namespace, joined by links.

Namespaces and processes are the laboratory's (`lispmob/lab/`). Its lines are not used: they are a relay in user space,
which delays and loses frames. These tests are about offload, queues, filters and BPF programs, so a link here is a bare
veth pair from host to host, as the kernel has it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from lispmob.lab import link as links_of
from lispmob.lab.namespace import Namespace, NamespaceSet
from lispmob.lab.process import Tool

PATIENCE_S: Final = 60.0  # for the longest command, on a busy machine
_numbers = count()

DEFAULTS: dict[str, Any] = {}
"""Options of every lab: conftest.py sets the tier."""

EID_A4, EID_A6 = "10.1.0.1", "2001:db8:1::1"
EID_B4, EID_B6 = "10.2.0.1", "2001:db8:2::1"


class RemoteEngine:
    """A process with an engine in a namespace, and what engine_process.py does there by name."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._tool = Tool(namespace, "tests.datapath.engine_process", None, timeout_s=PATIENCE_S)

    def __call__(self, do: str, **arguments: Any) -> Any:
        self.start(do, **arguments)
        return self.finish()

    def start(self, do: str, **arguments: Any) -> None:
        self._tool.tell({"do": do, **arguments})

    def finish(self) -> Any:
        """The result of what was started. AssertionError with its error."""
        answer = self._tool.answer()
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def ip(self, command: str) -> str:
        return self.namespace.run("ip", *command.split())

    def run(self, command: str) -> str:
        return self.namespace.run(*command.split())

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Stop the threads for the duration; the BPF programs in the kernel keep running."""
        os.kill(self._tool.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._tool.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._tool.kill()

    def close(self) -> None:
        self.kill()


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


def _join(a: Namespace, b: Namespace, links: Sequence[Link]) -> None:
    cables = [links_of.veth(link.name, b, link.name) for link in links]
    for host, namespace in (("a", a), ("b", b)):
        lines = cables if host == "a" else []
        for link in links:
            lines += [
                f"addr add {link.rloc(host, 4)}/29 dev {link.name}",
                f"addr add {link.rloc(host, 6)}/64 dev {link.name} nodad",
                f"link set {link.name} up mtu {link.mtu_bytes}",
            ]
        links_of.apply(namespace, lines)


def _attach_eids(engine: RemoteEngine, own: tuple[str, str], device: str) -> None:
    lines = [
        f"addr add {own[0]}/32 dev {device}",
        f"addr add {own[1]}/128 dev {device} nodad",
        f"route add 10.0.0.0/8 dev {device} src {own[0]}",
        f"route add 2001:db8::/40 dev {device} src {own[1]}",
    ]
    links_of.apply(engine.namespace, lines)


@contextmanager
def lab(links: int = 1, mtu_bytes: int = 1500, tun_mtu_bytes: int = 1440, **options: Any) -> Iterator[Lab]:
    """Both engines run, know their uplinks, and have their EIDs on a TUN device; no mapping is installed."""
    with NamespaceSet(f"dp{next(_numbers)}") as namespaces:
        a, b = namespaces.make("a"), namespaces.make("b")
        joined = [Link(f"up{i}", i, mtu_bytes) for i in range(links)]
        _join(a, b, joined)
        with ThreadPoolExecutor() as starting:
            first, second = starting.map(RemoteEngine, (a, b))
        with closing(first), closing(second):
            both = Lab(first, second, joined)
            for host, engine, own in (("a", both.a, (EID_A4, EID_A6)), ("b", both.b, (EID_B4, EID_B6))):
                wanted = {"eids": [f"{own[0]}/32", f"{own[1]}/128"], "tun_name": "lmt0", "tun_mtu_bytes": tun_mtu_bytes}
                engine("open", **{**DEFAULTS, **wanted, **options})
                _attach_eids(engine, own, "lmt0")
                assert engine("uplinks", uplinks=[link.uplink(host) for link in both.links]) == []
            yield both


@contextmanager
def third_host(router: RemoteEngine, near: str, far: str, mtu_bytes: int) -> Iterator[None]:
    """A host without LISP, behind a link of `router`, which forwards IPv4 packets to it."""
    with NamespaceSet(f"dp{next(_numbers)}") as namespaces:
        host = namespaces.make("third")
        own = ["addr add {} dev third0", f"link set third0 up mtu {mtu_bytes}"]
        links_of.apply(
            router.namespace,
            [links_of.veth("third0", host, "third0"), own[0].format(near), own[1]],
        )
        links_of.apply(host, [own[0].format(far), own[1]])
        router.namespace.sysctl("ipv4/ip_forward", "1")
        yield


def install_both(both: Lab, family: int, link: int = 0) -> None:
    """Install static mappings for all EIDs over one outer family."""
    for prefix in (f"{EID_B4}/32", f"{EID_B6}/128"):
        both.a("install", prefix=prefix, locators=[both.links[link].rloc("b", family)])
    for prefix in (f"{EID_A4}/32", f"{EID_A6}/128"):
        both.b("install", prefix=prefix, locators=[both.links[link].rloc("a", family)])


def open_sockets(both: Lab) -> None:
    """Both hosts have a socket "x" at port 5000 of their IPv4 EID."""
    both.a("udp_open", name="x", address=EID_A4, port=5000)
    both.b("udp_open", name="x", address=EID_B4, port=5000)
