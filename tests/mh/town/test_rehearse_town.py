"""`lispctl rehearse` against what happens when an uplink is really lost, by the counters of the interfaces."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest

from tests.mh.town.town import EQUAL, A, B, Town, town, wait_for

pytestmark = pytest.mark.netns

RULES = """\
steering:
  rules:
    - {name: strict, protocol: [udp], ports: [5020], via: [wlan0], otherwise: drop}
    - {name: lte, protocol: [udp], ports: [5003], via: [lte0]}
    - {name: shared, protocol: [udp], ports: [6000], via: [{name: wlan0, weight: 1}, {name: lte0, weight: 1}]}
"""
PORTS = (7000,) * 8 + (5020, 5003, 6000, 6000, 6000)
PACKETS = 40


def carrier(here: Town, sender: socket.socket) -> str | None:
    before = {name: here.sent(name) for name in ("wlan0", "lte0")}
    for _ in range(PACKETS):
        with contextlib.suppress(OSError):
            sender.send(b"x" * 64)
    return here.carrier(before, PACKETS)


def chains(here: Town) -> list[str]:
    """The mangle table without times and counters."""
    lines = here.a.run("iptables-save", "-t", "mangle").splitlines()
    return [line.split(" [")[0] for line in lines if not line.startswith("#")]


def told(here: Town, *words: str) -> dict[str, Any]:
    """What a rehearsal says of each flow, by its text."""
    answer = here.ctl("rehearse", *words)
    assert (answer["source"], answer["left_out"]) == ("conntrack", 0)
    return {flow["flow"]: flow for flow in answer["flows"]}


def test_a_rehearsal_foretells_for_every_flow_what_then_happens() -> None:
    with town(EQUAL + RULES) as here, contextlib.ExitStack() as stack:
        wait_for(lambda: "strict" in here.a.run("iptables-save", "-t", "mangle"), 10)
        senders: dict[str, socket.socket] = {}
        for port in PORTS:
            sender = stack.enter_context(here.a.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sender.bind((str(A.eid4), 0))
            sender.connect((str(B.eid4), port))
            senders[f"udp {A.eid4}:{sender.getsockname()[1]} -> {B.eid4}:{port}"] = sender
        before = {flow: carrier(here, sender) for flow, sender in senders.items()}
        rules = chains(here)

        foretold = {flow: told(here, "--lose", "wlan0")[flow] for flow in senders}
        gained = told(here, "--gain", "lo")
        unchanged = (rules, ["lte0", "wlan0"]) == (
            chains(here),
            sorted(up["name"] for up in here.ctl("uplinks") if up["is_used"]),
        )
        here.a.run("ip", "link", "set", "wlan0", "down")
        time.sleep(1.5)
        after = {flow: carrier(here, sender) for flow, sender in senders.items()}

        assert {flow: one["before"] for flow, one in foretold.items()} == {flow: [up] for flow, up in before.items()}
        assert {flow: one["after"] for flow, one in foretold.items()} == {
            flow: [] if up is None else [up] for flow, up in after.items()
        }
        changes = {flow: one["change"] for flow, one in foretold.items()}
        assert set(changes.values()) == {"moves", "stays", "breaks"}
        assert [changes[flow] for flow in senders if flow.endswith(":5020")] == ["breaks"]
        assert {one["change"] for one in gained.values()} == {"stays"}
        assert unchanged
        assert "lose: eth9 is no uplink now" in here.ctl("rehearse", "--lose", "eth9", code=1)
        assert "name an interface" in here.ctl("rehearse", code=1)
