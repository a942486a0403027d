"""Without our device, after a crash or a stop, packets for the overlay are dropped, if the user wants that."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
from ipaddress import ip_network

import pytest
from msgspec.structs import replace

from lispmob.mh.kernel.kernel import KernelRouter
from tests.mh.kernel.test_kernel_routing_effect import FULL, SPLIT, Host, net

__all__ = ["net"]

pytestmark = pytest.mark.netns

GUARDED = replace(SPLIT, native_prefixes=(), guards_overlay=True)
GUARDED_FULL = replace(FULL, native_prefixes=(ip_network("203.0.113.0/24"),), guards_overlay=True)
INSIDE = ("10.1.0.2", "2001:db8:e::2")
OUTSIDE = ("8.8.8.8", "2600::1")
NATIVE = {4: "192.0.2.2", 6: "2001:db8:1::2"}
REFUSED = ("EHOSTUNREACH", "ENETUNREACH")


def route_to(net: Host, where: str) -> str:
    """The device by which a packet without a source leaves, or the error of the kernel."""
    command = net.host.argv("ip", "-o", "route", "get", *where.split())
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    words = done.stdout.split()
    return words[words.index("dev") + 1] if done.returncode == 0 and "dev" in words else "unreachable"


def sent_to(net: Host, where: str, source: str | None = None) -> str:
    """What a program gets that sends a datagram there: "sent", or the error. `ip route get` looks up once only."""
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    with net.host.socket(family, socket.SOCK_DGRAM) as program:
        if source is not None:
            program.bind((source, 0))
        try:
            program.sendto(b"secret", (where, 9))
        except OSError as error:
            return errno.errorcode[error.errno or 0]
    return "sent"


def crash(net: Host) -> None:
    """Do what the end of a process does to its device."""
    net.run("ip link delete lmn0")


@pytest.mark.parametrize("state", [GUARDED, GUARDED_FULL], ids=["split", "full"])
@pytest.mark.parametrize("where", INSIDE)
def test_after_a_crash_what_is_meant_for_the_overlay_is_refused(net: Host, state: object, where: str) -> None:
    net.apply(state)  # type: ignore[arg-type]
    before = route_to(net, where)

    crash(net)

    assert (before, route_to(net, where)) == ("lmn0", "unreachable")
    assert sent_to(net, where) in REFUSED


def test_after_a_crash_everything_else_goes_where_it_always_went(net: Host) -> None:
    net.apply(GUARDED)

    crash(net)

    assert [route_to(net, where) for where in OUTSIDE] == ["eth0", "eth0"]
    assert route_to(net, "10.1.0.2 from 192.0.2.2") == "eth0"
    assert [sent_to(net, where) for where in OUTSIDE] == ["sent", "sent"]


@pytest.mark.parametrize("where", INSIDE)
def test_while_lispd_runs_packets_of_native_addresses_go_where_they_always_went(net: Host, where: str) -> None:
    source = NATIVE[6 if ":" in where else 4]
    net.apply(GUARDED)

    assert route_to(net, f"{where} from {source}") == "eth0"
    assert sent_to(net, where, source) == "sent"


def test_after_a_crash_no_ipv6_of_this_host_leaves_for_the_overlay_since_its_source_may_be_the_kernels_choice(
    net: Host,
) -> None:
    net.apply(GUARDED)

    crash(net)

    assert sent_to(net, INSIDE[1], NATIVE[6]) in REFUSED
    assert sent_to(net, OUTSIDE[1], NATIVE[6]) == "sent"


@pytest.mark.parametrize("where", INSIDE)
def test_after_a_stop_it_is_refused_when_that_is_wanted(net: Host, where: str) -> None:
    net.apply(GUARDED)

    with net.host.entered():
        asyncio.run(KernelRouter().clean_up(GUARDED))
    stopped, refused = route_to(net, where), sent_to(net, where)
    with net.host.entered():
        asyncio.run(KernelRouter().clean_up())

    assert (stopped, route_to(net, where)) == ("unreachable", "eth0")
    assert refused in REFUSED
    assert sent_to(net, where) == "sent"


def test_what_the_host_knows_more_precisely_stays_reachable_after_a_crash(net: Host) -> None:
    net.run("ip route add 10.1.7.0/24 via 192.0.2.1")
    net.apply(GUARDED)

    crash(net)

    assert route_to(net, "10.1.7.1") == "eth0"


def test_where_leaving_natively_was_asked_for_a_crash_changes_nothing(net: Host) -> None:
    net.apply(SPLIT)

    crash(net)

    assert [route_to(net, where) for where in INSIDE] == ["eth0", "eth0"]


def test_a_prefix_with_something_native_in_it_by_hand_has_no_guard(net: Host) -> None:
    net.apply(replace(GUARDED, native_prefixes=(ip_network("10.1.9.0/24"),)))

    assert route_to(net, "10.1.9.1") == "eth0"
    crash(net)
    assert [route_to(net, where) for where in ("10.1.9.1", "2001:db8:e::2")] == ["eth0", "unreachable"]
