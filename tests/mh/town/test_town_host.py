"""Steering and the rest of the host: a killed daemon, rules of others, another ifindex, a strict rp_filter."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from tests.mh.town.town import EQUAL, A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

RULES = """\
steering:
  rules:
    - {name: calls, protocol: [udp], ports: [5000-5010], via: [lte0]}
"""
COUNT = 40


def mangle(here: Town) -> list[str]:
    """Both families, without the counters and the comments."""
    text = "".join(here.a.run(f"{tool}-save", "-t", "mangle") for tool in ("iptables", "ip6tables"))
    return [line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")]


def ours(here: Town) -> list[str]:
    return [line for line in mangle(here) if "LISPMOB" in line]


def carried(here: Town, port: int = 5003) -> str | None:
    before = here.counted()
    here.send(COUNT, port=port)
    return here.carrier(before, COUNT)


def test_a_killed_daemon_leaves_nothing_behind_its_next_run_and_the_users_rules_stand_through_all_of_it() -> None:
    with town(RULES) as here:
        wait_for(lambda: any("calls" in line for line in ours(here)), 10)
        for tool in ("iptables", "ip6tables"):
            here.a.run(tool, "-t", "mangle", "-N", "MINE")
            here.a.run(tool, "-t", "mangle", "-A", "MINE", "-j", "MARK", "--set-xmark", "0x70000/0xff0000")
            here.a.run(tool, "-t", "mangle", "-A", "OUTPUT", "-p", "udp", "-j", "MINE")
        here.a.run("ip", "rule", "add", "fwmark", "0x70000/0xff0000", "lookup", "main", "priority", "7")
        theirs = [line for line in mangle(here) if "LISPMOB" not in line]

        os.kill(here.nodes["a"].daemon.pid, signal.SIGKILL)
        time.sleep(0.5)
        left_behind = ours(here)
        again = here.start(A, "")
        wait_for(again.is_registered, 20)
        wait_for(lambda: not any("calls" in line for line in ours(here)), 10)
        while_running = [line for line in mangle(here) if "LISPMOB" not in line]
        again.daemon.stop()

        assert any("calls" in line for line in left_behind)
        assert while_running == theirs
        assert mangle(here) == theirs
        assert "fwmark 0x70000/0xff0000" in here.a.run("ip", "rule", "show")


def test_a_rule_follows_its_uplink_to_another_ifindex() -> None:
    with town(RULES) as here:
        wait_for(lambda: any("calls" in line for line in ours(here)), 10)
        old = here.ifindex("lte0")
        first = carried(here)

        # To another namespace and back, while its number is taken: as when a modem is plugged in again.
        here.a.run("ip", "link", "set", "lte0", "netns", here.lab["world"].name)
        here.a.run("ip", "link", "add", "name", "squat", "index", str(old), "type", "veth")
        here.lab["world"].run("ip", "link", "set", "lte0", "netns", here.a.name)
        address = f"{here.lab.topology.address('a', 'lte0')}/24"
        here.a.run("ip", "address", "add", address, "dev", "lte0")
        here.a.run("ip", "link", "set", "lte0", "up")
        here.a.run("ip", "route", "add", "default", "via", "198.18.2.1", "dev", "lte0", "metric", "200")
        new = here.ifindex("lte0")
        wait_for(lambda: any(f"{new:#x}/0xffff" in line for line in ours(here)), 10)
        time.sleep(0.3)

        assert new != old
        assert (first, carried(here), carried(here, 6000)) == ("lte0", "lte0", "wlan0")


@pytest.mark.parametrize("rp_filter", [1, 2])
def test_no_uplink_looks_dead_under_any_reverse_path_filter(rp_filter: int) -> None:
    with town(EQUAL + "probing: {interval: 1s, timeout: 0.5s}\n") as here:
        for name in ("all", "default", "wlan0", "lte0"):
            here.a.run("sh", "-c", f"echo {rp_filter} > /proc/sys/net/ipv4/conf/{name}/rp_filter")
        here.ping()
        before = {(one["local"], one["remote"]): one["probes"] for one in here.ctl("paths")}

        def asked() -> int:
            """How often the path with the fewest probes has been probed since."""
            paths = here.ctl("paths")
            return min(int(path["probes"]) - int(before.get((path["local"], path["remote"]), 0)) for path in paths)

        wait_for(lambda: asked() > 4, 30)
        paths = here.ctl("paths")

        assert {path["interface"] for path in paths} == {"wlan0", "lte0"}
        assert [path for path in paths if path["state"] != "up"] == []


def test_what_comes_in_by_the_second_uplink_passes_a_strict_reverse_path_filter_and_is_answered_there() -> None:
    with town(EQUAL) as here:
        for name in ("all", "default", "wlan0", "lte0"):
            here.a.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{name}/rp_filter")
        before_sysctl = here.a.run("sh", "-c", "cat /proc/sys/net/ipv4/conf/*/rp_filter")
        received: dict[str, int] = {"wlan0": 0, "lte0": 0}
        answered: dict[str, int] = {"wlan0": 0, "lte0": 0}
        with here.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((str(A.eid4), 5400))
            server.settimeout(1)
            # The peer draws the uplink of each flow, once it knows both: until each was drawn once.
            deadline = time.monotonic() + 30
            while sum(received.values()) < 16 or (min(received.values()) == 0 and time.monotonic() < deadline):
                with here.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.bind((str(B.eid4), 0))
                    client.settimeout(1)
                    came = {name: here.received(name) for name in received}
                    left = here.counted()
                    for _ in range(COUNT):
                        client.sendto(b"x" * 64, (str(A.eid4), 5400))
                    peer = server.recvfrom(200)[1]
                    for _ in range(COUNT - 1):
                        server.recvfrom(200)
                    for _ in range(COUNT):
                        server.sendto(b"x" * 64, peer)
                    client.recvfrom(200)
                    by = next(name for name, was in came.items() if here.received(name) - was >= COUNT * 4 // 5)
                    received[by] += 1
                    answered[by] += here.carrier(left, COUNT) == by

        assert min(received.values()) > 0
        assert answered == received
        assert here.a.run("sh", "-c", "cat /proc/sys/net/ipv4/conf/*/rp_filter") == before_sysctl
