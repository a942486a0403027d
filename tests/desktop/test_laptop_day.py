"""A day of a laptop, compressed and seeded, under one TCP stream; nothing is left of it afterwards.

LAPTOP_DAY_MOVES=800 makes it a long one (some minutes), LAPTOP_DAY_SEED another one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from lispmob.lab.namespace import Namespace
from tests.desktop.desktop_world import UPLINKS, Node
from tests.desktop.laptop_day import LaptopDay
from tests.desktop.managed_desktop import METERED, ManagedDesktop, managed_desktop
from tests.desktop.private_bus import wait_for, why_no_mock
from tests.desktop.real_network_manager import why_no_network_manager

WHY_NOT = why_no_network_manager() or why_no_mock()
pytestmark = [pytest.mark.netns, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

MOVES = int(os.environ.get("LAPTOP_DAY_MOVES", "200"))
SEED = int(os.environ.get("LAPTOP_DAY_SEED", "6830"))
QUEUES = 2 + UPLINKS
"""Of our device: for packets without a mark, for unknown marks, and one for each uplink at the same time."""
GROWTH_BYTES = 2 << 20
"""Growth of resident memory in the second half of the day: an allocator keeps what was freed, and grows late."""
GROWTH_BLOCKS = 1000
GROWTH_OCTETS = 64 << 10
"""Growth of what is in use from noon to evening: Python's blocks, and octets of malloc()."""
BLOCKS_A_STEP = 8
"""Of a move that is kept for `lispctl handovers`; at noon of a short day the list is not full yet."""


def kernel_of(desk: Namespace) -> dict[str, list[str]]:
    """Rules, tables besides the kernel's own two, and packet filters: all of them are ours, once the day is over."""
    rules = desk.run("ip", "rule") + desk.run("ip", "-6", "rule")
    routes = desk.run("ip", "route", "show", "table", "all") + desk.run("ip", "-6", "route", "show", "table", "all")
    # The queue of lmn0 for an uplink, and so its number in the filters, depends on the order of the uplinks.
    chains = [
        re.sub(r'"[^"]*"|0x\w+', "*", line) for line in desk.run("iptables-save").splitlines() if line.startswith("-A")
    ]
    return {
        "rules": sorted(rules.splitlines()),
        "routes": sorted(
            re.sub(r" metric \d+", "", line) for line in routes.splitlines() if re.search(r" table (?!local)", line)
        ),
        "chains": sorted(chains),
    }


def match_rules(desktop: ManagedDesktop) -> list[int]:
    """How many D-Bus match rules lispd has; empty where this dbus-daemon does not say."""
    told = desktop.bus.gdbus(
        *("call", "--system", "--dest", "org.freedesktop.DBus", "--object-path", "/org/freedesktop/DBus"),
        *("--method", "org.freedesktop.DBus.Debug.Stats.GetConnectionStats", "net.lispmob.Daemon1"),
    )
    return [int(number) for number in re.findall(r"'MatchRules': <(?:uint32 )?(\d+)>", told)]


def held_by(desk: Node) -> dict[str, int]:
    """What lispd_that_counts holds, without what it keeps on purpose."""
    path = desk.directory / "held.json"
    path.unlink(missing_ok=True)
    os.kill(desk.daemon.pid, signal.SIGUSR2)
    wait_for(path.exists, "it has counted")
    held: dict[str, int] = json.loads(path.read_text("ascii"))
    held["blocks"] -= BLOCKS_A_STEP * sum(len(move["steps"]) for move in desk.ask("handovers"))
    return held


@pytest.mark.timeout(60 + 3 * MOVES)
def test_a_stream_lives_through_the_day_and_the_evening_is_as_the_morning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with managed_desktop(tmp_path) as desktop:
        desktop.connect(0)
        desktop.connect(1)
        night = kernel_of(desktop.world.desk)
        desk, peer = desktop.start(program="tests.desktop.lispd_that_counts")
        desk.until_on("w0", "w1")
        desktop.connect(METERED)  # use all three once: a device keeps a queue for each uplink that it ever had
        desk.until_on("w0", "w1", "w2")
        desktop.disconnect(METERED)
        stream = desktop.world.stream(desk, peer)
        day = LaptopDay(desktop, desk, SEED)
        morning = settled_state_of(desktop, desk)
        assert desk.descriptors().count("/dev/net/tun") == QUEUES

        day.live(MOVES // 2)
        day.come_home()
        settle(desktop, desk, morning)
        noon = held_by(desk)
        day.live(MOVES - MOVES // 2)
        day.come_home()
        settle(desktop, desk, morning)
        more = {what: count - noon[what] for what, count in held_by(desk).items()}
        result = stream.finish()
        versions = desk.ask("status")["locator_set_version"]
        grown = day.resident[-1] - day.resident[len(day.resident) // 2]
        quarters = [f"{day.resident[(len(day.resident) - 1) * part // 4] / 2**20:.1f}" for part in range(5)]
        deeds = ", ".join(f"{count} {what}" for what, count in day.done.most_common())
        with capsys.disabled():
            print(  # noqa: T201 - a figure
                f"\na laptop's day, seed {SEED}, {MOVES} deeds ({deeds}), {versions} sets of locators; over one TCP "
                f"stream {result.returned} octets came back, longest stall {result.longest_stall_s:.2f} s; "
                f"resident by quarters: {', '.join(quarters)} MiB; in the second half {grown / 2**20:+.2f} MiB, "
                f"{more['blocks']:+d} blocks and {more['octets']:+d} octets in use"
            )
        assert result.is_alive, result
        assert grown < GROWTH_BYTES
        assert more["blocks"] < GROWTH_BLOCKS
        assert more["octets"] < GROWTH_OCTETS
        assert desk.daemon.stop() == 0
        assert kernel_of(desktop.world.desk) == night


def state_of(desktop: ManagedDesktop, desk: Node) -> dict[str, object]:
    """What must not grow."""
    return {
        **kernel_of(desktop.world.desk),
        "descriptors": desk.descriptors(),
        "threads": len(list(Path(f"/proc/{desk.daemon.pid}/task").iterdir())),
        "match rules": match_rules(desktop),
    }


def settled_state_of(desktop: ManagedDesktop, desk: Node) -> dict[str, object]:
    """The state once the start is complete: nothing changes for a second."""
    time.sleep(1.5)  # the chain that keeps replies on their path follows a second later
    state = state_of(desktop, desk)
    for _ in range(20):
        time.sleep(1.0)
        before, state = state, state_of(desktop, desk)
        if before == state:
            break
    return state


def settle(desktop: ManagedDesktop, desk: Node, morning: dict[str, object]) -> None:
    """Wait for what stays for a moment on purpose; then everything must be as it was."""
    with contextlib.suppress(AssertionError):  # the comparison below has the better message
        desk.wait_until(lambda _: state_of(desktop, desk) == morning, "as in the morning", patience_s=6.0)
    evening = state_of(desktop, desk)
    for what, was in morning.items():
        assert evening[what] == was, what
