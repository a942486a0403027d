"""A node that moves while streams run, seen through lispctl as a user sees it."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from lispmob.lab.move import Kind, Move, perform
from lispmob.lab.probe import ProbeStream
from lispmob.lab.tcp_stream import TcpStream
from tests.lispd.running.world import World, wait_for

pytestmark = pytest.mark.netns


def test_an_interface_that_is_deleted_in_the_middle_of_a_stream_costs_a_moment_and_no_connection(world: World) -> None:
    world.start_hub()
    a, b = world.start_pair()
    with TcpStream(a.party(), b.party()) as stream, ProbeStream(a.party(6), b.party(6)) as probes:
        time.sleep(0.5)
        world["a"].run("ip", "link", "delete", "wlan0")
        deleted_at = time.monotonic()
        a.wait_until(
            lambda status: [locator["interface"] for locator in status["locators"]] == ["lte0", "lte0"], "on lte0"
        )
        time.sleep(1.0)
        out, back = probes.finish()
        result = stream.finish()

    assert result.is_alive, result
    assert out.lost(deleted_at + 0.5, float("inf")) == back.lost(deleted_at + 0.5, float("inf")) == 0
    assert a.wait_until_registered()["uplinks"][0]["name"] == "lte0"
    assert "Traceback" not in a.log()
    assert not [line for line in a.log().splitlines() if "ERROR" in line]


def test_a_move_leaves_a_timeline_with_its_gaps_and_followers_see_it_happen(world: World) -> None:
    world.start_hub()
    a, b = world.start_pair()
    follower = subprocess.Popen(
        a.command("events", "--follow", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        with ProbeStream(a.party(), b.party()) as probes:
            time.sleep(0.5)
            moment = perform(world.lab, Move(Kind.ADDRESS_REMOVED, "a", "wlan0"))
            wait_for(lambda: (a.status() or {})["last_handover"] is not None, "a handover")
            a.wait_until(lambda status: status["last_handover"]["gap_in_ms"] is not None, "the gap of both ways")
            time.sleep(0.3)
            probes.finish()
    finally:
        follower.terminate()
        followed, _ = follower.communicate(timeout=10)
    (move, *more) = a.ctl("handovers")
    said = a.say("handovers")

    assert not more or all("wlan0" in " ".join(one["reasons"]) for one in more)
    assert any("198.18.1.10 removed" in reason for reason in move["reasons"])
    steps = [step["what"] for one in (move, *more) for step in one["steps"]]
    order = [steps.index(what) for what in ("uplink", "register", "smr", "notify")]
    assert order == sorted(order), steps
    assert steps.count("first-packet") >= 2
    assert [step["at_ms"] for step in move["steps"]] == sorted(step["at_ms"] for step in move["steps"])
    assert move["steps"][0]["at_ms"] >= 0
    (registered_ms, *_) = [step["at_ms"] for step in move["steps"] if step["what"] == "register"]
    assert 0 < move["moved_after_ms"] <= registered_ms, "the datapath moves before anybody is told"
    told = [step["detail"] for step in move["steps"] if step["what"] == "smr"]
    assert told
    assert all(world.address("b", "wlan0") in whom for whom in told)
    gaps = [one[key] for one in (move, *more) for key in ("gap_out_ms", "gap_in_ms") if one[key] is not None]
    assert gaps
    assert all(0 < gap < 1000 for gap in gaps)
    assert "198.18.1.10 removed" in said
    assert "first-packet" in said
    kinds = kinds_after(followed, "moved")
    assert {"moved", "register-sent", "smr-sent", "registered"} <= set(kinds)
    assert moment.ended_at >= moment.began_at


def kinds_after(lines: str, first: str) -> list[str]:
    """The kinds of the events from the last `first` on; AssertionError when an event has another shape."""
    events: list[dict[str, Any]] = [json.loads(line) for line in lines.splitlines()]
    assert all(set(event) == {"kind", "at", "fields"} and event["at"].endswith("Z") for event in events)
    kinds = [event["kind"] for event in events]
    start = len(kinds) - 1 - kinds[::-1].index(first)
    return kinds[start:]
