"""A new configuration while packets flow."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from ipaddress import ip_address

import pytest

from lispmob.lab.ping import ping
from lispmob.lab.probe import ProbeStream
from tests.lispd.running.world import A, B, World, wait_for

pytestmark = pytest.mark.netns

LTE_FIRST = '[{name: "lte*", priority: 1}, {name: "wlan*", priority: 5}]'
WLAN_FIRST = '[{name: "lte*", priority: 9}, {name: "wlan*", priority: 5}]'


def test_other_priorities_take_effect_without_a_lost_packet_by_signal_and_by_command(world: World) -> None:
    world.start_hub()
    a, b = world.start_pair()
    with ProbeStream(a.party(), b.party()) as probes:
        time.sleep(0.3)
        a.text.keys["uplinks"] = LTE_FIRST
        a.write()
        os.kill(a.daemon.pid, signal.SIGHUP)
        a.wait_until(lambda status: status["uplinks"][0]["name"] == "lte0", "lte0 in front")
        wait_for(lambda: b.ctl("lookup", "10.1.0.1")["locator"] == world.address("a", "lte0"), "b sends to lte0")
        a.text.keys["uplinks"] = WLAN_FIRST
        a.write()
        reloaded = a.ctl("reload")
        wait_for(lambda: b.ctl("lookup", "10.1.0.1")["locator"] == world.address("a", "wlan0"), "b sends to wlan0")
        time.sleep(0.3)
        out, back = probes.finish()

    assert reloaded == {"changed": ["uplinks"], "needs_restart": []}
    assert len(out.packets) > 60
    assert (out.lost(0, float("inf")), back.lost(0, float("inf"))) == (0, 0)
    assert "configuration read again: uplinks" in a.log()


def test_a_broken_file_is_refused_with_its_place_and_the_old_configuration_works_on(world: World) -> None:
    world.start_hub()
    a, _ = world.start_pair()
    good = a.path.read_text()
    a.path.write_text(good + "uplinks: [{name: x, priority: 300}]\n")
    place = f"{a.path}:{len(good.splitlines()) + 1}:31: uplinks[0].priority: 300 is not 0 to 255"

    refused = subprocess.run(a.command("reload"), capture_output=True, text=True, timeout=10, check=False)
    os.kill(a.daemon.pid, signal.SIGHUP)
    wait_for(lambda: f"the old configuration stays in use: {place}" in a.log(), "a complaint")

    assert refused.returncode == 1
    assert place in refused.stderr
    assert ping(world["a"], B.eid4, A.eid4, count=2).lost == 0
    assert a.ctl("status")["state"] == "registered"


def test_a_new_eid_is_registered_reachable_and_the_old_one_withdrawn(world: World) -> None:
    hub = world.start_hub(sites={"a": ("10.1.0.1/32", "10.1.0.9/32"), "b": tuple(f'"{p}"' for p in B.prefixes)})
    a = world.start_node(dataclasses.replace(world.text(A), eids=("10.1.0.1/32",)))
    world.start_node(B)

    a.text.eids = ("10.1.0.9/32",)
    a.write()
    a.ctl("reload")
    a.wait_until_registered()

    assert [one["prefix"] for one in a.ctl("database")] == ["10.1.0.9/32"]
    said = hub.daemon.log.read_text()
    assert "withdrawn eid=10.1.0.1/32" in said
    wait_for(lambda: "10.1.0.9/32" in world["a"].run("ip", "address", "show", "lmn0"), "the address of the new EID")
    assert "10.1.0.1/32" not in world["a"].run("ip", "address", "show", "lmn0")
    assert ping(world["b"], ip_address("10.1.0.9"), B.eid4, count=2, timeout_s=3.0).lost == 0


def test_what_waits_for_a_restart_is_said(world: World) -> None:
    a = world.start_node(A, is_awaited=False)
    a.wait_until(lambda status: status["state"] == "registering", "started")
    a.text.keys["tun"] = "{name: lmn7}"
    a.write()

    assert "takes effect after a restart of lispd: tun" in a.say("reload")
    assert a.ctl("status")["routing"]["tun"] == "lmn0"
