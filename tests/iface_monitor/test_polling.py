"""Watching without netlink: in a real sandbox, in a real namespace, and with contents of /proc written by hand."""

from __future__ import annotations

import contextlib
import json
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from lispmob.iface_monitor import proc_net
from lispmob.iface_monitor.default_routes import HIGH_HALF, LOW_HALF, WHOLE
from lispmob.iface_monitor.polling import CALM_S, LIVELY_S, NUDGED_S
from lispmob.lab.namespace import Namespace
from tests import seccomp

ROOT = Path(__file__).resolve().parents[2]

needs_seccomp = pytest.mark.skipif(
    platform.machine() not in seccomp.NUMBERS, reason="the system call numbers of this machine are not listed"
)


class Sandbox:
    """A watching process; what it prints is in a queue."""

    def __init__(self, namespace: Namespace, what: str) -> None:
        command = namespace.argv(sys.executable, "-m", "tests.iface_monitor.sandboxed_watch", what)
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))

    def hear(self, key: str, timeout_s: float = 15.0) -> Any:
        """The next message that has `key`."""
        deadline = time.monotonic() + timeout_s
        while True:
            said = self._said.get(timeout=max(0.01, deadline - time.monotonic()))
            if key in said:
                return said[key]

    def hear_reason(self, wanted: str, timeout_s: float = 15.0) -> float:
        """Wait until a reason is reported; returns the seconds waited."""
        began = time.monotonic()
        while wanted not in self.hear("reasons", timeout_s):
            pass
        return time.monotonic() - began

    def end(self) -> int:
        """Let it stop; returns how often it polled."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self.hear("looks"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(5)
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def sandboxed(namespace: Namespace, what: str) -> Iterator[Sandbox]:
    namespace.sysctl("ipv6/conf/default/accept_dad", "0")
    namespace.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    for name in ("eth0", "far0"):
        namespace.run("ip", "link", "set", name, "up")
    one = Sandbox(namespace, what)
    try:
        yield one
    finally:
        one.close()


@needs_seccomp
@pytest.mark.netns
def test_where_only_bind_is_refused_changes_are_still_told_at_once(namespace: Namespace) -> None:
    with sandboxed(namespace, "bind") as watch:
        assert "netlink" in watch.hear("refused")
        assert watch.hear("source") == "netlink"

        namespace.run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
        assert watch.hear_reason("eth0: 192.0.2.2 added") < LIVELY_S / 2
        namespace.run("ip", "route", "add", "default", "via", "192.0.2.1")
        assert watch.hear_reason("eth0: IPv4 default route via 192.0.2.1 added") < LIVELY_S / 2
        assert watch.end() < 10


@needs_seccomp
@pytest.mark.netns
def test_where_netlink_is_closed_altogether_proc_and_ioctl_tell_the_same(namespace: Namespace) -> None:
    with sandboxed(namespace, "netlink") as watch:
        watch.hear("refused")
        assert watch.hear("source") == "proc"

        namespace.run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
        namespace.run("ip", "route", "add", "default", "via", "192.0.2.1", "metric", "100")
        assert watch.hear_reason("eth0: IPv4 default route via 192.0.2.1 metric 100 added") < CALM_S + 1
        namespace.run("ip", "-6", "addr", "add", "2001:db8::2/64", "dev", "eth0")
        assert watch.hear_reason("eth0: 2001:db8::2 added") < LIVELY_S + 1
        namespace.run("ip", "-6", "route", "add", "default", "via", "2001:db8::1")
        watch.hear_reason("eth0: IPv6 default route via 2001:db8::1 metric 1024 added")
        namespace.run("ip", "link", "set", "far0", "down")
        assert watch.hear_reason("eth0: carrier lost") < LIVELY_S + 1


def test_an_interval_is_shorter_after_a_change_and_longest_where_the_kernel_tells() -> None:
    assert LIVELY_S < CALM_S < NUDGED_S


@pytest.mark.netns
def test_where_routes_are_not_told_a_socket_knows_the_address_it_would_leave_with(namespace: Namespace) -> None:
    namespace.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    namespace.run("ip", "link", "set", "eth0", "up")
    namespace.run("ip", "link", "set", "far0", "up")
    namespace.run("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
    with namespace.entered():
        links = proc_net.links(["eth0", "far0", "gone0"])
        addresses = proc_net.ipv4_addresses(links)
        before = proc_net.probed_routes(addresses)
        namespace.run("ip", "route", "add", "default", "via", "192.0.2.1")
        after = proc_net.probed_routes(addresses)

    assert [link.name for link in links] == ["eth0", "far0"]
    assert before == []
    assert [(route.family, route.ifindex, str(route.preferred_source)) for route in after] == [
        (4, links[0].ifindex, "192.0.2.2")
    ]


def test_default_routes_and_halves_are_read_from_proc_net_route() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"
        "tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
        "*\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n"
    )

    found = proc_net.parse_route(text, {"eth0": 2, "tun0": 3})

    assert [(candidate.part, candidate.ifindex, candidate.gateway, candidate.metric) for candidate in found] == [
        (WHOLE, 2, IPv4Address("192.0.2.1"), 100),
        (LOW_HALF, 3, None, 0),
        (HIGH_HALF, 3, None, 0),
    ]


def test_the_unreachable_default_route_of_ipv6_is_none() -> None:
    zero, gateway = "0" * 32, "20010db8" + "0" * 23 + "1"
    text = (
        f"{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003     eth0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
    )

    found = proc_net.parse_ipv6_route(text, {"eth0": 2, "lo": 1})

    assert [(candidate.ifindex, candidate.gateway, candidate.metric) for candidate in found] == [
        (2, IPv6Address("2001:db8::1"), 1024)
    ]


def test_flags_of_ipv6_addresses_are_read_from_proc_net_if_inet6() -> None:
    text = (
        "20010db8000000000000000000000002 02 40 00 80     eth0\n"
        "20010db8000000000000000000000003 02 40 00 01     eth0\n"
        "20010db8000000000000000000000004 02 40 00 60     eth0\n"
        "fe800000000000000000000000000001 02 40 20 80     eth0\n"
    )

    plain, temporary, leaving, local = proc_net.parse_if_inet6(text)

    assert (plain.address, plain.prefix_len, plain.ifindex, plain.is_permanent) == (
        IPv6Address("2001:db8::2"), 64, 2, True,
    )  # fmt: skip
    assert temporary.is_temporary
    assert (leaving.is_tentative, leaving.is_deprecated) == (True, True)
    assert local.scope == 253
