"""The cost of an idle node, printed as measurements (pytest -s); only what does not depend on speed is asserted."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import pytest

from lispmob.api.client import Client
from tests.lispd.running.world import Node, World

pytestmark = pytest.mark.netns

IDLE_S = 2.5
ENOUGH = 5  # wake-ups of one thread in IDLE_S that still count as none: a neighbour that is resolved, a late timer


def test_an_idle_node_sleeps_in_all_its_threads_and_answers_when_asked(world: World) -> None:
    world.start_hub()
    node, _ = world.start_pair()
    time.sleep(2.0)  # the follow-ups of the start, and the chain that keeps replies on their path

    before = switches(node)
    time.sleep(IDLE_S)
    woken = {thread: count - before[thread] for thread, count in switches(node).items() if thread in before}

    asked = [answer_s(node) for _ in range(10)]
    began = time.monotonic()
    node.say("status")
    lispctl_s = time.monotonic() - began
    per_minute = sum(woken.values()) * 60 / IDLE_S
    figures = (
        "",
        f"lispctl status: {lispctl_s * 1000:.0f} ms as a process, {statistics.median(asked) * 1000:.2f} ms of lispd's",
        f"resident memory: {node.daemon.resident_bytes() / 1e6:.1f} MB",
        f"wake-ups of {len(woken)} threads while idle: {per_minute:.0f} a minute",
    )
    sys.stdout.write("\n".join(figures) + "\n")
    assert all(count <= ENOUGH for count in woken.values()), woken
    assert node.daemon.resident_bytes() < 120e6  # twice the goal: how an allocator behaves is no failure, a leak is


def switches(node: Node) -> dict[str, int]:
    """How often each thread has given up the processor by itself."""
    counted = {}
    for task in Path(f"/proc/{node.daemon.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                counted[task.name] = int(line.split()[1])
    return counted


def answer_s(node: Node) -> float:
    began = time.monotonic()
    with Client(str(node.directory / "lispd.sock")) as client:
        client.call("status")
    return time.monotonic() - began
