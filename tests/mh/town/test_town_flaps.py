"""An uplink flaps 200 times a minute: the streams survive, and nothing is left of it in the host."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lispmob.lab import move as moves
from lispmob.lab.move import Kind, Move
from lispmob.lab.namespace import Namespace
from lispmob.lab.probe import Party
from lispmob.lab.tcp_stream import TcpStream
from tests.mh.town.town import A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

FLAP_S = 0.2  # down and up again: more than 200 in a minute
LOSSES = (Kind.ROUTE_REMOVED, Kind.ADDRESS_REMOVED, Kind.LINK_DOWN)


class Pen:
    """An `ip` process that executes lines as they come: a process for each of 400 changes would be the main load."""

    def __init__(self, namespace: Namespace) -> None:
        command = ["ip", "-n", namespace.name, "-batch", "-"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def write(self, lines: list[str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines))
        self._process.stdin.flush()

    def put_down(self) -> None:
        """End it. Raises AssertionError when a line was refused."""
        _, complaint = self._process.communicate(timeout=10)
        assert self._process.returncode == 0, complaint


@contextlib.contextmanager
def pen(namespace: Namespace) -> Iterator[Pen]:
    one = Pen(namespace)
    try:
        yield one
    finally:
        one.put_down()


def flap(here: Town, interface: str, flaps: int) -> None:
    """Take the interface down by each of the ways in turn, and up again."""
    with pen(here.a) as ip:
        for number in range(flaps):
            for kind in (LOSSES[number % len(LOSSES)], Kind.RESTORED):
                next_at = time.monotonic() + FLAP_S / 2
                lines, _ = moves.batch_lines(here.lab, Move(kind, "a", interface))
                ip.write(lines)
                time.sleep(max(0.0, next_at - time.monotonic()))


Holdings = dict[str, Counter[str]]


def holdings(here: Town, node: str) -> Holdings:
    """What the node and its kernel hold, without what changes in every run: numbers of sockets, and free ports."""
    host, process = here.lab[node], Path("/proc", str(here.nodes[node].daemon.pid))
    both = ("-4", "-6")
    found = {
        "rules": [line for family in both for line in host.run("ip", family, "rule").splitlines()],
        "routes": [
            line for family in both for line in host.run("ip", family, "route", "show", "table", "all").splitlines()
        ],
        "iptables": [
            re.sub(r"\[\d+:\d+\]", "", line)
            for tool in ("iptables-save", "ip6tables-save")
            for line in host.run(tool).splitlines()
            if not line.startswith("#")
        ],
        "descriptors": [re.sub(r":\[\d+\]", "", str(fd.readlink())) for fd in (process / "fd").iterdir()],
        "sockets": [re.sub(r":[3-6]\d{4}$", "", line.split()[3]) for line in host.run("ss", "-Hlun").splitlines()],
        "threads": [(task / "comm").read_text().strip() for task in (process / "task").iterdir()],
    }
    return {what: Counter(line.strip() for line in lines) for what, lines in found.items()}


def settled(here: Town) -> list[Holdings]:
    """What both nodes hold once nothing of it changes any more."""
    seen: list[list[Holdings]] = [[]]

    def is_calm() -> bool:
        time.sleep(0.5)
        seen.append([holdings(here, node) for node in "ab"])
        return seen[-1] == seen[-2]

    wait_for(is_calm, 20)
    return seen[-1]


def more(before: list[Holdings], after: list[Holdings]) -> list[dict[str, Counter[str]]]:
    """For each node what is there now and was not before."""
    return [
        {what: left for what, lines in now.items() if (left := lines - was[what])}
        for was, now in zip(before, after, strict=True)
    ]


@pytest.mark.parametrize(("tier", "flaps"), [("ebpf", 100), ("tun", 40)])
def test_an_uplink_that_flaps_200_times_a_minute_leaves_nothing_over_and_the_streams_on_it_live(
    tier: str, flaps: int
) -> None:
    with town(f"datapath: {{tier: {tier}}}\n") as here:
        before = settled(here)
        parties = [[Party(here.a, getattr(A, eid)), Party(here.b, getattr(B, eid))] for eid in ("eid4", "eid6")]
        with TcpStream(*parties[0]) as old, TcpStream(*parties[1][::-1]) as new:
            flap(here, "wlan0", flaps)
            assert here.ctl("status")["locator_set_version"] >= flaps // 2
            wait_for(lambda: all(node.is_registered() for node in here.nodes.values()), 20)
            results = old.finish(), new.finish()

        # What stays for packets on their way goes by itself.
        deadline = time.monotonic() + 20
        while any(more(before, after := settled(here))) and time.monotonic() < deadline:
            pass
        assert more(before, after) == [{}, {}]
        assert more(after, before) == [{}, {}]
        assert all(result.is_alive for result in results), results
        assert here.nodes["a"].daemon.is_running
        assert "Traceback" not in here.nodes["a"].daemon.log.read_text()
