"""UDP port 4341 filtered where port 4342 passes: the status says so, and that it is over when it is."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from lispmob.lab.ping import ping
from tests.lispd.running.world import A, B, World

pytestmark = pytest.mark.netns

IN_THE_WAY = ("INPUT", "-p", "udp", "--dport", "4341", "-j", "DROP")


def keys(status: dict[str, object]) -> list[str]:
    problems = status["problems"]
    assert isinstance(problems, list)
    return [problem["key"] for problem in problems if problem["severity"] != "notice"]


def test_a_firewall_that_lets_probes_in_and_no_data_is_named_until_data_gets_through(world: World) -> None:
    world.start_hub()
    a, _ = (
        world.start_node(
            dataclasses.replace(world.text(who), keys={"datapath": "{tier: tun}"}, eids=(who.prefixes[0],))
        )
        for who in (A, B)
    )
    assert ping(world["a"], B.eid4, A.eid4, count=1, timeout_s=4.0).lost == 0
    for program in ("iptables", "ip6tables"):  # with one family open, data would go by that
        world["b"].run(program, "-I", *IN_THE_WAY)

    talk = threading.Thread(target=ping, args=(world["a"], B.eid4, A.eid4), kwargs={"count": 60, "timeout_s": 0.5})
    talk.start()
    status = a.wait_until(lambda status: "data-filtered" in keys(status), "the filter found", 30.0)
    assert "is lost, though it answers probes" in status["headline"]
    assert status["verdict"] == "degraded"

    for program in ("iptables", "ip6tables"):
        world["b"].run(program, "-D", *IN_THE_WAY)
    a.wait_until(lambda status: "data-filtered" not in keys(status), "the filter gone")
    talk.join()
